"""`Estimate`: a report beside the cost model it came from, and its bounds where they were asked for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wattir.cli.question import cost_models, sizes_of
from wattir.costmodel import CostModel, compile_graph
from wattir.passes import RUNTIMES
from wattir.report import Report


@dataclass(frozen=True)
class Estimate:
    """`bounds` maps every runtime to its totals, or is empty."""

    model: CostModel
    report: Report
    bounds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report's object; `bounds` in it only where they were asked for."""
        return {**self.report.to_dict(), **({"bounds": dict(self.bounds)} if self.bounds else {})}


def make_estimates(arguments: Namespace) -> tuple[Estimate, ...]:
    """One estimate for each machine."""
    models = cost_models(arguments)
    sizes = sizes_of(models[0].graph, arguments)
    bounds = getattr(arguments, "bounds", False)
    return tuple(Estimate(m, m.report(**sizes), _bounds(m, sizes) if bounds else {}) for m in models)


def _bounds(model: CostModel, sizes: dict[str, int]) -> dict[str, Mapping[str, Any]]:
    return {
        runtime: compile_graph(model.graph, model.device, runtime, model.dtype).report(**sizes).totals
        for runtime in RUNTIMES
    }
