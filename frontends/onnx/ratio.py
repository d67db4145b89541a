"""Quotients of sizes, as they appear in the float arithmetic that exporters write around Resize: ``h * 1.5 / 2``.

A known element of a float tensor is a float, a Size (a dim cast to float) or a `Ratio`. The functions here take any of
them, and ints; `Undecided` says that the answer depends on free dims.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, Union

from wattir.dims import Dim, Size, bounds, exact_div, maximum, minimum

Number: TypeAlias = Union[int, float, Dim, "Ratio"]
MAX_DENOMINATOR = 1 << 40


class Undecided(Exception):
    """What is asked depends on the free dims."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """`over / under`, not a whole number for all sizes; `under` is positive."""

    over: Size
    under: Size


def quotient(over: Size, under: Size) -> Number:
    """`over / under` in its simplest form."""
    if isinstance(over, int) and isinstance(under, int):
        return over / under
    if isinstance(under, int) and under < 0:
        over, under = -over, -under
    whole = exact_div(over, under)
    return Ratio(over, under) if whole is None else whole


def parts(value: Number) -> tuple[Size, Size]:
    """A number as a fraction of two sizes."""
    if isinstance(value, Ratio):
        return value.over, value.under
    if isinstance(value, (int, Dim)):
        return value, 1
    if not math.isfinite(value):
        raise Undecided
    simple = Fraction(value).limit_denominator(1024)
    if abs(float(simple) - value) > 1e-7 * abs(value):
        simple = Fraction(value)
    if simple.denominator > MAX_DENOMINATOR:
        raise Undecided
    return simple.numerator, simple.denominator


def is_plain(*values: Number) -> bool:
    """Whether all are ordinary numbers."""
    return all(isinstance(value, (int, float)) for value in values)


def is_size(*values: Number) -> bool:
    """Whether all are whole numbers or formulas."""
    return all(isinstance(value, (int, Dim)) for value in values)


def add(a: Number, b: Number) -> Number:
    if not isinstance(a, Ratio) and not isinstance(b, Ratio) and (is_plain(a, b) or is_size(a, b)):
        return a + b  # type: ignore[operator]  # of two numbers or two sizes
    (a_over, a_under), (b_over, b_under) = parts(a), parts(b)
    return quotient(a_over * b_under + b_over * a_under, a_under * b_under)


def multiply(a: Number, b: Number) -> Number:
    if not isinstance(a, Ratio) and not isinstance(b, Ratio) and (is_plain(a, b) or is_size(a, b)):
        return a * b  # type: ignore[operator]  # of two numbers or two sizes
    (a_over, a_under), (b_over, b_under) = parts(a), parts(b)
    return quotient(a_over * b_over, a_under * b_under)


def negative(a: Number) -> Number:
    return multiply(a, -1)


def subtract(a: Number, b: Number) -> Number:
    return add(a, negative(b))


def divide(a: Number, b: Number) -> Number:
    """The true quotient."""
    if isinstance(b, (int, float)) and b == 0:
        raise Undecided
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a / b
    (a_over, a_under), (b_over, b_under) = parts(a), parts(b)
    if bounds(b_over)[0] <= 0 and not isinstance(b_over, int):
        raise Undecided
    return quotient(a_over * b_under, a_under * b_over)


def whole_divide(a: Number, b: Number) -> Number:
    """The quotient of integers, cut towards zero (formulas are taken to be positive)."""
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise Undecided
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if not isinstance(a, (int, Dim)) or not isinstance(b, (int, Dim)):
        raise Undecided
    if isinstance(b, int) and b < 0:
        return -(a // -b)
    return a // b


def floor(a: Number) -> Number:
    if isinstance(a, float):
        return float(math.floor(a)) if math.isfinite(a) else a
    over, under = parts(a)
    return over // under


def ceil(a: Number) -> Number:
    return negative(floor(negative(a)))


def nearest(a: Number) -> Number:
    """Round; halves of formulas go up."""
    if isinstance(a, float):
        return float(round(a)) if math.isfinite(a) else a
    over, under = parts(a)
    return over if under == 1 else (2 * over + under) // (2 * under)


def truncated(a: Number) -> Size:
    """As an integer (formulas are taken to be positive)."""
    if isinstance(a, float):
        if not math.isfinite(a):
            raise Undecided
        return int(a)
    over, under = parts(a)
    return over // under


def largest(a: Number, b: Number) -> Number:
    if is_plain(a, b):
        return max(a, b)  # type: ignore[type-var]
    (a_over, a_under), (b_over, b_under) = parts(a), parts(b)
    return quotient(maximum(a_over * b_under, b_over * a_under), a_under * b_under)


def smallest(a: Number, b: Number) -> Number:
    if is_plain(a, b):
        return min(a, b)  # type: ignore[type-var]
    (a_over, a_under), (b_over, b_under) = parts(a), parts(b)
    return quotient(minimum(a_over * b_under, b_over * a_under), a_under * b_under)


def less(a: Number, b: Number) -> bool:
    if is_plain(a, b):
        return a < b  # type: ignore[operator]
    low, high = _difference(a, b)
    if high < 0:
        return True
    if low >= 0:
        return False
    raise Undecided


def equal(a: Number, b: Number) -> bool:
    if is_plain(a, b):
        return a == b
    low, high = _difference(a, b)
    if low == high == 0:
        return True
    if low > 0 or high < 0:
        return False
    raise Undecided


def _difference(a: Number, b: Number) -> tuple[int, float]:
    (a_over, a_under), (b_over, b_under) = parts(a), parts(b)
    return bounds(a_over * b_under - b_over * a_under)
