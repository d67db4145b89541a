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
from wattir.costmodel import Answer, CostModel, compile_graph
from wattir.device import Device, load_device
from wattir.errors import SpaceError
from wattir.program import Program
from wattir.spaces import MOST_INDEXED, Space
from wattir.tables import Array, Tables, laid_out, merged, row_count, run_programs, table_of
from wattir.threads import ranges, spread

MOST_ROWS = 2**18
"""A kernel whose names have more combinations than this gets no table: it is worked out for each candidate."""
PLACE_S = 2e-8
"""About how long one thread takes to find the places of one candidate."""
TOGETHER = 2**18
"""Candidates whose places in the tables are worked out together: it bounds the memory."""


@dataclass(frozen=True)
class PricedSpace:
    """A space on a machine; call it with candidates.

    `model` answers for one candidate at a time, with a report; `tables` and `programs` for many. Made by
    `Space.compile`.
    """

    space: Space
    model: CostModel
    tables: Tables
    programs: tuple[Program, ...]

    def __call__(self, candidates: Any) -> Answer:
        """Joules and seconds [n] of candidates: indices [n], or sizes [n, names] in the order of `Space.names`.

        SpaceError names the first candidate that is out of range or not whole.
        """
        given = self._array(candidates)
        out = np.empty((4, len(given)))
        for start in range(0, len(given), TOGETHER):
            part = slice(start, start + TOGETHER)
            self._answer(given[part], start, out[:, part])
        return Answer(*out)

    def _array(self, candidates: Any) -> Array:
        given = np.asarray(candidates)
        where = f"{self.space.graph.name}: candidates"
        if given.ndim not in (1, 2) or (given.ndim == 2 and given.shape[1] != len(self.space.names)):
            expected = f"indices [n] or sizes [n, {len(self.space.names)}] of {', '.join(self.space.names[:8])}"
            raise SpaceError(f"{where} of shape {list(given.shape)}; expected {expected}")
        if given.ndim == 1 and self.space.size >= MOST_INDEXED:
            raise SpaceError(f"{where}: {self.space.size} are too many for indices; expected sizes [n, names]")
        if given.dtype.kind not in "iuf":
            raise SpaceError(f"{where} of dtype {given.dtype}; expected whole numbers")
        return given

    def _answer(self, given: Array, start: int, out: Array) -> None:
        places = self._places(given, start)
        found = self.tables(places.T, self._direct(places))
        if found.refused:
            at = int(np.flatnonzero(np.isnan(found.energy_j))[0])
            alone = self._sizes(places[:, at : at + 1])
            refuse(self.model, {name: int(np.ravel(value)[0]) for name, value in alone.items()}, str(start + at))
        for row, field in enumerate(Answer.__slots__):
            out[row] = getattr(found, field)

    def _places(self, given: Array, start: int) -> Array:
        """Which value of each name [names, n] the candidates have."""
        from wattir.backends.candidates import places_of_indices, places_of_sizes

        with np.errstate(invalid="ignore"):  # of NaN, which is refused below
            whole = np.ascontiguousarray(given, np.int64)
        places = np.empty((len(self.space.names), len(given)), np.uint16)
        find, known = (places_of_indices, (self.counts,)) if given.ndim == 1 else (places_of_sizes, self._codes)
        count = len(given)
        bad = min(spread(lambda piece: int(find(whole, *known, places, *piece)), ranges(count), PLACE_S * count))
        if given.dtype.kind == "f" or given.dtype == np.uint64:
            wrong = np.flatnonzero((whole != given).reshape(len(given), -1).any(axis=1))
            bad = min(bad, int(wrong[0])) if len(wrong) else bad
        if bad < len(given):
            raise self._refused(given[bad], start + bad)
        return places

    def _refused(self, candidate: Any, at: int) -> SpaceError:
        name = self.space.graph.name
        if candidate.ndim == 0:
            return SpaceError(f"{name}: candidates[{at}] = {candidate}; expected from 0 to {self.space.size - 1}")
        columns = enumerate(self.space.values.items())
        column, (size, values) = next(found for found in columns if candidate[found[0]] not in found[1][1])
        shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
        return SpaceError(f"{name}: candidates[{at}]: {size} = {candidate[column]}; expected one of {shown}")

    def _direct(self, places: Array) -> Array:
        """Sums [n or 0, SUMS] of the kernels that have no table."""
        sizes = self._sizes(places) if self.programs else {}
        return run_programs(self.programs, sizes, places.shape[1], self.model.trees, self.model.host_op_s)

    def _sizes(self, places: Array) -> dict[str, Any]:
        values = self.space.values.items()
        searched = {name: np.array(known)[places[row]] for row, (name, known) in enumerate(values)}
        return {**searched, **self.space.fixed}

    @cached_property
    def counts(self) -> Array:
        """How many values each name has."""
        return np.array([len(values) for values in self.space.values.values()], np.int64)

    @cached_property
    def _codes(self) -> tuple[Array, Array]:
        """The sorted values of all names end to end with their places, and where each name's begin."""
        values = [np.array(known, np.int64) for known in self.space.values.values()]
        orders = [np.argsort(known) for known in values]
        ordered = [known[order] for known, order in zip(values, orders, strict=True)]
        pairs = np.stack([np.concatenate(ordered), np.concatenate(orders)]) if values else np.empty((2, 0), np.int64)
        return pairs, np.cumsum([0, *self.counts])


def price_space(
    space: Space, device: str | Device, runtime: str, dtype: str | None, clock_hz: float | None
) -> PricedSpace:
    """The tables of a space on a machine."""
    machine = device if isinstance(device, Device) else load_device(device)
    model = compile_graph(space.graph, machine, runtime, dtype, clock_hz)
    values = {name: np.array(space.values.get(name, (value,))) for name, value in space.graph.sizes.items()}
    small = [program for program in model.programs if row_count(program, values) <= MOST_ROWS]
    large = tuple(program for program in model.programs if row_count(program, values) > MOST_ROWS)
    counts = [len(values[name]) for name in space.names]
    tables = merged([table_of(p, values, space.names, model.trees, model.host_op_s) for p in small], counts)
    return PricedSpace(space, model, laid_out(tables, counts, model.interval_constants, model.host_op_s > 0.0), large)
