"""Device files: all load, no alias means two machines, refusals say where and what, borrowing is visible."""

from __future__ import annotations

import csv
import os
import tomllib
from pathlib import Path

import pytest

from wattir.cli import main
from wattir.device import device_folder, device_from_text, device_ids, load_device, plain
from wattir.errors import DeviceError
from wattir.machine import ROW_CONSTANTS, row_of

FOLDER = Path(device_folder())
GOOD = (Path(__file__).parent / "made_up_device.toml").read_text(encoding="utf-8")
SPECS = Path(os.environ.get("WATTIR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "gpu_specs.csv"
MEASURED = {
    "h200_sxm", "b200_sxm", "a30", "rtx_2080_ti", "a10", "a100_pcie_40gb", "h100_sxm", "raspberry_pi_5",
    "xeon_gold_5120",
}  # fmt: skip
SPEC_OF = {
    "power_w": "gpu.power", "memory_bytes_per_s": "gpu.mem_bw", "memory_bytes": "gpu.mem_capacity",
    "bf16": "gpu.bfloat16_tc_flops", "fp8": "gpu.fp8_tc_flops", "fp4": "gpu.fp4_tc_flops",
}  # fmt: skip
FAMILIES = ("matmul", "conv", "conv3x3", "stem", "depthwise", "attention", "decode", "norm", "softmax", "pointwise",
            "pooling", "copy", "gather", "unknown")  # fmt: skip


def table(device_id: str):
    return tomllib.loads((FOLDER / f"{device_id}.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("device_id", device_ids())
def test_every_device_loads_and_costs_every_family(device_id):
    device = load_device(device_id)
    assert device.id == device_id and device.sources[0]
    assert device.coefficients.static_w < device.power_w
    for family in FAMILIES:
        row = row_of(device, family, "fp32")
        assert len(row.constants) == len(ROW_CONSTANTS) and all(value >= 0 for value in row.constants[:-2])


@pytest.mark.parametrize("device_id", device_ids())
def test_name_and_aliases_are_single_lines_at_the_top(device_id):
    lines = (FOLDER / f"{device_id}.toml").read_text(encoding="utf-8").splitlines()[:12]
    assert [line.split(" = ")[0] for line in lines[:3]] == ["id", "name", "aliases"]


def test_no_alias_means_two_machines():
    owner: dict[str, str] = {}
    for device_id in device_ids():
        for alias in {plain(text) for text in (device_id, table(device_id)["name"], *table(device_id)["aliases"])}:
            assert owner.setdefault(alias, device_id) == device_id, alias


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("h100", "h100_sxm"), ("NVIDIA H100 80GB HBM3", "h100_sxm"), ("h100-sxm-80gb", "h100_sxm"),
        ("a100", "a100_sxm"),
        ("NVIDIA A100-PCIE-40GB", "a100_pcie_40gb"), ("Tesla T4", "t4"), ("pi 5", "raspberry_pi_5"),
        ("2080ti", "rtx_2080_ti"), ("NVIDIA GeForce RTX 3080", "rtx_3080"), ("NVIDIA RTX A6000", "rtx_a6000"),
        ("Intel(R) Xeon(R) Gold 6226", "xeon_gold_6226"), ("Intel(R) Arc(TM) Pro B60 Graphics", "b60"),
        ("NVIDIA GB200", "gb200"), ("Tesla V100-SXM2-32GB", "v100"),
    ],
)  # fmt: skip
def test_machines_are_found_by_what_people_call_them(wanted, found):
    assert load_device(wanted).id == found


@pytest.mark.parametrize(("wanted", "near"), [("h1000", "h100"), ("b20", "b200"), ("rasberry pi 5", "raspberrypi5")])
def test_near_misses_are_suggested(wanted, near):
    with pytest.raises(
        DeviceError, match=rf"--hw {wanted}: no such device; expected one of \d+ known ids.*did you mean.*{near}"
    ):
        load_device(wanted)


@pytest.mark.parametrize("device_id", ["h200_sxm", "h100_sxm", "b200_sxm", "a100_sxm", "l40s", "a10", "a100_pcie_40gb"])
def test_ragged_products_are_slower_where_no_row_was_of_one(device_id):
    """Libraries reach no tensor unit at full width where n or k is no multiple of 8; most sets hold none such."""
    assert load_device(device_id).coefficients.families["matmul"].ragged_rate < 0.5


def test_the_machines_of_the_measured_sets_have_their_own_coefficients():
    assert {device_id for device_id in device_ids() if load_device(device_id).measured} >= MEASURED


@pytest.mark.parametrize("device_id", device_ids())
def test_fitted_says_by_what_and_borrowed_says_from_whom(device_id):
    device = load_device(device_id)
    if not device.measured:
        lender = load_device(device.relatives[0])
        assert device.borrowed_from.startswith(lender.id) and lender.id in device.interval_source
        assert device.interval_layer > lender.interval_layer and device.interval_network > lender.interval_network
        assert not row_of(device, "matmul", "fp16").measured
        return
    assert device.borrowed_from is None
    for fit in device.fits:
        assert fit["rows"] > 0 and fit["groups"] > 1 and fit["time_median_ape"] < 0.5
        assert set(fit) >= {"data_set", "grouped_by", "date", "command", "families"}


@pytest.mark.parametrize("device_id", [i for i in device_ids() if load_device(i).measured])
def test_a_fitted_device_stays_within_physics(device_id):
    device = load_device(device_id)
    for name, family in device.coefficients.families.items():
        most = 4.0 if name.startswith("conv3x3") else 1.0  # Winograd, 4 x 4 results: 36 products for 144
        assert 0 < family.compute_efficiency <= most and 0 < family.memory_efficiency <= 1, name
        assert family.sharpness >= 1
    for math, joules in device.coefficients.j_per_flop.items():
        flat_out_w = joules * device.flop_per_s[math] * 1.0
        assert flat_out_w < 8 * device.power_w, math  # what throttles is far from its peak, not absurdly so


def test_limits_are_those_of_the_datasheets():
    if not SPECS.exists():
        pytest.skip(f"{SPECS} is not there")
    with SPECS.open(encoding="utf-8") as file:
        rows = {row["device"]: row for row in csv.DictReader(file)}
    assert set(rows) <= set(device_ids())
    for device_id, row in rows.items():
        limits = table(device_id)["limits"]
        for name, column in SPEC_OF.items():
            value = limits.get(name, limits["flop_per_s"].get(name))
            if row[column] and value is not None:
                assert value == pytest.approx(float(row[column]), rel=0.01), (device_id, name)


def edited(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id = ", "not TOML"),
        ("a = " + 9999 * "[", "not TOML"),
        (edited('kind = "gpu"', 'kind = "gpus"'), "kind = 'gpus'; expected one of gpu, cpu, npu, board"),
        (edited('scope = "board"', 'scope = "chip"'), "scope = 'chip'; expected one of board"),
        (edited('id = "made_up"', 'id = ""'), "id = ''; expected a text"),
        (edited("[limits]", "[limit]"), "unknown key 'limit'; did you mean limits"),
        (edited('source = "made up for tests"\n', ""), "[limits]: source = None; expected a text"),
        (edited("power_w = 700", "power_w = 7e9"), "power_w = 7000000000.0; expected a number from 0.1 to 100000"),
        (edited("power_w = 700", "power = 700"), "[limits]: unknown key 'power'; did you mean power_w"),
        (edited("units = 132", "units = true"), "units = True; expected a number"),
        (edited("fp32 = 6.69e13", ""), "'fp32' is missing; expected the vector units' rate"),
        (edited("static_w = 120.0", "static_w = -1"), "[coefficients]: static_w = -1; expected a number from 0"),
        (edited("tiles = [128, 256, 64, 64, 0.6]", "tiles = [128, 256]"), "tiles: found [128, 256]; expected [large m"),
        (edited("[coefficients.families.matmul]", "[coefficients.families.matmull]"), "'matmul' is missing"),
        (edited("compute_efficiency = 0.75", "compute_efficiency = 75"), "families.matmul: compute_efficiency = 75"),
        (edited("fixed_s = 3e-6", "fixed = 3e-6"), "families.matmul: unknown key 'fixed'; did you mean fixed_s"),
        (edited("layer = 0.3", "layer = 9"), "[interval]: layer = 9; expected a number from 0 to 5"),
        (GOOD[: GOOD.index("[[fit]]")], "[[fit]]: no record"),
        (edited('date = "2026-11-20"\n', ""), "'date' is missing in the record of none"),
        (GOOD[: GOOD.index("[coefficients]")], 'nor `relatives`; expected one of them, such as relatives = ["h'),
        (f'relatives = ["l40"]\n{GOOD[: GOOD.index("[coefficients]")]}', "relatives: l40: no such device"),
        (f"power_w = 300\n{GOOD}", "'power_w' stands outside of its table; expected it under [limits]"),
        (edited("power_w = 700", "power_w = 700\nclock_hz = 1.2e9"), "clock_hz is what a saved model was compiled for"),
        (edited("fp32 = 6.69e13", "fp32 = 6.69e13\nbf17 = 1e14"), "flop_per_s: unknown key 'bf17'; did you mean bf16"),
        (edited("[coefficients.j_per_flop]", "[coefficients.j_per_flop]\nfp31 = 1e-12"), "unknown key 'fp31'"),
        (f"{GOOD}\n[coefficients.families.atention]\n", "families: unknown key 'atention'; did you mean attention"),
        (f"{GOOD}\n[interval.families]\n'matmul.fp9' = 0.1\n", "families: unknown key 'fp9'; did you mean fp"),
        (f'relatives = "l40s"\n{GOOD}', "relatives: found 'l40s'; expected a list of texts"),
        (edited("[coefficients.j_per_flop]\nbf16 = 0.6e-12\nfp32 = 4e-12\n", ""), "'j_per_flop' is missing or empty"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_right_is_refused_with_the_place(text, said):
    with pytest.raises(DeviceError) as refusal:
        device_from_text(text, "some.toml")
    assert str(refusal.value).startswith("some.toml") and said in str(refusal.value)


def test_a_file_that_is_absent_is_refused():
    with pytest.raises(DeviceError, match=r"nowhere\.toml: cannot be read"):
        load_device("nowhere.toml")


def test_kinds_of_kernel_without_rows_come_from_a_relative_and_say_so():
    h100, h200 = load_device("h100_sxm"), load_device("h200_sxm")

    assert h100.family("conv3x3", "tf32") == (h200.family("conv3x3", "tf32")[0], False)
    own, measured = h100.family("matmul", "bf16")
    assert measured and own != h200.family("matmul", "bf16")[0]
    pooling = h100.family("pooling", "fp16")  # though it has pointwise kernels of its own, which pooling is not like
    assert pooling == (h200.family("pooling", "fp16")[0], False)


def test_machines_that_borrow_in_a_circle_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "wattir.device._load", lambda name: device_from_text(borrower(name, other[name]), f"{name}.toml")
    )
    other = {"h200_sxm": "h100_sxm", "h100_sxm": "h200_sxm"}
    with pytest.raises(
        DeviceError, match=r"circle \(h200_sxm from h100_sxm from h200_sxm\); expected \[coefficients\]"
    ):
        load_device("h200_sxm")


def borrower(device_id: str, lender: str) -> str:
    """A file without coefficients of its own."""
    head = GOOD[: GOOD.index("[coefficients]")]
    made = head.replace('id = "made_up"', f'id = "{device_id}"').split("\n")
    kept = [line for line in made if not line.startswith("relatives")]
    at = next(i for i, line in enumerate(kept) if line.startswith("scope"))
    return "\n".join([*kept[: at + 1], f'relatives = ["{lender}"]', *kept[at + 1 :]])


def test_a_machine_is_shown_with_the_errors_of_every_fit_also_of_its_engines(capsys):
    device = load_device("h100_sxm")
    (whole,) = (fit for fit in device.fits if fit["data_set"].startswith("whole_models_eager"))
    (served,) = device.engines["vllm"].fits

    assert main(["devices", "h100_sxm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, fit in ((whole["data_set"], whole), (f"vllm: {served['data_set']}", served)):
        (line,) = (line for line in lines if line.startswith(name))
        assert all(f"{fit[error]:.1%}" in line for error in ("time_median_ape", "energy_median_ape"))
    assert all(any(line.startswith(fit["data_set"]) for line in lines) for fit in device.fits)


@pytest.mark.parametrize(
    ("family", "math", "computed_in", "at_once"),
    [
        ("stem", "tf32", "fp32", 1.0),  # three channels fill no vector of 32 bit numbers
        ("stem", "fp16", "fp16", 1.0),
        ("depthwise", "tf32", "fp32", 1.0),  # no matrix unit takes part
        ("depthwise", "bf16", "fp32", 2.0),  # in pairs
        ("depthwise", "fp16", "fp32", 2.0),
        ("conv", "tf32", "tf32", 1.0),
    ],
)
def test_products_on_vector_units_run_at_their_rate(family, math, computed_in, at_once):
    device = load_device("h200_sxm")
    share, _ = device.family(family, computed_in)

    row = row_of(device, family, math)
    s_per_flop, j_per_flop = (row.constants[ROW_CONSTANTS.index(name)] for name in ("s_per_flop", "j_per_flop"))

    assert row.math == computed_in
    assert s_per_flop * at_once == pytest.approx(1.0 / (device.flop_per_s[computed_in] * share.compute_efficiency))
    assert j_per_flop * at_once == pytest.approx(device.j_per_flop(computed_in))
