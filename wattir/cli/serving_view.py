"""A served model as text for people: latencies, joules with their interval, and where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from wattir.chain import Link
from wattir.cli.chain_view import show_chain
from wattir.cli.console import Sheet, bar, clean, make_console, make_grid
from wattir.cli.units import between, digits, percent, prefixed
from wattir.interval import LEVEL
from wattir.serving import FACTORS, J_PER_WH

if TYPE_CHECKING:
    from wattir.generation_report import GenerationReport
    from wattir.serving_model import Deployment, Request
    from wattir.serving_report import ServingReport

BAR_COLUMNS = 20
NAMES = {
    "weights": "weights, from memory",
    "kv_cache": "KV cache and states, from memory",
    "compute": "compute and activations",
    "communication": "exchange among devices",
    "idle": "static power at work",
    "host": "static power, waiting for the host",
}  # fmt: skip


def show(reports: Sequence[ServingReport], chains: Sequence[tuple[Link, ...]]) -> None:
    """Prints everything."""
    console = make_console()
    for report, links in zip(reports, chains, strict=True):
        show_head(console, report, _totals(report))
        _show_factors(console, report.energy_j, report.request_j)
        if links:
            show_chain(console, links)


def show_head(console: Console, report: ServingReport | GenerationReport, totals: Mapping[str, str | Text]) -> None:
    """What runs on what machine, the totals, and warnings."""
    device = report.device
    console.print(Text.assemble((clean(report.model).plain, "bold"), " on ", (f"{device.name} ({device.id})", "bold")))
    grid = make_grid()
    for label, text in totals.items():
        grid.add_row(label, text)
    console.print(grid)
    for line in report.warnings:
        console.print(Text.assemble(("warning   ", "bold red"), clean(line)))
    console.print()


def _totals(report: ServingReport) -> dict[str, str | Text]:
    low, high = report.ends
    wh = report.request_j / J_PER_WH
    memory = report.memory
    return {
        "serves": f"{load_text(report)}, {report.engine.name}, {deployed(report.deployment)}",
        "request": request_text(report.request),
        "latency": f"TTFT {prefixed(report.ttft_s, 's')}, TPOT {prefixed(report.tpot_s, 's')}",
        "throughput": f"{digits(report.requests_per_s)} requests/s, "
        f"{digits(report.requests_per_s * report.request.osl)} tokens/s at {prefixed(report.power_w, 'W')}",
        "per token": _joules(report.token_j, low, high),
        "per request": Text(_joules(report.request_j, low, high), style="bold green"),
        "per query": f"{between(wh * low, wh, wh * high, 'Wh', LEVEL)} of the accelerators' {report.device.scope}s",
        "memory": f"weights {prefixed(memory['weight_bytes'], 'B')}, cache {prefixed(memory['cache_bytes'], 'B')} of "
        f"{prefixed(memory['limit_bytes'], 'B')} on each device",
    }


def _joules(value: float, low: float, high: float) -> str:
    return between(value * low, value, value * high, "J", LEVEL)


def load_text(report: ServingReport) -> str:
    """``64 requests at a time (64 running of at most 512)``."""
    load = report.load
    asked = f"{load.rate:g} requests/s" if load.concurrency is None else f"{load.concurrency:g} requests at a time"
    return f"{asked} ({digits(report.running)} running of at most {report.most_running})"


def deployed(deployment: Deployment) -> str:
    """``8 devices (tp 8)``."""
    sizes = {"tp": deployment.tp_size, "ep": deployment.ep_size, "pp": deployment.pp_size, "dp": deployment.dp_size}
    parts = [f"{name} {size}" for name, size in sizes.items() if size > 1]
    held = [
        f"{what} {name}" for what, name in (("weights", deployment.weights), ("cache", deployment.kv_cache)) if name
    ]
    count = f"{deployment.devices} device{'' if deployment.devices == 1 else 's'}"
    return f"{count} ({', '.join(parts + held)})" if parts or held else count


def request_text(request: Request) -> str:
    """``512 tokens in, 300 out``."""
    parts = [f"{request.isl} tokens in, {request.osl:g} out"]
    if request.images:
        parts.append(f"{request.images} images as {request.image_tokens} tokens")
    if request.osl_spread:
        parts.append(f"spread {request.osl_spread:g}")
    if request.prefix:
        parts.append(f"{request.prefix} of the prompt cached")
    if request.draft:
        parts.append(f"{request.draft} drafted, {digits(request.gain)} tokens a step")
    return ", ".join(parts)


def _show_factors(console: Console, energy_j: Mapping[str, Mapping[str, float]], whole: float) -> None:
    sheet = Sheet(console, "Where a request's joules go", "", ">prefill", ">decode", ">both", ">share", "?")
    for name in FACTORS:
        parts = [phase[name] for phase in energy_j.values()]
        share = sum(parts) / (whole or 1.0)
        if sum(parts):
            shown = (prefixed(joules, "J") for joules in (*parts, sum(parts)))
            sheet.row(NAMES[name], *shown, percent(share), bar(share, BAR_COLUMNS, console))
    totals = [sum(phase.values()) for phase in energy_j.values()]
    sheet.row("in all", *(prefixed(joules, "J") for joules in (*totals, whole)), percent(1.0), "")
    sheet.show()
