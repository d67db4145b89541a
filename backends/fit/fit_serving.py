"""The fit of serving engines: ``python -m wattir.backends.fit --serving [--device ID ...]``.

Robust least squares in log space of seconds a step and joules a token over an engine's coefficients, each held by a
prior; and over what a set does not say: the prompt length of each of its tasks, and on machines where single-device
servers share a busy host (`STALLING`), how long that stalls a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.serving import mixed_cost, step_cost
from wattir.serving_engine import PARTS, Engine

from .datasets_serving import PROMPTS, ServingRows
from .rows import Array
from .whole_runs import Law, Priors, Say, Unknowns, unknowns

STALLING = ("b200_sxm",)
"""Machines whose rows of one device wait for a host that other servers load too: 43 of 150 pairs of rows that differ
in the machine alone are slower on B200 than on H100 (PROVENANCE.md of the set)."""

PRIORS: Priors = {
    "layer_s": (3e-5, 0.5), "scan_layer_s": (2e-5, 0.7), "eager_layer_s": (5e-5, 0.7), "link_s": (8e-6, 0.5),
    "host_step_s": (1e-3, 1.0), "host_layer_s": (1e-6, 0.7), "host_text_s": (3e-5, 0.7), "overlap": (2.5, 0.4),
    "gap_w": (80.0, 0.7), "link_w": (80.0, 0.7), "uneven": (0.15, 0.7), "packed_experts": (1.0, 0.3),
    "packed_j": (1.2, 0.3),
}  # fmt: skip
"""Where a coefficient is without rows, and how sure that is (standard deviation of its logarithm). `overlap` less 1."""
TIME_SPREAD, ENERGY_SPREAD, STATIC_SPREAD, LINK_SPREAD = 0.25, 0.3, 0.2, 0.5
LINK_OF_MEMORY = 0.09
"""Bytes per second of a link as a share of the memory's, to begin with: NVLink 4 and 5 beside HBM3 and HBM3e."""
TASKS: Priors = {
    "gpqa": (300.0, 0.7), "lm-arena-chat": (400.0, 0.7), "sourcegraph-fim": (2000.0, 0.7), "image-chat": (1500.0, 0.7),
    "video-chat": (5000.0, 0.7),
}  # fmt: skip
"""Prompt lengths to begin with."""
OTHER_TASK = (500.0, 0.7)
STALL = (3e-3, 1.5)


def engine_from(name: str, values: Mapping[str, float]) -> Engine:
    """The engine of these values of the unknowns."""
    plain: dict[str, Any] = {key: values[key] for key in (*PRIORS, "static_w", "link_bytes_per_s")}
    plain["overlap"] += 1.0
    time, energy = ({part: values[f"{kind} {part}"] for part in PARTS} for kind in ("time", "energy"))
    return Engine(name, time, energy, **plain, interval=0.0)


def space_of(device: Device, tasks: Iterable[str]) -> Unknowns:
    """All that is fitted on a machine for rows of these tasks."""
    priors = {f"time {part}": (1.0, TIME_SPREAD) for part in PARTS}
    priors |= {f"energy {part}": (1.0, ENERGY_SPREAD) for part in PARTS}
    priors |= PRIORS
    priors["static_w"] = (device.coefficients.static_w, STATIC_SPREAD)
    priors["link_bytes_per_s"] = (LINK_OF_MEMORY * device.memory_bytes_per_s, LINK_SPREAD)
    for task in sorted(set(tasks)):
        priors[f"prompt {task}"] = TASKS.get(task, OTHER_TASK)
        if device.id in STALLING:
            priors[f"stall {task}"] = STALL
    return unknowns(priors)


@dataclass(frozen=True)
class Conditions:
    """What the rows of a set do not say, by task: tokens of a prompt, and seconds that a shared host stalls a step for
    each thousand tokens of an answer."""

    prompts: Mapping[str, float]
    stalls: Mapping[str, float]


def predict(device: Device, engine: Engine, rows: ServingRows, conditions: Conditions) -> tuple[Array, Array]:
    """Seconds of a step, and joules of a token on all devices, of every row."""
    prompts = np.array([conditions.prompts[task] for task in rows.task])
    stalls = (
        np.array([conditions.stalls.get(task, 0.0) for task in rows.task]) * rows.osl / 1000.0 * (rows.devices == 1)
    )
    pure, mixed, share = rows.at(np.clip(prompts, PROMPTS[0], PROMPTS[-1]))
    texts = rows.texts * rows.lanes
    costs = [step_cost(engine, device, rows.shape, demand, texts, stalls) for demand in (pure, mixed)]
    cost = mixed_cost(costs[0], costs[1], share)
    return cost.time_s, cost.joules * rows.devices / texts


@dataclass(frozen=True)
class Solution:
    """An engine, and the conditions of its rows."""

    engine: Engine
    conditions: Conditions


def solution(space: Unknowns, name: str, logs: Array) -> Solution:
    """What a vector of logarithms stands for."""
    values = space.values(logs)
    prompts, stalls = (
        {key.removeprefix(kind): value for key, value in values.items() if key.startswith(kind)}
        for kind in ("prompt ", "stall ")
    )
    return Solution(engine_from(name, values), Conditions(prompts, stalls))


def law(device: Device, name: str, tasks: Iterable[str]) -> Law[ServingRows]:
    """How the rows of these tasks follow from what is fitted."""
    space = space_of(device, tasks)

    def predicted(logs: Array, rows: ServingRows) -> Array:
        found = solution(space, name, logs)
        return np.stack(predict(device, found.engine, rows, found.conditions))

    return Law(space, predicted)


@dataclass(frozen=True)
class Fitted:
    """A solution for all rows, and the log errors of time and energy of every row by a fit without its group."""

    solution: Solution
    time: Array
    energy: Array


def fit(device: Device, name: str, rows: ServingRows, say: Say) -> Fitted:
    """Fits an engine to the rows that are not stalled, and again without each group."""
    own = law(device, name, rows.task)
    logs, errors = own.crossed(rows, ~rows.stalled, say)
    return Fitted(solution(own.space, name, logs), *errors)
