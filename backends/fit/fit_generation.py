"""The fit of stacks that generate images and video: ``wattir fit --generation [--device ID ...]``.

Robust least squares in log space of a call's seconds and an output's joules over a stack's coefficients, each held by a
prior; every architecture counts about the same, and is left out as a whole for the error and the interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.generation_engine import PARTS, Stack

from .datasets_generation import GenerationRows
from .evaluate import median_ape
from .fit_serving import robust, weights
from .rows import Array

TIMED = tuple(part for part in PARTS if part != "attention")
PRIORS: dict[str, tuple[float, float]] = {
    "link_s": (1e-5, 0.7), "host_op_s": (2e-5, 0.7), "host_link_s": (5e-5, 0.7), "call_s": (0.03, 1.0),
    "pixel_s": (1.2e-8, 0.5), "overlap": (3.0, 0.4), "waiting_w": (40.0, 0.7), "link_w": (60.0, 0.7),
}  # fmt: skip
"""Where a coefficient is without rows, and how sure that is (standard deviation of its logarithm). `overlap` less 1."""
FACTORS: dict[str, tuple[float, float]] = {"conv3d": (2.0, 0.6)}
"""Where a part's factor of seconds is without rows, if not at 1 with `FACTOR_SPREAD`: cuDNN has fewer kernels for
convolutions over three axes."""
FACTOR_SPREAD, STATIC_SPREAD, LINK_SPREAD, ATTENTION_SPREAD = 0.3, 0.25, 0.6, 0.3
ATTENTION_OF_BF16 = 0.45
"""What FlashAttention 2 reaches of the rate of the tensor units, to begin with (Hopper: arXiv 2407.08608)."""
FLOP_OF_EXP = 110.0
"""FLOP in bf16 that the tensor units could do while the special units make one exponential, to begin with: 4096 a clock
and multiprocessor beside 16 would be 256, of which half is hidden."""
BUSY_OF_LIMIT = 0.3
"""What running kernels draw of the power limit, where the kernels' fit does not say."""
LINK_OF_MEMORY = 0.045
"""Bytes per second of an exchange as a share of the memory's, to begin with."""


@dataclass(frozen=True)
class Unknowns:
    """Names, logarithms of the priors' values, and their spreads, of everything that is fitted."""

    names: tuple[str, ...]
    start: Array
    spread: Array


def unknowns(device: Device) -> Unknowns:
    """All that is fitted on a machine."""
    rate = device.flop_per_s[device.math("bf16")]
    priors = {f"time {part}": FACTORS.get(part, (1.0, FACTOR_SPREAD)) for part in TIMED}
    priors |= {f"energy {part}": (1.0, FACTOR_SPREAD) for part in PARTS}
    priors |= PRIORS
    priors["attention_flop_per_s"] = (ATTENTION_OF_BF16 * rate, ATTENTION_SPREAD)
    priors["attention_exp_per_s"] = (rate / FLOP_OF_EXP / 2.0, ATTENTION_SPREAD)
    priors["static_w"] = (device.coefficients.static_w, STATIC_SPREAD)
    priors["busy_w"] = (device.coefficients.busy_w or BUSY_OF_LIMIT * device.power_w, FACTOR_SPREAD)
    priors["link_bytes_per_s"] = (LINK_OF_MEMORY * device.memory_bytes_per_s, LINK_SPREAD)
    values = np.array(list(priors.values()))
    return Unknowns(tuple(priors), np.log(values[:, 0]), values[:, 1])


def stack_at(space: Unknowns, name: str, logs: Array) -> Stack:
    """The stack that a vector of logarithms stands for."""
    values = dict(zip(space.names, np.exp(logs).tolist(), strict=True))
    plain: dict[str, Any] = {key: value for key, value in values.items() if " " not in key}
    plain["overlap"] += 1.0
    time = {part: values.get(f"time {part}", 1.0) for part in PARTS}
    energy = {part: values[f"energy {part}"] for part in PARTS}
    return Stack(name, time, energy, **plain, interval=0.0)


def predict(device: Device, stack: Stack, rows: GenerationRows) -> tuple[Array, Array]:
    """Seconds of a call and joules of an output of every row."""
    costs = rows.demands.costs(
        stack, device, steps=rows.steps, pixels=rows.pixels, devices=rows.devices, decoding=rows.decoding
    )
    return np.asarray(sum(cost.time_s for cost in costs)), np.asarray(sum(cost.joules for cost in costs) / rows.outputs)


def solve(device: Device, space: Unknowns, rows: GenerationRows, start: Array | None = None) -> Array:
    """The logarithms that fit rows."""
    from scipy.optimize import least_squares

    weight = weights(rows.group)

    def residuals(logs: Array) -> Array:
        time_s, energy_j = predict(device, stack_at(space, "", logs), rows)
        errors = (weight * np.log(time_s / rows.time_s), weight * np.log(energy_j / rows.energy_j))
        return np.concatenate([*map(robust, errors), (logs - space.start) / space.spread])

    first = space.start if start is None else start
    return np.asarray(least_squares(residuals, first, max_nfev=60, ftol=1e-5, xtol=1e-5).x)


@dataclass(frozen=True)
class Fitted:
    """The stack of all rows, and the log errors of time and energy of every row by a fit without its architecture."""

    stack: Stack
    time: Array
    energy: Array


def fit(device: Device, name: str, rows: GenerationRows, say: Callable[[str], None]) -> Fitted:
    """Fits a stack to the rows, and again without each architecture."""
    space = unknowns(device)
    logs = solve(device, space, rows)
    errors = np.full((2, len(rows)), np.nan)
    for group in sorted(set(rows.group.tolist())):
        held = rows.group == group
        if held.all():
            continue
        without = stack_at(space, name, solve(device, space, rows.take(~held), logs))
        out = rows.take(held)
        time_s, energy_j = predict(device, without, out)
        errors[:, held] = np.log(time_s / out.time_s), np.log(energy_j / out.energy_j)
        say(f"  without {group}: {100 * median_ape(errors[1, held]):.1f} % of its joules")
    return Fitted(stack_at(space, name, logs), *errors)
