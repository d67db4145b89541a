"""The fit of stacks that generate images and video: ``wattir fit --generation [--device ID ...]``.

Robust least squares in log space of a call's seconds and an output's joules over a stack's coefficients, each held by a
prior; every architecture counts about the same, and is left out as a whole for the error and the interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.generation_engine import PARTS, Stack

from .datasets_generation import GenerationRows
from .rows import Array
from .whole_runs import Law, Priors, Say, Unknowns, unknowns

TIMED = tuple(part for part in PARTS if part != "attention")
PRIORS: Priors = {
    "link_s": (1e-5, 0.7), "host_op_s": (2e-5, 0.7), "host_link_s": (5e-5, 0.7), "call_s": (0.03, 1.0),
    "pixel_s": (1.2e-8, 0.5), "overlap": (3.0, 0.4), "waiting_w": (40.0, 0.7), "link_w": (60.0, 0.7),
}  # fmt: skip
"""Where a coefficient is without rows, and how sure that is (standard deviation of its logarithm). `overlap` less 1."""
FACTORS: Priors = {"conv3d": (2.0, 0.6)}
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


def space_of(device: Device) -> Unknowns:
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
    return unknowns(priors)


def stack_at(space: Unknowns, name: str, logs: Array) -> Stack:
    """The stack that a vector of logarithms stands for."""
    values = space.values(logs)
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


def law(device: Device, name: str) -> Law[GenerationRows]:
    """How rows follow from what is fitted."""
    space = space_of(device)
    return Law(space, lambda logs, rows: np.stack(predict(device, stack_at(space, name, logs), rows)))


@dataclass(frozen=True)
class Fitted:
    """The stack of all rows, and the log errors of time and energy of every row by a fit without its architecture."""

    stack: Stack
    time: Array
    energy: Array


def fit(device: Device, name: str, rows: GenerationRows, say: Say) -> Fitted:
    """Fits a stack to the rows, and again without each architecture."""
    own = law(device, name)
    logs, errors = own.crossed(rows, np.ones(len(rows), bool), say)
    return Fitted(stack_at(own.space, name, logs), *errors)
