"""The formula over many rows: `wattir.roofline.kernel_cost`, compiled, with a device's own constants."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.machine import ROW_CONSTANTS, row_of

from .rows import Array, Rows

HOT = ROW_CONSTANTS.index("hot_weights")


def predict(device: Device, rows: Rows) -> tuple[Array, Array]:
    """Seconds and joules of every sample.

    Where the host launches ops one by one (eager) a network takes at least ``host_ops * host_op_s``, with the device
    waiting at its static power.
    """
    constants = np.array([row_of(device, family, math, strict_fp32=True).constants for family, math in rows.kinds])
    seconds, joules = np.empty(len(rows.work)), np.empty(len(rows.work))
    _loop()(rows.work, constants, rows.kind_index, rows.hot, seconds, joules)
    samples = rows.samples
    time_s = np.bincount(rows.sample, seconds * rows.times, samples)
    energy_j = np.bincount(rows.sample, joules * rows.times, samples)
    waits = np.maximum(rows.host_ops * device.coefficients.host_op_s - time_s, 0.0)
    return time_s + waits, energy_j + waits * device.coefficients.static_w


@lru_cache
def _loop() -> Any:
    from numba import njit

    cost, hot_column = import_module("wattir.backends.engine").formula(), HOT

    @njit
    def loop(work: Any, constants: Any, kind: Any, hot: Any, seconds: Any, joules: Any) -> None:
        for i in range(work.shape[0]):
            w, c = work[i], constants[kind[i]]
            found = cost(
                w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10],
                c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12], c[13],
                max(c[hot_column], hot[i]), c[15], c[16], c[17], c[18], c[19], c[20], c[21], c[22],
            )  # fmt: skip
            seconds[i], joules[i] = found[0], found[1]

    return loop
