"""`CostModel`: a network's kernels on one machine as a function of the free dims, and its one-file form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp
from typing import Any

from wattir.clock import at_clock, clock_width
from wattir.costs import tabulate
from wattir.device import Device
from wattir.dims import Size, bounds, evaluate, maximum
from wattir.errors import SizeError, suggestion
from wattir.graph_check import MAX_DIM, check_graph, check_sizes, formula_dims
from wattir.interval import of_seconds, widening
from wattir.ir import Graph
from wattir.machine import Row, assembled, row_of, spread_of
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision
from wattir.program import Kernel, Program, by_terms, program_of, programs_by_names
from wattir.roofline import kernel_cost
from wattir.runtime import under
from wattir.totals import ends, totals, under_limit
from wattir.work import CELLS, Work, cells_of

EXACT = 2**53
"""The largest whole number up to which a double holds every one: batches count in doubles."""

LAUNCHES = CELLS.index("launches")

WAITING = "waiting for the host"
"""What the layer of an eager pass is called that no kernel accounts for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Totals for one setting, or arrays of them: joules of one forward pass with their 90 % interval, and seconds
    (whose interval `CostModel.time_interval` gives)."""

    energy_j: Any
    energy_low_j: Any
    energy_high_j: Any
    time_s: Any


@dataclass(frozen=True, slots=True)
class LayerAnswers:
    """Totals by layer, over all `times` a layer runs: arrays [layers, ...], and what each layer is called and is."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    energy_j: Any
    energy_low_j: Any
    energy_high_j: Any
    time_s: Any


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

    def __repr__(self) -> str:
        return f"<CostModel of {self.graph.name} on {self.device.id}, {self.runtime}, sizes {dict(self.sizes)}>"

    @property
    def sizes(self) -> Mapping[str, int | None]:
        """The free dims with their defaults; None where a caller must give one."""
        return self.graph.sizes

    def __call__(self, **sizes: Any) -> Answer:
        """Joules and seconds at these sizes: ints, or integer arrays that broadcast (then through numba).

        SizeError names a size that is missing, unknown, not whole, negative or past 2^40.
        """
        if any(is_many(value) for value in sizes.values()):
            from wattir.batch import evaluate_arrays

            return evaluate_arrays(self, sizes)
        return self._answer(self.bind(sizes))

    def time_interval(self, **sizes: Any) -> tuple[Any, Any]:
        """The ends of the 90 % interval of seconds at sizes as in a call: floats, or arrays. It takes another call.

        `wattir.interval.width_of` with the widths of seconds of the machine (`[interval.time]`); kernels count by
        joules here too, as where these widths were fitted. A machine without them has those of joules.
        """
        return ends_of_seconds(self.of_seconds(**sizes))

    def layers(self, **sizes: Any) -> LayerAnswers:
        """The same by layer, as arrays [layers, ...] over what the sizes broadcast to; joules and seconds add up.

        Every interval is that of its layer alone. Where the host launches ops one by one (eager) the last layer is
        waiting for it.
        """
        from wattir.batch import evaluate_layers

        return evaluate_layers(self, sizes)

    def expected(self, sizes: Mapping[str, Any], metric: str = "energy_j") -> Any:
        """A `wattir.expected.Expected`: the expectation over sizes of which each may take several values (lists), and
        its gradient: for differentiable search. `metric` is ``energy_j`` or ``time_s``."""
        from wattir.expected import expected

        return expected(self, sizes, metric)

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
        try:
            check_sizes(self.graph, whole)
        except ZeroDivisionError:
            raise SizeError(f"{self.graph.name}: a formula divides by zero at {whole}; give other sizes") from None
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
    def parts(self) -> tuple[Kernel, ...]:
        """The kernels with their constants and what they add to the interval."""
        return tuple(
            Kernel(work, row.constants, row.spread, widening(row.fitted, origin_of(work, row) < 2))
            for work, row in zip(self.kernels, self.rows, strict=True)
        )

    @cached_property
    def of_seconds(self) -> CostModel:
        """The same estimates with the interval of seconds around the joules."""
        device = of_seconds(self.device)
        if device is self.device:
            return self
        rows = tuple(replace(row, spread=spread_of(device, row.key)) for row in self.rows)
        return replace(self, device=device, rows=rows)

    @cached_property
    def program(self) -> Program:
        """The distinct kernels as a program of all free dims."""
        return program_of(tuple(self.sizes), self.parts)

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """The same kernels by the free dims they depend on, with the sizes that must be checked: for batches."""
        checked = (size for size in formula_dims(self.graph) if str(size) not in self.sizes)
        return programs_by_names(tuple(self.sizes), by_terms(self.parts), checked)

    @cached_property
    def layer_programs(self) -> tuple[Program, ...]:
        """One program for each kernel, of the free dims that it depends on; equal kernels have the same."""
        made: dict[Any, Program] = {}
        keys = [(cells_of(kernel.work), kernel.work.times, *kernel[1:]) for kernel in self.parts]
        for key, kernel in zip(keys, self.parts, strict=True):
            if key not in made:
                made[key] = programs_by_names(tuple(self.sizes), [kernel], ())[0]
        return tuple(made[key] for key in keys)

    @cached_property
    def _function(self) -> Callable[..., tuple[int, ...]]:
        rows = self.program.rows
        return self.program.tape.python([register for row in rows for register in (*row.cells, row.times)])

    @cached_property
    def host_ops(self) -> Size:
        """Framework ops that the host launches one by one in a pass."""
        return sum((work.launches * work.times for work in self.kernels), start=0)

    def _answer(self, bound: dict[str, int]) -> Answer:
        values = self._function(*bound.values())
        if max(values, default=0) > EXACT:
            raise SizeError(f"{self.graph.name}: {self._too_large(bound)}; give smaller sizes")
        cells = len(CELLS) + 1
        energy = time = spread = widened = host_s = held_s = excess_j = room_j = 0.0
        for place, row in enumerate(self.program.rows):
            at = place * cells
            times = values[at + cells - 1]
            if times == 0:
                continue
            taken: tuple[Any, ...] = (*values[at : at + cells - 1], *row.constants, self.trees)
            cost = kernel_cost(*taken)
            layer = cost[1] * times
            energy += layer
            time += cost[0] * times
            spread += cost[1] * layer * row.spread
            widened += layer * row.widening
            host_s += values[at + LAUNCHES] * times * self.host_op_s
            held_s += cost[6] * times
            excess_j += cost[7] * times
            room_j += cost[8] * times
        sums = energy, time, spread, widened, host_s, held_s, excess_j, room_j
        joules, width, seconds = totals(*sums, *self.total_constants)
        return Answer(joules, *ends(joules, exp(width)), seconds)

    def _too_large(self, bound: dict[str, int]) -> str:
        """Which kernel asks for more than `EXACT`, and of what."""
        amounts = (
            (evaluate(cell, bound), what, work.name) for work in self.kernels
            for what, cell in zip((*CELLS, "times"), (*cells_of(work), work.times), strict=True)
        )  # fmt: skip
        amount, what, name = max(amounts)
        return f"{what.replace('_', ' ')} of {name!r} is {amount} at {bound}; expected at most 2^53"

    @property
    def total_constants(self) -> tuple[float, float, float, float]:
        """What `wattir.totals.totals` takes of the machine."""
        device = self.device
        return device.coefficients.static_w, device.interval_network, clock_width(device), device.power_w

    @property
    def host_op_s(self) -> float:
        """Seconds the host needs for one op: zero where a compiled program launches itself."""
        return self.device.coefficients.host_op_s if self.runtime == "eager" else 0.0


def ends_of_seconds(answer: Answer) -> tuple[Any, Any]:
    """The interval of seconds, from the answer of a model `of_seconds`; without joules there is no width either."""
    nothing = answer.energy_j <= 0.0
    return ends(answer.time_s, (answer.energy_high_j + nothing) / (answer.energy_j + nothing))


def in_network(costs: Sequence[tuple[Any, int]], limit_w: float) -> tuple[float, float]:
    """What joules and seconds of kernels alone are multiplied by where they follow each other under one power limit
    (`wattir.totals.under_limit`), all alike; `costs`: what `kernel_cost` says of each, and how often it runs."""
    energy, time, held_s, excess_j, room_j = (sum(cost[i] * times for cost, times in costs) for i in (1, 0, 6, 7, 8))
    joules, seconds = under_limit(energy, time, held_s, excess_j, room_j, limit_w)
    return (joules / energy if energy else 1.0), (seconds / time if time else 1.0)


def is_many(value: Any) -> bool:
    """Whether a size is an array, or what becomes one."""
    return hasattr(value, "__array__") or isinstance(value, (list, tuple, range))


def check_size(name: str, value: Any) -> None:
    """SizeError unless `value` is a whole number from 0 to 2^40."""
    whole = isinstance(value, int) or (hasattr(value, "is_integer") and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value <= MAX_DIM:
        raise SizeError(f"size {name}={value!r}; expected a whole number from 0 to {MAX_DIM}")


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
    return compile_under(graph, at_clock(under(device, runtime), clock_hz), runtime, dtype)


def compile_under(graph: Graph, device: Device, runtime: str, dtype: str | None) -> CostModel:
    """The cost model on a machine that is already as it is under the runtime, at its clock."""
    kernels = tabulate(lower_to_kernels(with_precision(check_graph(graph), dtype), runtime))
    weight_bytes = sum((work.weight_bytes for work in kernels), start=0) * _repeats(graph)
    hot = len(kernels) > 1 and bounds(weight_bytes)[1] <= device.cache_bytes  # a layer alone stands for one of many
    rows, trees = assembled(
        row_of(device, work.family, work.math, strict_fp32=dtype == "fp32", hot_weights=hot) for work in kernels
    )
    return CostModel(graph, device, runtime, dtype, kernels, rows, trees)
