"""`Program`: kernels as one straight line of steps from free dims to the registers that the formula reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from wattir.dims import Dim, Size, names, parts_by_names
from wattir.machine import ROW_CONSTANTS
from wattir.tape import Tape, TapeBuilder
from wattir.work import CELLS, Work, cells_of


class Kernel(NamedTuple):
    """A kernel's Work, its machine's constants, and what it adds to the interval: `spread`
    per squared joule, `widening` per joule."""

    work: Work
    constants: tuple[float, ...]
    spread: float
    widening: float


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One distinct kernel: registers of its cells and of how often it runs, and its machine's constants."""

    cells: tuple[int, ...]
    times: int
    constants: tuple[float, ...]
    spread: float
    widening: float


@dataclass(frozen=True)
class Program:
    """`checked`: registers of sizes that must not become negative or absurd."""

    tape: Tape
    rows: tuple[KernelRow, ...]
    checked: tuple[int, ...] = ()

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """The last table of its sums (`wattir.tables.table_of`)."""
        return {}

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The program as the arrays that the compiled engine takes."""
        import numpy as np

        rows = self.rows
        return (
            np.array(self.tape.numbers, dtype=np.float64),
            np.array(self.tape.steps, dtype=np.int64).reshape(-1, 3),
            np.array(self.checked, dtype=np.int64),
            np.array([row.cells for row in rows], dtype=np.int64).reshape(len(rows), len(CELLS)),
            np.array([row.times for row in rows], dtype=np.int64),
            np.array([row.constants for row in rows], dtype=np.float64).reshape(len(rows), len(ROW_CONSTANTS)),
            np.array([row.spread for row in rows], dtype=np.float64),
            np.array([row.widening for row in rows], dtype=np.float64),
        )


def program_of(free: Sequence[str], kernels: Iterable[Kernel], checked: Iterable[Dim] = ()) -> Program:
    """The program of kernels whose formulas hold these free names; equal kernels become one row."""
    tape = TapeBuilder(free)
    rows: dict[tuple[tuple[tuple[str, int], ...], tuple[float, ...], float, float], Size] = {}
    for work, constants, spread, widening in kernels:
        key = (tuple(tape.add(cell) for cell in cells_of(work)), constants, spread, widening)
        rows[key] = rows.get(key, 0) + work.times
    times = [tape.add(size) for size in rows.values()]
    sizes = [tape.add(size) for size in checked]
    finished, register = tape.finish()
    found = (
        KernelRow(tuple(register(h) for h in cells), register(t), constants, spread, widening)
        for (cells, constants, spread, widening), t in zip(rows, times, strict=True)
    )
    return Program(finished, tuple(found), tuple(register(h) for h in sizes))


def by_terms(kernels: Iterable[Kernel]) -> Iterator[Kernel]:
    """The kernels, one that runs a sum of times in different names as several: what it costs is linear in its times."""
    for kernel in kernels:
        for times in parts_by_names(kernel.work.times):
            yield kernel._replace(work=replace(kernel.work, times=times))


def programs_by_names(free: Sequence[str], kernels: Iterable[Kernel], checked: Iterable[Dim]) -> tuple[Program, ...]:
    """One program for each set of free names that kernels or checked sizes depend on, its names in the order given."""
    groups: dict[frozenset[str], tuple[list[Kernel], list[Dim]]] = {}
    for kernel in kernels:
        needed = frozenset[str]().union(*(names(size) for size in (*cells_of(kernel.work), kernel.work.times)))
        groups.setdefault(needed, ([], []))[0].append(kernel)
    for size in checked:
        groups.setdefault(names(size), ([], []))[1].append(size)
    return tuple(program_of([name for name in free if name in needed], *group) for needed, group in groups.items())
