"""`PricedSpace`: the candidates of a search space on one machine, answered from tables made once.

A kernel depends on few of a space's names: over their values its costs are a small table (`wattir.tables`). What is
left to do for a candidate is to add up one row of each table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from wattir.batch import refuse
from wattir.codes import DIRECT_ADDRESSES, alike, as_addresses, no_maps, stepwise
from wattir.costmodel import Answer, CostModel, compile_graph, ends_of_seconds
from wattir.device import Device, load_device
from wattir.errors import SpaceError
from wattir.expected import Expected, expected
from wattir.program import Program
from wattir.spaces import MOST_INDEXED, Space
from wattir.tables import Array, Tables, coalesced, laid_out, merged, room, row_count, run_programs, table_of
from wattir.threads import ranges

MOST_ROWS = 2**18
"""A kernel whose names have more combinations than this gets no table: it is worked out for each candidate."""
TOGETHER = 2**20
"""Candidates that are answered together: it bounds the memory."""


@dataclass(frozen=True)
class PricedSpace:
    """A space on a machine; call it with candidates.

    `model` answers for one candidate at a time, with a report; `by_size`, `by_index` (the same tables, with columns put
    together) and `programs` for many. Made by `Space.compile`.
    """

    space: Space
    model: CostModel
    by_size: Tables
    by_index: Tables
    programs: tuple[Program, ...]

    def __repr__(self) -> str:
        return f"<PricedSpace of {self.space} on {self.model.device.id}, {self.model.runtime}>"

    def __call__(self, candidates: Any) -> Answer:
        """Joules and seconds [n] of candidates: indices [n], or sizes [n, names] in the order of `Space.names`.

        SpaceError names the first candidate that is out of range or not whole.
        """
        given = self._array(candidates)
        out = room(len(given))
        for start in range(0, len(given), TOGETHER):
            part = slice(start, start + TOGETHER)
            self._answer(given[part], start, out[:, part])
        return Answer(*out)

    def time_interval(self, candidates: Any) -> tuple[Array, Array]:
        """The ends [n] of the 90 % interval of seconds of candidates: `CostModel.time_interval`, by another table."""
        return ends_of_seconds(self._of_seconds(candidates))

    @cached_property
    def _of_seconds(self) -> PricedSpace:
        return tabled(self.space, self.model.of_seconds)

    def expected(self, metric: str = "energy_j") -> Expected:
        """What a candidate costs whose choices are not settled: a smooth function of the probabilities of each name's
        values, with its exact gradient, in NumPy, PyTorch and JAX. See `wattir.expected`; `metric` as there."""
        return expected(self.model, {**self.space.values, **self.space.fixed}, metric)

    def _array(self, candidates: Any) -> Array:
        where = f"{self.space.graph.name}: candidates"
        try:
            given = np.asarray(candidates)
        except (TypeError, ValueError, RuntimeError) as error:
            raise SpaceError(f"{where}: no array of numbers ({str(error).partition('. ')[0]})") from None
        if np.ma.is_masked(candidates):
            raise SpaceError(f"{where}: some are masked; expected whole numbers")
        if given.ndim not in (1, 2) or (given.ndim == 2 and given.shape[1] != len(self.space.names)):
            expected = f"indices [n] or sizes [n, {len(self.space.names)}] of {', '.join(self.space.names[:8])}"
            raise SpaceError(f"{where} of shape {list(given.shape)}; expected {expected}")
        if given.ndim == 1 and self.space.size >= MOST_INDEXED:
            raise SpaceError(f"{where}: {self.space.size} are too many for indices; expected sizes [n, names]")
        if given.dtype.kind not in "iuf":
            raise SpaceError(f"{where} of dtype {given.dtype}; expected whole numbers")
        return given

    def _answer(self, given: Array, start: int, out: Array) -> None:
        whole = self._whole(given, start)
        direct = self._direct(whole, start)
        pieces = ranges(len(whole))
        ask = self._by_index if given.ndim == 1 else self._by_size
        found = ask(whole, direct, out, pieces)
        if min(found) < 0:
            self._check(whole, start)
        if max(found) > 0:
            at = int(np.flatnonzero(np.isnan(out[0]))[0])
            alone = self._sizes(whole[at : at + 1])
            refuse(self.model, {name: int(np.ravel(value)[0]) for name, value in alone.items()}, str(start + at))

    def _by_index(self, given: Array, *asked: Any) -> list[int]:
        from wattir.backends.gather import gather_indices

        taken = (np.ascontiguousarray(given, np.int64), self.by_index.counts, self.space.size)
        return self.by_index.ask(gather_indices, taken, *asked)

    def _by_size(self, given: Array, *asked: Any) -> list[int]:
        from wattir.backends.gather import gather_sizes

        maps, steps = self._maps
        columns = alike({n: self._small(n, column) for n, column in zip(self.space.names, given.T, strict=True)})
        taken = (*as_addresses(tuple(columns.values())), maps, steps)
        return self.by_size.ask(gather_sizes, taken, *asked)

    @cached_property
    def _maps(self) -> tuple[Array, Array]:
        """From the values of each name to their places, as `wattir.backends.gather` takes it: maps and steps."""
        maps, steps = no_maps(len(self.space.names)), np.zeros((len(self.space.names), 3), np.uint16)
        for column, values in enumerate(map(np.array, self.space.values.values())):
            if values.max() >= DIRECT_ADDRESSES - 1:
                values = np.arange(len(values))  # as `_small` makes them
            maps[column, values] = np.arange(1, len(values) + 1)
            found, listed = stepwise(np.sort(values))
            if np.array_equal(listed, values):
                steps[column] = found
        return maps, steps

    def _small(self, name: str, column: Array) -> Array:
        """A column of sizes, or the places of these where they are large."""
        values = np.array(self.space.values[name])
        if values.max() < DIRECT_ADDRESSES - 1:
            return column
        order = np.argsort(values)
        place = order[np.searchsorted(values, column, sorter=order).clip(max=len(values) - 1)]
        return np.where(values[place] == column, place, -1)

    def _whole(self, given: Array, start: int) -> Array:
        """Candidates as whole numbers."""
        if given.dtype.kind != "f" and given.dtype != np.uint64:
            return given
        with np.errstate(invalid="ignore"):  # of NaN, which is refused
            whole = given.astype(np.int64)
        self._refuse(given, whole != given, start)
        return whole

    def _check(self, given: Array, start: int) -> None:
        """SpaceError where a candidate is not one of the space."""
        if given.ndim == 1:
            return self._refuse(given, (given < 0) | (given >= self.space.size), start)
        columns = zip(given.T, self.space.values.values(), strict=True)
        self._refuse(given, ~np.stack([np.isin(column, values) for column, values in columns], axis=1), start)

    def _refuse(self, given: Array, wrong: Array, start: int) -> None:
        """SpaceError that names the first candidate of which something is wrong."""
        if not wrong.any():
            return
        at = int(np.argwhere(wrong)[0][0])
        where = f"{self.space.graph.name}: candidates[{start + at}]"
        if given.ndim == 1:
            raise SpaceError(f"{where} = {given[at]}; expected from 0 to {self.space.size - 1}")
        column = int(np.argmax(wrong[at]))
        size, values = tuple(self.space.values.items())[column]
        shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
        raise SpaceError(f"{where}: {size} = {given[at, column]}; expected one of {shown}")

    def _direct(self, given: Array, start: int) -> Array:
        """Sums [n or 0, SUMS] of the kernels that have no table."""
        if self.programs:
            self._check(given, start)
        sizes = self._sizes(given) if self.programs else {}
        return run_programs(self.programs, sizes, len(given), self.model.trees, self.model.host_op_s)

    def _sizes(self, given: Array) -> dict[str, Any]:
        rows = self.space.rows(given) if given.ndim == 1 else given
        return {**dict(zip(self.space.names, rows.T, strict=True)), **self.space.fixed}


def price_space(
    space: Space, device: str | Device, runtime: str, dtype: str | None, clock_hz: float | None
) -> PricedSpace:
    """The tables of a space on a machine."""
    machine = device if isinstance(device, Device) else load_device(device)
    return tabled(space, compile_graph(space.graph, machine, runtime, dtype, clock_hz))


def tabled(space: Space, model: CostModel) -> PricedSpace:
    """The tables of a space by the cost model of its graph."""
    values = {name: np.array(space.values.get(name, (value,))) for name, value in space.graph.sizes.items()}
    small = [program for program in model.programs if row_count(program, values) <= MOST_ROWS]
    large = tuple(program for program in model.programs if row_count(program, values) > MOST_ROWS)
    counts = [len(values[name]) for name in space.names]
    tables = merged([table_of(p, values, space.names, model.trees, model.host_op_s) for p in small], counts)
    more = model.total_constants, not large
    by_size, by_index = laid_out(tables, counts, *more), laid_out(*coalesced(tables, counts), *more)
    return PricedSpace(space, model, by_size, by_index, large)
