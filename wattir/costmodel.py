"""`CostModel`: a network's kernels on one machine as a function of the free dims, and its one-file form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wattir.clock import at_clock, clock_width
from wattir.costs import tabulate
from wattir.device import Device
from wattir.dims import Size, bounds, evaluate, maximum
from wattir.errors import SizeError, suggestion
from wattir.graph_check import check_graph, check_sizes
from wattir.interval import half_width
from wattir.ir import Graph
from wattir.machine import Row, assembled, row_of
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision
from wattir.roofline import kernel_cost
from wattir.tape import Tape, TapeBuilder
from wattir.work import CELLS, Work, cells_of

MAX_SIZE = 2**40


@dataclass(frozen=True, slots=True)
class Answer:
    """Totals for one setting, or arrays of them: joules and seconds of one forward pass, with the 90 % interval."""

    energy_j: Any
    energy_low_j: Any
    energy_high_j: Any
    time_s: Any


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One distinct kernel: registers of its cells and of how often it runs, its machine's constants, and what it adds
    to the `spread` of a total per squared joule (`wattir.interval.half_width`)."""

    cells: tuple[int, ...]
    times: int
    constants: tuple[float, ...]
    spread: float


@dataclass(frozen=True)
class CostModel:
    """A network on a machine under a runtime; call it with values for the free dims.

    `graph` is the network as lowered; `kernels` the Work table after the passes; `rows` the machine constants of each
    kernel, `trees` the table of learned corrections that these point into. Made by `compile_graph` or `wattir.load`.
    """

    graph: Graph
    device: Device
    runtime: str
    dtype: str | None
    kernels: tuple[Work, ...]
    rows: tuple[Row, ...]
    trees: tuple[float, ...]

    @property
    def sizes(self) -> Mapping[str, int | None]:
        """The free dims with their defaults; None where a caller must give one."""
        return self.graph.sizes

    def __call__(self, **sizes: Any) -> Answer:
        """Joules and seconds at these sizes: ints, or integer arrays that broadcast (then through numba).

        SizeError names a size that is missing, unknown, not whole, negative or past 2^40.
        """
        if any(hasattr(value, "__array__") or isinstance(value, (list, tuple)) for value in sizes.values()):
            from wattir.batch import evaluate_arrays

            return evaluate_arrays(self, sizes)
        return self._answer(self.bind(sizes))

    def bind(self, sizes: Mapping[str, Any]) -> dict[str, int]:
        """The sizes with the defaults filled in, checked."""
        for name, value in sizes.items():
            if name not in self.sizes:
                raise SizeError(f"{self.graph.name}: no size {name!r}; expected {self._expected()}{_near(name, self)}")
            check_size(name, value)
        bound = {**self.sizes, **sizes}
        missing = sorted(name for name, value in bound.items() if value is None)
        if missing:
            give = " ".join(f"--set {name}=VALUE" for name in missing)
            raise SizeError(f"{self.graph.name}: no value for size {', '.join(missing)}; give it with {give}")
        whole = {name: int(value) for name, value in bound.items()}
        check_sizes(self.graph, whole)
        return whole

    def _expected(self) -> str:
        return ", ".join(sorted(self.sizes)) or "none, all its sizes are fixed"

    def save(self, path: str) -> None:
        """Writes the model and its machine as one text file that `wattir.load` reads without any framework."""
        from wattir.wattir_file import write_cost_model

        write_cost_model(self, path)

    def report(self, **sizes: Any) -> Any:
        """A `wattir.report.Report` at these sizes: totals, layers, roofs, coverage."""
        from wattir.report import make_report

        return make_report(self, self.bind(sizes))

    @cached_property
    def program(self) -> tuple[Tape, tuple[KernelRow, ...], tuple[float, ...]]:
        """The tape, the distinct kernels, and the share of each that was measured, modelled or unknown (0, 1, 2)."""
        tape = TapeBuilder(tuple(self.sizes))
        rows: dict[tuple[Any, ...], Size] = {}
        for work, row in zip(self.kernels, self.rows, strict=True):
            cells = tuple(tape.add(cell) for cell in cells_of(work))
            key = (cells, row.constants, row.spread, origin_of(work, row))
            rows[key] = rows.get(key, 0) + work.times
        times = [tape.add(size) for size in rows.values()]
        finished, register = tape.finish()
        found = tuple(
            KernelRow(tuple(register(h) for h in cells), register(t), constants, spread)
            for (cells, constants, spread, _), t in zip(rows, times, strict=True)
        )
        return finished, found, tuple(float(key[-1]) for key in rows)

    @cached_property
    def _function(self) -> Callable[..., tuple[int, ...]]:
        tape, rows, _ = self.program
        return tape.python([register for row in rows for register in (*row.cells, row.times)])

    @cached_property
    def host_ops(self) -> Size:
        """Framework ops that the host launches one by one in a pass."""
        return sum((work.launches * work.times for work in self.kernels), start=0)

    def _answer(self, bound: dict[str, int]) -> Answer:
        values = self._function(*bound.values())
        _, rows, origins = self.program
        width = len(CELLS) + 1
        energy = time = spread = modelled = unknown = 0.0
        for place, (row, origin) in enumerate(zip(rows, origins, strict=True)):
            at = place * width
            times = values[at + width - 1]
            taken: tuple[Any, ...] = (*values[at : at + width - 1], *row.constants, self.trees)
            cost = kernel_cost(*taken)
            layer = cost[1] * times
            energy += layer
            time += cost[0] * times
            spread += cost[1] * layer * row.spread
            modelled += layer if origin == 1.0 else 0.0
            unknown += layer if origin == 2.0 else 0.0
        return self.totals(energy, time, spread, modelled, unknown, evaluate(self.host_ops, bound))

    def totals(
        self, energy: Any, time: Any, spread: Any, modelled: Any, unknown: Any, host_ops: Any, np: Any = math
    ) -> Answer:
        """From sums over kernels to the totals of a pass; `np` is numpy where the sums are arrays."""
        host_s = host_ops * self.host_op_s
        waiting_s = host_s - time
        waiting_s = waiting_s * (waiting_s > 0)
        waiting = self.device.coefficients.static_w * waiting_s
        half = half_width(self.device, energy, spread, modelled, unknown, np, waiting) + clock_width(self.device)
        energy = energy + waiting
        return Answer(energy, energy * np.exp(-half), energy * np.exp(half), time + waiting_s)

    @property
    def host_op_s(self) -> float:
        """Seconds the host needs for one op: zero where a compiled program launches itself."""
        return self.device.coefficients.host_op_s if self.runtime == "eager" else 0.0


def check_size(name: str, value: Any) -> None:
    """SizeError unless `value` is a whole number from 0 to 2^40."""
    whole = isinstance(value, int) or (hasattr(value, "is_integer") and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value <= MAX_SIZE:
        raise SizeError(f"size {name}={value!r}; expected a whole number from 0 to {MAX_SIZE}")


def _near(name: str, model: CostModel) -> str:
    return suggestion(name, model.sizes)


def origin_of(work: Work, row: Row) -> int:
    """Where a kernel's joules come from: 0 measured on this machine, 1 modelled, 2 unknown op."""
    if not work.known or (work.link_bytes != 0 and not row.linked):
        return 2
    return 0 if row.measured else 1


def _repeats(graph: Graph) -> Size:
    """How many times more weights a network has than its tensors show: layers that are alike may be written once."""
    shown = sum((tensor.elements for tensor in graph.tensors.values() if tensor.role == "weight"), start=0)
    return maximum(graph.params // maximum(shown, 1), 1)


def compile_graph(
    graph: Graph, device: Device, runtime: str = "compiled", dtype: str | None = None, clock_hz: float | None = None
) -> CostModel:
    """The cost model of a network on a machine; `dtype` is a what-if precision, `clock_hz` a what-if core clock."""
    device = at_clock(device, clock_hz)
    kernels = tabulate(lower_to_kernels(with_precision(check_graph(graph), dtype), runtime))
    weight_bytes = sum((work.weight_bytes for work in kernels), start=0) * _repeats(graph)
    hot = len(kernels) > 1 and bounds(weight_bytes)[1] <= device.cache_bytes  # a layer alone stands for one of many
    rows, trees = assembled(
        row_of(device, work.family, work.math, strict_fp32=dtype == "fp32", hot_weights=hot) for work in kernels
    )
    return CostModel(graph, device, runtime, dtype, kernels, rows, trees)
