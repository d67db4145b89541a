"""Sums over kernels as tables over the few sizes that each kernel depends on.

A kernel of a network rarely depends on more than two or three free sizes. Over the values that these take, its costs
are a small table; tables over the same sizes add up to one, and small ones merge into larger ones. What is left to do
for a candidate is to add one row of each table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
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
    """The table of a program over the values [count] of each name. Its columns are places in `order`; a name that is
    not there has one value."""
    axes = [values[name] for name in program.tape.names]
    grid = np.empty((len(axes), *map(len, axes)))
    for place, axis in enumerate(axes):
        grid[place] = axis.reshape(-1, *[1] * (len(axes) - place - 1))
    columns = tuple(order.index(name) for name in program.tape.names if name in order)
    return Table(columns, run_program(program, grid.reshape(len(axes), grid[0].size if axes else 1), trees, host_op_s))


def merged(tables: Sequence[Table], counts: Sequence[int], most: int = MERGED_ROWS) -> tuple[Table, ...]:
    """Fewer tables with the same sums: each goes into the first that contains its columns or can take them in."""
    bins: list[Table] = []
    for table in sorted(tables, key=lambda t: (-len(t.columns), t.columns)):
        for place, other in enumerate(bins):
            columns = tuple(sorted({*table.columns, *other.columns}))
            if columns == other.columns or math.prod(counts[c] for c in columns) <= most:
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


@dataclass(frozen=True)
class Tables:
    """Tables laid end to end for the compiled loops of `wattir.backends.gather`, which says how.

    `layout`: rows, the host's seconds, starts, members, strides; `constants`: those of `wattir.totals.totals`.
    """

    counts: Array
    layout: tuple[Array, Array, Array, Array, Array]
    constants: Array

    def __call__(self, index: Array, direct: Array | None = None) -> Answers:
        """Totals of candidates from indices [candidates, columns], plus sums of their own [candidates, SUMS]; those
        with an index out of range are refused."""
        from wattir.backends.gather import gather_indices

        count = index.shape[0]
        out = np.empty((4, count))
        own = np.empty((0, len(SUMS))) if direct is None else direct
        taken = (index.T, self.counts, own, *self.layout, self.constants, out)
        refused = spread(lambda piece: gather_indices(*taken, *piece), ranges(count), CANDIDATE_S * count)
        return Answers(out[0], out[1], out[2], out[3], sum(refused))


def laid_out(
    tables: Sequence[Table], counts: Sequence[int], constants: tuple[float, float, float], hosted: bool
) -> Tables:
    """Tables ready to be asked; the host's seconds are left out where they do not count (`hosted`)."""
    deepest = max((len(table.columns) for table in tables), default=0)
    members = np.zeros((len(tables), deepest), np.int64)
    strides = np.zeros((len(tables), deepest), np.int64)
    for place, table in enumerate(tables):
        shape = [counts[column] for column in table.columns]
        members[place, : len(shape)] = table.columns
        strides[place, : len(shape)] = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    sums = np.concatenate([np.empty((0, len(SUMS))), *(table.sums for table in tables)])
    starts = np.cumsum([0, *(len(table.sums) for table in tables)])[:-1]
    host_s = np.ascontiguousarray(sums[:, -1]) if hosted else np.empty(0)
    layout = np.ascontiguousarray(sums[:, :-1]), host_s, starts, members, strides
    return Tables(np.array(counts, np.int64), layout, np.array(constants))
