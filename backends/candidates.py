"""Candidates of a search space as places in the lists of its names' values. Compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from wattir.costmodel import EXACT

from .engine import compiled

LANES = 128
"""Candidates that are worked out together."""


@compiled
def places_of_indices(indices: Any, counts: Any, places: Any, begin: int, end: int) -> int:
    """`places` [names, n] of indices [n], the last name counting fastest; the first index out of range, or n.

    From `begin` to before `end`.
    """
    bad = indices.shape[0]
    doubles, whole = np.empty(LANES), np.empty(LANES, np.int64)
    size = 1.0
    for name in range(counts.shape[0]):
        size *= counts[name]
    for start in range(begin, end, LANES):
        width = min(LANES, end - start)
        for lane in range(width):
            doubles[lane] = whole[lane] = indices[start + lane]
        for name in range(counts.shape[0] - 1, -1, -1):
            place = places[name, start : start + width]
            if size < EXACT:  # then quotients of doubles, rounded down, are those of whole numbers
                _digit_of_doubles(doubles, np.float64(counts[name]), place)
            else:
                _digit(whole, counts[name], place)
        for lane in range(width):
            if (doubles[lane] if size < EXACT else whole[lane]) != 0:
                bad = min(bad, start + lane)
    return int(bad)


@njit(error_model="numpy")
def _digit(rest: Any, count: int, place: Any) -> None:
    """Takes the last digit off each number."""
    for lane in range(place.shape[0]):
        quotient = rest[lane] // count
        place[lane] = rest[lane] - quotient * count
        rest[lane] = quotient


@njit(error_model="numpy")
def _digit_of_doubles(rest: Any, count: float, place: Any) -> None:
    """`_digit` three times as fast: it is compiled to vectors."""
    for lane in range(place.shape[0]):
        quotient = np.floor(rest[lane] / count)
        place[lane] = np.uint16(np.int32(rest[lane] - quotient * count))
        rest[lane] = quotient


@compiled
def places_of_sizes(sizes: Any, codes: Any, starts: Any, places: Any, begin: int, end: int) -> int:
    """`places` [names, n] of sizes [n, names]; `codes` [2, values] holds the sorted values of each name from its
    `starts` on, with their places. Returns the first candidate with a value that its name has not, or n;
    from `begin` to before `end`."""
    count = sizes.shape[0]
    bad = count
    for start in range(begin, end, LANES):
        width = min(LANES, end - start)
        first = count
        for name in range(places.shape[0]):
            low, high = starts[name], starts[name + 1]
            known = codes[0, low:high]
            wrong = _look_up(sizes[start : start + width, name], known, codes[1, low:high], places[name, start:])
            if wrong < width:
                first = min(first, start + wrong)
        bad = min(bad, first)
    return int(bad)


@njit(error_model="numpy")
def _look_up(column: Any, known: Any, order: Any, place: Any) -> int:
    """Places of values by binary search, or by subtraction where the values have no gaps."""
    width, count = column.shape[0], known.shape[0]
    dense = known[count - 1] - known[0] == count - 1
    wrong = width
    for lane in range(width):
        at = column[lane] - known[0] if dense else np.searchsorted(known, column[lane])
        if at < 0 or at >= count or known[at] != column[lane]:
            wrong = min(wrong, lane)
        else:
            place[lane] = order[at]
    return int(wrong)
