"""The fit of serving engines: ``python -m wattir.backends.fit --serving [--device ID ...]``.

Robust least squares in log space of seconds a step and joules a token over an engine's coefficients, each held by a
prior; and over what a set does not say: the prompt length of each of its tasks, and on machines where single-device
servers share a busy host (`STALLING`), how long that stalls a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.serving import mixed_cost, step_cost
from wattir.serving_engine import PARTS, Engine

from .datasets_serving import PROMPTS, ServingRows
from .evaluate import median_ape
from .rows import Array

ROBUST = 0.1
"""Log residual from which on a row counts linearly."""
STALLING = ("b200_sxm",)
"""Machines whose rows of one device wait for a host that other servers load too: 43 of 150 pairs of rows that differ
in the machine alone are slower on B200 than on H100 (PROVENANCE.md of the set)."""

PRIORS: dict[str, tuple[float, float]] = {
    "layer_s": (3e-5, 0.5), "scan_layer_s": (2e-5, 0.7), "link_s": (8e-6, 0.5), "host_step_s": (1e-3, 1.0),
    "host_layer_s": (1e-6, 0.7), "host_text_s": (3e-5, 0.7), "overlap": (2.5, 0.4), "gap_w": (80.0, 0.7),
    "link_w": (80.0, 0.7), "uneven": (0.15, 0.7), "narrow_experts": (1.3, 0.3), "packed_experts": (1.0, 0.3),
    "narrow_j": (1.2, 0.3), "packed_j": (1.2, 0.3),
}  # fmt: skip
"""Where a coefficient is without rows, and how sure that is (standard deviation of its logarithm). `overlap` less 1."""
TIME_SPREAD, ENERGY_SPREAD, STATIC_SPREAD, LINK_SPREAD = 0.25, 0.3, 0.2, 0.5
LINK_OF_MEMORY = 0.09
"""Bytes per second of a link as a share of the memory's, to begin with: NVLink 4 and 5 beside HBM3 and HBM3e."""
TASKS: dict[str, tuple[float, float]] = {
    "gpqa": (300.0, 0.7), "lm-arena-chat": (400.0, 0.7), "sourcegraph-fim": (2000.0, 0.7), "image-chat": (1500.0, 0.7),
    "video-chat": (5000.0, 0.7),
}  # fmt: skip
"""Prompt lengths to begin with."""
OTHER_TASK = (500.0, 0.7)
STALL = (3e-3, 1.5)


@dataclass(frozen=True)
class Unknowns:
    """Names, logarithms of the priors' values, and their spreads, of everything that is fitted."""

    device: Device
    tasks: tuple[str, ...]
    names: tuple[str, ...]
    start: Array
    spread: Array

    def engine(self, name: str, values: Mapping[str, float]) -> Engine:
        """The engine of these values."""
        plain: dict[str, Any] = {key: values[key] for key in (*PRIORS, "static_w", "link_bytes_per_s")}
        plain["overlap"] += 1.0
        time, energy = ({part: values[f"{kind} {part}"] for part in PARTS} for kind in ("time", "energy"))
        return Engine(name, time, energy, **plain, interval=0.0)


def unknowns(device: Device, tasks: tuple[str, ...]) -> Unknowns:
    """All that is fitted on a machine for rows of these tasks."""
    priors = {f"time {part}": (1.0, TIME_SPREAD) for part in PARTS}
    priors |= {f"energy {part}": (1.0, ENERGY_SPREAD) for part in PARTS}
    priors |= PRIORS
    priors["static_w"] = (device.coefficients.static_w, STATIC_SPREAD)
    priors["link_bytes_per_s"] = (LINK_OF_MEMORY * device.memory_bytes_per_s, LINK_SPREAD)
    priors |= {f"prompt {task}": TASKS.get(task, OTHER_TASK) for task in tasks}
    priors |= {f"stall {task}": STALL for task in tasks if device.id in STALLING}
    values = np.array(list(priors.values()))
    return Unknowns(device, tasks, tuple(priors), np.log(values[:, 0]), values[:, 1])


@dataclass(frozen=True)
class Conditions:
    """What the rows of a set do not say, by task: tokens of a prompt, and seconds that a shared host stalls a step."""

    prompts: Mapping[str, float]
    stalls: Mapping[str, float]


def predict(device: Device, engine: Engine, rows: ServingRows, conditions: Conditions) -> tuple[Array, Array]:
    """Seconds of a step, and joules of a token on all devices, of every row."""
    prompts = np.array([conditions.prompts[task] for task in rows.task])
    stalls = np.array([conditions.stalls.get(task, 0.0) for task in rows.task]) * (rows.devices == 1)
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
    values = dict(zip(space.names, np.exp(logs).tolist(), strict=True))
    found = {
        kind: {task: values[f"{kind} {task}"] for task in space.tasks if f"{kind} {task}" in values}
        for kind in ("prompt", "stall")
    }
    return Solution(space.engine(name, values), Conditions(found["prompt"], found["stall"]))


def solve(space: Unknowns, name: str, rows: ServingRows, start: Array | None = None) -> Array:
    """The logarithms that fit rows; every architecture counts about the same."""
    from scipy.optimize import least_squares

    weight = weights(rows.group)
    energies = np.isfinite(rows.energy_j)

    def residuals(logs: Array) -> Array:
        found = solution(space, name, logs)
        time_s, energy_j = predict(space.device, found.engine, rows, found.conditions)
        errors = weight * np.log(time_s / rows.time_s)
        joules = (weight * np.log(energy_j / rows.energy_j))[energies]
        return np.concatenate([robust(errors), robust(joules), (logs - space.start) / space.spread])

    first = space.start if start is None else start
    return np.asarray(least_squares(residuals, first, max_nfev=40, ftol=1e-4, xtol=1e-4).x)


def weights(groups: Array) -> Array:
    """Square roots of weights, with which a group of many rows does not drown one of few."""
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(np.sqrt(np.median(counts) / counts[which]))


def robust(errors: Array) -> Array:
    """Residuals whose squares grow linearly beyond `ROBUST` (pseudo-Huber)."""
    return np.asarray(np.sign(errors) * np.sqrt(2.0 * (np.sqrt(1.0 + (errors / ROBUST) ** 2) - 1.0)))


@dataclass(frozen=True)
class Fitted:
    """A solution for all rows, and the log errors of time and energy of every row by a fit without its group."""

    solution: Solution
    time: Array
    energy: Array


def fit(device: Device, name: str, rows: ServingRows, say: Callable[[str], None]) -> Fitted:
    """Fits an engine to the rows that are not stalled, and again without each group."""
    space = unknowns(device, tuple(sorted(set(rows.task.tolist()))))
    good = rows.take(~rows.stalled)
    logs = solve(space, name, good)
    errors = np.full((2, len(rows)), np.nan)
    for group in sorted(set(rows.group.tolist())):
        held = rows.group == group
        if not (~held & ~rows.stalled).any():
            continue
        without = solution(space, name, solve(space, name, rows.take(~held & ~rows.stalled), logs))
        out = rows.take(held)
        time_s, energy_j = predict(device, without.engine, out, without.conditions)
        errors[:, held] = np.log(time_s / out.time_s), np.log(energy_j / out.energy_j)
        say(f"  without {group}: {100 * median_ape(errors[1, held]):.1f} % of its joules")
    return Fitted(solution(space, name, logs), *errors)


def with_interval(engine: Engine, width: float, record: Mapping[str, Any]) -> Engine:
    """The engine with its interval and the record of its fit."""
    return replace(engine, interval=width, fits=(record,))
