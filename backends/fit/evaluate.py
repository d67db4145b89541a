"""How good a device's coefficients are on rows: errors of time and energy, and whether the interval covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from wattir.clock import clock_width
from wattir.costmodel import EXACT
from wattir.device import Device
from wattir.interval import half_width, of_seconds
from wattir.work import CELLS

from .model import at_clocks, predict, sums
from .rows import NO_JOULES, Array, Rows
from .solve import energy_given_time


def usable(device: Device, rows: Rows) -> Rows:
    """The rows that can be judged; others are counted by what is wrong. Joules of 0 and less are none."""
    odd = np.bincount(rows.sample[~_counted(rows.work)], minlength=rows.samples) > 0
    positive = np.isfinite(rows.energy_j) & (rows.energy_j > 0.0)
    wrong = int((~positive & ~np.isnan(rows.energy_j)).sum()) + rows.dropped.get(NO_JOULES, 0)
    rows = replace(rows, energy_j=np.where(positive, rows.energy_j, np.nan), dropped={**rows.dropped, NO_JOULES: wrong})
    timed = np.isfinite(rows.time_s) & (rows.time_s > 0.0)
    rows = rows.without({"no seconds measured": ~timed, NO_SIZE: odd})
    with np.errstate(all="ignore"):
        predicted = np.stack(predict(device, rows))
    return rows.without({NO_SIZE: ~(np.isfinite(predicted) & (predicted > 0.0)).all(axis=0)})


NO_SIZE = "a size is missing or out of range"


def _counted(work: Array) -> Array:
    """Kernels [kernels, cells] whose cells are amounts, and whose products have sizes."""
    macs, *sizes = (work[:, CELLS.index(name)] for name in ("macs_causal", "m", "n", "k", "groups"))
    sized = (macs == 0.0) | (np.prod(sizes, axis=0) > 0.0)
    counted: Array = ((work >= 0.0) & (work <= EXACT)).all(axis=1) & sized
    return counted


def evaluate_rows(device: Device, rows: Rows) -> dict[str, Any]:
    """Rows, groups, and for time, energy and energy given the measured time what `errors_of` says.

    Time and energy also have `coverage`, the share of rows inside the 90 % interval of each, and `median_half_width` in
    log space; where a machine has one interval, of energy, it is held against the seconds too.
    """
    found = sums(device, rows)
    measured = np.isfinite(rows.energy_j)
    width, time_width = widths(device, rows), widths(of_seconds(device), rows)
    report: dict[str, Any] = {
        "rows": rows.samples, "groups": len(set(rows.group.tolist())),
        "time": errors_of(found.time_s, rows.time_s) | covered(found.time_s, rows.time_s, time_width),
    }  # fmt: skip
    if not measured.any():
        return report
    predicted_j, energy_j = found.energy_j[measured], rows.energy_j[measured]
    report["energy"] = errors_of(predicted_j, energy_j) | covered(predicted_j, energy_j, width[measured])
    report["energy_given_time"] = errors_of(energy_given_time(device, rows)[measured], energy_j)
    return report


def by_label(device: Device, rows: Rows) -> dict[str, dict[str, Any]]:
    """`evaluate_rows` of the rows of each label alone, in the order of their names."""
    return {name: evaluate_rows(device, rows.take(rows.label == name)) for name in sorted(set(rows.label.tolist()))}


def covered(predicted: Array, measured: Array, width: Array) -> dict[str, float]:
    """The share of rows within their half-width in log space, and its median."""
    inside = np.abs(np.log(predicted / measured)) <= width
    return {"coverage": float(inside.mean()), "median_half_width": float(np.median(width))}


def widths(device: Device, rows: Rows) -> Array:
    """Half-widths in log space of every row's 90 % interval, of energy unless the device is one `of_seconds`."""
    found = sums(device, rows)
    kernels_j = found.energy_j - found.waiting_j
    machines, which = at_clocks(device, rows)
    beyond = np.array([clock_width(machine) for machine in machines])[which]
    h = half_width(device, kernels_j, found.spread, found.modelled_j, 0.0, found.waiting_j)
    return np.asarray(h + beyond)


def errors_of(predicted: Array, measured: Array) -> dict[str, float]:
    """`median_ape`, `mape`, Kendall's `tau`, and `bias`: the median of predicted over measured, less 1."""
    from scipy.stats import kendalltau

    ratio = predicted / measured
    apes = np.abs(ratio - 1.0)
    tau = kendalltau(predicted, measured).statistic if len(ratio) > 1 else np.nan
    return {
        "rows": len(ratio), "median_ape": float(np.median(apes)), "mape": float(np.mean(apes)), "tau": float(tau),
        "bias": float(np.median(ratio) - 1.0),
    }  # fmt: skip


def median_ape(errors: Array) -> float:
    """Median absolute percentage error of log errors, as a share; what is not a number does not count."""
    return float(np.nanmedian(np.abs(np.expm1(errors))))


def plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with numbers rounded to four digits, and None for what is not a number."""
    return {name: plain(value) if isinstance(value, Mapping) else _rounded(value) for name, value in report.items()}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if np.isfinite(value) else None
