"""The accuracy benchmarks: every row is predicted or named, and what was held out is covered by the interval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")
pytest.importorskip("numba")

from benchmarks import accuracy, networks  # noqa: E402
from wattir.backends.fit.datasets_networks import covered  # noqa: E402
from wattir.backends.fit.evaluate import errors_of  # noqa: E402
from wattir.backends.fit.sets import Left, cases, device_of  # noqa: E402
from wattir.cli import main as wattir  # noqa: E402

OWN = Path(networks.__file__).parent / "measurements" / "h200_sxm"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of sets: products on a known and on an unknown machine, a kernel without a rule, an unknown set."""
    kernels = tmp_path / "kernels_power"
    kernels.mkdir()
    rows = [
        {"framework": "VLLM", "system": system, "gemm_dtype": dtype, "m": m, "n": 4096, "k": 4096 * i,
         "latency_ms": 0.2 * i, "power_w": 600.0}
        for system in ("h200_sxm", "x900") for dtype in ("bfloat16", "int3") for i, m in enumerate((64, 512, 4096), 1)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(kernels / "gemm.parquet")
    pd.DataFrame({"system": ["h200_sxm"] * 5}).to_parquet(kernels / "dsa.parquet")
    (tmp_path / "tea_leaves").mkdir()
    pd.DataFrame({"leaf": range(7)}).to_csv(tmp_path / "tea_leaves" / "data.csv")
    return tmp_path


def test_every_row_is_in_a_case_or_left(data):
    found = list(cases(str(data)))
    assert sum(each.rows if isinstance(each, Left) else each.raw for each in found) == 12 + 5 + 7
    left = {(each.what, each.rows): each.why for each in found if isinstance(each, Left)}
    assert left[("gemm bfloat16", 3)] == "no device file for x900"
    assert "no cost rule" in left[("dsa", 5)] and "no cost model" in left[("data", 7)]


def test_the_object_has_errors_coverage_and_what_was_not_predicted(data, capsys):
    assert accuracy.main(["--data", str(data), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    one, whole = said["sets"]
    assert (one["folder"], one["device"], one["rows"], one["groups"]) == ("kernels_power", "h200_sxm", 3, 3)
    assert whole == {**one, "what": "all"}  # there is but one kind of row
    assert set(one["energy_given_time"]) == {"rows", "median_ape", "mape", "tau", "bias"}
    assert set(one["energy"]) == set(one["time"]) == {*one["energy_given_time"], "coverage", "median_half_width"}
    assert sum(each["rows"] for each in said["not_predicted"]) == 24 - 3


def test_the_tables_name_what_was_not_predicted(data, capsys):
    assert accuracy.main(["--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert "h200_sxm" in said and "Not predicted" in said and "tea_leaves" in said


def test_a_long_reason_cuts_no_other_column(data, capsys):
    (data / "torch_layers_a30_2080ti").mkdir()
    (data / "torch_layers_a30_2080ti" / "data.parquet").write_bytes(b"no parquet")
    assert accuracy.main(["--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert "torch_layers_a30_2080ti" in said and "not known" in said


def test_a_missing_folder_is_said(capsys, tmp_path):
    assert accuracy.main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_errors_by_hand():
    import numpy as np

    found = errors_of(np.array([1.1, 1.8, 4.0]), np.array([1.0, 2.0, 4.0]))
    assert found["median_ape"] == pytest.approx(0.1)  # of 0.1, 0.1, 0
    assert found["mape"] == pytest.approx(0.2 / 3)
    assert found["tau"] == 1.0 and found["bias"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("hardware", "device"),
    [("NVIDIA A100-PCIe-40GB", "a100_pcie_40gb"), ("NVIDIA A30", "a30"), ("GTX 1070", "gtx_1070"),
     ("raptorlake", "core_raptor_lake"), ("NVIDIA GeForce RTX 4090 (Ada Lovelace)", "rtx_4090"), ("abacus", None)],
)  # fmt: skip
def test_machines_are_found_by_what_tables_call_them(hardware, device):
    assert device_of(hardware) == device


@pytest.fixture(scope="module")
def measured():
    return networks.report("h200_sxm", [])


def test_no_measured_network_is_lost(measured):
    table = pd.read_csv(OWN / "networks.csv")
    good = int((table.time_s.gt(0) & table.energy_j.gt(0)).sum())
    assert len(measured["lines"]) + sum(measured["uncovered"].values()) == good
    trapped = [line for line in measured["lines"] if line.trap]
    assert measured["summary"]["in a known trap"]["rows"] == len(trapped) > 0


def test_networks_that_nothing_was_fitted_to_are_predicted_and_covered(measured):
    found = measured["summary"]["all"]
    assert found["energy"]["median_ape"] < 0.16 and abs(found["energy"]["bias"]) < 0.08  # 13.7 % and -4 % at the fit
    assert found["energy_given_time"]["median_ape"] < 0.07
    assert 0.85 <= found["energy"]["coverage"] <= 0.97


def test_a_captured_forward_does_not_wait_for_the_host():
    found = covered(str(OWN))
    waits = dict.fromkeys(found.table["mode"], 0.0)
    for mode, ops in zip(found.table["mode"], found.rows.host_ops, strict=True):
        waits[mode] = max(waits[mode], ops)
    assert waits["graph"] == waits["compile"] == 0.0 < waits["eager"]


def test_held_out_layers_are_covered(capsys):
    assert wattir(["validate", str(OWN / "layers_seed21.csv"), "--hw", "h200_sxm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] + sum(found["dropped"].values()) == len(pd.read_csv(OWN / "layers_seed21.csv"))
    assert found["energy"]["median_ape"] < 0.19 and 0.85 <= round(found["energy"]["coverage"], 2) <= 0.95


@pytest.mark.parametrize(
    ("rows", "said"),
    [("", "cannot be read"), ("a,b\n1,2\n", "no column kind, op"), (None, "no such file")],
)
def test_rows_that_are_no_layers_are_refused(tmp_path, capsys, rows, said):
    path = tmp_path / "rows.csv"
    if rows is not None:
        path.write_text(rows)
    assert wattir(["validate", str(path), "--hw", "h200_sxm"]) == 2
    assert said in capsys.readouterr().err
