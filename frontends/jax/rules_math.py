"""Pointwise primitives: one row each; and what is known of their content.

A row holds the operations per output element: `ops` counts additions, products, comparisons and divisions; `special`
counts exponentials, roots, trigonometry and other series.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wattir.dims import Dim, Size, exact_div, maximum, minimum
from wattir.frontends.jax.node import Node, Value, rule

# function, ops, special
POINTWISE: dict[str, tuple[str, int, int]] = {
    "abs": ("abs", 1, 0), "acos": ("acos", 1, 1), "acosh": ("acosh", 3, 2), "add": ("add", 1, 0),
    "add_any": ("add", 1, 0), "and": ("and", 1, 0), "asin": ("asin", 1, 1), "asinh": ("asinh", 3, 2),
    "atan": ("atan", 1, 1), "atan2": ("atan2", 3, 1), "atanh": ("atanh", 4, 1), "bessel_i0e": ("bessel", 4, 1),
    "bessel_i1e": ("bessel", 4, 1), "cbrt": ("cbrt", 0, 1), "ceil": ("ceil", 1, 0), "clamp": ("clamp", 2, 0),
    "clz": ("clz", 1, 0), "complex": ("complex", 0, 0), "conj": ("conj", 1, 0), "cos": ("cos", 0, 1),
    "cosh": ("cosh", 2, 2), "digamma": ("digamma", 4, 2), "div": ("div", 1, 0), "eq": ("equal", 1, 0),
    "eq_to": ("equal", 1, 0), "erf": ("erf", 0, 1), "erf_inv": ("erf_inv", 0, 1), "erfc": ("erfc", 1, 1),
    "exp": ("exp", 0, 1), "exp2": ("exp2", 0, 1), "expm1": ("expm1", 1, 1), "floor": ("floor", 1, 0),
    "floor_div": ("floor_div", 4, 0), "mod": ("mod", 4, 0),
    "ge": ("greater_equal", 1, 0), "gt": ("greater", 1, 0), "imag": ("imag", 0, 0), "is_finite": ("is_finite", 1, 0),
    "le": ("less_equal", 1, 0), "le_to": ("less_equal", 1, 0), "lgamma": ("lgamma", 4, 2), "log": ("log", 0, 1),
    "log1p": ("log1p", 1, 1), "logistic": ("sigmoid", 2, 1), "lt": ("less", 1, 0), "lt_to": ("less", 1, 0),
    "max": ("max", 1, 0), "min": ("min", 1, 0), "mul": ("mul", 1, 0), "mulhi": ("mul", 1, 0), "ne": ("not_equal", 1, 0),
    "neg": ("neg", 1, 0), "nextafter": ("next_after", 2, 0), "not": ("not", 1, 0), "or": ("or", 1, 0),
    "population_count": ("population_count", 1, 0), "pow": ("pow", 1, 2), "real": ("real", 0, 0),
    "reduce_precision": ("round", 1, 0), "rem": ("mod", 3, 0), "round": ("round", 1, 0), "rsqrt": ("rsqrt", 0, 1),
    "select_n": ("where", 1, 0), "shift_left": ("shift", 1, 0), "shift_right_arithmetic": ("shift", 1, 0),
    "shift_right_logical": ("shift", 1, 0), "sign": ("sign", 2, 0), "sin": ("sin", 0, 1), "sinh": ("sinh", 2, 2),
    "sqrt": ("sqrt", 0, 1), "square": ("square", 1, 0), "sub": ("sub", 1, 0), "tan": ("tan", 1, 1),
    "tanh": ("tanh", 0, 1), "xor": ("xor", 1, 0), "zeta": ("zeta", 4, 2), "polygamma": ("polygamma", 4, 2),
    "igamma": ("igamma", 8, 4), "igammac": ("igamma", 8, 4), "regularized_incomplete_beta": ("beta", 8, 4),
    "random_gamma_grad": ("gamma", 8, 4),
}  # fmt: skip

COMPARISONS = frozenset({"ge", "gt", "le", "lt"})

_KNOWN: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "max": maximum, "min": minimum, "neg": operator.neg,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "rem": operator.mod, "div": operator.floordiv, "floor_div": operator.floordiv, "mod": operator.mod,
    "and": lambda a, b: a and b, "or": lambda a, b: a or b,
    "not": lambda a: not a, "sign": lambda a: (a > 0) - (a < 0), "abs": abs,
    "clamp": lambda a, b, c: maximum(a, minimum(b, c)),
}  # fmt: skip
"""Whole numbers that are known stay known: sizes, counters, trip counts, indices."""
WHOLE = {"floor_divide": ("floor_div",), "remainder": ("mod",), "divmod": ("floor_div", "mod")}
"""Functions of whole numbers that JAX writes out in seven equations -> the primitives that give each result."""


def as_whole(function: str, dtypes: Sequence[str]) -> tuple[str, ...]:
    """The primitives that give a function's results, of these types; () where it is none of `WHOLE`.

    A name alone says little: anyone may call a function ``remainder``.
    """
    primitives = WHOLE.get(function, ())
    fits = len(primitives) == len(dtypes) and all(dtype.startswith(("int", "uint")) for dtype in dtypes)
    return primitives if fits else ()


@rule(*POINTWISE)
def pointwise(node: Node) -> None:
    """All inputs have the output's shape, but for scalars of `clamp`."""
    function, ops, special = POINTWISE[node.op]
    if (node.op == "select_n" and _picked(node)) or _changes_nothing(node):
        return
    mask = _mask(node)
    if mask and not _only_masks(node):
        function = f"triangle_{function}"  # the op that lays a causal mask over scores
    attrs: dict[str, Any] = {"special": special} if special else {}
    node.emit("pointwise", function=function, ops=ops, **attrs)
    _know(node)
    if mask and node.results[0] is not None and _only_masks(node):
        node.results[0] = replace(node.results[0], triangle=True)
    if (dealt := DEALING[node.op](node) if node.op in DEALING else None) and node.results[0] is not None:
        node.results[0] = replace(node.results[0], dealt=dealt)


@rule("integer_pow")
def integer_pow(node: Node) -> None:
    """By squaring."""
    power = abs(int(node.params["y"]))
    node.emit("pointwise", function="integer_pow", ops=max(power.bit_length() + power.bit_count() - 2, 1))


NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}


def _changes_nothing(node: Node) -> bool:
    """Whether nothing is added, or something is multiplied by 1: any compiler leaves that out."""
    neutral = NEUTRAL.get(node.op)
    if neutral is None or len(node.ins) != 2:
        return False
    for place in (1, 0) if node.op in ("add", "mul") else (1,):
        known, other = node.ins[place].data, node.ins[1 - place]
        if isinstance(known, (int, float)) and known == neutral and not other.free:
            node.same(other)
            return True
    return False


def _picked(node: Node) -> bool:
    """Whether the predicate is known everywhere, or only wraps negative indices; then one case is the result."""
    if _wraps_indices(node):
        node.same(node.ins[1])
        return True
    which = node.ins[0].data
    if not isinstance(which, (bool, int)) or int(which) + 1 >= len(node.ins):
        return False
    node.same(node.ins[int(which) + 1])
    return True


def _wraps_indices(node: Node) -> bool:
    """``where(i < 0, i + n, i)``, which every indexing writes and every compiler does where it reads the index."""
    if len(node.ins) != 3 or node.ins[1].dtype not in ("int32", "int64", "uint32", "int16", "int8"):
        return False
    index = node.ins[1].name
    made = {op.outs[0]: op for op in node.builder.ops[-2:]}
    less, added = made.get(node.ins[0].name), made.get(node.ins[2].name)
    if less is None or added is None:
        return False
    functions = (less.attrs.get("function"), added.attrs.get("function"))
    return functions == ("less", "add") and less.ins == added.ins == (index,)


def _know(node: Node) -> None:
    """Keeps whole numbers that follow from known ones, and where an iota counts."""
    result = node.results[0]
    if result is None or not result.free:
        return
    data = [value.data for value in node.ins]
    changes: dict[str, Any] = {}
    if node.op in _KNOWN and all(isinstance(d, (int, Dim, tuple)) for d in data):
        changes["data"] = _apply(_KNOWN[node.op], data)
    ramps = [value.ramp for value in node.ins if value.ramp is not None]
    if node.op in ("add", "sub", "mul", "rem", "max") and len(ramps) == 1:
        changes["ramp"] = ramps[0]
    if changes:
        node.results[0] = replace(result, **changes)


def _apply(function: Callable[..., Any], data: list[Any]) -> Any:
    lengths = {len(d) for d in data if isinstance(d, tuple)}
    try:
        if not lengths:
            return function(*data)
        rows = [d if isinstance(d, tuple) else (d,) * min(lengths) for d in data]
        return tuple(function(*row) for row in zip(*rows, strict=True))
    except (TypeError, ValueError, ArithmeticError):  # a comparison of formulas, or a division by zero
        return None


def _mask(node: Node) -> bool:
    """Whether a triangle goes in, or comes to be: one axis's positions compared with another's."""
    if any(value.triangle for value in node.ins):
        return True
    ramps = {value.ramp for value in node.ins}
    return node.op in COMPARISONS and len(ramps) == 2 and None not in ramps


def _only_masks(node: Node) -> bool:
    """Whether the result is still a mask: all that goes in is a mask, a yes or no, or a literal."""
    return all(_is_mask(value) for value in node.ins)


def _is_mask(value: Value) -> bool:
    return value.triangle or value.fixed or value.dtype == "bool"


def _bounds(node: Node) -> tuple[str, Size] | None:
    """The ends of groups of rows, where ``start <= row`` and ``row < end`` say whose a row is.

    Every group starts at the end of the one before it, so that a row is in one at most.
    """
    made = {op.outs[0]: op for op in node.builder.ops[-RECENT:]}
    compared = [made.get(value.name) for value in node.ins]
    if any(op is None or len(op.ins) != 1 for op in compared):
        return None
    bounds = [op.ins[0] for op in compared if op is not None]
    for starts, ends in (bounds, bounds[::-1]):
        joined = made.get(starts)
        if joined is not None and joined.attrs.get("function") == "concat" and len(joined.ins) == 1:
            cut = made.get(joined.ins[0])
            if cut is not None and cut.attrs.get("function") == "slice" and cut.ins == (ends,):
                return ends, node.builder.tensors[ends].elements
    return None


RECENT = 16  # ops among which a mask of groups is made


def _dealt(node: Node) -> tuple[str, Size] | None:
    """``where(mask, rows, 0)`` with such a mask: rows that were repeated for every group."""
    mask, other, rows = node.ins[0], node.ins[1], node.ins[-1]
    if mask.dealt is None or other.data != 0:
        return None
    groups = exact_div(rows.elements, node.builder.tensors[rows.name].elements)
    fits = groups is not None and groups != 1 and exact_div(mask.dealt[1], groups) is not None
    return (rows.name, groups) if fits and groups is not None else None


DEALING: dict[str, Callable[[Node], tuple[str, Size] | None]] = {"and": _bounds, "select_n": _dealt}


@rule("map")
def mapped(node: Node) -> None:
    node.emit("pointwise", function="map", ops=node.params["ops"])


@rule("nan_to_num", "square_difference")
def _two(node: Node) -> None:
    node.emit("pointwise", function=node.op, ops=2)
