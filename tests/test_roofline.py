"""Laws of the formulas: monotone, bounded by the roofs, unit-consistent."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattir.roofline import (
    cached_bytes,
    compute_seconds,
    kernel_cost,
    slowdown,
    smooth_max,
    tiled_seconds,
)
from wattir.work import CELLS

amount = st.floats(0, 1e15)
extent = st.integers(1, 5000).map(float)

RATES = {
    "s_per_flop": 1e-14, "s_per_op": 1e-13, "s_per_byte": 2e-13, "s_per_cache_byte": 1e-13, "fixed_s": 3e-6,
    "j_per_flop": 6e-13, "j_per_op": 2e-12, "j_per_byte": 6e-11, "j_per_cache_byte": 2e-11,
    "static_w": 120.0, "limit_w": 700.0, "sharpness": 4.0, "units": 132.0, "cache_bytes": 5e7, "hot_weights": 0.0,
    "tile_m": 128.0, "tile_n": 256.0, "small_m": 64.0, "small_n": 64.0, "small_rate": 0.6, "wave_s": 0.0,
    "ragged_rate": 1.0, "fill_k": 100.0, "step_s": 3e-10, "split_s": 3e-6, "busy_w": 150.0,
    "s_per_link_byte": 2e-12, "time_at": -1.0, "power_at": -1.0, "trees": (0.0,),
}  # fmt: skip


def cost(m=512.0, n=512.0, k=512.0, groups=1.0, bytes_=1e6, **rates):
    sizes = {"macs_causal": m * n * k * groups, "m": m, "n": n, "k": k, "groups": groups, "launches": 1.0}
    streams = {"weight_bytes": bytes_ / 2, "activation_bytes": bytes_ / 2}
    return kernel_cost(*cells(**sizes, **streams), *{**RATES, **rates}.values())[:2]


def cells(**given):
    """The cells of a kernel, 0 where nothing is given."""
    return [given.get(name, 0.0) for name in CELLS]


@given(amount, amount, amount, st.floats(1, 16))
def test_smooth_max_lies_between_maximum_and_sum(a, b, c, sharpness):
    found = smooth_max(a, b, c, sharpness)

    assert max(a, b, c) * (1 - 1e-12) <= found <= (a + b + c) * (1 + 1e-12)


def tiled(m, n, k, groups=1.0, tile_m=128.0, tile_n=256.0, fill_k=0.0, step_s=0.0, split_s=0.0, partial=0.0):
    """Seconds on 132 units that each do one FLOP a second."""
    return tiled_seconds(m, n, k, groups, 132.0, tile_m, tile_n, 1.0, fill_k, step_s, split_s, partial)


@given(extent, extent, extent, st.integers(1, 64).map(float), st.sampled_from((0.0, 1e3)))
def test_padding_never_loses_flop(m, n, k, groups, split_s):
    assert 132 * tiled(m, n, k, groups, split_s=split_s) >= 2 * m * n * k * groups * (1 - 1e-12)


def test_a_problem_of_whole_tiles_and_whole_waves_is_not_padded():
    m, n, k = 128.0 * 12, 256.0 * 11, 1024.0  # 132 tiles for 132 units

    assert 132 * tiled(m, n, k) == 2 * m * n * k


def test_one_tile_too_many_costs_a_second_wave():
    assert tiled(128.0 * 132 + 1, 256.0, 1024.0) == 2 * tiled(128.0 * 132, 256.0, 1024.0)


def test_the_better_tile_is_taken():
    large, small = tiled(4096.0, 4096.0, 4096.0), tiled(4096.0, 4096.0, 4096.0, tile_m=64.0, tile_n=64.0)
    tiles = (128.0, 256.0, 64.0, 64.0, 0.6)

    found = compute_seconds(4096.0**3, 4096.0, 4096.0, 4096.0, 1.0, 1 / 132, 132.0, *tiles, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert found == pytest.approx(min(large, small / 0.6), rel=1e-12)


def test_every_wave_fills_its_tiles_and_waits_hide_behind_other_waves():
    one_wave, tile_s = 128.0 * 132, 2.0 * 128 * 256  # of one step along the inner dimension

    assert tiled(one_wave, 256.0, 1000.0, fill_k=200.0, step_s=7.0) == 1200 * (tile_s + 7)
    assert tiled(3 * one_wave, 256.0, 1000.0, fill_k=200.0, step_s=7.0) == 1200 * (3 * tile_s + 7)


def test_a_deep_product_of_few_tiles_is_split_where_that_is_faster():
    tile_s, depth = 2.0 * 128 * 256, 256.0 * 200  # 66 units a tile of two, and pieces of 775 are deep enough

    split = tiled(128.0, 512.0, depth, fill_k=100.0, split_s=1e4, partial=0.5)
    partial_s = 8 * 66 * 128 * 512 * 0.5  # 66 pieces of 128 x 512 results, 4 bytes written and 4 read
    assert split == pytest.approx((depth / 66 + 100) * tile_s + 1e4 + partial_s, rel=1e-12)
    assert split < tiled(128.0, 512.0, depth, fill_k=100.0)  # 0: not split
    assert tiled(128.0, 512.0, depth, split_s=1e15) == depth * tile_s  # not worth it
    assert tiled(128.0, 512.0, 511.0, split_s=1e-9) == 511 * tile_s  # pieces of less than 256
    assert tiled(128.0 * 67, 256.0, depth, split_s=1e-9) == depth * tile_s  # 67 of 132 units have a tile


@given(extent, extent, extent, st.integers(1, 300).map(float))
def test_splitting_never_takes_longer_than_not(m, n, k, split_s):
    assert tiled(m, n, k, fill_k=100.0, split_s=split_s) <= tiled(m, n, k, fill_k=100.0)


@given(extent, st.floats(1e3, 1e10), st.floats(1.0, 3.0))
def test_more_bytes_never_take_less_time_or_energy(m, bytes_, factor):
    (few_s, few_j), (many_s, many_j) = cost(m=m, bytes_=bytes_), cost(m=m, bytes_=bytes_ * factor)

    assert many_s >= few_s * (1 - 1e-12)
    assert many_j >= few_j * (1 - 1e-12)


@given(st.floats(1e3, 1e12), extent, extent)
def test_power_never_passes_the_limit(bytes_, m, n):
    seconds, joules = cost(m=m, n=n, bytes_=bytes_, j_per_byte=1e-9)

    assert joules / seconds <= RATES["limit_w"] * (1 + 1e-9)
    assert joules / seconds >= RATES["static_w"]


@given(st.floats(0, 1e5), st.floats(1e-6, 1.0))
def test_throttling_starts_at_the_limit_and_only_slows(dynamic_j, seconds):
    slower = slowdown(seconds, dynamic_j, 120.0, 700.0)

    assert slower >= 1.0
    assert (slower > 1.0) == (dynamic_j > 580.0 * seconds)  # 700 W less 120 W at zero work


@given(st.floats(0, 1e12), st.floats(1, 1e9))
def test_the_cache_holds_no_more_than_it_can(activation_bytes, cache):
    assert cached_bytes(activation_bytes, cache) <= min(activation_bytes, cache)


def test_seconds_scale_with_seconds_and_joules_with_joules():
    """Every rate in milli-units gives the answer in milli-units: no hidden constant carries a unit."""
    in_time = ("s_per_flop", "s_per_op", "s_per_byte", "s_per_cache_byte", "fixed_s", "step_s", "split_s")
    slower = {name: RATES[name] * 1000 for name in in_time}
    watts = {name: RATES[name] / 1000 for name in ("static_w", "busy_w", "limit_w")}

    base, scaled = cost(), cost(**slower, **watts)
    assert scaled[0] == pytest.approx(1000 * base[0], rel=1e-12)
    assert scaled[1] == pytest.approx(base[1], rel=1e-12)


def test_a_kernel_without_work_costs_its_launch():
    seconds, joules = kernel_cost(*cells(launches=1.0), *RATES.values())[:2]

    assert seconds == RATES["fixed_s"]
    assert kernel_cost(*cells(), *RATES.values())[:2] == (0.0, 0.0)  # not even a launch
    assert math.isclose(joules, RATES["fixed_s"] * RATES["static_w"])


def test_running_draws_more_than_waiting():
    """What a kernel gets done is not all that it draws: the same work at half the rate costs more."""
    fast, slow = cost(bytes_=1e9), cost(bytes_=1e9, s_per_byte=2 * RATES["s_per_byte"], s_per_cache_byte=2e-13)

    assert slow[1] - fast[1] == pytest.approx((RATES["static_w"] + RATES["busy_w"]) * (slow[0] - fast[0]), rel=1e-9)


@given(amount, amount, st.floats(1, 16))
def test_two_roofs_are_the_same_formula_as_three(a, c, sharpness):
    top = max(a, c)
    longhand = top * ((a / top) ** sharpness + (c / top) ** sharpness) ** (1 / sharpness) if top else 0.0

    assert smooth_max(a, 0.0, c, sharpness) == pytest.approx(longhand, rel=1e-12)
