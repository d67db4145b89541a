"""Candidates as indices into tables of sums: encoding columns of sizes, and adding table rows up. Compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from wattir.totals import totals

from .engine import source_stamp

LANES = 256
"""Candidates whose places in the tables are computed together."""

ABSENT = 65535
"""In an encoded column: a value without an index."""


@njit(cache=True)
def extend(column: Any, indices: Any, places: Any, known: int) -> int:
    """Gives the values of `column` [n] that have no index one, in order; `indices` [values] maps a value to its index,
    `places` [n] becomes the column's. Returns how many values have one, or -1 where a value or an index is too large.
    """
    for i in range(column.shape[0]):
        value = column[i]
        if value < 0 or value >= indices.shape[0]:
            return -1
        if indices[value] == ABSENT:
            if known == ABSENT:
                return -1
            indices[value] = known
            known += 1
        places[i] = indices[value]
    return known


@njit(parallel=True, cache=True)
def look_up(column: Any, indices: Any, places: Any) -> int:
    """`places` [n] of the values of `column` [n] that have an index; returns how many have none."""
    absent = 0
    for i in prange(column.shape[0]):
        value = column[i]
        place = ABSENT
        if value >= 0 and value < indices.shape[0]:
            place = indices[value]
        places[i] = place
        absent += place == ABSENT
    return absent


def _make_gather(stamp: int) -> Any:
    @njit(parallel=True, cache=True, error_model="numpy")
    def gather(
        index: Any, counts: Any, rows: Any, starts: Any, members: Any, strides: Any, direct: Any,
        static_w: float, network_width: float, more_width: float,
    ) -> Any:  # fmt: skip
        _ = stamp
        count, tables, hosted = index.shape[0], starts.shape[0], rows.shape[1] > 4
        out = np.empty((4, count))
        refused = 0
        for block in prange((count + LANES - 1) // LANES):
            start = block * LANES
            width = min(LANES, count - start)
            place = np.empty((tables, LANES), np.int32)
            known = _known(index, counts, start, width)
            for t in range(tables):
                _places(index, starts[t], members[t], strides[t], start, place[t, :width])
            for lane in range(width):
                energy = time = spread = widened = host_s = 0.0
                if direct.shape[0]:
                    at = start + lane
                    energy, time, spread = direct[at, 0], direct[at, 1], direct[at, 2]
                    widened, host_s = direct[at, 3], direct[at, 4]
                if known:
                    for t in range(tables):
                        row = place[t, lane]
                        energy += rows[row, 0]
                        time += rows[row, 1]
                        spread += rows[row, 2]
                        widened += rows[row, 3]
                        if hosted:
                            host_s += rows[row, 4]
                else:
                    energy = np.nan
                found = totals(energy, time, spread, widened, host_s, static_w, network_width, more_width)
                refused += found[0] != found[0]
                for i in range(4):
                    out[i, start + lane] = found[i]
        return out, refused

    return gather


@njit(error_model="numpy")
def _places(index: Any, table: int, members: Any, strides: Any, start: int, place: Any) -> None:
    """Row numbers in one table of a block of candidates."""
    place[:] = table
    for member in range(members.shape[0]):
        stride = np.int32(strides[member])
        if stride:
            _add(index[start : start + place.shape[0], members[member]], stride, place)


@njit
def _add(column: Any, stride: int, place: Any) -> None:
    for lane in range(place.shape[0]):
        place[lane] += np.int32(stride * np.int32(column[lane]))


@njit
def _known(index: Any, counts: Any, start: int, width: int) -> bool:
    """Whether all indices of a block are below the counts of their columns."""
    bad = 0
    for column in range(counts.shape[0]):
        bad += _beyond(index[start : start + width, column], np.int32(counts[column]))
    return bad == 0


@njit
def _beyond(column: Any, count: int) -> int:
    bad = 0
    for lane in range(column.shape[0]):
        bad |= column[lane] >= count or column[lane] < 0
    return bad


gather = _make_gather(source_stamp())
"""[energy_j, low, high, time_s] by candidates, and how many of them are refused (NaN).

`index` [candidates, columns] holds indices below `counts`; table t has its rows of `wattir.totals.SUMS` in `rows` from
`starts`[t] on, at the sum of indices of the columns `members`[t] times `strides`[t] (0: no member); `direct`
[candidates or 0, sums] is added. A block with an index out of range is refused as a whole."""
