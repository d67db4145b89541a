"""Which serving engine of which device is fitted to which measurements, and the judgement of engines on rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np

from wattir.device import Device, device_from_text
from wattir.serving import engine_on
from wattir.serving_engine import Engine

from . import datasets_serving as sets
from .datasets_serving import ServingRows
from .evaluate import covered, errors_of, median_ape, plain
from .fit_serving import Conditions, Fitted, fit, predict, with_interval
from .intervals import half_width
from .phases import fit_phases
from .rows import Array
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


def run_serving(device: str, text: str, path: str, data: str, say: Callable[[str], None]) -> str | None:
    """The text of a device's file with its engines fitted; None where none of the data are there."""
    before = text
    for each in SERVING[device]:
        text = each(text, path, data, say) or text
    return None if text is before else text


def _fitted(plan: ServingPlan, text: str, path: str, data: str, say: Callable[[str], None]) -> str | None:
    folder = os.path.join(data, plan.folder)
    if not os.path.isdir(folder):
        say(f"  skipped {plan.folder}: {folder} is not there")
        return None
    device = device_from_text(text, path)
    rows = plan.load(folder, plan.hardware, device)
    say(f"  {plan.folder}: {len(rows)} rows" + "".join(f"; {n} of {why}" for why, n in rows.dropped.items()))
    found = fit(device, plan.engine, rows, say)
    good = ~rows.stalled
    width = half_width(found.energy[good], rows.group[good]) or 0.0
    return with_engine(text, with_interval(found.solution.engine, rounded(width), _record(plan, rows, found)))


V3 = {
    device: ServingPlan(device, "vllm", "mlenergy_v3_llm", hardware, sets.mlenergy_v3)
    for device, hardware in (("h100_sxm", "H100"), ("b200_sxm", "B200"))
}
V2 = ServingPlan("h100_sxm", "vllm_2024", "mlenergy_v2_llm", "NVIDIA H100 80GB HBM3", sets.mlenergy_v2)
"""vLLM 0.5.4: its host is busy with every text of every step."""

SERVING: dict[str, tuple[Callable[[str, str, str, Callable[[str], None]], str | None], ...]] = {
    "h100_sxm": (partial(_fitted, V3["h100_sxm"]), partial(_fitted, V2), partial(fit_phases, "h100-80gb")),
    "b200_sxm": (partial(_fitted, V3["b200_sxm"]),),
    "a100_sxm": (partial(fit_phases, "a100-80gb"),),
}  # fmt: skip
"""By device: each fits one engine, from the text of the device's file to one with it, None where its data are not
there."""


def _record(plan: ServingPlan, rows: ServingRows, found: Fitted) -> Mapping[str, Any]:
    good, conditions = ~rows.stalled, found.solution.conditions
    tasks = sorted(conditions.prompts)
    dropped = {"stalled": int((~good).sum()), **rows.dropped}
    return {
        "data_set": f"{plan.folder} ({plan.hardware})", "rows": len(rows), "rows_used": int(good.sum()),
        "grouped_by": "architecture, with all its siblings", "groups": len(set(rows.group.tolist())),
        "time_median_ape": round(median_ape(found.time[good]), 4),
        "energy_median_ape": round(median_ape(found.energy[good]), 4),
        "tasks": tasks, "prompt_tokens": [conditions.prompts[task] for task in tasks],
        "stall_s": [conditions.stalls.get(task, 0.0) for task in tasks],
        "dropped": [f"{count} {why}" for why, count in dropped.items() if count], "date": date.today().isoformat(),
        "command": f"wattir fit --serving --device {plan.device}", "note": NOTE,
    }  # fmt: skip


NOTE = ("Prompt lengths are not in the set: one a task, fitted. stall_s: of a step where single-device servers share a "
        "host, fitted likewise; of no use to others.")  # fmt: skip


def conditions_of(engine: Engine) -> Conditions:
    """What the fit of an engine found of the tasks of its rows."""
    record = next((fit for fit in engine.fits if "tasks" in fit), {})
    tasks = record.get("tasks", ())
    lists = (record.get(key, ()) for key in ("prompt_tokens", "stall_s"))
    return Conditions(*(dict(zip(tasks, values, strict=True)) for values in lists))


def judge(device: Device, name: str, rows: ServingRows) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what, report) of the rows of each task and of all: errors of a step's seconds and of a token's joules, and the
    share inside the interval; stalled rows apart. The rows' tasks must be among those of `conditions_of`."""
    engine = engine_on(device, name)
    time_s, energy_j = predict(device, engine, rows, conditions_of(engine))
    picks = {task: (rows.task == task) & ~rows.stalled for task in sorted(set(rows.task.tolist()))}
    picks |= {"all": ~rows.stalled, "stalled": rows.stalled}
    for what, pick in picks.items():
        if pick.any():
            yield what, _report(rows.take(pick), time_s[pick], energy_j[pick], engine.interval)


def _report(rows: ServingRows, time_s: Array, energy_j: Array, width: float) -> dict[str, Any]:
    widths = np.full(len(rows), width)
    errors = partial(_errors, widths=widths)
    report = {"rows": len(rows), "groups": len(set(rows.group.tolist())), "time": errors(time_s, rows.time_s)}
    measured = np.isfinite(rows.energy_j)
    if measured.any():
        report["energy"] = errors(energy_j[measured], rows.energy_j[measured])
    return plain(report)


def _errors(predicted: Array, measured: Array, widths: Array) -> dict[str, float]:
    return errors_of(predicted, measured) | covered(predicted, measured, widths[: len(measured)])
