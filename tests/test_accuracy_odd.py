"""The accuracy benchmark on whatever a folder may hold: few rows, none, other orders and endings, damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pd = pytest.importorskip("pandas")
np = pytest.importorskip("numpy")
pytest.importorskip("scipy")
pytest.importorskip("numba")

from benchmarks import accuracy  # noqa: E402


def products(count: int = 12):
    """Products in the columns of kernels_power."""
    rng = np.random.default_rng(3)
    m, n, k = (2 ** rng.integers(6, 13, count) for _ in range(3))
    time_s = 2.0 * m * n * k / 5e14 + 5e-6
    return pd.DataFrame(
        {"framework": "VLLM", "system": "h200_sxm", "kernel_source": "vllm_default", "gemm_dtype": "bfloat16",
         "m": m, "n": n, "k": k, "latency_ms": 1e3 * time_s, "power_w": 500.0}
    )  # fmt: skip


def judged(folder: Path, capsys) -> dict:
    """The object that the benchmark prints; a number that is none in JSON fails."""
    assert accuracy.main(["--data", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def folder_of(tmp_path: Path, table, ending: str = "parquet", name: str = "kernels_power") -> Path:
    path = tmp_path / name
    path.mkdir(parents=True, exist_ok=True)
    write = table.to_parquet if ending == "parquet" else table.to_csv
    write(path / f"gemm.{ending}", index=False)
    return tmp_path


def whole(found: dict) -> dict:
    (one,) = (each for each in found["sets"] if each["what"] == "all")
    return one


def test_csv_and_parquet_in_any_order_say_the_same(tmp_path, capsys):
    table = products()
    turned = table.sample(frac=1.0, random_state=1)[table.columns[::-1]]
    first = judged(folder_of(tmp_path / "a", table), capsys)
    second = judged(folder_of(tmp_path / "b", turned, "csv"), capsys)
    assert first["sets"] == second["sets"] and first["not_predicted"] == second["not_predicted"]


def test_without_joules_there_are_errors_of_time_alone(tmp_path, capsys):
    found = whole(judged(folder_of(tmp_path, products().drop(columns="power_w"), "csv"), capsys))
    assert found["rows"] == 12 and "energy" not in found and "coverage" in found["time"]


def attention() -> Any:
    """Attention of whole prompts in the columns that kernels_latency cannot do without."""
    return pd.DataFrame(
        {"system": "rtx_pro_6000_server", "kernel_source": "torch_flow", "attn_dtype": "bfloat16",
         "kv_cache_dtype": "bfloat16", "batch_size": [1, 4, 8], "isl": [128, 1024, 2048], "num_heads": 16,
         "num_key_value_heads": 4, "head_dim": 128, "latency_ms": [0.02, 0.2, 1.2]}
    )  # fmt: skip


def test_a_column_that_a_table_lacks_says_what_is_usual(tmp_path, capsys):
    found = {}
    for name, more in (("bare", {}), ("whole", {"framework": "TRTLLM", "op_name": "", "window_size": 0.0, "step": 0})):
        folder = tmp_path / name / "kernels_latency"
        folder.mkdir(parents=True)
        attention().assign(**more).to_parquet(folder / "context_attention.parquet")
        found[name] = whole(judged(tmp_path / name, capsys))
    assert found["bare"] == found["whole"] and found["bare"]["rows"] == 3
    assert found["bare"]["device"] == "rtx_pro_6000_server" and not found["bare"]["measured"]


def test_whole_models_of_a_machine_without_bf16_stop_no_other(tmp_path, capsys):
    folder = tmp_path / "whole_models_eager"
    (folder / "kernel_lists").mkdir(parents=True)
    product = [{"dimM": 512, "dimN": 512, "dimK": 512, "batch": 1, "prec": "bf16"}, ["gemm"]]
    (folder / "kernel_lists" / "tiny_pbf16_b1_s128.json").write_text(json.dumps([product]))
    row = {"workload": "tiny_pbf16_b1_s128_freq900", "energy_j": 0.01, "latency_ms": 0.1, "sm_clock_mhz": 900,
           "family": "tiny", "dtype": "bf16"}  # fmt: skip
    machines = {"turing": "NVIDIA GeForce RTX 2080 Ti", "ada": "NVIDIA L40S", "blackwell": "NVIDIA B200"}
    pd.DataFrame([{**row, "set": name, "hardware": gpu} for name, gpu in machines.items()]).to_csv(folder / "data.csv")
    found = judged(tmp_path, capsys)
    assert {each["device"] for each in found["sets"]} == {"rtx_2080_ti", "l40s", "b200_sxm"}
    assert not found["not_predicted"]


def test_one_row_has_errors_but_no_order(tmp_path, capsys):
    found = whole(judged(folder_of(tmp_path, products(1)), capsys))
    assert found["rows"] == found["groups"] == 1 and found["time"]["tau"] is None


def test_no_rows_is_no_set(tmp_path, capsys):
    assert judged(folder_of(tmp_path, products().iloc[:0], "csv"), capsys)["sets"] == []


def test_rows_without_a_size_or_a_time_are_counted(tmp_path, capsys):
    table = products().astype({"m": float})
    table.loc[0, "m"], table.loc[1, "latency_ms"], table.loc[2, "latency_ms"] = np.nan, np.nan, 0.0
    found = judged(folder_of(tmp_path, table), capsys)
    left = {each["why"]: each["rows"] for each in found["not_predicted"]}
    assert whole(found)["rows"] == 9 and left["a size is missing or out of range"] == 1
    assert sum(count for why, count in left.items() if "time" in why or "seconds" in why) == 2


def test_damaged_files_are_named_and_stop_no_other(tmp_path, capsys):
    folder = folder_of(tmp_path, products())
    (folder / "kernels_power" / "moe.parquet").write_bytes(b"PAR1 torn in half")
    (folder / "getzner_cpu_layers").mkdir()
    (folder / "getzner_cpu_layers" / "data.csv").write_text("")
    (folder / "whole_models_eager").mkdir()
    (folder / "nas_bench_201_pi5").mkdir()
    (folder / "nas_bench_201_pi5" / "data.csv").write_text("leaf\n1\n")
    found = judged(folder, capsys)
    assert whole(found)["rows"] == 12
    left = {each["folder"]: each["why"] for each in found["not_predicted"]}
    assert "moe.parquet: cannot be read" in left["kernels_power"] and "EmptyDataError" in left["getzner_cpu_layers"]
    assert "expected data.csv or data.parquet" in left["whole_models_eager"]
    assert "not as the rows of this set are" in left["nas_bench_201_pi5"]
    assert all("\n" not in why for why in left.values())


def test_sums_hold_for_samples_of_every_folder(data_folder, tmp_path, capsys):
    """Every row of a sample of each set is predicted, or counted with a reason; nothing is not known."""
    rng, total = np.random.default_rng(7), 0
    times_in_a_row = {"nas_latency_27_devices": 27}  # a column for each machine
    again = ("all", "text", "data centre", "vllm_2023 decode")  # sums, and the other time of a row
    for path in sorted(path for path in data_folder.iterdir() if path.is_dir()):
        shutil.copytree(path, tmp_path / path.name, ignore=shutil.ignore_patterns("*.csv", "*.parquet"))
        for file in [*path.glob("*.csv"), *path.glob("*.parquet")]:
            table = pd.read_csv(file, low_memory=False) if file.suffix == ".csv" else pd.read_parquet(file)
            if file.stem != "model_layers":
                table = table.sample(min(len(table), int(rng.integers(1, 40))), random_state=5)
                total += len(table) * times_in_a_row.get(path.name, 1)
            table.to_csv(tmp_path / path.name / f"{file.stem}.csv", index=False)
    found = judged(tmp_path, capsys)
    left = [each for each in found["not_predicted"] if not each["why"].startswith("joules of")]
    assert [each for each in left if each["rows"] is None] == []
    predicted = sum(each["rows"] for each in found["sets"] if not each["what"].endswith(again))
    assert predicted + sum(each["rows"] for each in left) == total


def test_physics_leaves_the_learned_corrections_out(tmp_path, capsys):
    folder = folder_of(tmp_path, products())
    with_them = whole(judged(folder, capsys))
    assert accuracy.main(["--data", str(folder), "--json", "--physics"]) == 0
    without = whole(json.loads(capsys.readouterr().out))
    assert without["rows"] == with_them["rows"] and without["time"] != with_them["time"]
