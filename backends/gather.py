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

LANES = 1024
"""Candidates that go through all tables together: tables stay in the caches while they add its rows."""

ABSENT = 65535
"""The index of a value without one. So there are at most so many indices."""

WIDTH = 4
"""Numbers in a row of a table, which are added as one vector: half of `wattir.totals.SUMS`."""

ROW_BYTES = 8 * WIDTH
"""Places in a table are counted in bytes."""

TOGETHER = 4
"""Tables whose rows are added at once: the sums of a candidate are then read and written once for all of them."""

AXES = 3
"""Columns that add to a place in a table at once."""

LINE_BYTES = 64
"""A line of a cache."""

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


@in_llvm
def _add_rows(_: Any, sums: Any, lane: Any, rows: Any, starts: Any, place: Any) -> Any:
    """Adds to ``sums[lane]`` the row that begins ``place[t, lane]`` bytes behind ``rows[starts[t]]``, for all of
    `TOGETHER` tables t."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lane, whole = values[1], values[1].type
        sums, rows, places = (_data(context, builder, signature, values, array) for array in (0, 2, 4))

        def row(array: Any, number: Any, behind: Any) -> Any:
            first = builder.gep(array, [builder.mul(number, ir.Constant(whole, WIDTH))])
            there = builder.gep(builder.bitcast(first, ir.IntType(8).as_pointer()), [behind])
            return builder.bitcast(there, ROW.as_pointer())

        here = row(sums, lane, ir.Constant(whole, 0))
        total = builder.load(here, align=8)
        for table in range(TOGETHER):
            place = builder.load(builder.gep(places, [builder.add(lane, ir.Constant(whole, table * LANES))]))
            found = row(rows, builder.extract_value(values[3], table), builder.zext(place, whole))
            total = builder.fadd(total, builder.load(found, align=8))
        builder.store(total, here, align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, rows, starts, place), generate


def _data(context: Any, builder: Any, signature: Any, values: Any, array: int) -> Any:
    """A pointer to the first number of an array among the arguments."""
    return context.make_array(signature.args[array])(context, builder, values[array]).data


@in_llvm
def _fetch(_: Any, address: Any) -> Any:
    """Asks for a line of memory that is read soon."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        flag, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        to_read, second_level, data = (ir.Constant(flag, number) for number in (0, 2, 1))
        builder.call(prefetch, [builder.inttoptr(values[0], pointer), to_read, second_level, data])
        return context.get_dummy_value()

    return types.void(address), generate


@in_llvm
def _stream(_: Any, out: Any, place: Any, value: Any) -> Any:
    """``out[place] = value`` past the caches: memory that is only written need not be read for it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = ir.IntType(64)
        pointer = builder.gep(_data(context, builder, signature, values, 0), [values[1]])
        stored = builder.store(builder.bitcast(values[2], bits), builder.bitcast(pointer, bits.as_pointer()), align=8)
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(out, types.intp, value), generate


@in_llvm
def _bits(_: Any, number: Any) -> Any:
    """The bits of a double as a whole number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(number), generate


@in_llvm
def _of_bits(_: Any, number: Any) -> Any:
    """The double that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(number), generate


# ---- from candidates to indices ------------------------------------------------------------------------------------


@compiled
def learn(
    address: int, step: int, like: Any, indices: Any, values: Any, known: int, first: int, end: int
) -> int:  # fmt: skip
    """Gives the values of a column that have no index one, in order of appearance. The column is whole numbers of the
    dtype of `like` from `address` on, `step` apart; `indices` maps a value to one more than its index, `values` an
    index to its value, and `known` is how many there are. Returns how many there are now, or -1 where a value or an
    index is too large.
    """
    column = carray(_pointer(address), (1,), like.dtype)
    for i in range(first, end):
        value = np.uint64(column[np.uint64(i * step)])  # a negative one becomes very large
        if value >= np.uint64(ABSENT):
            return -1
        if indices[value] == 0:
            if known == ABSENT:
                return -1
            values[known] = value
            known += 1
            indices[value] = known
    return known


@njit
def _look_up(
    address: int, jump: int, like: Any, maps: Any, steps: Any, start: int, width: int, index: Any, column: int
) -> bool:  # fmt: skip
    """The indices of a block of a column; whether all its values have one. `steps`[column] is (first, shift, count) of
    `count` values from `first` on, 2^`shift` apart; or the count is 0, and `maps`[column] maps them as in `learn`."""
    values = carray(_pointer(address + start * jump * like.itemsize), (1,), like.dtype)
    if jump == 1:
        _read(values, 1, width, index, column)
    else:
        _read(values, jump, width, index, column)
    first, shift, count = steps[column, 0], steps[column, 1] & 15, steps[column, 2]
    most = np.uint16(0)
    for lane in range(width):
        if count:  # low bits, of values between the steps, are rotated to the top
            distance = np.uint16(index[column, lane] - first)
            index[column, lane] = distance >> shift | distance << (-shift & 15)
        else:
            index[column, lane] = maps[column, index[column, lane]] - 1
    for lane in range(width):
        most = max(most, index[column, lane])
    return bool(most < count if count else most != ABSENT)


@njit(inline="always")
def _read(values: Any, jump: int, width: int, index: Any, column: int) -> None:
    """A block of a column, with `ABSENT` for what is negative or larger. Written out for jumps of one, it is compiled
    to vectors."""
    for lane in range(width):
        index[column, lane] = np.uint16(min(np.uint64(values[np.uint64(lane * jump)]), np.uint64(ABSENT)))


@njit(error_model="numpy")
def _take_apart(indices: Any, counts: Any, size: int, start: int, rest: Any, places: Any) -> bool:
    """The digits of a block of indices below `size`, the last column counting fastest; whether all are. In doubles,
    compiled to vectors."""
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
    """Takes the last digit off. Half a step away from whole quotients, their rounding to 2^-52 does not reach them for
    numbers below 2^51."""
    share = 1.0 / count
    for lane in range(place.shape[0]):
        quotient = np.floor((rest[lane] + 0.5) * share)
        place[lane] = np.uint16(np.int32(rest[lane] - quotient * count))
        rest[lane] = quotient


# ---- from indices to answers ---------------------------------------------------------------------------------------


def _make_gathers(stamp: int) -> tuple[Any, Any]:
    @compiled
    def gather_sizes(
        addresses: Any, jumps: Any, like: Any, maps: Any, steps: Any, direct: Any, rows: Any, more_rows: Any,
        starts: Any, members: Any, strides: Any, constants: Any, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp  # in numba's cache key: code compiled from older formulas is not used again
        refused = 0
        bytes_apart = jumps * like.itemsize
        index, place, sums, more, answers = _room(addresses.shape[0], strides, more_rows)
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            for column in range(addresses.shape[0]):
                if not _look_up(addresses[column], jumps[column], like, maps, steps, start, width, index, column):
                    return -1
            _begin(sums, more, direct, start, width)
            ahead = addresses + (start + LANES) * bytes_apart, bytes_apart, LINE_BYTES // like.itemsize
            _add_tables(index, place, sums, more, rows, more_rows, starts, members, strides, ahead)
            refused += _finish(sums, more, answers, constants, out, start, width)
        return refused

    @compiled
    def gather_indices(
        indices: Any, counts: Any, size: Any, direct: Any, rows: Any, more_rows: Any, starts: Any, members: Any,
        strides: Any, constants: Any, out: Any, first: int, end: int,
    ) -> Any:  # fmt: skip
        _ = stamp
        refused = 0
        index, place, sums, more, answers = _room(counts.shape[0], strides, more_rows)
        rest, ahead = np.empty(LANES), (np.empty(0, np.int64), np.empty(0, np.int64), LANES)
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            if not _take_apart(indices, counts, size, start, rest, index[:, :width]):
                return -1
            _begin(sums, more, direct, start, width)
            _add_tables(index, place, sums, more, rows, more_rows, starts, members, strides, ahead)
            refused += _finish(sums, more, answers, constants, out, start, width)
        return refused

    return gather_sizes, gather_indices


@njit
def _room(columns: int, strides: Any, more_rows: Any) -> Any:
    """Arrays for a block: indices by column, places by table, both halves of the sums, answers. These do not lie whole
    pages apart: a processor takes addresses for the same at first if they are the same within a page."""
    index, place = np.zeros((max(1, columns), LANES), np.uint16), np.empty((TOGETHER, LANES), strides.dtype)
    more = np.empty((LANES if more_rows.shape[0] else 0, WIDTH))
    return index, place, np.empty((LANES, WIDTH)), more, np.empty((4, LANES + LINE_BYTES))


@njit
def _begin(sums: Any, more: Any, direct: Any, start: int, width: int) -> None:
    """The sums of a block before any table: nothing, or what its candidates have of their own."""
    sums[:] = 0.0
    more[:] = 0.0
    if direct.shape[0]:
        sums[:width] = direct[start : start + width, :WIDTH]
        more[:width] = direct[start : start + width, WIDTH:]


@njit
def _add_tables(
    index: Any, place: Any, sums: Any, more: Any, rows: Any, more_rows: Any, starts: Any, members: Any, strides: Any,
    ahead: Any,
) -> None:  # fmt: skip
    """Adds a row of each table to the sums of a block. Meanwhile it asks for what comes next: `ahead` is where the next
    block of each column begins, the bytes from one candidate to the next, and for how many at least a line is read."""
    columns, bytes_apart, candidates = ahead
    for t in range(0, starts.shape[0], TOGETHER):
        for table in range(TOGETHER):
            _places(index, members[t + table], strides[t + table], place[table])
        begins = starts[t], starts[t + 1], starts[t + 2], starts[t + 3]
        first, end = columns.shape[0] * t // starts.shape[0], columns.shape[0] * (t + TOGETHER) // starts.shape[0]
        for part in range(0, LANES, candidates):
            for lane in range(part, part + candidates):
                _add_rows(sums, lane, rows, begins, place)
            for column in range(first, end):
                _fetch(columns[column] + part * bytes_apart[column])
        if more.shape[0]:
            for lane in range(LANES):
                _add_rows(more, lane, more_rows, begins, place)


@njit
def _places(index: Any, members: Any, strides: Any, place: Any) -> None:
    """Places in one table of a block of candidates."""
    for axis in range(0, members.shape[0], AXES):
        a, b, c = index[members[axis]], index[members[axis + 1]], index[members[axis + 2]]
        stride_a, stride_b, stride_c = strides[axis], strides[axis + 1], strides[axis + 2]
        for lane in range(LANES):
            before = place[lane] if axis else 0
            place[lane] = before + a[lane] * stride_a + b[lane] * stride_b + c[lane] * stride_c


@njit(error_model="numpy", fastmath={"contract"})
def _finish(sums: Any, more: Any, answers: Any, constants: Any, out: Any, start: int, width: int) -> int:
    """From the sums of a block to its answers; returns how many are refused."""
    machine = constants[0], constants[1], constants[2], constants[3]
    first, second = sums.reshape(LANES * WIDTH), more.reshape(more.shape[0] * WIDTH)
    if more.shape[0]:
        for lane in range(LANES):
            at = lane * WIDTH
            rest = second[at], second[at + 1], second[at + 2], second[at + 3]
            _answer(first, lane, rest, machine, answers)
    else:
        for lane in range(LANES):
            _answer(first, lane, (0.0, 0.0, 0.0, 0.0), machine, answers)
    refused = 0
    for lane in range(width):
        refused += answers[0, lane] != answers[0, lane]
    for answer in range(4):
        stored = out[answer, start : start + width]
        for lane in range(width):
            _stream(stored, lane, answers[answer, lane])
    return refused


@njit(error_model="numpy", fastmath={"contract"}, inline="always")
def _answer(first: Any, lane: int, rest: Any, machine: Any, answers: Any) -> None:
    """The answer for one candidate, from both halves of its sums."""
    at = lane * WIDTH
    joules, half_width, seconds = totals(first[at], first[at + 1], first[at + 2], first[at + 3], *rest, *machine)
    low, high = _ends(half_width)
    answers[0, lane], answers[1, lane] = joules, joules * low
    answers[2, lane], answers[3, lane] = joules * high, seconds


@njit(error_model="numpy", fastmath={"contract"}, inline="always")
def _ends(half_width: float) -> tuple[float, float]:
    """exp(-x) and exp(x).

    exp(x) = 2^n exp(r) with n the whole number nearest to x / ln 2, and exp(r) by its series, |r| < 0.35: the sum of
    its even and its odd terms, and exp(-r) their difference. To within some units in the last place, compiled to
    vectors: `math.exp` is a call for each number, and takes as long as all else that a candidate of few tables needs.
    """
    x = min(half_width, 700.0)
    power = x * LOG2_E + ROUNDING
    n = power - ROUNDING
    r = x - n * LN2_HIGH - n * LN2_LOW
    even, odd = 0.0, 0.0
    for k in range(0, len(SERIES), 2):
        odd = SERIES[k] + odd * (r * r)
        even = SERIES[k + 1] + even * (r * r)
    down, up = _of_bits((1023 - _bits(power)) << 52), _of_bits((1023 + _bits(power)) << 52)  # 2^-n and 2^n
    return (even - r * odd) * down, (even + r * odd) * up


gather_sizes, gather_indices = _make_gathers(source_stamp())
"""Both write [energy_j, low, high, time_s] to `out` [4, candidates], for the candidates from `first` to before `end`,
and return how many are refused (NaN joules), or -1 where one has a value without an index.

Table t has its rows of the first `WIDTH` of `wattir.totals.SUMS` in `rows`, and of the others in `more_rows` where
these count, from `starts`[t] on. A row lies as many bytes behind the first one as the sum of indices of the columns
`members`[t] times `strides`[t] (0: no member) says; this fits the dtype of `strides`. There is a multiple of `TOGETHER`
tables with one of `AXES` members. `direct` [candidates or 0, sums] is added.

``gather_sizes`` takes columns as in `learn`, and `steps` and `maps` [columns, values] as in `_look_up`;
``gather_indices`` takes candidates numbered from 0 to before `size`, of columns with `counts` values."""
