"""Sums over kernels as tables over the few sizes that each kernel depends on.

A kernel of a network rarely depends on more than two or three free sizes. Over the values that these take, its costs
are a small table; tables over the same sizes add up to one, and small ones merge into larger ones. What is left to do
for a candidate is to add one row of each table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from wattir.program import Program
from wattir.threads import ranges, spread
from wattir.totals import SUMS

Array = np.ndarray[Any, np.dtype[Any]]

MERGED_ROWS = 1024
"""Tables merge up to this many rows: 32 kB, so that one stays in the first-level cache while a block of candidates asks
it."""

MOST_KEPT = 2**14
"""Larger tables are made anew for each batch."""

LINE = 8
"""Doubles in a line of a cache."""

MOST_PLACES = 2**16
"""Fewer values than this have columns that are put together."""

KERNEL_S, CANDIDATE_S = 3e-7, 5e-8
"""About how long one thread takes for one kernel at one setting, and for one candidate from tables."""


@dataclass(frozen=True)
class Table:
    """Sums [values of the first column x values of the second x ..., SUMS] over these columns, ascending."""

    columns: tuple[int, ...]
    sums: Array


@dataclass(frozen=True)
class Answers:
    """Totals of candidates [candidates], and how many of them were refused (their joules are NaN)."""

    energy_j: Array
    energy_low_j: Array
    energy_high_j: Array
    time_s: Array
    refused: int


def run_program(program: Program, points: Array, trees: Sequence[float] | Array, host_op_s: float) -> Array:
    """`SUMS` over a program's kernels [points, sums] at sizes [names, points]."""
    from wattir.backends.engine import run_points

    count = points.shape[1]
    found = np.empty((count, len(SUMS)))
    taken = (np.asarray(points, np.float64), *program.arrays, np.asarray(trees), host_op_s, found)
    spread(lambda piece: run_points(*taken, *piece), ranges(count), KERNEL_S * count * len(program.rows))
    return found


def run_programs(
    programs: Sequence[Program], sizes: Mapping[str, Any], count: int, trees: Sequence[float] | Array, host_op_s: float
) -> Array:
    """`SUMS` over several programs' kernels at sizes that broadcast to [count]: [count, sums], or [0, sums] of none."""
    found = np.zeros((count if programs else 0, len(SUMS)))
    for program in programs:
        points = np.array([np.broadcast_to(sizes[name], count) for name in program.tape.names])
        found += run_program(program, points, trees, host_op_s)
    return found


def row_count(program: Program, values: Mapping[str, Sized]) -> int:
    """How many settings a program has over the values [count] of each name."""
    return math.prod(len(values[name]) for name in program.tape.names)


def table_of(
    program: Program, values: Mapping[str, Array], order: Sequence[str], trees: Sequence[float] | Array,
    host_op_s: float,
) -> Table:  # fmt: skip
    """The table of a program over the values [count] of each name, kept for those who ask about the same ones again.
    Its columns are places in `order`; a name that is not there has one value."""
    axes = [values[name].astype(np.int64) for name in program.tape.names]
    columns = tuple(order.index(name) for name in program.tape.names if name in order)
    asked = host_op_s, *(axis.tobytes() for axis in axes)
    sums = program.kept.get(asked)
    if sums is None:
        sums = _sums(program, axes, trees, host_op_s)
        if len(sums) <= MOST_KEPT:
            program.kept.clear()
            program.kept[asked] = sums
    return Table(columns, sums)


def _sums(program: Program, axes: Sequence[Array], trees: Sequence[float] | Array, host_op_s: float) -> Array:
    """`SUMS` of a program [settings, sums], over values of each of its names."""
    grid = np.empty((len(axes), *map(len, axes)))
    for place, axis in enumerate(axes):
        grid[place] = axis.reshape(-1, *[1] * (len(axes) - place - 1))
    return run_program(program, grid.reshape(len(axes), grid[0].size if axes else 1), trees, host_op_s)


def merged(tables: Sequence[Table], counts: Sequence[int], most: int = MERGED_ROWS) -> tuple[Table, ...]:
    """Fewer tables with the same sums: each goes into the first that contains its columns or can take them in."""
    bins: list[Table] = []
    for table in sorted(tables, key=lambda t: (-len(t.columns), t.columns)):
        for place, other in enumerate(bins):
            more = [column for column in table.columns if column not in other.columns]
            if not more or len(other.sums) * math.prod(counts[column] for column in more) <= most:
                columns = tuple(sorted((*other.columns, *more)))
                bins[place] = Table(columns, _over(table, columns, counts) + _over(other, columns, counts))
                break
        else:
            bins.append(table)
    return tuple(bins)


def _over(table: Table, columns: tuple[int, ...], counts: Sequence[int]) -> Array:
    """A table's sums repeated over more columns."""
    shape = [counts[column] if column in table.columns else 1 for column in columns]
    wide = np.broadcast_to(table.sums.reshape(*shape, len(SUMS)), (*(counts[c] for c in columns), len(SUMS)))
    return wide.reshape(-1, len(SUMS))


def coalesced(tables: Sequence[Table], counts: Sequence[int]) -> tuple[list[Table], list[int]]:
    """The tables with neighbouring columns as one where all tables use them together, and the counts of these."""
    users = [[column in table.columns for table in tables] for column in range(len(counts))]
    runs: list[list[int]] = []
    for column, count in enumerate(counts):
        if runs and users[column] == users[column - 1] and count * math.prod(counts[c] for c in runs[-1]) < MOST_PLACES:
            runs[-1].append(column)
        else:
            runs.append([column])
    number = {run[0]: place for place, run in enumerate(runs)}
    fewer = [Table(tuple(number[c] for c in table.columns if c in number), table.sums) for table in tables]
    return fewer, [math.prod(counts[c] for c in run) for run in runs]


@dataclass(frozen=True)
class Tables:
    """Tables laid end to end for the compiled loops of `wattir.backends.gather`, which says how.

    `layout`: rows of both halves of `SUMS`, starts, members, strides; `constants`: those of `wattir.totals.totals`.
    """

    counts: Array
    layout: tuple[Array, Array, Array, Array, Array]
    constants: Array

    def ask(
        self, gather: Callable[..., Any], given: tuple[Any, ...], direct: Array, out: Array,
        pieces: Sequence[tuple[int, int]],
    ) -> list[int]:  # fmt: skip
        """What a loop of `wattir.backends.gather` returns for each range of candidates, given what it takes first."""
        taken = (*given, direct, *self.layout, self.constants, out)
        seconds = CANDIDATE_S * sum(end - first for first, end in pieces)
        return spread(lambda piece: int(gather(*taken, *piece)), pieces, seconds)


def room(count: int) -> Array:
    """Where answers [4, count] are written: each row begins with a line of the caches, and lines are written whole."""
    padded = -(-count // LINE) * LINE
    found = np.empty(4 * padded + LINE)
    first = -found.__array_interface__["data"][0] // found.itemsize % LINE
    return found[first : first + 4 * padded].reshape(4, padded)[:, :count]


def laid_out(
    tables: Sequence[Table], counts: Sequence[int], constants: tuple[float, ...], alone: bool
) -> Tables:  # fmt: skip
    """Tables ready to be asked. The second half of the sums is left out where neither the host nor the power limit
    makes a difference, and there are no sums beside the tables (`alone`)."""
    from wattir.backends.gather import AXES, ROW_BYTES, TOGETHER

    rows = sum(len(table.sums) for table in tables)
    filled = -(-len(tables) // TOGETHER) * TOGETHER
    starts = np.full(filled, rows)  # what fills up the last group are tables of one row of zeros
    starts[: len(tables)] = np.cumsum([0, *(len(table.sums) for table in tables)])[:-1]
    moving = [_strides(table, counts) for table in tables]
    axes = -(-max([1, *map(len, moving)]) // AXES) * AXES
    last = max([256, *((len(table.sums) - 1) * ROW_BYTES for table in tables)])  # two bytes, or four
    members, strides = np.zeros((filled, axes), np.int64), np.zeros((filled, axes), np.min_scalar_type(last))
    for place, pairs in enumerate(moving):
        for axis, (column, stride) in enumerate(pairs):
            members[place, axis], strides[place, axis] = column, stride * ROW_BYTES
    sums = np.concatenate([*(table.sums for table in tables), np.zeros((1, len(SUMS)))])
    first, second = (np.ascontiguousarray(half) for half in np.hsplit(sums, 2))
    layout = first, second[:0] if alone and not second[:, :-1].any() else second, starts, members, strides
    return Tables(np.array(counts, np.int64), layout, np.array(constants))


def _strides(table: Table, counts: Sequence[int]) -> list[tuple[int, int]]:
    """The columns of a table that have several values, each with the distance between the rows of two."""
    shape = [counts[column] for column in table.columns]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return [(column, stride) for column, stride in zip(table.columns, strides, strict=True) if counts[column] > 1]
