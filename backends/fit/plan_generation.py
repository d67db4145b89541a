"""Which stack for images and video of which device is fitted to which measurements, and the judgement of stacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from wattir.device import Device, device_from_text
from wattir.generation import stack_on

from .datasets_generation import GenerationRows, mlenergy
from .evaluate import covered, errors_of, median_ape, plain
from .fit_generation import Fitted, fit, predict
from .intervals import half_width
from .rows import Array
from .write import rounded, with_stack


@dataclass(frozen=True)
class GenerationPlan:
    """The rows that a device's stack is fitted to: a set's folder, and what it calls the machine."""

    device: str
    stack: str
    folder: str
    hardware: str


FEWEST_MODELS = 4
"""Below it nothing is left when one is left out."""

GENERATION: dict[str, tuple[GenerationPlan, ...]] = {
    "h100_sxm": (
        GenerationPlan("h100_sxm", "xdit", "mlenergy_v3_diffusion", "H100"),
        GenerationPlan("h100_sxm", "diffusers", "mlenergy_v2_diffusion", "NVIDIA H100 80GB HBM3"),
    ),
    "b200_sxm": (GenerationPlan("b200_sxm", "xdit", "mlenergy_v3_diffusion", "B200"),),
}
"""By device."""


def run_generation(device: str, text: str, path: str, data: str, say: Callable[[str], None]) -> str | None:
    """The text of a device's file with its stacks fitted; None where none of the data are there."""
    before = text
    for plan in GENERATION[device]:
        text = _fitted(plan, text, path, data, say) or text
    return None if text is before else text


def _fitted(plan: GenerationPlan, text: str, path: str, data: str, say: Callable[[str], None]) -> str | None:
    folder = os.path.join(data, plan.folder)
    if not os.path.isdir(folder):
        say(f"  skipped {plan.folder}: {folder} is not there")
        return None
    device = device_from_text(text, path)
    rows = mlenergy(folder, plan.hardware, device)
    say(f"  {plan.folder}: {len(rows)} rows" + "".join(f"; {n} of {why}" for why, n in rows.dropped.items()))
    if len(set(rows.group.tolist())) < FEWEST_MODELS:
        say(f"  {plan.stack} stays as it is: fewer than {FEWEST_MODELS} known architectures")
        return None
    found = fit(device, plan.stack, rows, say)
    width = half_width(found.energy, rows.group) or 0.0
    joules, seconds = median_ape(found.energy), median_ape(found.time)
    say(f"  {plan.stack}: {100 * joules:.1f} % of joules, {100 * seconds:.1f} % of seconds")
    return with_stack(text, replace(found.stack, interval=rounded(width), fits=(_record(plan, rows, found),)))


def _record(plan: GenerationPlan, rows: GenerationRows, found: Fitted) -> Mapping[str, Any]:
    return {
        "data_set": f"{plan.folder} ({plan.hardware})", "rows": len(rows), "rows_used": len(rows),
        "grouped_by": "architecture", "groups": len(set(rows.group.tolist())),
        "time_median_ape": round(median_ape(found.time), 4), "energy_median_ape": round(median_ape(found.energy), 4),
        "dropped": [f"{count} {why}" for why, count in rows.dropped.items()],
        "date": date.today().isoformat(), "command": f"wattir fit --generation --device {plan.device}",
    }  # fmt: skip


def judge(device: Device, name: str, rows: GenerationRows) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what, report) of the rows of each model and of all: errors of a call's seconds and of an output's joules, and
    the share inside the interval."""
    stack = stack_on(device, name)
    time_s, energy_j = predict(device, stack, rows)
    for what in (*sorted(set(rows.model.tolist())), "all"):
        pick = (rows.model == what) | (what == "all")
        yield what, _report(rows.take(pick), time_s[pick], energy_j[pick], stack.interval)


def _report(rows: GenerationRows, time_s: Array, energy_j: Array, width: float) -> dict[str, Any]:
    widths = np.full(len(rows), width)
    report: dict[str, Any] = {"rows": len(rows), "groups": len(set(rows.group.tolist()))}
    for what, predicted, measured in (("time", time_s, rows.time_s), ("energy", energy_j, rows.energy_j)):
        report[what] = errors_of(predicted, measured) | covered(predicted, measured, widths)
    return plain(report)
