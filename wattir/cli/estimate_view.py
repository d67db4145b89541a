"""Estimates as text for people: a comparison of machines, totals, shares by kind, the dearest layers, coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wattir.cli.chain_view import show_chain
from wattir.cli.console import WIDE, Sheet, bar, clean, clipped, make_console, make_grid
from wattir.cli.estimates import Estimate
from wattir.cli.units import between, percent, prefixed
from wattir.report import ORIGINS, Layer, Report

NAME_COLUMNS = 36
NARROW_NAME_COLUMNS = 24
OP_COLUMNS = 18
MOST_WARNINGS = 8
BAR_COLUMNS = 20
SCOPES = {
    "board": "of the accelerator's board",
    "package": "of the processor's package",
    "rail": "of the processor's supply rail",
    "wall": "at the wall socket",
    "node": "of the whole node",
}
"""What a machine's joules cover, in words."""


def show_estimates(estimates: tuple[Estimate, ...], top: int, depth: int = 0) -> None:
    """Prints everything."""
    console = make_console()
    if len(estimates) > 1:
        _show_comparison(console, estimates)
    for estimate in estimates:
        _show(console, estimate, top, depth)


def _show_comparison(console: Console, estimates: tuple[Estimate, ...]) -> None:
    first = estimates[0].report
    title = f"{clean(first.model).plain} ({_sizes(first)}) on {len(estimates)} machines"
    level = f"{100 * first.totals['interval_level']:.0f} % interval"
    columns = ("machine", ">energy", level, "?>per sample", ">time", f"?{level}", "?>power", "cost")
    sheet = Sheet(console, title, *columns)
    for estimate in estimates:
        totals = estimate.report.totals
        (energy, joules), (time, seconds) = (text(totals).split(" (") for text in (energy_text, time_text))
        sheet.row(
            estimate.model.device.id, energy, joules.partition(",")[0], _per_sample(estimate) or energy,
            time, seconds.partition(",")[0], prefixed(totals["power_w"], "W"), _origin(estimate),
        )  # fmt: skip
    sheet.show()


def _origin(estimate: Estimate) -> str:
    device, shares = estimate.model.device, estimate.report.coverage
    if not device.measured:
        return f"BORROWED from {device.borrowed_from}"
    return ", ".join(f"{percent(shares[origin])} {origin}" for origin in ORIGINS if shares[origin])


def _show(console: Console, estimate: Estimate, top: int, depth: int) -> None:
    report, device = estimate.report, estimate.model.device
    console.print(Text.assemble((clean(report.model).plain, "bold"), " on ", (f"{device.name} ({device.id})", "bold")))
    console.print(_totals(estimate))
    _show_warnings(console, estimate)
    console.print()
    if estimate.chain:
        show_chain(console, estimate.chain)
    _show_kinds(console, report)
    if top:
        layers = report.folded(depth).layers
        title = f"Dearest {'modules' if depth else 'layers'} ({min(top, len(layers))} of {len(layers)})"
        dearest = sorted(layers, key=lambda layer: -layer.energy_j)[:top]
        _show_layers(console, title, dearest, report.totals["energy_j"])


def _totals(estimate: Estimate) -> Table:
    report, totals = estimate.report, estimate.report.totals
    each = _per_sample(estimate)
    grid = make_grid()
    rows = {
        "runs": f"{report.runtime}, {report.dtype or 'precision as in the model'}, {_sizes(report)}{_clock(report)}",
        "energy": Text.assemble((energy_text(totals), "bold green"), f" {SCOPES[report.energy_scope]}"),
        "per sample": each,
        "time": f"{time_text(totals)} at {prefixed(totals['power_w'], 'W')}",
        "work": _work(totals),
        "bytes": _bytes(totals),
        "coverage": _coverage(report),
        "unknown ops": _unknown(report),
        **{f"if {name}": _bound(bound) for name, bound in estimate.bounds.items()},
    }
    for label, text in rows.items():
        if text:
            grid.add_row(label, text)
    return grid


def _clock(report: Report) -> str:
    return f", at {1e-6 * report.clock_hz:.0f} MHz" if report.clock_hz else ""


def energy_text(totals: Mapping[str, Any]) -> str:
    """``112 mJ (84.1 to 150 mJ, 90 %)``."""
    ends = (totals["energy_low_j"], totals["energy_j"], totals["energy_high_j"])
    return between(*ends, "J", totals["interval_level"])


def time_text(totals: Mapping[str, Any]) -> str:
    """``1.34 ms (1.10 to 1.63 ms, 90 %)``."""
    ends = (totals["time_low_s"], totals["time_s"], totals["time_high_s"])
    return between(*ends, "s", totals["interval_level"])


def _per_sample(estimate: Estimate) -> str:
    batch = estimate.model.graph.batch
    samples = estimate.report.sizes.get(batch, 1) if batch else 1
    return prefixed(estimate.report.totals["energy_j"] / samples, "J") if samples > 1 else ""


def _sizes(report: Report) -> str:
    return ", ".join(f"{clean(name).plain}={value}" for name, value in report.sizes.items()) or "all sizes fixed"


def _work(totals: Mapping[str, Any]) -> str:
    causal = totals["flop_causal"]
    parts = [
        prefixed(totals["flop"], "FLOP"),
        f"{prefixed(causal, 'FLOP')} with causal attention" if causal != totals["flop"] else "",
        prefixed(totals["macs"], "MAC"),
        f"{prefixed(totals['vector_ops'], 'op')} outside contractions",
        f"{prefixed(totals['params'], '').strip()} parameters",
        f"{totals['kernels']} kernels",
    ]
    return ", ".join(part for part in parts if part)


def _bytes(totals: Mapping[str, Any]) -> str:
    streams = {"weights": "weight_bytes", "activations": "activation_bytes", "state": "state_bytes"}
    return ", ".join(f"{name} {prefixed(totals[key], 'B')}" for name, key in streams.items() if totals[key])


def _coverage(report: Report) -> str:
    shares = ", ".join(f"{percent(report.coverage[origin])} {origin}" for origin in ORIGINS)
    return f"{shares} (shares of energy)"


def _unknown(report: Report) -> Text | None:
    counts = report.coverage["unknown_op_counts"]
    listed = ", ".join(f"{op} ({count})" for op, count in sorted(counts.items()))
    return Text(f"{clean(listed).plain}: only their bytes are counted", style="bold yellow") if counts else None


def _bound(totals: Mapping[str, Any]) -> str:
    return f"{energy_text(totals)}, {time_text(totals)}, {totals['kernels']} kernels"


def _show_warnings(console: Console, estimate: Estimate) -> None:
    warnings = estimate.report.warnings
    borrowed = f"{estimate.model.device.id}: "
    for line in warnings[:MOST_WARNINGS]:
        loud = not estimate.model.device.measured and line.startswith(borrowed)
        console.print(Text.assemble(("BORROWED  " if loud else "warning   ", "bold red"), clean(line)))
    if len(warnings) > MOST_WARNINGS:
        console.print(f"          {len(warnings) - MOST_WARNINGS} more warnings; --json lists them all")


def _show_kinds(console: Console, report: Report) -> None:
    """Energy and time by kind of layer, dearest first."""
    groups = sorted(_by_kind(report.layers).items(), key=lambda item: -_joules(item[1]))
    rows = [(kind, str(len(layers)), _joules(layers), _seconds(layers), _roofs(layers)) for kind, layers in groups]
    whole_j, whole_s = report.totals["energy_j"], report.totals["time_s"]
    waiting_j, waiting_s = whole_j - _joules(report.layers), whole_s - _seconds(report.layers)
    if waiting_j > 5e-4 * whole_j:
        rows.append(("waiting", "", waiting_j, waiting_s, "for the host to launch"))
    sheet = Sheet(console, "Where the joules go", "kind", ">layers", ">energy", ">share", "?", ">time", "roofs")
    for kind, count, energy, time, roofs in rows:
        share = energy / (whole_j or 1.0)
        shown = (prefixed(energy, "J"), percent(share), bar(share, BAR_COLUMNS, console), prefixed(time, "s"))
        sheet.row(kind, count, *shown, roofs)
    sheet.show()


def _by_kind(layers: Iterable[Layer]) -> dict[str, list[Layer]]:
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        found.setdefault(layer.kind, []).append(layer)
    return found


def _joules(layers: Iterable[Layer]) -> float:
    return sum(layer.energy_j for layer in layers)


def _seconds(layers: Iterable[Layer]) -> float:
    return sum(layer.time_s for layer in layers)


def _roofs(layers: Iterable[Layer]) -> str:
    """The roofs that these layers hit, by their share of the layers' energy."""
    shares: dict[str, float] = {}
    for layer in layers:
        shares[layer.bound] = shares.get(layer.bound, 0.0) + layer.energy_j
    whole = sum(shares.values()) or 1.0
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{roof} {100 * energy / whole:.0f} %" for roof, energy in ranked[:2])


def _show_layers(console: Console, title: str, layers: Iterable[Layer], whole_j: float) -> None:
    """One row a layer."""
    columns = ("layer", "op", "?>runs", ">energy", ">share", ">time", "?>FLOP", "?>bytes", "roof", "?cost")
    sheet = Sheet(console, title, *columns)
    for layer in layers:
        sheet.row(
            clipped(layer.name, NAME_COLUMNS if console.width >= WIDE else NARROW_NAME_COLUMNS),
            clipped(layer.source_op, OP_COLUMNS), str(layer.times), prefixed(layer.energy_j, "J"),
            percent(layer.energy_j / (whole_j or 1.0)), prefixed(layer.time_s, "s"), prefixed(layer.flop, "").strip(),
            prefixed(layer.bytes, "B"), layer.bound, layer.origin,
        )  # fmt: skip
    sheet.show()


def show_layers(estimate: Estimate, depth: int = 0) -> None:
    """All layers in the order they run, or the modules they make up."""
    report = estimate.report
    title = f"{clean(report.model).plain} on {estimate.model.device.id}, {report.runtime}, {_sizes(report)}"
    console = make_console()
    layers = report.folded(depth).layers
    _show_layers(console, title, layers, report.totals["energy_j"])
    count = f"{len(layers)} {'modules' if depth else 'layers'}"
    console.print(f"{count}, {energy_text(report.totals)}, {time_text(report.totals)}")
    _show_warnings(console, estimate)
