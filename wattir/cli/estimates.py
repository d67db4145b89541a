"""`Estimate`: a report beside the cost model it came from, and its bounds where they were asked for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wattir.chain import Link, chain, load_node, load_site, node_of
from wattir.cli.question import cost_models, sizes_of
from wattir.costmodel import CostModel, compile_graph
from wattir.errors import InputError
from wattir.passes import BOUNDS
from wattir.report import Report
from wattir.scope import at_scope, conversion, totals_at


@dataclass(frozen=True)
class Estimate:
    """`bounds` maps every runtime to its totals; `chain` goes from the machine to the grid; empty if not asked for."""

    model: CostModel
    report: Report
    bounds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chain: tuple[Link, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report's object; `bounds` and `chain` in it only where they were asked for."""
        more = {"bounds": dict(self.bounds), "chain": [link.to_dict() for link in self.chain]}
        return {**self.report.to_dict(), **{name: value for name, value in more.items() if value}}


def make_estimates(arguments: Namespace) -> tuple[Estimate, ...]:
    """One estimate for each machine."""
    models = cost_models(arguments)
    sizes = sizes_of(models[0].graph, arguments)
    bounds = getattr(arguments, "bounds", False)
    return tuple(_estimate(m, m.report(**sizes), _bounds(m, sizes) if bounds else {}, arguments) for m in models)


def _estimate(
    model: CostModel, report: Report, bounds: Mapping[str, Mapping[str, Any]], arguments: Namespace
) -> Estimate:
    links = _chain(model, report, arguments)
    scope = getattr(arguments, "scope", None)
    if scope is None:
        return Estimate(model, report, bounds, links)
    node = load_node(arguments.node) if arguments.node else None
    found = conversion(model.device, scope, node)
    bounds = {runtime: totals_at(totals, found) for runtime, totals in bounds.items()}
    return Estimate(model, at_scope(report, model.device, scope, node), bounds, links)


def _chain(model: CostModel, report: Report, arguments: Namespace) -> tuple[Link, ...]:
    region = getattr(arguments, "region", None)
    if region is None:
        return ()
    device = model.device
    node = load_node(arguments.node) if arguments.node else node_of(device.id, device.scope)
    origin = f"estimated: {device.scope} of {device.id}"
    totals, site = report.totals, load_site(region, arguments.pue)
    return chain(totals["energy_j"], totals["time_s"], 1, node, site, origin=origin, embodied=arguments.embodied)


def _bounds(model: CostModel, sizes: dict[str, int]) -> dict[str, Mapping[str, Any]]:
    if model.runtime not in BOUNDS:
        raise InputError(f"--bounds: of runtime {model.runtime}; expected one of {', '.join(BOUNDS)}, or no --bounds")
    return {
        runtime: compile_graph(model.graph, model.device, runtime, model.dtype).report(**sizes).totals
        for runtime in BOUNDS
    }
