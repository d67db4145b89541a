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

from wattir.totals import totals

from .engine import compiled, source_stamp

LANES = 512
"""Candidates that go through all tables together: tables stay in the caches while they add its rows."""

ABSENT = 65535
"""In a map from values to indices: a value without one. So there are at most so many indices."""

WIDTH = 4
"""Numbers in a row of a table, which are added as one vector."""

TOGETHER = 4
"""Tables whose rows are added at once: the sums of a candidate are then read and written once for all of them."""

LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693147180369123816490, 1.90821492927058770002e-10
"""1 / ln 2, and ln 2 in two parts of which the first has few bits, so that its multiples are exact."""
SERIES = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
"""The terms of exp(r), the highest power first; the next would be 4e-18."""
ROUNDING = 1.5 * 2.0**52
"""Added to a double, it leaves the nearest whole number in the lowest bits."""

in_llvm: Callable[[Any], Any] = intrinsic
"""`numba.extending.intrinsic`, whose types ask callers for the typing context that numba itself gives."""


# ---- what numba's own code does one number at a time ---------------------------------------------------------------


@in_llvm
def _pointer(_: Any, address: Any) -> Any:
    """An address as what `carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


ROW = ir.VectorType(ir.DoubleType(), WIDTH)


def _at(context: Any, builder: Any, array_type: Any, array: Any, place: Any, kind: Any) -> Any:
    """A pointer to a number of an array, as one to `kind`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


@in_llvm
def _add_rows(_: Any, sums: Any, lane: Any, rows: Any, place: Any) -> Any:
    """``sums[lane] += rows[place[t, lane]]`` for all of `TOGETHER` tables t."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lane, whole = values[1], values[1].type

        def row(array: int, number: Any) -> Any:
            first = builder.mul(number, ir.Constant(whole, WIDTH))
            return _at(context, builder, signature.args[array], values[array], first, ROW)

        total = builder.load(row(0, lane), align=8)
        for table in range(TOGETHER):
            here = builder.add(lane, ir.Constant(whole, table * LANES))
            number = builder.load(_at(context, builder, signature.args[3], values[3], here, ir.IntType(32)))
            total = builder.fadd(total, builder.load(row(2, builder.zext(number, whole)), align=8))
        builder.store(total, row(0, lane), align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, rows, place), generate


@in_llvm
def _turn(_: Any, sums: Any, lane: Any, columns: Any) -> Any:
    """``columns[:, lane + k] = sums[lane + k]`` for k from 0 to 3, with columns [`WIDTH`, `LANES`]."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        whole = values[1].type

        def number(array: int, place: Any) -> Any:
            return _at(context, builder, signature.args[array], values[array], place, ROW)

        def mixed(a: Any, b: Any, *places: int) -> Any:
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), places))

        first = builder.mul(values[1], ir.Constant(whole, WIDTH))
        firsts = (builder.add(first, ir.Constant(whole, WIDTH * k)) for k in range(WIDTH))
        a, b, c, d = (builder.load(number(0, place), align=8) for place in firsts)
        pairs = [(mixed(a, b, *at), mixed(c, d, *at)) for at in ((0, 4, 2, 6), (1, 5, 3, 7))]
        for column, (left, half) in enumerate((pair, half) for half in ((0, 1, 4, 5), (2, 3, 6, 7)) for pair in pairs):
            here = builder.add(values[1], ir.Constant(whole, column * LANES))
            builder.store(mixed(*left, *half), number(2, here), align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, columns), generate


# ---- from candidates to indices ------------------------------------------------------------------------------------


@compiled
def learn(
    address: int, step: int, like: Any, indices: Any, values: Any, known: int, first: int, end: int
) -> int:  # fmt: skip
    """Gives the values of a column that have no index one, in order of appearance. The column is whole numbers of the
    dtype of `like` from `address` on, `step` apart; `indices` maps a value to its index, `values` an index to its
    value, and `known` is how many there are. Returns how many there are now, or -1 where a value or an index is too
    large.
    """
    column = carray(_pointer(address), (1,), like.dtype)
    for i in range(first, end):
        value = np.uint64(column[np.uint64(i * step)])  # a negative one becomes very large
        if value >= np.uint64(ABSENT):
            return -1
        if indices[value] == ABSENT:
            if known == ABSENT:
                return -1
            indices[value] = known
            values[known] = value
            known += 1
    return known


@njit
def _look_up(
    address: int, step: int, like: Any, maps: Any, count: int, start: int, width: int, index: Any, column: int
) -> bool:  # fmt: skip
    """The indices of a block of a column; whether all its values have one. The values are indices themselves, below
    `count`, or it is 0 and `maps`[column] maps them."""
    values = carray(_pointer(address + start * step * like.itemsize), (1,), like.dtype)
    if step == 1:
        _read(values, 1, width, index, column)
    else:
        _read(values, step, width, index, column)
    if not count:
        for lane in range(width):
            index[column, lane] = maps[column, index[column, lane]]
    most = np.uint16(0)
    for lane in range(width):
        most = max(most, index[column, lane])
    return bool(most < count if count else most != ABSENT)


@njit(inline="always")
def _read(values: Any, step: int, width: int, index: Any, column: int) -> None:
    """A block of a column, with `ABSENT` for what is negative or larger. Written out for steps of one, it is compiled
    to vectors."""
    for lane in range(width):
        index[column, lane] = np.uint16(min(np.uint64(values[np.uint64(lane * step)]), np.uint64(ABSENT)))


@njit(error_model="numpy")
def _take_apart(indices: Any, counts: Any, size: int, start: int, rest: Any, places: Any) -> bool:
    """The digits of a block of indices below `size`, the last column counting fastest; whether all are. In doubles,
    whose quotients, rounded down, are those of whole numbers up to 2^53, and compiled to vectors."""
    wrong: Any = False
    for lane in range(places.shape[1]):
        wrong |= np.uint64(indices[start + lane]) >= np.uint64(size)
        rest[lane] = indices[start + lane]
    for column in range(counts.shape[0] - 1, 0, -1):
        _last_digit(rest, np.float64(counts[column]), places[column])
    for lane in range(places.shape[1]):
        places[0, lane] = np.uint16(np.int32(rest[lane]))
    return not wrong


@njit(error_model="numpy")
def _last_digit(rest: Any, count: float, place: Any) -> None:
    for lane in range(place.shape[0]):
        quotient = np.floor(rest[lane] / count)
        place[lane] = np.uint16(np.int32(rest[lane] - quotient * count))
        rest[lane] = quotient


# ---- from indices to answers ---------------------------------------------------------------------------------------


def _make_gathers(stamp: int) -> tuple[Any, Any]:
    @compiled
    def gather_sizes(
        addresses: Any, steps: Any, like: Any, maps: Any, counts: Any, direct: Any, rows: Any, host_s: Any,
        starts: Any, members: Any, strides: Any, constants: Any, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp  # in numba's cache key: code compiled from older formulas is not used again
        refused = 0
        index, place, sums, waits, columns, powers = _room(addresses.shape[0])
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            for column in range(addresses.shape[0]):
                if not _look_up(
                    addresses[column], steps[column], like, maps, counts[column], start, width, index, column
                ):
                    return -1
            _begin(sums, waits, direct, start, width)
            _add_tables(index, place, sums, waits, rows, host_s, starts, members, strides)
            refused += _finish(sums, waits, columns, powers, constants, out, start, width)
        return refused

    @compiled
    def gather_indices(
        indices: Any, counts: Any, size: Any, direct: Any, rows: Any, host_s: Any, starts: Any, members: Any,
        strides: Any, constants: Any, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp
        refused = 0
        index, place, sums, waits, columns, powers = _room(counts.shape[0])
        rest = np.empty(LANES)
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            if not _take_apart(indices, counts, size, start, rest, index[:, :width]):
                return -1
            _begin(sums, waits, direct, start, width)
            _add_tables(index, place, sums, waits, rows, host_s, starts, members, strides)
            refused += _finish(sums, waits, columns, powers, constants, out, start, width)
        return refused

    return gather_sizes, gather_indices


@njit
def _room(columns: int) -> Any:
    """Arrays for a block: indices by column, places by table, sums, the host's seconds; sums by column, powers of 2."""
    index, place = np.zeros((columns, LANES), np.uint16), np.empty((TOGETHER, LANES), np.uint32)
    return index, place, np.empty((LANES, WIDTH)), np.empty(LANES), np.empty((WIDTH, LANES)), np.empty((2, LANES))


@njit
def _begin(sums: Any, waits: Any, direct: Any, start: int, width: int) -> None:
    """The sums of a block before any table: nothing, or what its candidates have of their own."""
    sums[:] = 0.0
    waits[:] = 0.0
    if direct.shape[0]:
        sums[:width] = direct[start : start + width, :WIDTH]
        waits[:width] = direct[start : start + width, WIDTH]


@njit
def _add_tables(
    index: Any, place: Any, sums: Any, waits: Any, rows: Any, host_s: Any, starts: Any, members: Any, strides: Any
) -> None:
    """Adds a row of each table to the sums of a block."""
    for first in range(0, starts.shape[0], TOGETHER):
        for t in range(TOGETHER):
            _places(index, starts, members, strides, first + t, place, t)
        for lane in range(LANES):
            _add_rows(sums, lane, rows, place)
        if host_s.shape[0]:
            for t in range(TOGETHER):
                for lane in range(LANES):
                    waits[lane] += host_s[place[t, lane]]


@njit
def _places(index: Any, starts: Any, members: Any, strides: Any, table: int, place: Any, t: int) -> None:
    """Row numbers in one table of a block of candidates."""
    for lane in range(LANES):
        place[t, lane] = starts[table]
    for axis in range(members.shape[1]):
        if strides[table, axis]:
            _advance(index, members[table, axis], np.uint32(strides[table, axis]), place, t)


@njit
def _advance(index: Any, column: int, stride: int, place: Any, t: int) -> None:
    for lane in range(LANES):
        place[t, lane] += np.uint32(stride * np.uint32(index[column, lane]))


@njit
def _finish(
    sums: Any, waits: Any, columns: Any, powers: Any, constants: Any, out: Any, start: int, width: int
) -> int:  # fmt: skip
    """From the sums of a block to its answers; returns how many are refused."""
    for lane in range(0, LANES, WIDTH):
        _turn(sums, lane, columns)
    end = start + width
    joules, low, high = out[0, start:end], out[1, start:end], out[2, start:end]
    _totals(columns[0], columns[1], columns[2], columns[3], waits, constants, joules, low, out[3, start:end])
    _ends(powers[0], powers[1], joules, low, high)
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


@njit(error_model="numpy", fastmath={"contract"})
def _ends(power: Any, inverse: Any, joules: Any, low: Any, high: Any) -> None:
    """The ends of the intervals of a block, whose widths stand in `low`: joules times exp(-x) and exp(x).

    exp(x) = 2^n exp(r) with n the whole number nearest to x / ln 2, and exp(r) by its series, |r| < 0.35: the sum of
    its even and its odd terms, and exp(-r) their difference. To within some units in the last place, compiled to
    vectors: `math.exp` is a call for each number, and takes as long as all else that a candidate of few tables needs.
    """
    bits, inverse_bits = power.view(np.int64), inverse.view(np.int64)
    for lane in range(low.shape[0]):
        power[lane] = min(low[lane], 700.0) * LOG2_E + ROUNDING
    for lane in range(low.shape[0]):
        n = power[lane] - ROUNDING
        r = min(low[lane], 700.0) - n * LN2_HIGH - n * LN2_LOW
        even, odd = 0.0, 0.0
        for k in range(0, len(SERIES), 2):
            odd = SERIES[k] + odd * (r * r)
            even = SERIES[k + 1] + even * (r * r)
        low[lane], high[lane] = even - r * odd, even + r * odd
    for lane in range(low.shape[0]):
        inverse_bits[lane] = (1023 - bits[lane]) << 52  # the bits of 2^-n as a double
        bits[lane] = (1023 + bits[lane]) << 52
    for lane in range(low.shape[0]):
        low[lane] *= joules[lane] * inverse[lane]
        high[lane] *= joules[lane] * power[lane]


gather_sizes, gather_indices = _make_gathers(source_stamp())
"""Both write [energy_j, low, high, time_s] to `out` [4, candidates], for the candidates from `first` to before `end`,
and return how many are refused (NaN joules), or -1 where one has a value without an index.

Table t has its rows of the first `WIDTH` of `wattir.totals.SUMS` in `rows`, and the last one in `host_s` where the host
counts, from `starts`[t] on, at the sum of indices of the columns `members`[t] times `strides`[t] (0: no member); there
is a multiple of `TOGETHER` of them. `direct` [candidates or 0, sums] is added.

``gather_sizes`` takes columns as in `learn`, and `counts` and `maps` [columns, values] as in `_look_up`;
``gather_indices`` takes candidates numbered from 0 to before `size`, of columns with `counts` values."""
