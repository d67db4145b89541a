"""From what a machine's joules cover to what one asks for: board, package, rail, or all at the plug.

A node leads to the plug and back (`wattir.chain.Node.to_plug`): that of a server is scope `node`, that of a PC or a
board `wall`, the same place. Between the scopes inside (a GPU's board, a CPU's package, a rail) nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp
from typing import TYPE_CHECKING, Any

from wattir.chain import WHOLE_SCOPES, Conversion, Node, node_around
from wattir.device_schema import SCOPES
from wattir.errors import FleetError, suggestion

if TYPE_CHECKING:
    from wattir.device import Device
    from wattir.report import Report


def conversion(device: Device, wanted: str, node: Node | None = None) -> Conversion:
    """From the scope of a device's joules to another; FleetError where none is known. `node`: if not its usual one."""
    if wanted not in SCOPES:
        raise FleetError(
            f"scope {wanted!r}: not known; expected one of {', '.join(SCOPES)}{suggestion(wanted, SCOPES)}"
        )
    if wanted == device.scope or {wanted, device.scope} <= set(WHOLE_SCOPES):
        return Conversion(1.0, 0.0, 0.0, "")
    whole = device.scope in WHOLE_SCOPES
    if not whole and wanted not in WHOLE_SCOPES:
        raise FleetError(
            f"{device.id}: joules of its {device.scope} were asked for as those of the {wanted}; nothing is known "
            f"between these; expected {device.scope}, {' or '.join(WHOLE_SCOPES)}"
        )
    inside = wanted if whole else device.scope
    node = node or node_around(device.id, inside)
    if node.inside != inside:
        raise FleetError(
            f"{device.id}: node {node.id} is known around a {node.inside}, not a {inside}; expected another --node"
        )
    plug = node.to_plug(1)
    return plug.inverse if whole else plug


def at_scope(report: Report, device: Device, wanted: str, node: Node | None = None) -> Report:
    """The report with all joules those of scope `wanted`; layers still add up to the totals."""
    found = conversion(device, wanted, node)
    if not found.source:
        return replace(report, energy_scope=wanted)
    totals = totals_at(report.totals, found)
    if totals["energy_j"] <= 0.0:
        raise FleetError(
            f"{device.id}: {report.totals['energy_j']:.3g} J of its {device.scope} are less than the rest of it draws "
            f"({-found.added_w / found.factor:.4g} W); no joules are left for the {wanted}"
        )
    layers = tuple(replace(layer, energy_j=found.joules(layer.energy_j, layer.time_s)) for layer in report.layers)
    shares = {
        origin: sum(layer.energy_j for layer in layers if layer.origin == origin) / totals["energy_j"]
        for origin in ("measured", "modelled", "unknown")
    }
    said = (
        f"joules of the {wanted} are {found.factor:.4g} x those of the {device.scope} {found.added_w:+.4g} W x time "
        f"({found.source})"
    )
    return replace(
        report, energy_scope=wanted, totals=totals, layers=layers, coverage={**report.coverage, **shares},
        warnings=(*report.warnings, said),
    )  # fmt: skip


def totals_at(totals: Mapping[str, Any], found: Conversion) -> dict[str, Any]:
    """A report's totals with joules and watts converted, and the interval widened by the conversion's own."""
    time_s, wider = totals["time_s"], exp(found.width)
    energy, low, high = (found.joules(totals[name], time_s) for name in ("energy_j", "energy_low_j", "energy_high_j"))
    return {
        **totals,
        "energy_j": energy,
        "energy_low_j": max(low, 0.0) / wider,
        "energy_high_j": high * wider,
        "power_w": energy / time_s if time_s else 0.0,
    }
