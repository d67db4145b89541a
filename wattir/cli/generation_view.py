"""A generator's call as text for people: joules with their interval, seconds, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from wattir.chain import Link
from wattir.cli.chain_view import show_chain
from wattir.cli.console import Sheet, bar, make_console
from wattir.cli.serving_view import BAR_COLUMNS, show_head
from wattir.cli.units import between, digits, percent, prefixed
from wattir.interval import LEVEL
from wattir.serving import J_PER_WH

if TYPE_CHECKING:
    from rich.console import Console

    from wattir.generation_report import GenerationReport

PHASE_NAMES = {
    "text": "encoders", "denoise": "denoiser", "decode": "latents to pixels", "call": "host around the call",
}  # fmt: skip
FACTOR_NAMES = {
    "work": "arithmetic and memory", "static": "static power at work", "host": "static power, waiting for the host",
    "communication": "exchange among devices", "waiting": "devices that wait for another",
}  # fmt: skip


def show(reports: Sequence[GenerationReport], chains: Sequence[tuple[Link, ...]]) -> None:
    """Prints everything."""
    console = make_console()
    for report, links in zip(reports, chains, strict=True):
        show_head(console, report, _totals(report))
        _show_phases(console, report)
        _show_factors(console, report)
        if links:
            show_chain(console, links)


def _totals(report: GenerationReport) -> dict[str, str | Text]:
    low, high = report.ends
    joules, wh = report.energy_j, report.energy_j / J_PER_WH
    return {
        "makes": asked_text(report),
        "runs": f"{report.stack.name}, 16 bits, {devices_text(report)}",
        f"per {report.kind}": Text(between(joules * low, joules, joules * high, "J", LEVEL), style="bold green"),
        "": f"{between(wh * low, wh, wh * high, 'Wh', LEVEL)} of the accelerators' {report.device.scope}s",
        "time": f"{prefixed(report.time_s, 's')} a call, {digits(report.outputs_per_s)} {report.kind}s/s at "
        f"{prefixed(report.call_j / report.time_s, 'W')}",
        "memory": f"weights {prefixed(report.weight_bytes, 'B')} on each device",
    }


def asked_text(report: GenerationReport) -> str:
    prompt = report.prompt
    frames = f", {prompt.frames} frames" if prompt.frames > 1 else ""
    passes = "with guidance (2 passes a step)" if prompt.guidance else "1 pass a step"
    steps = f"{prompt.steps} step{'s' * (prompt.steps > 1)}"
    return f"{prompt.batch} x {prompt.width}x{prompt.height}{frames}, {steps}, {passes}"


def devices_text(report: GenerationReport) -> str:
    sharing = report.sharing
    if sharing.devices == 1:
        return "1 device"
    return f"{sharing.devices} devices (ulysses {sharing.ulysses}, ring {sharing.ring})"


def _show_phases(console: Console, report: GenerationReport) -> None:
    sheet = Sheet(console, f"Phases of one {report.kind}", "", ">energy", ">share", "?", ">time of the call")
    for name, phase in report.phases.items():
        joules = float(phase.joules) / report.prompt.batch
        share = joules / report.energy_j
        sheet.row(PHASE_NAMES[name], prefixed(joules, "J"), percent(share), bar(share, BAR_COLUMNS, console),
                  prefixed(float(phase.time_s), "s"))  # fmt: skip
    sheet.show()


def _show_factors(console: Console, report: GenerationReport) -> None:
    sheet = Sheet(console, "Where the joules go", "", ">energy", ">share", "?")
    for name, joules in report.factors.items():
        if joules > 0.0:
            share = joules / report.energy_j
            sheet.row(FACTOR_NAMES[name], prefixed(joules, "J"), percent(share), bar(share, BAR_COLUMNS, console))
    sheet.show()
