"""Sizes that may be numbers or formulas in a model's free dims.

A `Size` is an `int` or a `Dim`. A `Dim` is a polynomial with integer coefficients over atoms; an atom is a free
name (``seq``) or one of the six functions that leave the polynomials: ``a // b``, ``a % b``, ``min``, ``max``,
``missed``, ``equal``.
Polynomials are kept in one normal form and every `Dim` is interned, so two formulas that are equal as polynomials
are the same object: ``2 * seq - seq is seq``, and `==` is identity.

Cost rules and shape rules are written as ordinary arithmetic and so work on both ints and Dims. Free dims stand for
sizes of at least 1; `bounds` uses this to decide ``min`` and ``max`` where it can.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, Union
from weakref import WeakValueDictionary

from wattir.errors import SizeError
from wattir.polynomial import FUNCTIONS, Atom, Monomial, Terms, add_terms, divide_terms, multiply_terms

Size: TypeAlias = Union[int, "Dim"]

_interned: WeakValueDictionary[Terms, Dim] = WeakValueDictionary()


class Dim:
    """An interned polynomial that is not a plain number; make one with `symbol` and arithmetic.

    Ordering two Dims raises TypeError: whether ``seq < 128`` is not known before `seq` is.
    """

    __slots__ = ("__weakref__", "terms")
    terms: Terms

    def __new__(cls, terms: Terms) -> Dim:
        found = _interned.get(terms)
        if found is not None:
            return found
        self = super().__new__(cls)
        self.terms = terms
        _interned[terms] = self
        return self

    def __reduce__(self) -> Any:
        return Dim, (self.terms,)

    def __add__(self, other: Size) -> Size:
        return _make(add_terms(_terms(self), _terms(other))) if _is_size(other) else NotImplemented

    def __mul__(self, other: Size) -> Size:
        if isinstance(other, int) and other == 1:
            return self
        return _make(multiply_terms(_terms(self), _terms(other))) if _is_size(other) else NotImplemented

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + -1 * other if _is_size(other) else NotImplemented

    def __rsub__(self, other: Size) -> Size:
        return -self + other if _is_size(other) else NotImplemented

    def __floordiv__(self, other: Size) -> Size:
        return _floordiv(self, other) if _is_size(other) else NotImplemented

    def __rfloordiv__(self, other: Size) -> Size:
        return _floordiv(other, self) if _is_size(other) else NotImplemented

    def __mod__(self, other: Size) -> Size:
        return _mod(self, other) if _is_size(other) else NotImplemented

    def __rmod__(self, other: Size) -> Size:
        return _mod(other, self) if _is_size(other) else NotImplemented

    __radd__ = __add__
    __rmul__ = __mul__

    def __pow__(self, power: int) -> Size:
        return math.prod([self] * power, start=1)

    def __bool__(self) -> bool:
        raise TypeError(f"whether {self} is zero is not known before its names are")

    def __str__(self) -> str:
        return _text(self.terms)

    def __repr__(self) -> str:
        return f"Dim({self})"


def symbol(name: str) -> Dim:
    """The free dim of this name: letters, digits, ``_`` and ``.`` (other characters become ``_``)."""
    clean = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    if not re.match(r"[A-Za-z_]", clean):
        clean = "_" + clean
    if clean in FUNCTIONS:
        clean += "_"
    return Dim((((((Atom("", clean)), 1),), 1),))


def ceildiv(a: Size, b: Size) -> Size:
    """``ceil(a / b)``, for sizes of which b is positive."""
    return -(-a // b)


def minimum(a: Size, b: Size) -> Size:
    """The smaller of two sizes; decided at once where `bounds` can."""
    return _extreme("min", a, b)


def maximum(a: Size, b: Size) -> Size:
    """The larger of two sizes; decided at once where `bounds` can."""
    return _extreme("max", a, b)


CHANCE = 2**20
"""The whole number that stands for a probability of 1 in `missed`."""


def missed(chance: Size, draws: Size) -> Size:
    """The probability, in parts of `CHANCE`, that none of `draws` hits what one draw hits with `chance` (same parts):

    (1 - chance)^draws. Of E experts, k for each token, t tokens leave E (1 - k / E)^t untouched.
    """
    if isinstance(chance, int) and isinstance(draws, int):
        return missed_parts(chance, draws)
    return _atom("missed", chance, draws)


def missed_parts(chance: float, draws: float) -> int:
    """`missed` of numbers."""
    return int(CHANCE * (1.0 - chance / CHANCE) ** draws + 0.5)


def equal(a: Size, b: Size) -> Size:
    """1 where two sizes are equal, else 0: what runs for some values of a name only runs ``equal(name, 3)`` times.

    Never decided by `bounds`: a name that numbers choices may be 0.
    """
    if isinstance(a - b, int):
        return int(a == b)
    return _atom("equal", *sorted((a, b), key=lambda size: (isinstance(size, int), str(size))))


def product(sizes: Iterable[Size]) -> Size:
    """The product; 1 of none."""
    return math.prod(sizes, start=1)


def exact_div(a: Size, b: Size) -> Size | None:
    """`a / b` where b divides a as a polynomial, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    quotient = divide_terms(_terms(a), _terms(b))
    return None if quotient is None else _make(quotient)


def names(size: Size) -> frozenset[str]:
    """The free names a size depends on."""
    if isinstance(size, int):
        return frozenset()
    found: set[str] = set()
    for atom in _atoms(size.terms):
        found.update(atom.args if atom.op == "" else names(atom.args[0]) | names(atom.args[1]))
    return frozenset(found)


def parts_by_names(size: Size) -> list[Size]:
    """Sizes that add up to `size`: its terms, those that depend on the same names together."""
    if isinstance(size, int):
        return [size]
    parts: dict[frozenset[str], Size] = {}
    for term in size.terms:
        part = _make((term,))
        parts[names(part)] = parts.get(names(part), 0) + part
    return list(parts.values())


def evaluate(size: Size, sizes: Mapping[str, Any]) -> Any:
    """The value of `size` with ints or integer arrays for its names; SizeError names a missing one."""
    if isinstance(size, int):
        return size
    return sum(_monomial_value(monomial, coefficient, sizes) for monomial, coefficient in size.terms)


def substitute(size: Size, sizes: Mapping[str, Size]) -> Size:
    """`size` with some of its names replaced by other sizes; names not given stay free."""
    if isinstance(size, int) or not names(size) & sizes.keys():
        return size
    return evaluate(size, {name: sizes.get(name, symbol(name)) for name in names(size)})  # type: ignore[no-any-return]


def bounds(size: Size) -> tuple[int, float]:
    """The least and greatest value `size` can take (the greatest may be `math.inf`) while every free dim is >= 1."""
    if isinstance(size, int):
        return size, size
    low: float = 0
    high: float = 0
    for monomial, coefficient in size.terms:
        term_low, term_high = _monomial_bounds(monomial)
        ends = (coefficient * term_low, coefficient * term_high)
        low, high = low + min(ends), high + max(ends)
    return (int(low) if low > -math.inf else -(2**63)), high


# ---- normal form --------------------------------------------------------------------------------------------------


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, Dim))


def _terms(size: Size) -> Terms:
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),) if size else ()


def _make(terms: Terms) -> Size:
    if not terms:
        return 0
    if len(terms) == 1 and terms[0][0] == ():
        return terms[0][1]
    return Dim(terms)


def _floordiv(a: Size, b: Size) -> Size:
    if b == 0:
        raise SizeError(f"size formula ({a}) // 0: division by zero")
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    if isinstance(b, int):
        whole, rest = _split(a, b)
        if whole:
            return _make(whole) + _floordiv(_make(rest), b)
    low, high = bounds(a)
    if low >= 0 and high < bounds(b)[0]:
        return 0
    return _atom("//", a, b)


def _mod(a: Size, b: Size) -> Size:
    if b == 0:
        raise SizeError(f"size formula ({a}) % 0: division by zero")
    if exact_div(a, b) is not None:
        return 0
    if isinstance(b, int):
        whole, rest = _split(a, b)
        if whole:
            return _make(rest) % b
    low, high = bounds(a)
    if low >= 0 and high < bounds(b)[0]:
        return a
    return _atom("%", a, b)


def _split(a: Size, b: int) -> tuple[Terms, Terms]:
    """The terms of `a` whose coefficients `b` divides, divided by it, and the others (a constant leaves its rest)."""
    whole: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    for monomial, coefficient in _terms(a):
        if coefficient % b == 0:
            whole.append((monomial, coefficient // b))
        elif monomial == () and coefficient // b:
            whole.append((monomial, coefficient // b))
            rest.append((monomial, coefficient % b))
        else:
            rest.append((monomial, coefficient))
    return tuple(whole), tuple(rest)


def _extreme(op: str, a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b) if op == "min" else max(a, b)
    low, high = bounds(a - b)
    if low >= 0:
        return b if op == "min" else a
    if high <= 0:
        return a if op == "min" else b
    for outer, other in ((a, b), (b, a)):
        if _has_inside(outer, other):
            return outer if isinstance(outer, Dim) and outer.terms[0][0][0][0].op == op else other
    first, second = sorted((a, b), key=str)
    return _atom(op, first, second)


def _has_inside(outer: Size, other: Size) -> bool:
    """Whether `outer` is the smaller or larger of `other` and something: ``max(min(x, y), y)`` is y."""
    if isinstance(outer, int) or len(outer.terms) != 1 or outer.terms[0][1] != 1 or len(outer.terms[0][0]) != 1:
        return False
    atom, power = outer.terms[0][0][0]
    return power == 1 and atom.op in ("min", "max") and other in atom.args


def _atom(op: str, a: Size, b: Size) -> Dim:
    return Dim(((((Atom(op, a, b), 1),), 1),))


def _atoms(terms: Terms) -> Iterator[Atom]:
    return (atom for monomial, _ in terms for atom, _ in monomial)


# ---- values, bounds, text -----------------------------------------------------------------------------------------


def _monomial_value(monomial: Monomial, coefficient: int, sizes: Mapping[str, Any]) -> Any:
    value: Any = coefficient
    for atom, power in monomial:
        value = value * _atom_value(atom, sizes) ** power
    return value


def _atom_value(atom: Atom, sizes: Mapping[str, Any]) -> Any:
    if atom.op == "":
        if atom.args[0] not in sizes:
            raise SizeError(f"size {atom.args[0]!r} is not given; set it with --set {atom.args[0]}=VALUE")
        return sizes[atom.args[0]]
    a, b = (evaluate(arg, sizes) for arg in atom.args)
    return _apply(atom.op, a, b)


def _apply(op: str, a: Any, b: Any) -> Any:
    if op == "//":
        return a // b
    if op == "%":
        return a % b
    if _is_size(a) and _is_size(b):
        return _DECIDED[op](a, b) if op in _DECIDED else _extreme(op, a, b)
    import numpy as np

    if op == "missed":
        return np.floor(CHANCE * (1.0 - a / CHANCE) ** b + 0.5).astype(np.int64)
    if op == "equal":
        return np.equal(a, b).astype(np.int64)
    return np.minimum(a, b) if op == "min" else np.maximum(a, b)


_DECIDED = {"missed": missed, "equal": equal}


def _monomial_bounds(monomial: Monomial) -> tuple[float, float]:
    low: float = 1
    high: float = 1
    for atom, power in monomial:
        atom_low, atom_high = _atom_bounds(atom)
        if atom_low < 0:
            return -math.inf, math.inf
        low, high = low * atom_low**power, (0.0 if atom_high == 0 else high * atom_high**power)
    return low, high


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if atom.op == "":
        return 1, math.inf
    if atom.op == "missed":
        return 0, CHANCE
    if atom.op == "equal":
        return 0, 1
    (a_low, a_high), (b_low, b_high) = bounds(atom.args[0]), bounds(atom.args[1])
    if atom.op == "min":
        return min(a_low, b_low), min(a_high, b_high)
    if atom.op == "max":
        return max(a_low, b_low), max(a_high, b_high)
    if b_low <= 0:
        return -math.inf, math.inf
    if atom.op == "%":
        return 0, min(b_high - 1, a_high) if a_low >= 0 else b_high - 1
    low = a_low // b_high if a_low >= 0 and b_high < math.inf else (0 if a_low >= 0 else a_low // b_low)
    return low, (a_high if a_high == math.inf else a_high // b_low)


def _text(terms: Terms) -> str:
    parts = []
    for monomial, coefficient in terms:
        factors = [str(abs(coefficient))] if abs(coefficient) != 1 or not monomial else []
        factors += [str(atom) for atom, power in monomial for _ in range(power)]
        parts.append((" - " if coefficient < 0 else " + ") + "*".join(factors))
    text = "".join(parts)
    return text[3:] if text.startswith(" + ") else "-" + text[3:]
