"""`wattir measure`: lists of layers, rows that are kept and gone on from, layers and models under a made-up meter."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path

import onnx.parser
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("numba")

import wattir  # noqa: E402
from wattir import layers  # noqa: E402
from wattir.backends.fit.datasets_own import rows_of  # noqa: E402
from wattir.backends.measure import meters, run  # noqa: E402
from wattir.backends.measure.cases import default_cases, layer_row  # noqa: E402
from wattir.backends.measure.layer_list import MAKERS, read_list  # noqa: E402
from wattir.backends.measure.meter import Sample  # noqa: E402
from wattir.backends.measure.sheet import COLUMNS, Sheet  # noqa: E402
from wattir.backends.measure.simulated import SimulatedBench, simulated  # noqa: E402
from wattir.backends.measure.window import Window  # noqa: E402
from wattir.cli import main  # noqa: E402
from wattir.costs import tabulate  # noqa: E402
from wattir.errors import InputError  # noqa: E402
from wattir.work import cells_of  # noqa: E402

FP32 = {"dtype": "fp32"}
DESCRIBED = {
    "matmul": {"m": 24, "n": 48, "k": 64, "groups": 2, "weight": False, **FP32},
    "conv": {"batch": 2, "c_in": 8, "c_out": 16, "in_spatial": (12, 12), "kernel": (3, 3), "stride": 2, **FP32},
    "attention": {"batch": 2, "heads": 4, "q": 16, "kv": 16, "head_dim": 8, "kv_heads": 2, "causal": True, **FP32},
    "norm": {"rows": 12, "length": 64, "function": "rms_norm", **FP32},
    "softmax": {"rows": 12, "length": 64, **FP32},
    "reduction": {"rows": 12, "length": 64, "function": "mean", **FP32},
    "pointwise": {"elements": 4096, "function": "add", "operands": 2, **FP32},
    "pooling": {"in_shape": (2, 4, 12, 12), "out_shape": (2, 4, 6, 6), "window": 4, **FP32},
    "copy": {"shape": (12, 64), **FP32},
    "gather": {"rows": 500, "length": 64, "indices": 32, **FP32},
    "recurrent": {"function": "gru", "steps": 6, "batch": 2, "input": 16, "hidden": 24, **FP32},
}
"""One layer of every function of `wattir.layers`, small enough for any machine."""


def as_toml(entries: dict[str, dict]) -> str:
    def value(found):
        return json.dumps(list(found) if isinstance(found, tuple) else found)

    return "\n".join(
        "\n".join(["[[layer]]", f'layer = "{name}"', *(f"{key} = {value(each)}" for key, each in arguments.items())])
        for name, arguments in entries.items()
    )


def as_csv(entries: dict[str, dict]) -> str:
    columns = ["layer", *dict.fromkeys(key for arguments in entries.values() for key in arguments)]
    lines = [",".join(columns)]
    for name, arguments in entries.items():
        cells = {"layer": name} | arguments
        texts = ["x".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in cells.values()]
        found = dict(zip(cells, texts, strict=True))
        lines.append(",".join(found.get(column, "") for column in columns))
    return "\n".join(lines) + "\n"


NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[n,8] x) => (float[n,8] y) { y = Softmax(x) }"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class SteadyCounter:
    """A machine that draws 100 W, counted in steps of 5 ms."""

    name, scope, poll_s = "steady", "board", 0.001

    def energy_j(self):
        return math.floor(time.perf_counter() / 0.005) * 0.5

    def sample(self):
        return Sample(time.perf_counter(), 99.0, 1e9, 2e9, 40.0)

    def describe(self):
        return {"metered": "steady"}


@pytest.fixture
def steady(monkeypatch):
    monkeypatch.setattr(meters, "_open", lambda name, index: SteadyCounter())
    monkeypatch.setattr(run, "IDLE_S", 0.05)


def test_every_layer_of_wattir_layers_can_be_listed_and_costs_the_same(folder):
    measured = set(layers.__all__) - {"scan"}  # of which PyTorch has no kernel
    assert set(MAKERS) == measured == set(DESCRIBED)
    Path("list.toml").write_text(as_toml(DESCRIBED))
    Path("list.csv").write_text(as_csv(DESCRIBED))
    cases = read_list("list.toml")
    assert cases == read_list("list.csv")
    for case, (name, arguments) in zip(cases, DESCRIBED.items(), strict=True):
        row = dict.fromkeys(("function", "layout")) | layer_row(case) | {"cold": 0, "time_s": 1.0, "energy_j": 1.0}
        (work,) = tabulate(getattr(layers, name)(**arguments))
        found = rows_of(pd.DataFrame([row]))
        assert found.work[0] == pytest.approx(cells_of(work)), name
        assert found.kinds == ((work.family, work.math),), name


def test_rows_that_were_measured_are_a_list(folder):
    Path("list.toml").write_text(as_toml(DESCRIBED))
    assert main(["measure", "list.toml", "--meter", "simulated:h100_sxm", "--out", "rows.csv"]) == 0
    again = read_list("rows.csv")
    assert [case.case_id for case in again] == [case.case_id for case in read_list("list.toml")]
    assert again[0].params == read_list("list.toml")[0].params


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "", "found nothing; expected [[layer]] tables alone"),
        ("a.toml", "layer = [1]", "expected [[layer]] tables alone"),
        ("a.toml", "[[layer", "not TOML"),
        ("a.toml", "a = " + 9999 * "[", "not TOML"),
        ("a.toml", '[[layer]]\nm = 3', "layer 1: no `layer`; expected one of matmul, conv"),
        ("a.toml", '[[layer]]\nlayer = "matmull"', "layer 'matmull'; expected one of matmul"),
        ("a.toml", '[[layer]]\nlayer = "matmul"\nm = 3', "matmul needs n, k"),
        ("a.toml", '[[layer]]\nlayer = "matmul"\nm = 3\nn = 3\nk = 0', "k = 0; expected a whole number of at least 1"),
        ("a.toml", '[[layer]]\nlayer = "matmul"\nmm = 3', "matmul takes no 'mm'"),
        ("a.toml", '[[layer]]\nlayer = "softmax"\nrows = 3\nlength = 3\ndtype = "fp17"', "did you mean fp16"),
        ("a.toml", '[[layer]]\nlayer = "matmul"\nm = "batch"\nn = 3\nk = 3', "m = 'batch'; expected a whole number of"),
        ("a.toml", '[[layer]]\nlayer = "matmul"\nm = 3\nn = 3\nk = 3\nweight = 9', "weight = 9; expected true or"),
        ("a.csv", "layer,m,n,k\nmatmul,-1,3,3\n", "m = '-1'; expected a whole number of at least 1"),
        ("a.csv", "layer,rows,length,function\nnorm,3,3,7\n", "function = 7; expected a text"),
        ("a.csv", "layer,m\n", "no layers in it"),
        ("a.csv", "layer,elements,function\npointwise,9,erf\n", "layer 1: pointwise 'erf' is not measured; add, mul"),
        ("a.csv", "layer,batch,c_in,c_out,in_spatial,kernel\nconv,1,3,8,9x9,3x5\n", "with one padding for all axes"),
        ("a.csv", "kind,op\ngemm,gemm\n", "row 2: no case_id, dtype, math"),
        ("b.csv", None, "b.csv: no such file"),
    ],
)  # fmt: skip
def test_a_bad_list_is_one_line(folder, capsys, name, text, said):
    if text is not None:
        Path(name).write_text(text)
    assert main(["measure", name, "--meter", "simulated:h100_sxm"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not Path("rows.csv").exists()


def test_lists_in_one_file_are_told_apart_by_what_they_measure(folder, capsys):
    Path("one.csv").write_text("layer,m,n,k\nmatmul,64,64,64\n")
    Path("two.csv").write_text("layer,m,n,k\nmatmul,128,64,64\nmatmul,64,64,64\nmatmul,128,64,64\n")
    for name, said in (("one", "1 rows added"), ("two", "1 rows added, 1 were there")):
        assert main(["measure", f"{name}.csv", "--meter", "simulated:a10", "--out", "rows.csv"]) == 0
        assert said in capsys.readouterr().out
    assert sorted(pd.read_csv("rows.csv").m.dropna()) == [64, 128]


def test_one_number_is_a_shape_of_one_axis(folder):
    Path("list.csv").write_text("layer,batch,c_in,c_out,in_spatial,kernel\nconv,1,8,8,100,3\n")
    (case,) = read_list("list.csv")
    assert case.op == "conv1d" and case.params["w"] == 100


def test_the_built_in_list_is_the_same_each_time_and_lighter_without_a_gpu():
    cases = default_cases("cuda", 20)
    assert cases == default_cases("cuda:1", 20)
    assert {case.case_id for case in cases}.isdisjoint(case.case_id for case in default_cases("cuda", 21))
    assert len(cases) > 500 and len({case.case_id for case in cases}) == len(cases)
    light = default_cases("cpu", 20)
    assert len(light) > 250 and {case.dtype for case in light} == {"fp32"}


def test_simulated_rows_have_the_noise_that_was_asked_for():
    exact, noisy = simulated("simulated:h200_sxm:0"), simulated("simulated:h200_sxm:0.2")
    cases = [case for case in default_cases("cuda", 20)[:80] if exact.knows(case)]
    shifts = [math.log(noisy.measure(case)["time_s"] / exact.measure(case)["time_s"]) for case in cases]
    assert 0.13 < (sum(shift**2 for shift in shifts) / len(shifts)) ** 0.5 < 0.27  # 0.2, within 3 deviations of it
    again = simulated("simulated:h200_sxm:0.2")
    assert all(again.measure(case) != again.measure(case) for case in cases[:5])  # repeats differ
    assert simulated("simulated:h200_sxm").measure(cases[0]) == simulated("simulated:h200_sxm").measure(cases[0])


@pytest.mark.parametrize(
    ("meter", "said"),
    [("simulated:h300_sxm", "no such device"), ("simulated", "expected simulated:ID"),
     ("simulated:a10:lots", "expected a number from 0 to 1"), ("watt", "no such meter")],
)  # fmt: skip
def test_a_meter_that_is_none_is_said(folder, capsys, meter, said):
    pytest.importorskip("torch")
    assert main(["measure", "--meter", meter, "--on", "cpu"]) == 2
    assert said in capsys.readouterr().err


def test_an_interrupted_run_keeps_its_rows_and_goes_on(folder, monkeypatch, capsys):
    words = ["measure", "--count", "6", "--meter", "simulated:a100_pcie", "--out", "rows.csv"]
    measure, left = SimulatedBench.measure, [3]

    def interrupted(bench, case):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return measure(bench, case)

    monkeypatch.setattr(SimulatedBench, "measure", interrupted)
    assert main(words) == 130
    assert "goes on from there" in capsys.readouterr().err and len(Sheet("rows.csv").done()) == 3 + 1  # and idle
    monkeypatch.setattr(SimulatedBench, "measure", measure)
    with open("rows.csv", "a") as file:
        file.write("torn,1,ge")  # what a killed run leaves
    assert main(words) == 0
    assert "3 rows added, 3 were there" in capsys.readouterr().out
    with open("rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] == "idle" for row in rows] == [True, False, False, False, True, False, False, False]
    assert all(None not in row and None not in row.values() for row in rows)


def test_a_case_that_fails_is_counted_and_costs_no_other(folder, monkeypatch, capsys):
    measure = SimulatedBench.measure

    def failing(bench, case):
        if case.kind == "gemm":
            raise RuntimeError("out of memory\nat once")
        return measure(bench, case)

    monkeypatch.setattr(SimulatedBench, "measure", failing)
    Path("list.toml").write_text(as_toml(DESCRIBED))
    assert main(["measure", "list.toml", "--meter", "simulated:a10", "--out", "rows.csv"]) == 0
    said = capsys.readouterr()
    assert "10 rows added, 1 failed" in said.out and "failed (RuntimeError: out of memory at once)" in said.err


def test_a_file_of_another_machine_or_other_columns_is_left_alone(folder, capsys):
    words = ["measure", "--count", "2", "--out", "rows.csv", "--meter"]
    assert main([*words, "simulated:a10"]) == 0
    before = Path("rows.csv").read_text()
    for count in ("2", "3"):  # of 2 all cases are there, of the other machine
        assert main(["measure", "--count", count, "--out", "rows.csv", "--meter", "simulated:a30"]) == 2
        assert "has rows of simulated NVIDIA A10" in capsys.readouterr().err
    assert Path("rows.csv").read_text() == before
    Path("poem.txt").write_text("no newline at the end")
    assert main(["measure", "--out", "poem.txt", "--meter", "simulated:a10"]) == 2
    assert "has other columns" in capsys.readouterr().err and Path("poem.txt").read_text() == "no newline at the end"


def test_a_model_is_measured_fitted_and_validated_by_its_name(folder, capsys):
    assert (
        main(["measure", "resnet50", "--batch-size", "8", "--meter", "simulated:h200_sxm:0", "--out", "rows.csv"]) == 0
    )
    capsys.readouterr()
    assert main(["validate", "rows.csv", "--hw", "h200_sxm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kinds"]["model"]["energy"]["median_ape"] < 1e-5  # seven digits are kept


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("resnet50", "neither a list (.toml, .csv) nor an .onnx file"),
        ("net.pt2", "PyTorch would unpickle what is in it"),
        ("net.onnx", "net.onnx: no such file"),
    ],
)
def test_a_model_that_cannot_be_run_is_said(folder, capsys, what, said):
    assert main(["measure", what]) == 2
    assert said in capsys.readouterr().err


def test_layers_run_in_torch_under_a_meter(folder, steady, capsys):
    pytest.importorskip("torch")
    Path("list.toml").write_text(as_toml(DESCRIBED))
    words = ["measure", "list.toml", "--on", "cpu", "--window", "0.1", "--settle", "0.01", "--out", "rows.csv"]
    assert main(words) == 0, capsys.readouterr().err
    table = pd.read_csv("rows.csv")
    assert tuple(table.columns) == COLUMNS
    rows = table[table.kind.ne("idle")]
    assert len(rows) == len(DESCRIBED) and rows.time_s.gt(0).all() and rows.energy_edges.gt(2).all()
    assert rows.power_w.between(90, 110).all()  # 100 W between edges
    assert (rows.energy_j / rows.time_s).to_numpy() == pytest.approx(rows.power_w.to_numpy(), rel=1e-5)
    assert set(rows.meter) == {"steady"} and rows.idle_w.between(80, 120).all()
    assert json.loads(Path("rows_meta.json").read_text())["metered"] == "steady"


def test_an_onnx_file_runs_under_a_meter(folder, steady, capsys):
    pytest.importorskip("onnxruntime")
    onnx.save(onnx.parser.parse_model(NET), "net.onnx")
    words = ["measure", "net.onnx", "--set", "n=16", "--window", "0.1", "--settle", "0.01", "--on", "cpu"]
    assert main(words) == 0, capsys.readouterr().err
    (row,) = pd.read_csv("rows.csv").query("kind == 'model'").to_dict("records")
    assert (row["model"], row["sizes"], row["runtime"], row["op"]) == ("net.onnx", "n=16", "compiled", "onnxruntime")


def test_from_python_with_a_row_for_the_fit(folder, steady):
    torch = pytest.importorskip("torch")
    net, x = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU()), torch.randn(8, 64)
    found = wattir.measure(net, x, window_s=0.05, settle_s=0.01, rows="rows.csv", name="two layers")
    assert found.energy_j == pytest.approx(found.time_s * found.power_w) and 80.0 < found.power_w < 120.0
    assert (found.meter, found.scope, found.temperature_c) == ("steady", "board", 40.0)
    wattir.measure(net, x, window_s=0.05, settle_s=0.01, rows="rows.csv", name="two layers")
    table = pd.read_csv("rows.csv")
    assert table.model.tolist() == ["two_layers.wattir"] * 2 and table.repeat.tolist() == [1, 2]
    assert main(["validate", "rows.csv", "--hw", "a10"]) == 0


def test_from_python_what_is_no_call_is_refused(steady):
    with pytest.raises(InputError, match="int: cannot be called"):
        wattir.measure(3)
    assert wattir.measure(lambda a, b: a + b, (1, 2), window_s=0.02, settle_s=0.01).calls > 10
    product = layers.matmul(64, 64, 64)
    found = wattir.measure(product, meter="simulated:a10:0", runtime="compiled")
    assert found.energy_j == pytest.approx(wattir.estimate(product, device="a10").totals["energy_j"])


def test_a_window_that_settling_made_too_short_is_done_again():
    class Still:
        counter = SteadyCounter()

        def mark(self):
            return None

        def window(self, start, end):
            return {"power_w": 100.0}

    waits = iter([0.05])  # the one call that settling sees is slow, all others are not
    row = Window(Still(), window_s=0.04, settle_s=0.0).observe(lambda: time.sleep(next(waits, 0.001)))
    assert row["window_s"] >= 0.02 and row["calls"] > 5
