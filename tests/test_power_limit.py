"""Kernels of a network share one power limit: it holds their mean power, and that of one alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wattir
from wattir.costmodel import CostModel, compile_graph
from wattir.device import load_device
from wattir.dims import symbol
from wattir.ir import Graph, GraphBuilder

MADE_UP = load_device(str(Path(__file__).parent / "made_up_device.toml"))
NO_LIMIT_W = 1e9
TIMES = np.array([0, 1, 2, 5, 20, 100, 1000])
LIMITS_W = (400.0, 450.0, 500.0, 560.0)
"""Alone the product draws 565 W without a limit, the softmax 367."""


def hot_and_cool(hot: int = 1) -> Graph:
    """`hot` large products, and `times` softmaxes that draw less."""
    g = GraphBuilder("hot and cool")
    g.tensor("x", (8192, 8192), "bf16", "input")
    g.tensor("w", (8192, 8192), "bf16", "weight")
    for name in ("y", "z"):
        g.tensor(name, (8192, 8192), "bf16")
    g.op("matmul", ("x", "w"), ("y",), name="hot", source="Gemm", times=hot, groups=1, m=8192, n=8192, k=8192)
    g.op("softmax", ("y",), ("z",), name="cool", source="Softmax", times=symbol("times"),
         function="softmax", length=8192)  # fmt: skip
    return g.finish(("x",), ("z",), {"times": 1})


def under(limit_w: float, hot: int = 1) -> CostModel:
    return compile_graph(hot_and_cool(hot), replace(MADE_UP, power_w=limit_w))


@pytest.mark.parametrize("limit_w", LIMITS_W)
def test_a_network_draws_the_lesser_of_the_limit_and_its_mean_power(limit_w: float) -> None:
    held, free = under(limit_w), under(NO_LIMIT_W)
    relieved = 0
    for times in TIMES.tolist():
        found, wanted = held(times=times), free(times=times)
        if wanted.energy_j <= limit_w * wanted.time_s:
            relieved += 1
            assert (found.energy_j, found.time_s) == pytest.approx((wanted.energy_j, wanted.time_s), rel=1e-12)
        else:
            assert found.energy_j == pytest.approx(limit_w * found.time_s, rel=1e-12)
            assert wanted.time_s <= found.time_s
    assert relieved < len(TIMES) and (relieved > 0 or limit_w == LIMITS_W[0])  # both happen


def test_a_kernel_alone_is_held_as_before() -> None:
    found, kernel = under(450.0)(times=0), under(450.0, 7)(times=0)

    assert found.energy_j == pytest.approx(450.0 * found.time_s, rel=1e-15)
    assert found.time_s > 1.01 * under(NO_LIMIT_W)(times=0).time_s
    assert (kernel.energy_j, kernel.time_s) == pytest.approx((7 * found.energy_j, 7 * found.time_s), rel=1e-12)


@pytest.mark.parametrize("limit_w", LIMITS_W)
def test_what_a_network_costs_is_between_no_limit_and_a_limit_on_each_kernel(limit_w: float) -> None:
    held, free = under(limit_w), under(NO_LIMIT_W)
    hot, cool = held(times=0).time_s, compile_graph(hot_and_cool(0), held.device)(times=1).time_s
    seconds = [held(times=times).time_s for times in TIMES.tolist()]

    assert all(free(times=n).time_s * (1 - 1e-12) <= s for n, s in zip(TIMES.tolist(), seconds, strict=True))
    assert all(s <= (hot + n * cool) * (1 + 1e-12) for n, s in zip(TIMES.tolist(), seconds, strict=True))
    assert seconds == sorted(seconds)  # more work is never faster


@pytest.mark.parametrize("limit_w", LIMITS_W)
def test_arrays_layers_and_reports_agree(limit_w: float) -> None:
    model = under(limit_w)
    many, parts = model(times=TIMES), model.layers(times=TIMES)

    for i, times in enumerate(TIMES.tolist()):
        one, report = model(times=times), model.report(times=times)
        assert (many.energy_j[i], many.time_s[i]) == pytest.approx((one.energy_j, one.time_s), rel=1e-12)
        assert many.energy_high_j[i] == pytest.approx(one.energy_high_j, rel=1e-12)
        assert sum(layer.energy_j for layer in report.layers) == pytest.approx(one.energy_j, rel=1e-12)
        assert sum(layer.time_s for layer in report.layers) == pytest.approx(one.time_s, rel=1e-12)
        assert parts.energy_j[:, i].sum() == pytest.approx(one.energy_j, rel=1e-12)
        assert parts.time_s[:, i].sum() == pytest.approx(one.time_s, rel=1e-12)


@pytest.mark.parametrize("metric", ["energy_j", "time_s"])
@pytest.mark.parametrize("limit_w", LIMITS_W)
def test_an_expectation_of_one_value_is_that_value_and_has_its_slope(limit_w: float, metric: str) -> None:
    model = under(limit_w)
    expected = model.expected({"times": [4, 6, 40]}, metric)
    for times in (4, 6, 40):
        assert expected(times=times) == pytest.approx(getattr(model(times=times), metric), rel=1e-12)
    step = 1e-4
    slope = (expected(times=5.0 + step) - expected(times=5.0 - step)) / (2 * step)

    assert expected.gradient(times=5.0)["times"] == pytest.approx(slope, rel=1e-6)


def test_a_waterfall_adds_up_under_the_limit() -> None:
    from wattir.compare import joules_of, terms_of

    model = under(450.0)
    assert joules_of(terms_of(model, {"times": 3})) == pytest.approx(model(times=3).energy_j, rel=1e-9)
    assert model(times=3).energy_j != pytest.approx(3 * under(450.0)(times=1).energy_j)


def test_real_machines_hold_networks_to_their_limit() -> None:
    model = wattir.compile("vit_b_16", device="h200_sxm")
    found = model(batch=256)

    assert found.energy_j <= model.device.power_w * found.time_s * (1 + 1e-9)
