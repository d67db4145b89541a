"""The Pareto front against the definition, pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir.errors import InputError
from wattir.pareto import pareto_front

NUMBERS = st.one_of(st.integers(0, 4).map(float), st.floats(allow_nan=False))


@st.composite
def metrics(draw: st.DrawFn) -> dict[str, tuple[list[float], str]]:
    count = draw(st.integers(0, 25))
    row = st.tuples(st.lists(NUMBERS, min_size=count, max_size=count), st.sampled_from(["min", "max"]))
    return {f"m{i}": draw(row) for i in range(draw(st.integers(1, 4)))}


def beats(a: list[float], b: list[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(metrics())
def test_front_is_what_the_definition_says(given_metrics: dict[str, tuple[list[float], str]]) -> None:
    rows = [[x if way == "min" else -x for x in values] for values, way in given_metrics.values()]
    points = [list(point) for point in zip(*rows, strict=True)]
    expected = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    found = pareto_front(**given_metrics).tolist()

    assert sorted(found) == expected
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


def test_equal_candidates_stay_together() -> None:
    found = pareto_front(energy_j=[2.0, 1.0, 1.0, 3.0, 2.0], time_s=[1.0, 2.0, 2.0, 1.0, 1.0])

    assert found.tolist() == [1, 2, 0, 4]  # 3 is beaten by 0: as quick, dearer


def test_front_of_joules_against_any_metric() -> None:
    cost = wattir.compile("resnet50", device="h100_sxm")
    batch = np.arange(1, 65)
    per_sample_j = cost(batch=batch).energy_j / batch
    front = pareto_front(energy_j=per_sample_j, batch=(batch, "min"))

    assert np.diff(batch[front]).max() < 0 < np.diff(per_sample_j[front]).min()  # the least joules first
    assert 1 in batch[front]


@pytest.mark.parametrize(
    ("given_metrics", "message"),
    [
        ({}, "no metrics; expected some"),
        ({"energy_j": [1.0, float("nan")]}, r"energy_j\[1\] is NaN"),
        ({"energy_j": [1.0], "time_s": [1.0, 2.0]}, "unequal lengths: energy_j 1, time_s 2"),
        ({"energy_j": [[1.0]]}, r"energy_j has shape \(1, 1\); expected one axis"),
        ({"energy_j": ([1.0], "least")}, "energy_j is to be 'least'; expected one of min, max"),
        ({"energy_j": ["a"]}, "energy_j holds what is no number"),
        ({"energy_j": 1.0}, r"energy_j has shape \(\)"),
    ],
)
def test_bad_metrics_are_refused_by_name(given_metrics: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pareto_front(**given_metrics)
