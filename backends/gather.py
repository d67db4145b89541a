"""Candidates as indices into tables of sums: encoding columns of sizes, and adding table rows up. Compiled by numba.

All functions let go of the interpreter's lock; `wattir.threads` calls them for several ranges of candidates at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from wattir.totals import totals

from .engine import source_stamp

LANES = 512
"""Candidates that go through all tables together: a table stays in the first-level cache while they add its rows."""

ABSENT = 65535
"""In an encoded column: a value without an index."""

WIDTH = 4
"""Numbers in a row of a table, which are added as one vector."""


@njit(nogil=True, cache=True)
def encode(column: Any, indices: Any, places: Any) -> int:
    """Gives each distinct value of `column` [n] an index, in order of appearance; `indices` [values], all `ABSENT` at
    first, maps a value to its index, `places` [n] becomes the column's. Returns how many values there are, or -1 where
    a value or an index is too large.
    """
    known = 0
    for i in range(column.shape[0]):
        value = np.uint64(column[i])  # a negative one becomes very large
        if value >= np.uint64(indices.shape[0]):
            return -1
        if indices[value] == ABSENT:
            if known == ABSENT:
                return -1
            indices[value] = known
            known += 1
        places[i] = indices[value]
    return known


@intrinsic
def _add_row(_: Any, sums: Any, lane: Any, rows: Any, row: Any) -> Any:
    """``sums[lane] += rows[row]`` for `WIDTH` doubles at once: numba's own code adds them one by one."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), WIDTH)

        def at(place: int) -> Any:
            array = context.make_array(signature.args[place])(context, builder, values[place])
            first = builder.mul(values[place + 1], ir.Constant(values[place + 1].type, WIDTH))
            return builder.bitcast(builder.gep(array.data, [first]), vector.as_pointer())

        total = builder.fadd(builder.load(at(0), align=8), builder.load(at(2), align=8))
        builder.store(total, at(0), align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, rows, types.intp), generate


def _make_gather(stamp: int) -> Any:
    @njit(nogil=True, cache=True, error_model="numpy")
    def gather(
        index: Any, counts: Any, rows: Any, host_s: Any, starts: Any, members: Any, strides: Any, direct: Any,
        static_w: float, network_width: float, more_width: float, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp
        refused = 0
        sums, waits, place = np.empty((LANES, WIDTH)), np.zeros(LANES), np.empty(LANES, np.uint32)
        wrong = np.zeros(LANES, np.bool_)
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            sums[:] = 0.0
            waits[:] = 0.0
            if direct.shape[0]:
                sums[:width] = direct[start : start + width, :WIDTH]
                waits[:width] = direct[start : start + width, WIDTH]
            known = _known(index, counts, start, wrong[:width])
            for t in range(starts.shape[0]):
                _places(index, starts[t], members[t], strides[t], start, place[:width])
                if not known:
                    place[:width][wrong[:width]] = 0
                _add_rows(sums, rows, place[:width])
                if host_s.shape[0]:
                    _add_waits(waits, host_s, place[:width])
            for lane in range(width):
                energy = np.nan if wrong[lane] else sums[lane, 0]
                found = totals(
                    energy,
                    sums[lane, 1],
                    sums[lane, 2],
                    sums[lane, 3],
                    waits[lane],
                    static_w,
                    network_width,
                    more_width,
                )
                refused += found[0] != found[0]
                for i in range(4):
                    out[i, start + lane] = found[i]
        return refused

    return gather


@njit
def _add_rows(sums: Any, rows: Any, place: Any) -> None:
    for lane in range(place.shape[0]):
        _add_row(sums, lane, rows, place[lane])


@njit
def _add_waits(waits: Any, host_s: Any, place: Any) -> None:
    for lane in range(place.shape[0]):
        waits[lane] += host_s[place[lane]]


@njit
def _places(index: Any, table: int, members: Any, strides: Any, start: int, place: Any) -> None:
    """Row numbers in one table of a block of candidates."""
    place[:] = table
    for member in range(members.shape[0]):
        if strides[member]:
            _add(index[start : start + place.shape[0], members[member]], np.uint32(strides[member]), place)


@njit
def _add(column: Any, stride: int, place: Any) -> None:
    for lane in range(place.shape[0]):
        place[lane] += np.uint32(stride * np.uint32(column[lane]))


@njit
def _known(index: Any, counts: Any, start: int, wrong: Any) -> bool:
    """Whether all indices of a block are below the counts of their columns; `wrong` becomes the candidates of which
    one is not."""
    bad = 0
    wrong[:] = False
    for column in range(counts.shape[0]):
        bad += _beyond(index[start : start + wrong.shape[0], column], counts[column])
    if bad:
        for column in range(counts.shape[0]):
            for lane in range(wrong.shape[0]):
                wrong[lane] |= index[start + lane, column] >= counts[column] or index[start + lane, column] < 0
    return bad == 0


@njit
def _beyond(column: Any, count: int) -> int:
    bad = 0
    for lane in range(column.shape[0]):
        bad |= column[lane] >= count or column[lane] < 0
    return bad


gather = _make_gather(source_stamp())
"""Writes [energy_j, low, high, time_s] by candidates to `out` and returns how many are refused (NaN joules), for the
candidates from `first` to before `end`.

`index` [candidates, columns] holds indices below `counts` (empty: not checked); table t has its rows of the first
`WIDTH` of `wattir.totals.SUMS` in `rows`, and the last one in `host_s` where the host counts, from `starts`[t] on, at
the sum of indices of the columns `members`[t] times `strides`[t] (0: no member); `direct` [candidates or 0, sums] is
added."""
