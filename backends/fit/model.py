"""The formula over many rows: `wattir.roofline.kernel_cost`, compiled, with a device's own constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from wattir.clock import at_clock
from wattir.device import Device
from wattir.machine import ROW_CONSTANTS, assembled, row_of
from wattir.totals import under_limit

from .rows import Array, Rows

HOT = ROW_CONSTANTS.index("hot_weights")


@dataclass(frozen=True)
class Sums:
    """Of every sample: seconds and joules in all, the spread of its energy (`wattir.interval`), the joules of kernels
    whose family was not fitted, and those of waiting for the host."""

    time_s: Array
    energy_j: Array
    spread: Array
    modelled_j: Array
    waiting_j: Array


def sums(device: Device, rows: Rows) -> Sums:
    """What every sample costs.

    Where the host launches ops one by one (eager) a network takes at least ``host_ops * host_op_s``, with the device
    waiting at its static power.
    """
    found = [row_of(device, family, math, strict_fp32=True) for family, math in rows.kinds]
    modelled = np.array([not row.fitted for row in found], dtype=float)[rows.kind_index]
    spread = np.array([row.spread for row in found])[rows.kind_index]
    seconds, joules, held_s, excess_j, room_j = _costs(device, rows)
    alone_s, alone_j, spread, modelled_j, held_s, excess_j, room_j = (
        np.bincount(rows.sample, column * rows.times, rows.samples)
        for column in (seconds, joules, joules**2 * spread, joules * modelled, held_s, excess_j, room_j)
    )
    energy_j, time_s = under_limit(alone_j, alone_s, held_s, excess_j, room_j, device.power_w)
    more = energy_j / (alone_j + (alone_j <= 0.0))
    waits = np.maximum(rows.host_ops * device.coefficients.host_op_s - time_s, 0.0)
    waiting_j = waits * static_w(device, rows)
    return Sums(time_s + waits, energy_j + waiting_j, spread * more**2, modelled_j * more, waiting_j)


def kernel_costs(device: Device, rows: Rows) -> tuple[Array, Array]:
    """Seconds and joules of one run of every kernel [kernels], alone, at the clock of its sample."""
    seconds, joules, *_ = _costs(device, rows)
    return seconds, joules


def _costs(device: Device, rows: Rows) -> Array:
    """Of every kernel seconds, joules, and what `wattir.totals.under_limit` takes of the power limit [5, kernels]."""
    machines, clock = at_clocks(device, rows)
    found, trees = assembled(
        row_of(machine, family, math, strict_fp32=True) for machine in machines for family, math in rows.kinds
    )
    constants = np.array([row.constants for row in found])
    kind = clock[rows.sample] * len(rows.kinds) + rows.kind_index
    costs = np.empty((5, len(rows.work)))
    _loop()(rows.work, constants, np.array(trees), kind, rows.hot, costs)
    return costs


def at_clocks(device: Device, rows: Rows) -> tuple[list[Device], Array]:
    """The device at every clock that rows were measured at (0: not said), and which of these each sample was."""
    clocks, which = np.unique(rows.clock_hz, return_inverse=True)
    return [at_clock(device, float(hz) or None) for hz in clocks] or [device], which


def static_w(device: Device, rows: Rows) -> Array:
    """The device's static power at the clock of every sample."""
    machines, which = at_clocks(device, rows)
    return np.array([machine.coefficients.static_w for machine in machines])[which]


def predict(device: Device, rows: Rows) -> tuple[Array, Array]:
    """Seconds and joules of every sample."""
    found = sums(device, rows)
    return found.time_s, found.energy_j


@lru_cache
def _loop() -> Any:
    from numba import njit

    cost, hot_column = import_module("wattir.backends.engine").row_cost, HOT

    @njit
    def loop(work: Any, constants: Any, trees: Any, kind: Any, hot: Any, costs: Any) -> None:
        row = np.empty((1, constants.shape[1]))
        for i in range(work.shape[0]):
            row[0] = constants[kind[i]]
            row[0, hot_column] = max(row[0, hot_column], hot[i])
            found = cost(work, i, row, 0, trees)
            costs[0, i], costs[1, i] = found[0], found[1]
            costs[2, i], costs[3, i], costs[4, i] = found[6], found[7], found[8]

    return loop
