"""How many rows reach a device of experts, against the rules by which the kernel sets were made."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattir.backends.fit.routing import routed, visiting

SHAPES = st.sampled_from([(8, 2), (16, 1), (128, 8), (256, 8), (512, 22)])
"""Experts, and those of each token: Mixtral, Llama 4 Scout, Qwen3, DeepSeek-V3, Nemotron."""


@given(SHAPES, st.integers(0, 3), st.integers(1, 700))
def test_balanced_tokens_go_round_all_experts(shape: tuple[int, int], power: int, tokens: int) -> None:
    count, chosen = shape
    local, stride = count // 2**power, math.ceil(count / chosen)
    loads = [0] * count
    for t in range(tokens):
        start = t if tokens >= stride else t * stride / tokens
        for i in range(chosen):
            loads[int(start + i * stride) % count] += 1
    found = routed(count, chosen, 2**power, "balanced", tokens)
    assert found == (sum(loads[:local]), sum(load > 0 for load in loads[:local]))


@given(SHAPES, st.integers(0, 3), st.integers(1, 700))
def test_balanced_tokens_visit_a_device_that_has_one_of_their_experts(
    shape: tuple[int, int], power: int, tokens: int
) -> None:
    count, chosen = shape
    local, stride = count // 2**power, math.ceil(count / chosen)
    starts = [t if tokens >= stride else t * stride / tokens for t in range(tokens)]
    visits = [any(int(start + i * stride) % count < local for i in range(chosen)) for start in starts]
    assert visiting(count, chosen, 2**power, "balanced", tokens) == sum(visits)


@given(SHAPES, st.integers(0, 3), st.sampled_from(["balanced", "power_law_1.2"]), st.integers(64, 20000))
def test_tokens_that_visit_bring_one_to_all_of_their_choices(
    shape: tuple[int, int], power: int, distribution: str, tokens: int
) -> None:
    count, chosen = shape
    rows, _ = routed(count, chosen, 2**power, distribution, tokens)
    visits = visiting(count, chosen, 2**power, distribution, tokens)
    assert visits <= tokens
    assert visits * 0.98 <= rows <= visits * chosen * 1.02  # rows hold what rounding leaves over, dealt out


@given(SHAPES, st.sampled_from(["balanced", "power_law_1.01", "power_law_1.2"]), st.integers(1, 20000))
def test_one_device_has_every_choice(shape: tuple[int, int], distribution: str, tokens: int) -> None:
    count, chosen = shape
    rows, experts = routed(count, chosen, 1, distribution, tokens)
    assert rows == pytest.approx(tokens * chosen)
    assert chosen <= experts + 1e-9 <= min(count, tokens * chosen) + 1.0


@given(SHAPES, st.integers(1, 3), st.integers(64, 20000))
def test_the_busiest_device_has_more_than_its_share(shape: tuple[int, int], power: int, tokens: int) -> None:
    count, chosen = shape
    share = tokens * chosen / 2**power
    mild, steep = (routed(count, chosen, 2**power, f"power_law_{a}", tokens)[0] for a in (1.01, 1.2))
    assert share < mild <= min(tokens * chosen, tokens * count / 2**power)
    assert steep > 0.9 * mild  # steeper tails gather more rows, but for what is cut off at `tokens`


@pytest.mark.parametrize(("count", "chosen", "devices", "tokens"), [(256, 8, 16, 4096), (128, 8, 8, 1024)])
def test_power_law_as_drawn_one_expert_at_a_time(count: int, chosen: int, devices: int, tokens: int) -> None:
    draw, rows, experts = random.Random(1), 0.0, 0.0
    for _ in range(200):
        x = [(1 - draw.random() * (1 - (0.8 * tokens) ** -0.2)) ** (1 / -0.2) for _ in range(count)]  # 1 - a = -0.2
        loads = [min(round(each / sum(x) * tokens * chosen), tokens) for each in x]
        local = count // devices
        parts = [loads[i * local : (i + 1) * local] for i in range(devices)]
        busiest = max(parts, key=sum)
        rows += (sum(busiest) + (tokens * chosen - sum(loads)) / devices) / 200
        experts += sum(load > 0 for load in busiest) / 200
    found = routed(count, chosen, devices, "power_law_1.2", tokens)
    assert found[0] == pytest.approx(rows, rel=0.06)  # two means of skewed draws
    assert found[1] == pytest.approx(experts, rel=0.06)


@pytest.mark.parametrize(("count", "chosen", "devices", "tokens"), [(256, 8, 16, 1024), (8, 2, 4, 300)])
def test_visits_under_a_power_law_as_dealt_one_token_at_a_time(
    count: int, chosen: int, devices: int, tokens: int
) -> None:
    draw, visits, local = random.Random(1), 0.0, count // devices
    for _ in range(100):
        x = [(1 - draw.random() * (1 - (0.8 * tokens) ** -0.2)) ** (1 / -0.2) for _ in range(count)]  # 1 - a = -0.2
        loads = [min(round(each / sum(x) * tokens * chosen), tokens) for each in x]
        busiest = max(range(devices), key=lambda d: sum(loads[d * local : (d + 1) * local]))
        by_load = sorted(range(count), key=lambda e: -loads[e])
        dealt = [e for e in by_load for _ in range(loads[e])]
        visits += len({i % tokens for i, e in enumerate(dealt) if e // local == busiest}) / 100
    assert visiting(count, chosen, devices, "power_law_1.2", tokens) == pytest.approx(visits, rel=0.06)


def test_measured_where_products_bind() -> None:
    """On H200, 512 experts of 8192 by 5120 on 16 devices at 16384 tokens: power_law_1.01 took 1.48 of balanced
    (kernels_power), of which some is traffic that does not depend on the spread."""
    skewed, even = (routed(512, 22, 16, spread, 16384)[0] for spread in ("power_law_1.01", "balanced"))
    assert 1.48 < skewed / even < 1.48 * 1.15
