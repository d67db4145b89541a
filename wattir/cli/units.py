"""Numbers for people: three significant digits and an SI prefix. Everything for machines stays in SI units."""

from __future__ import annotations

import math

PREFIXES = {-12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}


def prefixed(value: float, unit: str) -> str:
    """`0.0421, "J"` as ``42.1 mJ``; 0 as ``0 J``."""
    exponent = exponent_of(value)
    return f"{digits(value / 10.0**exponent)} {PREFIXES[exponent]}{unit}"


def exponent_of(value: float) -> int:
    """The power of ten of the prefix under which three digits of `value` read best."""
    if value == 0 or not math.isfinite(value):
        return 0
    rounded = float(f"{abs(value):.2e}")  # 999.9 reads as 1.00 k
    return min(max(3 * math.floor(math.log10(rounded) / 3 + 1e-12), min(PREFIXES)), max(PREFIXES))


def digits(value: float) -> str:
    """Three significant digits, never in scientific form."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(float(f"{abs(value):.2e}"))))
    return f"{value:.{places}f}"


def between(low: float, value: float, high: float, unit: str, level: float) -> str:
    """A value with its interval, all under one prefix: ``112 mJ (84.1 to 150 mJ, 90 %)``."""
    exponent = exponent_of(value)
    scale = 10.0**exponent
    ends = f"{digits(low / scale)} to {digits(high / scale)} {PREFIXES[exponent]}{unit}"
    return f"{prefixed(value, unit)} ({ends}, {level:.0%})".replace("%", " %")


def percent(share: float) -> str:
    """``12.3 %``; what is there but rounds to nothing is ``<0.1 %``."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
