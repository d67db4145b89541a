"""Coefficients of one device from its rows: robust least squares on log residuals.

Every parameter is positive and solved for as its logarithm. A parameter starts at its prior and is drawn to it mildly:
one prior standard deviation costs as much as `PRIOR_WEIGHT` of the rows' own squared error. So what rows do not
determine stays where physics (or the device's relatives) put it, and what they do determine is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wattir.device import Coefficients, Device, Family
from wattir.kinds import DTYPE_BYTES

from .model import predict, static_w
from .rows import Array, Rows, plain


@dataclass(frozen=True)
class Prior:
    """Where a parameter is without data, how sure that is (standard deviation of its logarithm), and its bounds."""

    value: float
    spread: float
    low: float
    high: float


PRIOR_WEIGHT = 2e-3
FEW = 1000
"""Fewer samples than this hold a parameter no more loosely than this many."""
ROBUST_SCALE = 0.15
"""Log residual from which on a row counts linearly."""

SCALARS = ("static_w", "busy_w", "j_per_op", "j_per_byte", "j_per_cache_byte", "cache_bytes_per_s", "host_op_s")
J_PER_FLOP = "j_per_flop "
VOLTAGE = ("voltage_floor", "voltage_knee")
"""Fitted where rows were measured at several clocks; elsewhere `Coefficients` has its own."""
ENERGIES = ("static_w", "busy_w", "j_per_op", "j_per_byte", "j_per_cache_byte", *VOLTAGE)
"""With every ``j_per_flop``: what joules tell of."""


def coefficients_of(values: Mapping[str, float], tiles: Sequence[float]) -> Coefficients:
    """Coefficients from flat names: ``static_w``, ``j_per_flop bf16``, ``matmul.bf16 fixed_s``, ``small_rate``."""
    families: dict[str, dict[str, float]] = {}
    energies: dict[str, float] = {}
    for name, value in values.items():
        head, _, tail = name.partition(" ")
        if head == "j_per_flop":
            energies[tail] = value
        elif tail:
            families.setdefault(head, {})[tail] = value
    scalars: dict[str, Any] = {name: values[name] for name in (*SCALARS, *VOLTAGE) if name in values}
    large_m, large_n, small_m, small_n, rate = tiles
    rated = (large_m, large_n, small_m, small_n, values.get("small_rate", rate))
    made = {name: Family(**found) for name, found in families.items()}
    return Coefficients(**scalars, j_per_flop=energies, tiles=rated, families=made)


def values_of(c: Coefficients) -> dict[str, float]:
    """The flat names and values of Coefficients: the way back from `coefficients_of`."""
    values = {name: getattr(c, name) for name in SCALARS} | {"small_rate": c.tiles[4]}
    values |= {f"j_per_flop {math}": energy for math, energy in c.j_per_flop.items()}
    for name, family in c.families.items():
        values |= {f"{name} {field}": getattr(family, field) for field in family.__slots__}
    return values


def with_values(device: Device, values: Mapping[str, float], tiles: Sequence[float]) -> Device:
    """The device with these coefficients."""
    return replace(device, coefficients=coefficients_of(values, tiles))


def solve(
    device: Device, rows: Rows, priors: Mapping[str, Prior], tiles: Sequence[float], *, energy_weight: float = 1.0,
    start: Mapping[str, float] | None = None, most_evaluations: int = 30,
) -> dict[str, float]:  # fmt: skip
    """The values of all parameters; those with spread 0 stay at their prior. `start`: where to begin, if not there."""
    from scipy.optimize import least_squares

    rows = rows.take(rows.weight[:, 0] > 0.0)
    led = leaders(device, rows, priors)
    free = [name for name, prior in priors.items() if prior.spread > 0.0 and name not in led]
    fixed = {name: prior.value for name, prior in priors.items() if prior.spread <= 0.0}
    centre = np.log([priors[name].value for name in free])
    spread = np.array([priors[name].spread for name in free])
    bounds = np.log([priors[name].low for name in free]), np.log([priors[name].high for name in free])
    informing = _informing(rows, priors)
    pull = np.sqrt([PRIOR_WEIGHT * max(informing[name], FEW) for name in free]) * ROBUST_SCALE / spread
    weight = np.concatenate([rows.weight[:, 0], rows.weight[np.isfinite(rows.energy_j), 1]])

    def values_at(point: Array) -> dict[str, float]:
        values = fixed | dict(zip(free, np.exp(point).tolist(), strict=True))
        return values | {name: priors[name].value * values[led[name]] / priors[led[name]].value for name in led}

    def residuals(point: Array) -> Array:
        values = values_at(point)
        errors = weight * log_residuals(with_values(device, values, tiles), rows, energy_weight)
        return np.concatenate([errors, pull * (point - centre)])

    begin = centre if start is None else np.log([start[name] for name in free])
    found = least_squares(
        residuals, np.clip(begin, *bounds), bounds=bounds, loss="soft_l1", f_scale=ROBUST_SCALE,
        max_nfev=most_evaluations, xtol=1e-6, ftol=1e-6, diff_step=1e-4,
    )  # fmt: skip
    values = values_at(found.x)
    return {name: values[name] for name in priors}


def solve_in_turn(
    device: Device, rows: Rows, priors: Mapping[str, Prior], tiles: Sequence[float], **how: Any
) -> dict[str, float]:
    """As `solve`; where not all rows have joules, powers and energies from the sets that do, then all else from all.

    Seconds tell of energies too, where kernels slow down at the power limit. But from seconds alone that cannot be told
    from a low efficiency: a FLOP of fp8 came out at four times its joules (H200 and H100, 2026-11-28).
    """
    metered = np.isfinite(rows.energy_j) & (rows.weight[:, 1] > 0.0)
    if metered.all() or not metered.any():
        return solve(device, rows, priors, tiles, **how)
    first = rows.take(rows.weight[:, 1] > 0.0)
    untold = {name: priors[name].value for name, count in _informing(first, priors).items() if not count}
    led = leaders(device, first, priors)
    untold |= {name: priors[name].value for name in _flops(priors) - _flops_of(device, rows.take(metered)) - set(led)}
    found = solve(device, first, _held(priors, untold), tiles, **how)
    told = {name: found[name] for name in (*ENERGIES, *_flops(priors)) if name in found}
    return solve(device, rows, _held(priors, told), tiles, **how)


def _flops(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith(J_PER_FLOP)}


def _flops_of(device: Device, rows: Rows) -> set[str]:
    """The energies that kernels of these rows spend on their FLOP."""
    return {J_PER_FLOP + device.math(rows.kinds[number][1]) for number in np.unique(rows.kind_index)}


def _held(priors: Mapping[str, Prior], known: Mapping[str, float]) -> dict[str, Prior]:
    """The priors, with these values known and not fitted."""
    return {**priors, **{name: Prior(value, 0.0, value, value) for name, value in known.items()}}


def leaders(device: Device, rows: Rows, priors: Mapping[str, Prior]) -> dict[str, str]:
    """Energies per FLOP of number types that no joules tell of, each with that of the nearest type that some do.

    Tensor units of all types are of one process and voltage, so what one type takes beyond its prior the others take
    too: they keep the ratio of their priors. Alone each would stay where it was lent while the machine moved.
    """
    tensor = _flops(priors) - {f"{J_PER_FLOP}fp32"}
    free = [name for name in priors if name in tensor and priors[name].spread > 0.0]
    metered = _flops_of(device, rows.take(np.isfinite(rows.energy_j) & (rows.weight[:, 1] > 0.0)))
    known = [name for name in free if name in metered]
    if not known:
        return {}
    return {
        name: min(known, key=lambda other: abs(_width(name) - _width(other))) for name in free if name not in metered
    }


def _width(name: str) -> float:
    return DTYPE_BYTES.get(name.removeprefix(J_PER_FLOP), 4.0)


def _informing(rows: Rows, names: Iterable[str]) -> dict[str, float]:
    """How many samples each parameter is informed by: those of its family, or all."""
    seen: dict[str, float] = {}
    keys = {name.partition(" ")[0] for name in names}
    for number, (tagged, math) in enumerate(rows.kinds):
        family = plain(tagged)
        count = len(np.unique(rows.sample[rows.kind_index == number]))
        for key in {family, f"{family}.{math}"} & keys:
            seen[key] = seen.get(key, 0.0) + count
    common = _flops(names) | {name for name in names if " " not in name}
    return {name: rows.samples if name in common else seen.get(name.partition(" ")[0], 0.0) for name in names}


def log_residuals(device: Device, rows: Rows, energy_weight: float) -> Array:
    """log time error of every sample, then log error of energy given the measured time where energy was measured."""
    time_s, _ = predict(device, rows)
    seen = np.isfinite(rows.energy_j)
    given = energy_given_time(device, rows)[seen]
    return np.concatenate([np.log(time_s / rows.time_s), energy_weight * np.log(given / rows.energy_j[seen])])


def energy_given_time(device: Device, rows: Rows) -> Array:
    """Joules by the device's powers and energies, were the time known: the measured one.

    It is busy in the measured time for the same share as in the predicted one.
    """
    free = replace(device, power_w=1e12)
    time_s, energy_j = predict(free, rows)
    c = device.coefficients
    idle = replace(free, coefficients=replace(c, busy_w=0.0))
    busy_j = energy_j - predict(idle, rows)[1]
    lasting_j = np.minimum(busy_j + static_w(device, rows) * time_s, energy_j)  # a correction may leave less than both
    given = energy_j - lasting_j + lasting_j * rows.time_s / time_s
    found: Array = np.minimum(given, device.power_w * rows.time_s)
    return found
