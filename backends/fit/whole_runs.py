"""Fits of a few unknowns to whole runs: served models, images and video, phases one by one, nodes of several boards.

Every group of rows (an architecture, a model, a system) is also predicted by a fit without it: what that gets wrong is
the error that a file records and its interval.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from wattir.errors import InputError

from .evaluate import covered, errors_of, median_ape, plain
from .intervals import half_width
from .rows import Array

Say = Callable[[str], None]
Fit = Callable[[str, str, str, Say], "str | None"]
"""The text of a device's file with something fitted, from the text, its path and a folder of data; None where these are
not there."""
Priors = Mapping[str, tuple[float, float]]
"""Where an unknown is without rows, and how sure that is (standard deviation of its logarithm)."""

ROBUST = 0.1
"""Log residual from which on a row counts linearly."""
MOST_STEPS = 60
PARTS = ("seconds", "joules")
SomeRuns = TypeVar("SomeRuns", bound="Runs")


Report = tuple[str, dict[str, Any]]
"""What rows, and the `report_of` them."""


@dataclass(frozen=True)
class FromSet:
    """A `Fit` to the measured set of one folder: `fit` is asked with that folder, and so is `crossed` for the reports
    of its rows by fits without their groups."""

    folder: str
    fit: Fit
    crossed: Callable[[str, Say], Iterator[Report]] | None = None

    def __call__(self, text: str, path: str, data: str, say: Say) -> str | None:
        folder = os.path.join(data, self.folder)
        if not os.path.isdir(folder):
            say(f"  skipped {self.folder}: {folder} is not there")
            return None
        return self.fit(text, path, folder, say)


def in_turn(fits: Sequence[Fit], text: str, path: str, data: str, say: Say) -> str | None:
    """The text with all that can be fitted; None where none of the data are there."""
    before = text
    for fit in fits:
        text = fit(text, path, data, say) or text
    return None if text is before else text


@dataclass(frozen=True)
class Unknowns:
    """Names, logarithms of the priors' values, and their spreads, of everything that is fitted."""

    names: tuple[str, ...]
    start: Array
    spread: Array

    def values(self, logs: Array) -> dict[str, float]:
        """What a vector of logarithms stands for."""
        return dict(zip(self.names, np.exp(logs).tolist(), strict=True))


def unknowns(priors: Priors) -> Unknowns:
    """All that is fitted."""
    values = np.array(list(priors.values()))
    return Unknowns(tuple(priors), np.log(values[:, 0]), values[:, 1])


class Runs(Protocol):
    """Rows of one machine: two numbers `measured` of each [2, rows], seconds and joules or the seconds of two phases,
    NaN where they were not; the `group` of each, left out as a whole."""

    @property
    def group(self) -> Array: ...
    @property
    def measured(self) -> Array: ...
    def take(self: SomeRuns, wanted: Array) -> SomeRuns:
        """The rows where a mask is true."""


@dataclass(frozen=True)
class Law(Generic[SomeRuns]):
    """`space`: what is unknown; `predict`: both numbers of rows [2, rows], from its logarithms."""

    space: Unknowns
    predict: Callable[[Array, SomeRuns], Array]

    def errors(self, logs: Array, rows: SomeRuns) -> Array:
        """Log errors of both numbers [2, rows]."""
        return np.asarray(np.log(self.predict(logs, rows) / rows.measured))

    def solve(self, rows: SomeRuns, start: Array | None = None) -> Array:
        """The logarithms with the least `robust` squares of errors, each held by its prior; every group counts about
        the same."""
        from scipy.optimize import least_squares

        space, weight, seen = self.space, weights(rows.group), np.isfinite(rows.measured)

        def residuals(logs: Array) -> Array:
            errors = (weight * self.errors(logs, rows))[seen]
            return np.concatenate([robust(errors), (logs - space.start) / space.spread])

        first = space.start if start is None else start
        return np.asarray(least_squares(residuals, first, max_nfev=MOST_STEPS, ftol=1e-5, xtol=1e-5).x)

    def crossed(self, rows: SomeRuns, used: Array, say: Say, parts: Sequence[str] = PARTS) -> tuple[Array, Array]:
        """The logarithms by all rows that are `used`, and the `left_out` errors of every row; InputError if none is."""
        if not used.any():
            raise InputError("none of its rows are of this machine and of models that are known; expected some")
        logs = self.solve(rows.take(used))

        def without(held: Array) -> Array:
            return self.errors(self.solve(rows.take(used & ~held), logs), rows.take(held))

        return logs, left_out(rows.group, without, say, parts)


def weights(groups: Array) -> Array:
    """Square roots of weights, with which a group of many rows does not drown one of few."""
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(np.sqrt(np.median(counts) / counts[which]))


def robust(errors: Array) -> Array:
    """Residuals whose squares grow linearly beyond `ROBUST` (pseudo-Huber)."""
    return np.asarray(np.sign(errors) * np.sqrt(2.0 * (np.sqrt(1.0 + (errors / ROBUST) ** 2) - 1.0)))


def left_out(
    groups: Array, without: Callable[[Array], Array], say: Say, parts: Sequence[str] = PARTS
) -> Array:  # fmt: skip
    """Log errors [2, rows] of the two `parts` of every row; `without` gives those of a mask's rows, by a fit to all
    others. NaN where one group is all there is."""
    errors = np.full((2, len(groups)), np.nan)
    names = sorted(set(groups.tolist()))
    for group in names if len(names) > 1 else ():
        held = groups == group
        errors[:, held] = without(held)
        said = (
            f"{100 * median_ape(each):.1f} % of its {part}" for part, each in zip(parts, errors[:, held], strict=True)
        )
        say(f"  without {group}: {', '.join(said)}")
    return errors


def nested_widths(errors: Array, groups: Array, used: Array) -> Array:
    """Half of the interval of every row, by the errors that others than its group were left out with; `used` rows."""
    found = np.full(len(groups), np.nan)
    for group in set(groups.tolist()):
        others = used & (groups != group)
        found[groups == group] = half_width(errors[others], groups[others]) or np.nan
    return found


def crossed_reports(
    rows: Runs, errors: Array, picks: Mapping[str, Array], used: Array
) -> Iterator[Report]:  # fmt: skip
    """The seconds and joules of the rows of each pick by fits without their groups [2, rows], and how many are inside
    an interval that knows nothing of their group."""
    measured, width = rows.measured, nested_widths(errors[1], rows.group, used)
    predicted = np.exp(errors) * measured
    for what, pick in picks.items():
        if pick.any():
            time, energy = ((predicted[i, pick], measured[i, pick]) for i in (0, 1))
            yield what, report_of(rows.group[pick], width[pick], time=time, energy=energy)


def record(
    data_set: str, groups: Array, grouped_by: str, errors: Mapping[str, Array], command: str, **more: Any
) -> dict[str, Any]:  # fmt: skip
    """What a file says of a fit: its rows, and the median error of each kind of log `errors` with groups left out."""
    return {
        "data_set": data_set, "rows": len(groups), "grouped_by": grouped_by, "groups": len(set(groups.tolist())),
        **{f"{what}_median_ape": round(median_ape(each), 4) for what, each in errors.items()}, **more,
        "date": date.today().isoformat(), "command": f"wattir fit {command}",
    }  # fmt: skip


def named(dropped: Mapping[str, int]) -> list[str]:
    """How many rows were left for each reason."""
    return [f"{count} {why}" for why, count in dropped.items() if count]


def report_of(groups: Array, width: float | Array, **pairs: tuple[Array, Array]) -> dict[str, Any]:
    """Rows, groups, and of each pair of predicted and measured what `errors_of` and `covered` say, where measured;
    `width`: half of the interval in log space, of all rows or of each."""
    report: dict[str, Any] = {"rows": len(groups), "groups": len(set(groups.tolist()))}
    for what, (predicted, measured) in pairs.items():
        seen = np.isfinite(measured)
        if seen.any():
            widths = np.broadcast_to(width, len(groups))[seen]
            report[what] = errors_of(predicted[seen], measured[seen]) | covered(predicted[seen], measured[seen], widths)
    return plain(report)
