"""Symbolic sizes as torch.export writes them, read without sympy and without evaluating anything.

An archive holds sympy's own notation, ``Add(Symbol('s27', positive=True, integer=True), Integer(-1))``; older ones hold
plain text, ``s27 - 1``. Both are Python expressions: they are parsed to a syntax tree, and the few functions that torch
uses are worked out on Dims. What leaves whole numbers on the way (``floor(s0 / 2)``) is kept as a fraction.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wattir.dims import Dim, Size, bounds, exact_div, maximum, minimum, symbol
from wattir.errors import SizeError

MAX_TEXT = 20_000
MAX_NODES = 4_000
MAX_TERMS = 200
MAX_NUMBER = 2**63
MAX_POWER = 16
"""Limits of one formula: characters, nodes of its tree, terms of its polynomials, numbers, exponents."""


class Unreadable(Exception):
    """A formula that is damaged, or that no Dim can express; the message says what was found."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """`over / under`; `under` is positive."""

    over: Size
    under: Size = 1


def size_of(text: str, names: Mapping[str, Size] | None = None) -> Size:
    """The whole number or formula that `text` is; `names` gives the sizes of symbols, others are free dims.

    Raises Unreadable.
    """
    value = ratio_of(text, names)
    if value.under != 1:
        raise Unreadable(f"{text[:80]!r} is no whole number")
    return value.over


def ratio_of(text: str, names: Mapping[str, Size] | None = None) -> Ratio:
    """The number or formula that `text` is, whole or not. Raises Unreadable."""
    tree = _tree(text)
    try:
        return _Reader(names or {}).value(tree)
    except (SizeError, RecursionError, OverflowError, ZeroDivisionError, TypeError, ValueError) as error:
        raise Unreadable(f"{text[:80]!r}: {error}") from error


def _tree(text: str) -> ast.expr:
    if len(text) > MAX_TEXT:
        raise Unreadable(f"a formula of {len(text)} characters; expected at most {MAX_TEXT}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Unreadable(f"{text[:80]!r} is no formula") from error
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise Unreadable(f"a formula of more than {MAX_NODES} parts")
    return tree


class _Reader:
    """Works out one syntax tree."""

    def __init__(self, names: Mapping[str, Size]) -> None:
        self.names = names

    def value(self, node: ast.expr) -> Ratio:
        kind = type(node).__name__
        if kind not in _SYNTAX:
            raise Unreadable(f"{kind} in a formula")
        value = _SYNTAX[kind](self, node)
        if _too_large(value.over) or _too_large(value.under):
            raise Unreadable("a formula whose numbers or terms are too many")
        return value

    def constant(self, node: ast.Constant) -> Ratio:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise Unreadable(f"{node.value!r} in a formula")
        return _number(node.value)

    def name(self, node: ast.Name) -> Ratio:
        return Ratio(self.named(node.id))

    def named(self, name: str) -> Size:
        return self.names[name] if name in self.names else symbol(name)

    def unary(self, node: ast.UnaryOp) -> Ratio:
        if not isinstance(node.op, ast.USub):
            raise Unreadable(f"{type(node.op).__name__} in a formula")
        return _multiply(Ratio(-1), self.value(node.operand))

    def binary(self, node: ast.BinOp) -> Ratio:
        op = type(node.op).__name__
        if op not in _OPERATORS:
            raise Unreadable(f"{op} in a formula")
        return _OPERATORS[op](self.value(node.left), self.value(node.right))

    def call(self, node: ast.Call) -> Ratio:
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        if function in _LITERALS:
            return self.literal(function, node.args)
        if function not in _FUNCTIONS:
            raise Unreadable(f"function {function or ast.unparse(node.func)[:40]!r} in a formula")
        least, most, compute = _FUNCTIONS[function]
        if not least <= len(node.args) <= most:
            raise Unreadable(f"{function} of {len(node.args)} values in a formula")
        return compute(*(self.value(arg) for arg in node.args))

    def literal(self, function: str, args: list[ast.expr]) -> Ratio:
        """``Symbol('s0')``, ``Integer(3)``, ``Rational(1, 2)``, ``Float('0.5')``."""
        values = [arg.value if isinstance(arg, ast.Constant) else self.value(arg) for arg in args]
        whole = [v.over if isinstance(v, Ratio) else v for v in values]
        if function == "Symbol" and whole and isinstance(whole[0], str) and whole[0]:
            return Ratio(self.named(whole[0]))
        if function == "Float" and whole and isinstance(whole[0], (str, float, int)):
            return _number(float(whole[0]))
        numbers = [_number(v) for v in whole if isinstance(v, int)]
        if len(numbers) == len(whole) == {"Integer": 1, "Rational": 2}.get(function):
            return _divide(*numbers) if function == "Rational" else numbers[0]
        raise Unreadable(f"{function} of something else in a formula")


def _too_large(size: Size) -> bool:
    if isinstance(size, Dim):
        return len(size.terms) > MAX_TERMS or any(abs(factor) > MAX_NUMBER for _, factor in size.terms)
    return abs(size) > MAX_NUMBER


def _number(value: float) -> Ratio:
    if isinstance(value, int):
        return Ratio(value)
    if not math.isfinite(value):
        raise Unreadable(f"{value} in a formula")
    part = Fraction(value).limit_denominator(1 << 20)
    return Ratio(part.numerator, part.denominator)


def _simple(over: Size, under: Size) -> Ratio:
    if isinstance(under, int) and under < 0:
        over, under = -over, -under
    whole = exact_div(over, under)
    if whole is not None:
        return Ratio(whole)
    if isinstance(over, int) and isinstance(under, int):
        part = Fraction(over, under)
        return Ratio(part.numerator, part.denominator)
    return Ratio(over, under)


def _add(a: Ratio, b: Ratio) -> Ratio:
    if a.under == b.under:
        return _simple(a.over + b.over, a.under)
    return _simple(a.over * b.under + b.over * a.under, a.under * b.under)


def _multiply(a: Ratio, b: Ratio) -> Ratio:
    return _simple(a.over * b.over, a.under * b.under)


def _divide(a: Ratio, b: Ratio) -> Ratio:
    if isinstance(b.over, int) and b.over == 0:
        raise Unreadable("a division by zero")
    if bounds(b.over)[0] < 0 and not isinstance(b.over, int):
        raise Unreadable("a division by what may be negative")
    return _simple(a.over * b.under, a.under * b.over)


def _power(a: Ratio, b: Ratio) -> Ratio:
    if b.under != 1 or not isinstance(b.over, int) or abs(b.over) > MAX_POWER:
        raise Unreadable("a power that is not a small whole number")
    result = Ratio(1)
    for _ in range(abs(b.over)):
        result = _multiply(result, a)
    return result if b.over >= 0 else _divide(Ratio(1), result)


def _floor(a: Ratio) -> Ratio:
    return a if a.under == 1 else Ratio(a.over // a.under)


def _ceil(a: Ratio) -> Ratio:
    return a if a.under == 1 else Ratio(-(-a.over // a.under))


def _nearest(a: Ratio, _: Ratio | None = None) -> Ratio:
    """Halves go up; torch rounds them to even, which matters for no size of note."""
    return a if a.under == 1 else Ratio((2 * a.over + a.under) // (2 * a.under))


def _floor_divide(a: Ratio, b: Ratio) -> Ratio:
    return _floor(_divide(a, b))


def _remainder(a: Ratio, b: Ratio) -> Ratio:
    if a.under != 1 or b.under != 1:
        raise Unreadable("a remainder of fractions")
    return Ratio(a.over % b.over)


def _extreme(choose: Callable[[Size, Size], Size]) -> Callable[..., Ratio]:
    def chosen(first: Ratio, *others: Ratio) -> Ratio:
        for other in others:
            over = choose(first.over * other.under, other.over * first.under)
            first = _simple(over, first.under * other.under)
        return first

    return chosen


def _many(combine: Callable[[Ratio, Ratio], Ratio]) -> Callable[..., Ratio]:
    def combined(first: Ratio, *others: Ratio) -> Ratio:
        for other in others:
            first = combine(first, other)
        return first

    return combined


def _shift(a: Ratio, b: Ratio, left: bool) -> Ratio:
    if not isinstance(b.over, int) or b.under != 1 or not 0 <= b.over < 63:
        raise Unreadable("a shift by what is no small number")
    return _multiply(a, Ratio(2**b.over)) if left else _floor_divide(a, Ratio(2**b.over))


_LITERALS = frozenset({"Symbol", "Dummy", "Integer", "Rational", "Float"})

_OPERATORS: dict[str, Callable[[Ratio, Ratio], Ratio]] = {
    "Add": _add,
    "Sub": lambda a, b: _add(a, _multiply(Ratio(-1), b)),
    "Mult": _multiply,
    "Div": _divide,
    "FloorDiv": _floor_divide,
    "Mod": _remainder,
    "Pow": _power,
}

_ANY = 10_000
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Ratio]]] = {
    "Add": (1, _ANY, _many(_add)),
    "Mul": (1, _ANY, _many(_multiply)),
    "Max": (1, _ANY, _extreme(maximum)),
    "Min": (1, _ANY, _extreme(minimum)),
    "Pow": (2, 2, _power),
    "FloatPow": (2, 2, _power),
    "PowByNatural": (2, 2, _power),
    "FloorDiv": (2, 2, _floor_divide),
    "CleanDiv": (2, 2, _floor_divide),
    "CeilDiv": (2, 2, lambda a, b: _ceil(_divide(a, b))),
    "IntTrueDiv": (2, 2, _divide),
    "FloatTrueDiv": (2, 2, _divide),
    "Mod": (2, 2, _remainder),
    "PythonMod": (2, 2, _remainder),
    "ModularIndexing": (3, 3, lambda a, b, c: _remainder(_floor_divide(a, b), c)),
    "LShift": (2, 2, lambda a, b: _shift(a, b, True)),
    "RShift": (2, 2, lambda a, b: _shift(a, b, False)),
    "floor": (1, 1, _floor),
    "ceiling": (1, 1, _ceil),
    "FloorToInt": (1, 1, _floor),
    "CeilToInt": (1, 1, _ceil),
    "TruncToInt": (1, 1, _floor),  # sizes are not negative
    "TruncToFloat": (1, 1, _floor),
    "RoundToInt": (1, 1, _nearest),
    "RoundDecimal": (2, 2, _nearest),
    "ToFloat": (1, 1, lambda a: a),
    "Identity": (1, 1, lambda a: a),
}
"""Function -> least and most values, and what it does."""

_SYNTAX: dict[str, Callable[[_Reader, Any], Ratio]] = {
    "Constant": _Reader.constant,
    "Name": _Reader.name,
    "UnaryOp": _Reader.unary,
    "BinOp": _Reader.binary,
    "Call": _Reader.call,
}
