"""Which serving engine of which device is fitted to which measurements, and the judgement of engines on rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wattir.device import Device, device_from_text, load_device
from wattir.serving import engine_on
from wattir.serving_engine import Engine

from . import datasets_serving as sets
from . import phases
from .datasets_serving import ServingRows
from .fit_serving import Conditions, Fitted, fit, predict
from .intervals import half_width
from .rows import Array
from .whole_runs import FromSet, Report, Say, crossed_reports, named, record, report_of
from .write import rounded, with_engine

Load = Callable[[str, str, Device], ServingRows]


@dataclass(frozen=True)
class ServingPlan:
    """The rows that a device's engine is fitted to: a set's folder, its reader, and what it calls the machine."""

    device: str
    engine: str
    folder: str
    hardware: str
    load: Load


def _fitted(plan: ServingPlan, text: str, path: str, folder: str, say: Say) -> str:
    device = device_from_text(text, path)
    rows = plan.load(folder, plan.hardware, device)
    say(f"  {plan.folder}: {len(rows)} rows" + "".join(f"; {n} of {why}" for why, n in rows.dropped.items()))
    found = fit(device, plan.engine, rows, say)
    good = ~rows.stalled
    width = rounded(half_width(found.energy[good], rows.group[good]) or 0.0)
    return with_engine(text, replace(found.solution.engine, interval=width, fits=(_record(plan, rows, found),)))


def _crossed(plan: ServingPlan, folder: str, say: Say) -> Iterator[Report]:
    device = load_device(plan.device)
    rows = plan.load(folder, plan.hardware, device)
    found = fit(device, plan.engine, rows, say)
    for what, report in crossed_reports(rows, np.stack([found.time, found.energy]), picks(rows), ~rows.stalled):
        yield f"{plan.engine} {what}", report


TEXT = ("gpqa", "lm-arena-chat", "llm-chat", "llm-code")
"""Tasks of text alone whose prompts are no files of code."""


def picks(rows: ServingRows) -> dict[str, Array]:
    """The rows of each task, of those of text and of all, and apart those that the set marks as stalled."""
    found = {task: (rows.task == task) & ~rows.stalled for task in sorted(set(rows.task.tolist()))}
    return found | {"text": text(rows), "all": ~rows.stalled, "stalled": rows.stalled}


def text(rows: ServingRows) -> Array:
    """The rows of text alone that are not stalled."""
    return np.isin(rows.task, TEXT) & ~rows.stalled


def _in(plan: ServingPlan) -> FromSet:
    return FromSet(plan.folder, partial(_fitted, plan), partial(_crossed, plan))


V3 = {
    device: ServingPlan(device, "vllm", "mlenergy_v3_llm", hardware, sets.mlenergy_v3)
    for device, hardware in (("h100_sxm", "H100"), ("b200_sxm", "B200"))
}
V2 = ServingPlan("h100_sxm", "vllm_2024", "mlenergy_v2_llm", "NVIDIA H100 80GB HBM3", sets.mlenergy_v2)
"""vLLM 0.5.4: its host is busy with every text of every step."""

SERVING: dict[str, tuple[FromSet, ...]] = {
    "h100_sxm": (_in(V3["h100_sxm"]), _in(V2), phases.FITS["h100_sxm"]),
    "b200_sxm": (_in(V3["b200_sxm"]),),
    "a100_sxm": (phases.FITS["a100_sxm"],),
}
"""By device: each fits one engine."""


def _record(plan: ServingPlan, rows: ServingRows, found: Fitted) -> Mapping[str, Any]:
    good, conditions = ~rows.stalled, found.solution.conditions
    tasks = sorted(conditions.prompts)
    return record(
        f"{plan.folder} ({plan.hardware})", rows.group, "architecture, with all its siblings",
        {"time": found.time[good], "energy": found.energy[good], "text_energy": found.energy[text(rows)]},
        f"--serving --device {plan.device}", rows_used=int(good.sum()), tasks=tasks,
        prompt_tokens=[conditions.prompts[task] for task in tasks],
        stall_s=[conditions.stalls.get(task, 0.0) for task in tasks],
        dropped=named({"stalled": int((~good).sum()), **rows.dropped}), note=NOTE,
    )  # fmt: skip


NOTE = ("Prompt lengths are not in the set: one a task, fitted. stall_s: of a step and a thousand tokens of an answer, "
        "where single-device servers share a host; fitted likewise, of no use to others.")  # fmt: skip


def conditions_of(engine: Engine) -> Conditions:
    """What the fit of an engine found of the tasks of its rows."""
    found = next((fit for fit in engine.fits if "tasks" in fit), {})
    tasks = found.get("tasks", ())
    lists = (found.get(key, ()) for key in ("prompt_tokens", "stall_s"))
    return Conditions(*(dict(zip(tasks, values, strict=True)) for values in lists))


def judge(device: Device, name: str, rows: ServingRows) -> Iterator[Report]:
    """The reports of `picks`: errors of a step's seconds and of a token's joules, and the share inside the interval.
    The rows' tasks must be among those of `conditions_of`."""
    engine = engine_on(device, name)
    time_s, energy_j = predict(device, engine, rows, conditions_of(engine))
    for what, pick in picks(rows).items():
        if pick.any():
            joules, seconds = (energy_j[pick], rows.energy_j[pick]), (time_s[pick], rows.time_s[pick])
            yield what, report_of(rows.group[pick], engine.interval, time=seconds, energy=joules)
