"""Polynomials with integer coefficients over atoms, in one normal form: what `wattir.dims.Dim` is made of.

A monomial is a sorted tuple of (atom, power); a polynomial a tuple of (monomial, coefficient), the highest degree
first, without zeros. So equal polynomials are equal tuples.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from wattir.errors import SizeError

Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
Terms: TypeAlias = tuple[tuple[Monomial, int], ...]

FUNCTIONS = ("min", "max", "missed", "equal")
MAX_TERMS = 200
"""A product of longer sums would explode, and is refused."""

_interned: WeakValueDictionary[Any, Atom] = WeakValueDictionary()


class Atom:
    """A free name (``op == ""``, one text argument) or a function of two sizes (``// % min max missed equal``).

    Interned. `key` orders atoms: names first, then functions, by their text.
    """

    __slots__ = ("__weakref__", "args", "key", "op")
    op: str
    args: tuple[Any, ...]
    key: tuple[int, str]

    def __new__(cls, op: str, *args: Any) -> Atom:
        found = _interned.get((op, args))
        if found is not None:
            return found
        self = super().__new__(cls)
        self.op, self.args = op, args
        self.key = (0 if op == "" else 1, str(self))
        _interned[(op, args)] = self
        return self

    def __lt__(self, other: Atom) -> bool:
        return self.key < other.key

    def __str__(self) -> str:
        if self.op == "":
            return str(self.args[0])
        a, b = self.args
        return f"{self.op}({a}, {b})" if self.op in FUNCTIONS else f"(({a}){self.op}({b}))"

    def __reduce__(self) -> Any:
        return Atom, (self.op, *self.args)


def _sorted_terms(terms: dict[Monomial, int]) -> Terms:
    kept = [(monomial, c) for monomial, c in terms.items() if c]
    return tuple(sorted(kept, key=_order, reverse=True) if len(kept) > 1 else kept)


def _order(term: tuple[Monomial, int]) -> Any:
    monomial = term[0]
    return sum(power for _, power in monomial), [(atom.key, power) for atom, power in monomial]


def add_terms(a: Terms, b: Terms) -> Terms:
    """The sum of two polynomials."""
    total = dict(a)
    for monomial, coefficient in b:
        total[monomial] = total.get(monomial, 0) + coefficient
    return _sorted_terms(total)


def multiply_terms(a: Terms, b: Terms) -> Terms:
    """The product of two polynomials; SizeError where it would explode."""
    if len(a) * len(b) > MAX_TERMS * MAX_TERMS:
        raise SizeError(f"size formula with {len(a)} times {len(b)} terms; expected at most {MAX_TERMS} each")
    if len(b) == 1 and b[0][0] == ():
        return tuple((monomial, coefficient * b[0][1]) for monomial, coefficient in a)  # a number keeps the order
    total: dict[Monomial, int] = {}
    for left, left_coefficient in a:
        for right, right_coefficient in b:
            monomial = _times(left, right)
            total[monomial] = total.get(monomial, 0) + left_coefficient * right_coefficient
    return _sorted_terms(total)


def _times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items()))


def _without(a: Monomial, b: Monomial) -> Monomial | None:
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) - power
        if powers[atom] < 0:
            return None
    return tuple((atom, power) for atom, power in sorted(powers.items()) if power)


def divide_terms(a: Terms, b: Terms) -> Terms | None:
    """Long division of polynomials by leading terms; None unless the remainder is zero."""
    if not b:
        return None
    lead, lead_coefficient = b[0]
    quotient: Terms = ()
    for _ in range(MAX_TERMS):
        if not a:
            return quotient
        monomial = _without(a[0][0], lead)
        if monomial is None or a[0][1] % lead_coefficient:
            return None
        step: Terms = ((monomial, a[0][1] // lead_coefficient),)
        quotient = add_terms(quotient, step)
        a = add_terms(a, tuple((m, -c) for m, c in multiply_terms(step, b)))
    return None
