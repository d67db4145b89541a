"""Pareto fronts: the candidates that no other beats in every metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wattir.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]
DIRECTIONS = {"min": 1.0, "max": -1.0}


def pareto_front(**metrics: Any) -> Array:
    """The indices of the candidates that none beats, by the first metric from its best on.

    Each metric is numbers [candidates] of which less is better, or a pair of these and ``"min"`` or ``"max"``:

        front = pareto_front(energy_j=cost(width=widths).energy_j, accuracy=(accuracy, "max"))

    A candidate beats another if it is at least as good in every metric and better in one. Of equal candidates none
    beats the other: all of them are in the front, or none. Takes n log n steps for one or two metrics, n times the
    size of the front for more.

    InputError names a metric that is NaN, of another length, or of another direction.
    """
    costs = _costs(metrics)
    order = np.lexsort(costs[::-1])
    costs = costs[:, order]
    new = np.ones(len(order), bool)
    new[1:] = (costs[:, 1:] != costs[:, :-1]).any(axis=0)
    points = costs[:, new]  # of equal candidates one
    kept = _front_of_two(points) if len(points) <= 2 else _front_of_many(points)
    front: Array = order[kept[np.cumsum(new) - 1]]
    return front


def _costs(metrics: Mapping[str, Any]) -> Array:
    """The metrics as rows [metrics, candidates], less is better."""
    if not metrics:
        raise InputError("pareto_front: no metrics; expected some, such as energy_j=answer.energy_j")
    rows = [_row(name, metric) for name, metric in metrics.items()]
    if len({len(row) for row in rows}) > 1:
        lengths = ", ".join(f"{name} {len(row)}" for name, row in zip(metrics, rows, strict=True))
        raise InputError(f"pareto_front: metrics of unequal lengths: {lengths}; expected one number a candidate")
    return np.array(rows)


def _row(name: str, metric: Any) -> Array:
    directed = isinstance(metric, tuple) and len(metric) == 2 and isinstance(metric[1], str)
    values, direction = metric if directed else (metric, "min")
    if direction not in DIRECTIONS:
        raise InputError(f"pareto_front: {name} is to be {direction!r}; expected one of {', '.join(DIRECTIONS)}")
    try:
        row = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"pareto_front: {name} holds what is no number; expected numbers [candidates]") from None
    if row.ndim != 1:
        raise InputError(f"pareto_front: {name} has shape {row.shape}; expected one axis, a number a candidate")
    wrong = np.flatnonzero(np.isnan(row))
    if len(wrong):
        raise InputError(f"pareto_front: {name}[{wrong[0]}] is NaN; expected numbers; leave such candidates out")
    return row * DIRECTIONS[direction]


def _front_of_two(points: Array) -> Array:
    """Which of distinct points [1 or 2, points], in lexicographic order, none beats: each new least of the last row."""
    kept = np.ones(points.shape[1], bool)
    kept[1:] = points[-1, 1:] < np.minimum.accumulate(points[-1])[:-1]
    return kept


def _front_of_many(points: Array) -> Array:
    """Which of distinct points [metrics, points], in lexicographic order, none beats.

    A point can only be beaten by one before it, and then by one of the front.
    """
    kept = np.zeros(points.shape[1], bool)
    left = np.arange(points.shape[1])
    while len(left):
        kept[left[0]] = True
        beaten = (points[:, left] >= points[:, left[:1]]).all(axis=0)  # the point itself among them
        left = left[~beaten]
    return kept
