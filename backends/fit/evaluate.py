"""How good a device's coefficients are on rows: errors of time and energy, and whether the interval covers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.interval import half_width

from .model import sums
from .rows import Array, Rows
from .solve import energy_given_time


def evaluate_rows(device: Device, rows: Rows) -> dict[str, Any]:
    """Rows, groups, and for time, energy and energy given the measured time what `errors_of` says.

    Energy also has `coverage`, the share of rows inside their 90 % interval, and `median_half_width` in log space.
    """
    found = sums(device, rows)
    measured = np.isfinite(rows.energy_j)
    report: dict[str, Any] = {
        "rows": rows.samples, "groups": len(set(rows.group.tolist())), "time": errors_of(found.time_s, rows.time_s),
    }  # fmt: skip
    if not measured.any():
        return report
    width = widths(device, rows)
    given = energy_given_time(device, rows)
    inside = np.abs(np.log(found.energy_j / rows.energy_j)) <= width
    report["energy"] = errors_of(found.energy_j[measured], rows.energy_j[measured]) | {
        "coverage": float(inside[measured].mean()), "median_half_width": float(np.median(width[measured])),
    }  # fmt: skip
    report["energy_given_time"] = errors_of(given[measured], rows.energy_j[measured])
    return report


def widths(device: Device, rows: Rows) -> Array:
    """Half-widths in log space of every row's 90 % interval of energy."""
    found = sums(device, rows)
    kernels_j = found.energy_j - found.waiting_j
    return np.asarray(half_width(device, kernels_j, found.squares, found.modelled_j, 0.0, np, found.waiting_j))


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


def plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with numbers rounded to four digits, and None for what is not a number."""
    return {name: plain(value) if isinstance(value, Mapping) else _rounded(value) for name, value in report.items()}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if np.isfinite(value) else None
