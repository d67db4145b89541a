"""The error on what a fit has not seen: groups of rows left out whole, one fold at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from wattir.device import Device, physics_only

from .model import predict
from .rows import Array, Rows
from .solve import energy_given_time

Fit = Callable[[Rows], Device]


@dataclass(frozen=True)
class LeftOut:
    """Log errors of every sample, predicted by a fit that saw none of its group; NaN where joules were not measured.

    `physics_time`, `physics_energy`: without learned corrections.
    """

    time: Array
    energy: Array
    energy_given_time: Array
    physics_time: Array
    physics_energy: Array

    def summary(self, mask: Array) -> dict[str, float]:
        """Median absolute percentage errors of the samples where the mask is true."""
        columns = {
            "time_median_ape": self.time, "energy_median_ape": self.energy,
            "energy_given_time_median_ape": self.energy_given_time, "physics_time_median_ape": self.physics_time,
            "physics_energy_median_ape": self.physics_energy,
        }  # fmt: skip
        found = {name: np.abs(np.expm1(column[mask & np.isfinite(column)])) for name, column in columns.items()}
        return {name: round(float(np.median(errors)), 4) for name, errors in found.items() if len(errors)}


def fold_of(groups: Array, labels: Array, folds: int) -> Array:
    """The fold of every sample, so that no group is split and each label's groups are spread evenly.

    By names alone: neither the order of rows nor their number matters.
    """
    label_of = dict(sorted(zip(groups.tolist(), labels.tolist(), strict=True), reverse=True))
    names = sorted(label_of, key=lambda name: (label_of[name], zlib.crc32(name.encode()), name))
    place: Mapping[str, int] = {name: i % folds for i, name in enumerate(names)}
    return np.array([place[name] for name in groups.tolist()])


def left_out(rows: Rows, fit: Fit, folds: int) -> LeftOut:
    """Log errors by cross-validation over groups; `folds` at most, one per group where there are fewer."""
    fold = fold_of(rows.group, rows.label, min(folds, len(set(rows.group.tolist()))))
    errors = np.full((len(fields(LeftOut)), rows.samples), np.nan)
    for number in range(int(fold.max()) + 1):
        held = np.flatnonzero(fold == number)
        errors[:, held] = log_errors(fit(rows.take(fold != number)), rows.take(held))
    return LeftOut(*errors)


def log_errors(device: Device, rows: Rows) -> Array:
    """log of predicted over measured, in the order of `LeftOut` [5, samples]."""
    time_s, energy_j = predict(device, rows)
    plain_s, plain_j = predict(physics_only(device), rows)
    given = energy_given_time(device, rows)
    ratios = [time_s / rows.time_s, energy_j / rows.energy_j, given / rows.energy_j, plain_s / rows.time_s,
              plain_j / rows.energy_j]  # fmt: skip
    return np.log(np.stack(ratios))
