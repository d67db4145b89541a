"""Which stack for images and video of which device is fitted to which measurements, and the judgement of stacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wattir.device import Device, device_from_text, load_device
from wattir.generation import stack_on

from .datasets_generation import GenerationRows, mlenergy
from .evaluate import median_ape
from .fit_generation import Fitted, fit, predict
from .intervals import half_width
from .rows import Array
from .whole_runs import FromSet, Report, Say, crossed_reports, named, record, report_of
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


def _fitted(plan: GenerationPlan, text: str, path: str, folder: str, say: Say) -> str | None:
    device = device_from_text(text, path)
    rows = mlenergy(folder, plan.hardware, device)
    say(f"  {plan.folder}: {len(rows)} rows" + "".join(f"; {n} of {why}" for why, n in rows.dropped.items()))
    if len(set(rows.group.tolist())) < FEWEST_MODELS:
        say(f"  {plan.stack} stays as it is: fewer than {FEWEST_MODELS} known architectures")
        return None
    found = fit(device, plan.stack, rows, say)
    width = rounded(half_width(found.energy, rows.group) or 0.0)
    joules, seconds = median_ape(found.energy), median_ape(found.time)
    say(f"  {plan.stack}: {100 * joules:.1f} % of joules, {100 * seconds:.1f} % of seconds")
    return with_stack(text, replace(found.stack, interval=width, fits=(_record(plan, rows, found),)))


def _record(plan: GenerationPlan, rows: GenerationRows, found: Fitted) -> Mapping[str, Any]:
    return record(
        f"{plan.folder} ({plan.hardware})", rows.group, "architecture", {"time": found.time, "energy": found.energy},
        f"--generation --device {plan.device}", rows_used=len(rows), dropped=named(rows.dropped),
    )  # fmt: skip


def _crossed(plan: GenerationPlan, folder: str, say: Say) -> Iterator[Report]:
    device = load_device(plan.device)
    rows = mlenergy(folder, plan.hardware, device)
    found = fit(device, plan.stack, rows, say)
    errors = np.stack([found.time, found.energy])
    for what, report in crossed_reports(rows, errors, picks(rows), np.ones(len(rows), bool)):
        yield f"{plan.stack} {what}", report


def picks(rows: GenerationRows) -> dict[str, Array]:
    """The rows of each model, and all."""
    found = {model: rows.model == model for model in sorted(set(rows.model.tolist()))}
    return {**found, "all": np.ones(len(rows), bool)}


def _in(folder: str, device: str, stack: str, hardware: str) -> FromSet:
    plan = GenerationPlan(device, stack, folder, hardware)
    return FromSet(folder, partial(_fitted, plan), partial(_crossed, plan))


GENERATION: dict[str, tuple[FromSet, ...]] = {
    "h100_sxm": (_in("mlenergy_v3_diffusion", "h100_sxm", "xdit", "H100"),
                 _in("mlenergy_v2_diffusion", "h100_sxm", "diffusers", "NVIDIA H100 80GB HBM3")),
    "b200_sxm": (_in("mlenergy_v3_diffusion", "b200_sxm", "xdit", "B200"),),
}  # fmt: skip
"""By device: each fits one stack."""


def judge(device: Device, name: str, rows: GenerationRows) -> Iterator[Report]:
    """The reports of `picks`: errors of a call's seconds and of an output's joules, and the share inside the
    interval."""
    stack = stack_on(device, name)
    time_s, energy_j = predict(device, stack, rows)
    for what, pick in picks(rows).items():
        joules, seconds = (energy_j[pick], rows.energy_j[pick]), (time_s[pick], rows.time_s[pick])
        yield what, report_of(rows.group[pick], stack.interval, time=seconds, energy=joules)
