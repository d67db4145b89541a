"""The clock as an input: what follows it, what does not, and the clock of least energy."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir import layers
from wattir.cli import main
from wattir.clock import CLOCK_WIDTH, CORE_STATIC, at_clock, clock_width, voltage
from wattir.device import load_device
from wattir.errors import DeviceError

A100 = load_device("a100_pcie_40gb")
CLOCKS = (510, 600, 690, 780, 870, 960, 1050, 1140, 1230, 1320, 1410)
"""MHz at which whole_models_eager measured this card."""

megahertz = st.floats(min_value=0.15 * 1410, max_value=1.15 * 1410)


def of(graph, clock_mhz, device=A100):
    return wattir.estimate(graph, device=device, clock_hz=1e6 * clock_mhz).totals


def test_at_boost_nothing_changes():
    boosted = at_clock(A100, A100.boost_hz)
    assert replace(boosted, clock_hz=None).coefficients == A100.coefficients
    assert boosted.flop_per_s == A100.flop_per_s


def test_half_clock_by_hand():
    flat = replace(A100, coefficients=replace(A100.coefficients, voltage_floor=0.8, voltage_knee=0.7))
    half = at_clock(flat, 705e6)  # half of 1410 MHz lies below the knee: 0.8 of the voltage, 0.64 of its square
    assert half.flop_per_s["bf16"] == pytest.approx(0.5 * A100.flop_per_s["bf16"])
    assert half.coefficients.j_per_flop["bf16"] == pytest.approx(0.64 * A100.coefficients.j_per_flop["bf16"])
    assert half.coefficients.busy_w == pytest.approx(0.64 * 0.5 * A100.coefficients.busy_w)
    assert half.coefficients.static_w == pytest.approx((1 - CORE_STATIC * 0.36) * A100.coefficients.static_w)
    assert half.memory_bytes_per_s == A100.memory_bytes_per_s


@given(megahertz, megahertz)
def test_voltage_and_static_power_never_fall_as_the_clock_rises(one, other):
    low, high = sorted((one, other))
    shares = [1e6 * mhz / A100.boost_hz for mhz in (low, high)]
    assert voltage(A100.coefficients, shares[0]) <= voltage(A100.coefficients, shares[1])
    machines = [at_clock(A100, 1e6 * mhz) for mhz in (low, high)]
    assert machines[0].coefficients.static_w <= machines[1].coefficients.static_w


def test_arithmetic_gets_faster_with_the_clock_and_reading_does_not():
    product, copy = layers.matmul(8192, 8192, 8192), layers.copy((2**14, 2**14))
    times = [of(product, mhz)["time_s"] for mhz in CLOCKS if mhz < 1100]  # above, it meets its power limit
    assert times == sorted(times, reverse=True) and times[0] > 1.5 * times[-1]
    assert of(copy, 510)["time_s"] < 1.1 * of(copy, 1050)["time_s"]


def test_energy_is_least_between_the_lowest_and_the_highest_clock():
    """13 of the 16 workloads of whole_models_eager's clock sweep took the fewest joules at 960 MHz, three below."""
    joules = {mhz: of(layers.matmul(4096, 4096, 4096), mhz)["energy_j"] for mhz in CLOCKS}
    assert min(joules, key=lambda mhz: joules[mhz]) in (870, 960, 1050)
    assert joules[510] > 1.1 * joules[960] and joules[1410] > 1.1 * joules[960]


def test_arrays_of_sizes_at_a_clock_agree_with_one_at_a_time():
    model = wattir.compile("resnet50", device="a100_pcie_40gb", clock_hz=9e8)
    assert model(batch=[2, 8]).energy_j[1] == pytest.approx(model(batch=8).energy_j, rel=1e-12)


def test_a_saved_model_keeps_its_clock(tmp_path: Path):
    model = wattir.compile("resnet18", device="a100_pcie_40gb", clock_hz=9e8)
    model.save(str(tmp_path / "slow.wattir"))
    again = wattir.load(str(tmp_path / "slow.wattir"))
    assert again(batch=4) == model(batch=4)
    assert again.device.clock_hz == 9e8
    with pytest.raises(DeviceError, match="compiled for 900 MHz; compile the model again"):
        at_clock(again.device, 1e9)


@pytest.mark.parametrize(
    ("device", "clock_hz", "said"),
    [("xeon_gold_5120", 2e9, "its file names none; expected boost_hz"), ("a100_pcie_40gb", 9e9, "from 141 to 1692 MHz"),
     ("a100_pcie_40gb", 900.0, "a clock of 0.0009 MHz")],
)  # fmt: skip
def test_a_clock_that_cannot_be_is_refused(device, clock_hz, said):
    with pytest.raises(DeviceError, match=said):
        at_clock(load_device(device), clock_hz)


def test_far_from_the_clocks_of_its_rows_the_interval_is_wider():
    assert clock_width(A100) == 0.0  # measured up to its boost clock
    a10 = load_device("a10")  # measured at 900 MHz alone
    assert clock_width(at_clock(a10, 9e8)) == 0.0
    assert clock_width(a10) == pytest.approx(CLOCK_WIDTH * math.log(1695 / 900))
    near, far = (of(layers.matmul(4096, 4096, 4096), mhz, a10) for mhz in (900, 1695))
    assert far["energy_high_j"] / far["energy_j"] > near["energy_high_j"] / near["energy_j"]


def test_the_command_line_takes_megahertz(capsys: pytest.CaptureFixture[str]):
    assert main(["estimate", "resnet18", "--hw", "a100_pcie_40gb", "--clock-mhz", "900", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["clock_hz"] == 9e8
    assert main(["estimate", "resnet18", "--hw", "a100_pcie_40gb", "--clock-mhz", "900"]) == 0
    assert "at 900 MHz" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["fast", "-1", "nan", "0"])
def test_a_clock_that_is_no_number_is_refused(given, capsys: pytest.CaptureFixture[str]):
    assert main(["estimate", "resnet18", "--hw", "a100_pcie_40gb", f"--clock-mhz={given}"]) == 2
    assert "expected a core clock in MHz such as 900" in capsys.readouterr().err
