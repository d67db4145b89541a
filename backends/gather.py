"""Candidates as indices into tables of sums: sizes looked up, and table rows added. Compiled by numba.

All functions let go of the interpreter's lock; `wattir.threads` calls them for several ranges of candidates at once.
Columns of sizes come as addresses, so that any number of them, contiguous or not, goes through one compiled function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]  # exported, but not in `__all__`
from numba.extending import intrinsic

from wattir.totals import ends, totals

from .engine import compiled, source_stamp

LANES = 512
"""Candidates that go through all tables together: a table stays in the first-level cache while they add its rows."""

ABSENT = 65535
"""In a map from values to indices: a value without one. So there are at most so many indices."""

WIDTH = 4
"""Numbers in a row of a table, which are added as one vector."""

LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693147180369123816490, 1.90821492927058770002e-10
"""1 / ln 2, and ln 2 in two parts of which the first has few bits, so that its multiples are exact."""
SERIES = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
"""The terms of exp(r), the highest power first; the next would be 4e-18."""

in_llvm: Callable[[Any], Any] = intrinsic
"""`numba.extending.intrinsic`, whose types ask callers for the typing context that numba itself gives."""


@in_llvm
def _pointer(_: Any, address: Any) -> Any:
    """An address as what `carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


@in_llvm
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


@compiled
def learn(address: int, step: int, like: Any, indices: Any, known: int, first: int, end: int) -> int:
    """Gives the values of a column that have no index one, in order of appearance. The column is whole numbers of the
    dtype of `like` from `address` on, `step` apart; `indices` maps a value to its index, `known` is how many have one.
    Returns how many have one now, or -1 where a value or an index is too large.
    """
    column = carray(_pointer(address), (1,), like.dtype)
    for i in range(first, end):
        value = np.uint64(column[np.uint64(i * step)])  # a negative one becomes very large
        if value >= np.uint64(indices.shape[0]):
            return -1
        if indices[value] == ABSENT:
            if known == ABSENT:
                return -1
            indices[value] = known
            known += 1
    return known


@njit
def _look_up(address: int, step: int, like: Any, indices: Any, start: int, places: Any) -> bool:
    """The indices of a block of a column; whether all its values have one."""
    column = carray(_pointer(address), (1,), like.dtype)
    strange = 0
    for lane in range(places.shape[0]):
        value = np.uint64(column[np.uint64((start + lane) * step)])
        place = np.uint16(ABSENT)
        if value < np.uint64(indices.shape[0]):
            place = indices[value]
        places[lane] = place
        strange |= place == ABSENT
    return strange == 0


def _make_gathers(stamp: int) -> tuple[Any, Any]:
    @compiled
    def gather_indices(
        index: Any, counts: Any, direct: Any, rows: Any, host_s: Any, starts: Any, members: Any, strides: Any,
        constants: Any, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp  # in numba's cache key: code compiled from older formulas is not used again
        refused = 0
        sums, waits, place = np.empty((LANES, WIDTH)), np.zeros(LANES), np.empty(LANES, np.uint32)
        wrong = np.zeros(LANES, np.bool_)
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            known = _known(index, counts, start, wrong[:width])
            _begin(sums, waits, direct, start, width)
            for t in range(starts.shape[0]):
                _places(index, starts[t], members[t], strides[t], start, place[:width])
                if not known:
                    place[:width][wrong[:width]] = 0
                _add(sums, waits, rows, host_s, place[:width])
            if not known:
                sums[:width, 0][wrong[:width]] = np.nan
            refused += _finish(sums, waits, constants, out, start, width)
        return refused

    @compiled
    def gather_sizes(
        addresses: Any, steps: Any, like: Any, maps: Any, direct: Any, rows: Any, host_s: Any, starts: Any,
        members: Any, strides: Any, constants: Any, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp
        refused, columns = 0, addresses.shape[0]
        sums, waits, place = np.empty((LANES, WIDTH)), np.zeros(LANES), np.empty(LANES, np.uint32)
        index = np.empty((columns, LANES), np.uint16)
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            for column in range(columns):
                if not _look_up(addresses[column], steps[column], like, maps[column], start, index[column, :width]):
                    return -1
            _begin(sums, waits, direct, start, width)
            for t in range(starts.shape[0]):
                _places(index, starts[t], members[t], strides[t], 0, place[:width])
                _add(sums, waits, rows, host_s, place[:width])
            refused += _finish(sums, waits, constants, out, start, width)
        return refused

    return gather_indices, gather_sizes


@njit
def _begin(sums: Any, waits: Any, direct: Any, start: int, width: int) -> None:
    """The sums of a block before any table: nothing, or what its candidates have of their own."""
    sums[:] = 0.0
    waits[:] = 0.0
    if direct.shape[0]:
        sums[:width] = direct[start : start + width, :WIDTH]
        waits[:width] = direct[start : start + width, WIDTH]


@njit
def _places(index: Any, table: int, members: Any, strides: Any, start: int, place: Any) -> None:
    """Row numbers in one table of a block of candidates."""
    for lane in range(place.shape[0]):
        place[lane] = table
    for member in range(members.shape[0]):
        if strides[member]:
            _advance(index[members[member], start : start + place.shape[0]], np.uint32(strides[member]), place)


@njit
def _advance(column: Any, stride: int, place: Any) -> None:
    for lane in range(place.shape[0]):
        place[lane] += np.uint32(stride * np.uint32(column[lane]))


@njit
def _add(sums: Any, waits: Any, rows: Any, host_s: Any, place: Any) -> None:
    for lane in range(place.shape[0]):
        _add_row(sums, lane, rows, place[lane])
    if host_s.shape[0]:
        for lane in range(place.shape[0]):
            waits[lane] += host_s[place[lane]]


@njit
def _finish(sums: Any, waits: Any, constants: Any, out: Any, start: int, width: int) -> int:
    """From the sums of a block to its answers; returns how many are refused."""
    columns = np.empty((WIDTH, LANES))
    for i in range(WIDTH):
        for lane in range(width):
            columns[i, lane] = sums[lane, i]
    end = start + width
    joules, low, high = out[0, start:end], out[1, start:end], out[2, start:end]
    _totals(columns[0], columns[1], columns[2], columns[3], waits, constants, joules, low, out[3, start:end])
    _ends(joules, low, high)
    refused = 0
    for lane in range(width):
        refused += joules[lane] != joules[lane]
    return refused


@njit(error_model="numpy")
def _totals(
    energy: Any,
    time: Any,
    spread: Any,
    widened: Any,
    waits: Any,
    constants: Any,
    joules: Any,
    widths: Any,
    seconds: Any,
) -> None:
    """`totals` over a block: columns apart, so that it is compiled to vectors."""
    static_w, network_width, more_width = constants[0], constants[1], constants[2]
    for lane in range(joules.shape[0]):
        joules[lane], widths[lane], seconds[lane] = totals(
            energy[lane], time[lane], spread[lane], widened[lane], waits[lane], static_w, network_width, more_width
        )


@njit(error_model="numpy")
def _ends(joules: Any, low: Any, high: Any) -> None:
    """The ends of the intervals of a block, whose widths stand in `low`."""
    _exp(low, high)
    for lane in range(joules.shape[0]):
        low[lane], high[lane] = ends(joules[lane], high[lane])


@njit(error_model="numpy")
def _exp(values: Any, found: Any) -> None:
    """exp of a block to within two units in the last place, compiled to vectors: `math.exp` is a call for each number,
    and takes as long as all else that a candidate of few tables needs.

    exp(x) = 2^n exp(r) with n the whole number nearest to x / ln 2, and exp(r) by its series: |r| < 0.35.
    """
    scale = np.empty(LANES, np.int64)
    for lane in range(values.shape[0]):
        x = min(values[lane], 700.0)
        n = np.floor(x * LOG2_E + 0.5)
        r = x - n * LN2_HIGH - n * LN2_LOW
        series = 0.0
        for k in range(len(SERIES)):
            series = SERIES[k] + series * r
        found[lane] = series
        scale[lane] = (np.int64(n) + 1023) << 52  # the bits of 2^n as a double
    power = scale.view(np.float64)
    for lane in range(values.shape[0]):
        found[lane] *= power[lane]


@njit
def _known(index: Any, counts: Any, start: int, wrong: Any) -> bool:
    """Whether all indices of a block are below the counts of their columns; `wrong` becomes where one is not."""
    known = True
    for column in range(counts.shape[0]):
        known &= _within(index[column, start : start + wrong.shape[0]], counts[column])
    if not known:
        wrong[:] = False
        for column in range(counts.shape[0]):
            for lane in range(wrong.shape[0]):
                wrong[lane] |= index[column, start + lane] >= counts[column] or index[column, start + lane] < 0
    return known


@njit
def _within(column: Any, count: int) -> bool:
    least = most = column[0]
    for lane in range(column.shape[0]):
        least, most = min(least, column[lane]), max(most, column[lane])
    return bool(least >= 0 and most < count)


gather_indices, gather_sizes = _make_gathers(source_stamp())
"""``gather_indices`` writes [energy_j, low, high, time_s] to `out` [4, candidates], for the candidates from `first` to
before `end`, and returns how many are refused (NaN joules).

`index` [columns, candidates] holds indices below `counts`; table t has its rows of the first `WIDTH` of
`wattir.totals.SUMS` in `rows`, and the last one in `host_s` where the host counts, from `starts`[t] on, at the sum of
indices of the columns `members`[t] times `strides`[t] (0: no member).

``gather_sizes`` takes sizes instead: columns as in `learn`, and `maps` [columns, values] from a value to its index;
-1 where a value has none. `direct` [candidates or 0, sums] is added."""
