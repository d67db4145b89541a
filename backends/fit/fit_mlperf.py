"""The fit of a runtime's kernels on many GPUs at once, and of the nodes around them, to ``mlperf_power``.

One vector of shares of limits for all GPUs (`wattir.runtime`), and watts of a node per socket and per accelerator
(`wattir.chain`), by robust least squares on logarithms of a batch's seconds and of its node's joules given these. Every
system counts about the same. Coefficients are held by the physics priors of any GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from wattir.chain import Node, built_node
from wattir.clock import at_limit
from wattir.device import Device, load_device
from wattir.lending import scaled

from .datasets_mlperf import MATHS, Runs
from .model import predict as predict_boards
from .priors import priors_of
from .rows import Array
from .solve import Prior, with_values
from .whole_runs import Say, left_out

FAMILIES = ("matmul", "matmul.int8", "conv", "conv3x3", "stem", "depthwise", "attention", "recurrent", "norm",
            "pointwise")  # fmt: skip
TILES = (128.0, 128.0, 64.0, 64.0, 0.7)
NODES = {
    "socket_w": Prior(120.0, 0.2, 5.0, 400.0), "pcie slot_w": Prior(40.0, 0.07, 1.0, 400.0),
    "hhhl slot_w": Prior(15.0, 0.5, 1.0, 100.0), "sxm slot_w": Prior(110.0, 0.05, 1.0, 400.0),
    "server busy": Prior(0.92, 0.05, 0.5, 1.0), "host idle": Prior(0.75, 0.1, 0.3, 1.0),
}  # fmt: skip
ROBUST = 0.1
STANDBY = 0.5
"""How much a residual of watts in standby counts: it tells hosts from boards, which watts at work alone do not."""
FEW = 8
"""Systems of fewer rows than this do not count less than one of as many."""


def cache_prior(device: Device) -> Prior:
    """Of a GPU's last level; a chip that keeps activations in its own memory moves them far faster than DRAM does."""
    if device.kind == "gpu":
        return Prior(2.5 * device.memory_bytes_per_s, 0.0, 0.0, 1e15)
    return Prior(30.0 * device.memory_bytes_per_s, 0.7, 1e9, 1e15)


def priors_of_runtime(reference: Device) -> dict[str, Prior]:
    """All that is fitted. Whole networks tell no sharpness and no seconds of a row of tiles: these are given."""
    given = {f"{family} sharpness": Prior(3.0, 0.0, 1.0, 32.0) for family in FAMILIES}
    rows_of_tiles = ("attention", "norm") if reference.kind == "gpu" else ("attention",)
    given |= {f"{family} wave_s": Prior(1e-10, 0.0, 0.0, 1.0) for family in rows_of_tiles}
    given |= {
        "small_rate": Prior(0.7, 0.0, 0.0, 1.0),
        "cache_bytes_per_s": cache_prior(reference),
    }
    given |= {"static_w": Prior(0.17 * reference.power_w, 0.1, 1.0, reference.power_w)}
    return priors_of(reference, MATHS, FAMILIES, given) | NODES


@dataclass(frozen=True)
class Plant:
    """Boards by id as they run under the runtime, nodes by (form, sockets, accelerators), the share of its time that a
    server is busy, and that of its watts at work that a host draws in standby."""

    board: Callable[[str], Device]
    node: Callable[[str, float, float], Node]
    server_busy: float
    host_idle: float = 1.0


def plant_of(reference: Device, values: Mapping[str, float]) -> Plant:
    """What the values of all parameters stand for."""
    own = with_values(reference, {name: value for name, value in values.items() if name not in NODES}, TILES)

    def board(name: str) -> Device:
        device = own if name == own.id else load_device(name)
        return replace(device, coefficients=scaled(own, device), corrections={})

    def node(form: str, sockets: float, accelerators: float) -> Node:
        known = built_node(form, sockets, accelerators)
        return replace(known, host_w=values["socket_w"] * sockets + values[f"{form} slot_w"] * accelerators)

    return Plant(board, node, values["server busy"], values["host idle"])


@dataclass(frozen=True)
class Predicted:
    """Of each run: seconds of its batch, its share of the node's joules, and the node's watts in standby."""

    time_s: Array
    energy_j: Array
    standby_w: Array


def predict(plant: Plant, runs: Runs) -> Predicted:
    """What a plant makes of runs."""
    time_s, board_j, static_w = _boards(plant, runs)
    whole_s = time_s / np.where(runs.server, plant.server_busy, 1.0)
    waits_s = runs.accelerators * whole_s - runs.busy * time_s
    nodes = [
        plant.node(str(form), sockets, count)
        for form, sockets, count in zip(runs.form, runs.sockets, runs.accelerators, strict=True)
    ]
    overhead, host_w = np.array([[node.overhead, node.host_w] for node in nodes]).T
    node_j = overhead * (runs.busy * board_j + waits_s * static_w) + host_w * whole_s
    standby_w = plant.host_idle * host_w + overhead * runs.accelerators * static_w
    return Predicted(whole_s, node_j / runs.busy, standby_w)


def _boards(plant: Plant, runs: Runs) -> Array:
    """Seconds and joules of a batch on one board, and its static power [3, runs]."""
    found = np.empty((3, runs.rows.samples))
    kinds = np.array([f"{name} {limit}" for name, limit in zip(runs.device, runs.limit_w, strict=True)])
    for kind in np.unique(kinds):
        mask = kinds == kind
        first = int(np.flatnonzero(mask)[0])
        device = plant.board(str(runs.device[first]))
        limit = runs.limit_w[first]
        device = device if np.isnan(limit) else at_limit(device, float(limit))
        found[:2, mask] = predict_boards(device, runs.rows.take(mask))
        found[2, mask] = device.coefficients.static_w
    return found


def solve(
    reference: Device, runs: Runs, priors: Mapping[str, Prior], start: Mapping[str, float] | None = None, most: int = 20
) -> dict[str, float]:
    """The values of all parameters; those with spread 0 stay at their prior."""
    from scipy.optimize import least_squares

    free = [name for name, prior in priors.items() if prior.spread > 0.0]
    held = {name: prior.value for name, prior in priors.items() if prior.spread <= 0.0}
    centre = np.log([priors[name].value for name in free])
    spread = np.array([priors[name].spread for name in free])
    bounds = np.log([priors[name].low for name in free]), np.log([priors[name].high for name in free])
    _, which, counts = np.unique(runs.rows.group, return_inverse=True, return_counts=True)
    weight = np.sqrt(FEW / np.maximum(counts, FEW))[which] / ROBUST

    def residuals(point: Array) -> Array:
        values = held | dict(zip(free, np.exp(point).tolist(), strict=True))
        found = predict(plant_of(reference, values), runs)
        slow = np.log(found.time_s / runs.rows.time_s)
        power = np.log(found.energy_j / runs.rows.energy_j) - slow
        standby = STANDBY * np.log(found.standby_w / runs.standby_w)
        return np.concatenate([weight * slow, weight * power, weight * standby, (point - centre) / spread])

    begin = centre if start is None else np.log([start[name] for name in free])
    found = least_squares(residuals, np.clip(begin, *bounds), bounds=bounds, loss="soft_l1", max_nfev=most, xtol=1e-4,
                          ftol=1e-4, diff_step=1e-3)  # fmt: skip
    return held | dict(zip(free, np.exp(found.x).tolist(), strict=True))


def errors_without(
    reference: Device, runs: Runs, priors: Mapping[str, Prior], start: Mapping[str, float], groups: Array, say: Say
) -> Array:  # fmt: skip
    """Log errors of seconds and of joules [2, runs], every group of runs predicted by a fit without it."""

    def without(held: Array) -> Array:
        values = solve(reference, runs.take(~held), priors, start, most=8)
        out = runs.take(held)
        found = predict(plant_of(reference, values), out)
        return np.log([found.time_s / out.rows.time_s, found.energy_j / out.rows.energy_j])

    return left_out(groups, without, say)
