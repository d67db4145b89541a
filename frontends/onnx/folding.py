"""The content of small tensors, worked out on Sizes: what exporters write to make shapes out of shapes.

`fold` looks at a node whose rule has run. Where the content of every input is known and the op is in FOLDS, it fills
in the content of the results. Contents are tuples in row-major order; in here they are numpy arrays of objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from wattir.frontends.onnx import ratio
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import MAX_KNOWN, Node, Value
from wattir.frontends.onnx.ratio import Undecided
from wattir.kinds import FLOATS

Array = Any  # numpy.ndarray of objects; None for an optional input that is absent
Fold = Callable[[Node, "list[Array]"], "Array | list[Array]"]


def fold(node: Node) -> None:
    """Fills in the content of the results, where it follows from the contents of the inputs."""
    work = FOLDS.get(node.op) if node.domain == "" else None
    first = node.results[0] if node.results else None
    if work is None or first is None or first.data is not None or first.items is not None or not node.ins:
        return
    if any(v is not None and (v.data is None or not _small(v)) for v in node.ins) or not _small(first):
        return
    try:
        made = work(node, [None if v is None else array_of(v) for v in node.ins])
    except (Undecided, LookupError, TypeError, ValueError, ArithmeticError):
        return
    results = made if isinstance(made, list) else [made]
    for value, content in zip(node.results, results, strict=False):
        if value is not None and value.shape == np.shape(content):
            value.data = _typed(np.asarray(content, dtype=object), value.dtype)
            value.fixed = True


def follow_offset(node: Node, offsets: dict[str, tuple[str, int]]) -> None:
    """Where one number that is not known (a loop's counter) is made of another, notes by how much they differ."""
    made = node.results[0] if node.results and node.domain == "" else None
    if made is None or made.data is not None or node.op not in _OFFSETS or made.elements != 1:
        return
    open_ins = [v for v in node.ins if v is not None and v.data is None and v.items is None]
    known = [v.data[0] for v in node.ins if v is not None and v.data is not None and len(v.data) == 1]
    added = _OFFSETS[node.op]
    if len(open_ins) != 1 or (added and (len(known) != 1 or not isinstance(known[0], int))):
        return
    if node.op == "Sub" and node.ins[0] is not open_ins[0]:
        return
    origin, before = offsets.get(open_ins[0].name, (open_ins[0].name, 0))
    offsets[made.name] = (origin, before + (added * known[0] if added else 0))


_OFFSETS = {"Add": 1, "Sub": -1, **dict.fromkeys(("Cast", "Concat", "Identity", "Reshape", "Squeeze", "Unsqueeze"), 0)}


def _small(value: Value) -> bool:
    elements = value.elements
    return isinstance(elements, int) and elements <= MAX_KNOWN


def array_of(value: Value) -> Array:
    """A known content in its shape."""
    flat = np.empty(len(value.data or ()), dtype=object)
    flat[:] = value.data
    return flat.reshape(_lengths(value))


def _lengths(value: Value) -> list[int]:
    return [size for size in value.shape if isinstance(size, int)]  # all are: the content is known


def _typed(content: Array, dtype: str) -> tuple[Any, ...]:
    flat = content.reshape(-1).tolist()
    if dtype == "fp32":
        return tuple(float(np.float32(v)) if isinstance(v, float) else v for v in flat)
    return tuple(flat)


# ---- element by element -------------------------------------------------------------------------------------------


def _apply(function: Callable[..., Any], *arrays: Array | None) -> Array:
    given = [a for a in arrays if a is not None]
    return np.frompyfunc(function, len(given), 1)(*given)


def _each(function: Callable[..., Any]) -> Fold:
    return lambda node, ins: _apply(function, *ins)


def _floats(function: Callable[[float], float]) -> Fold:
    """A function of ordinary numbers only."""

    def one(value: Any) -> float:
        if not isinstance(value, (int, float)):
            raise Undecided
        return function(value)

    return lambda node, ins: _apply(one, *ins)


def _running(function: Callable[[Any, Any], Any]) -> Fold:
    """Of any number of inputs, two at a time."""
    return lambda node, ins: reduce(lambda a, b: _apply(function, a, b), ins)


def _divide(node: Node, ins: list[Array]) -> Array:
    return _apply(ratio.divide if node.value(0).dtype in FLOATS else ratio.whole_divide, *ins)


def _mod(node: Node, ins: list[Array]) -> Array:
    def one(a: Any, b: Any) -> Any:
        if isinstance(a, ratio.Ratio) or isinstance(b, ratio.Ratio):
            raise Undecided
        return math.fmod(a, b) if node.attr("fmod", 0) and isinstance(a, float) else a % b

    return _apply(one, *ins)


def _power(a: Any, b: Any) -> Any:
    if ratio.is_plain(a, b):
        return a**b
    if isinstance(b, (int, float)) and b == int(b) and 0 <= b <= 8:
        return reduce(ratio.multiply, [a] * int(b)) if b else 1
    raise Undecided


def cast(value: Any, dtype: str) -> Any:
    """One known element as another type."""
    if dtype == "string" or isinstance(value, str):
        raise Undecided
    if dtype == "bool":
        return not ratio.equal(value, 0)
    if dtype in FLOATS:
        return float(value) if isinstance(value, (bool, int)) else value
    return ratio.truncated(int(value) if isinstance(value, bool) else value)


def _cast(node: Node, ins: list[Array]) -> Array:
    dtype = node.value(1).dtype if node.op == "CastLike" else dtype_of(node.attr("to"), "fp32")
    return _apply(lambda value: cast(value, dtype), ins[0])


def _absolute(value: Any) -> Any:
    return abs(value) if ratio.is_plain(value) else ratio.largest(value, ratio.negative(value))


def _clip(node: Node, ins: list[Array]) -> Array:
    low = node.attr("min") if "min" in node.attrs else (ins[1] if len(ins) > 1 else None)
    high = node.attr("max") if "max" in node.attrs else (ins[2] if len(ins) > 2 else None)
    found = ins[0] if low is None else _apply(ratio.largest, ins[0], low)
    return found if high is None else _apply(ratio.smallest, found, high)


# ---- moved --------------------------------------------------------------------------------------------------------


def _first(node: Node) -> Value:
    """The first result, which `fold` has seen to be there."""
    found = node.results[0]
    assert found is not None
    return found


def _as_result(node: Node, ins: list[Array]) -> Array:
    """Only the shape is another."""
    return ins[0].reshape(_lengths(_first(node)))


def _slice(node: Node, ins: list[Array]) -> Array:
    data = ins[0]
    starts, ends, axes, steps = (_numbers(node, ins, i, name) for i, name in enumerate(_SLICE, 1))
    index = [slice(None)] * data.ndim
    for at, start in enumerate(starts):
        axis = axes[at] if axes else at
        step = steps[at] if steps else 1
        stop = None if step < 0 and ends[at] < -data.shape[axis] else ends[at]
        index[axis] = slice(start, stop, step)
    return data[tuple(index)]


_SLICE = ("starts", "ends", "axes", "steps")


def _numbers(node: Node, ins: list[Array], index: int, name: str) -> list[int]:
    """Numbers from an attribute or an input; none where both are absent."""
    found = node.attr(name)
    if found is None and index < len(ins) and ins[index] is not None:
        found = ins[index].reshape(-1)
    return [] if found is None else [_int(value) for value in found]


def _int(value: Any) -> int:
    if not isinstance(value, int):
        raise Undecided
    return value


def _ints(array: Array | None) -> Array:
    return np.asarray(_apply(_int, array), dtype=np.int64)


def _split(node: Node, ins: list[Array]) -> list[Array]:
    axis = node.attr("axis", 0)
    sizes = [value.shape[axis] for value in node.results if value is not None]
    return np.split(ins[0], np.cumsum(sizes)[:-1].tolist(), axis)


def _where(test: Any, a: Any, b: Any) -> Any:
    return a if test else b


def _trilu(node: Node, ins: list[Array]) -> Array:
    k = int(ins[1].reshape(-1)[0]) if len(ins) > 1 and ins[1] is not None else 0
    rows, columns = ins[0].shape[-2:]
    keep = np.tri(rows, columns, k - 1 if node.attr("upper", 1) else k, dtype=bool)
    return np.where(~keep if node.attr("upper", 1) else keep, ins[0], 0)


# ---- reduced ------------------------------------------------------------------------------------------------------


def _reduction(function: Callable[[Any, Any], Any], start: Any = None) -> Fold:
    def work(node: Node, ins: list[Array]) -> Array:
        data, axes = ins[0], node.attr("axes")
        if axes is None and len(ins) > 1 and ins[1] is not None:
            axes = tuple(_int(v) for v in ins[1].reshape(-1))
        if not axes and node.attr("noop_with_empty_axes", 0):
            return data
        picked = tuple(axes) if axes else tuple(range(data.ndim))
        return _reduce(function, data, picked, bool(node.attr("keepdims", 1)), start)

    return work


def _reduce(function: Callable[[Any, Any], Any], data: Array, axes: tuple[int, ...], keep: bool, start: Any) -> Array:
    axes = tuple(sorted(axis % max(data.ndim, 1) for axis in axes)) if data.ndim else ()
    rest = [axis for axis in range(data.ndim) if axis not in axes]
    rows = data.transpose([*rest, *axes]).reshape([data.shape[axis] for axis in rest] + [-1])
    flat = rows.reshape(-1, rows.shape[-1]) if data.ndim else data.reshape(1, 1)
    made = np.empty(len(flat), dtype=object)
    for i, row in enumerate(flat):
        made[i] = reduce(function, row) if start is None else reduce(function, row, start)
    shape = [1 if axis in axes else data.shape[axis] for axis in range(data.ndim) if keep or axis not in axes]
    return made.reshape(shape)


def _mean(node: Node, ins: list[Array]) -> Array:
    total = FOLDS["ReduceSum"](node, ins)
    count = ins[0].size // max(np.size(total), 1)
    return _apply(lambda v: ratio.divide(v, count), total)


def _cumulated(node: Node, ins: list[Array]) -> Array:
    if node.attr("exclusive", 0) or node.attr("reverse", 0):
        raise Undecided
    axis = int(ins[1].reshape(-1)[0])
    return np.add.accumulate(ins[0], axis=axis)


def _gather(node: Node, ins: list[Array]) -> Array:
    return np.take(ins[0], _ints(ins[1]), axis=node.attr("axis", 0))


def _scatter(node: Node, ins: list[Array]) -> Array:
    if node.attr("reduction", "none") not in ("none", b"none"):
        raise Undecided
    made, index = ins[0].copy(), _ints(ins[1])
    made[tuple(np.moveaxis(index, -1, 0))] = ins[2]
    return made


def _range(node: Node, ins: list[Array]) -> Array:
    start, _, step = (a.reshape(-1)[0] for a in ins)
    count = _int(_first(node).shape[0])
    made = np.empty(count, dtype=object)
    made[:] = [ratio.add(start, ratio.multiply(step, i)) for i in range(count)]
    return made


def _expand(node: Node, ins: list[Array]) -> Array:
    return np.broadcast_to(ins[0], _lengths(_first(node)))


FOLDS: dict[str, Fold] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"), _as_result),
    "Add": _each(ratio.add),
    "Sub": _each(ratio.subtract),
    "Mul": _each(ratio.multiply),
    "Div": _divide,
    "Mod": _mod,
    "Pow": _each(_power),
    "Sum": _running(ratio.add),
    "Min": _running(ratio.smallest),
    "Max": _running(ratio.largest),
    "Neg": _each(ratio.negative),
    "Abs": _each(_absolute),
    "Sign": _each(lambda a: ratio.less(0, a) - ratio.less(a, 0)),
    "Ceil": _each(ratio.ceil),
    "Floor": _each(ratio.floor),
    "Round": _each(ratio.nearest),
    "Reciprocal": _each(lambda a: ratio.divide(1.0, a)),
    "Sqrt": _floats(math.sqrt),
    "Exp": _floats(math.exp),
    "Log": _floats(math.log),
    "Relu": _each(lambda a: ratio.largest(a, 0)),
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast,
    "Equal": _each(lambda a, b: a == b if isinstance(a, str) else ratio.equal(a, b)),
    "Less": _each(ratio.less),
    "Greater": _each(lambda a, b: ratio.less(b, a)),
    "LessOrEqual": _each(lambda a, b: not ratio.less(b, a)),
    "GreaterOrEqual": _each(lambda a, b: not ratio.less(a, b)),
    "Not": _each(lambda a: not a),
    "And": _each(lambda a, b: bool(a and b)),
    "Or": _each(lambda a, b: bool(a or b)),
    "Xor": _each(lambda a, b: bool(a) != bool(b)),
    "Where": _each(_where),
    "Transpose": lambda node, ins: np.transpose(ins[0], node.attr("perm")),
    "Concat": lambda node, ins: np.concatenate(ins, axis=node.attr("axis", 0)),
    "Gather": _gather,
    "GatherElements": lambda node, ins: np.take_along_axis(ins[0], _ints(ins[1]), node.attr("axis", 0)),
    "Slice": _slice,
    "Split": _split,
    "Expand": _expand,
    "Tile": lambda node, ins: np.tile(ins[0], _ints(ins[1]).tolist()),
    "Range": _range,
    "ScatterND": _scatter,
    "Trilu": _trilu,
    "CumSum": _cumulated,
    "ReduceSum": _reduction(ratio.add, 0),
    "ReduceProd": _reduction(ratio.multiply, 1),
    "ReduceMax": _reduction(ratio.largest),
    "ReduceMin": _reduction(ratio.smallest),
    "ReduceMean": _mean,
}
