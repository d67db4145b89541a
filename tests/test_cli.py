"""The command line: what it prints, its exit codes, and that nothing is written on an error."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto, helper

import wattir
from wattir.cli import estimate, main
from wattir.cli.parser import VERBS, parse
from wattir.cli.progress import progress

HERE = Path(__file__).parent
DEVICE = str(HERE / "made_up_device.toml")
HW = ("--hw", DEVICE)
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
SQUEEZENET = str(LIGHT / "light_squeezenet.onnx")

Output = tuple[int, str, str]
Run = Callable[..., Output]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs one command in an empty folder; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> Output:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def write_model(path: Path, *nodes: onnx.NodeProto, shape: tuple[int | str, ...] = ("n", 4), version: int = 17) -> None:
    """A model from input x to output y, both of `shape`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "made", [ends[0]], [ends[1]])
    opsets = [helper.make_opsetid("", version), helper.make_opsetid("own", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())


# ---- estimate ------------------------------------------------------------------------------------------------------


def test_json_of_one_machine_is_the_object_of_the_python_report(run: Run) -> None:
    code, out, err = run("estimate", "resnet50", *HW, "--batch-size", "8", "--json")

    expected = wattir.estimate("resnet50", device=DEVICE, sizes={"batch": 8}).to_dict()
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(expected))


def test_json_has_the_agreed_keys(run: Run) -> None:
    found = json.loads(run("estimate", "resnet50", *HW, "--json")[1])

    assert {"wattir_version", "model", "device", "runtime", "sizes", "totals", "layers", "coverage", "warnings"} <= set(
        found
    )
    assert {
        "energy_j", "energy_low_j", "energy_high_j", "interval_level", "time_s", "time_low_s", "time_high_s",
        "power_w", "flop", "flop_causal",
        "macs", "params", "weight_bytes", "activation_bytes", "state_bytes", "kernels",
    } <= set(found["totals"])  # fmt: skip
    assert {
        "name", "kind", "source_op", "times", "energy_j", "time_s", "flop", "bytes", "bound", "known",
    } <= set(found["layers"][0])  # fmt: skip
    assert {"measured", "modelled", "unknown", "unknown_ops"} <= set(found["coverage"])
    assert found["totals"]["flop"] == 8_178_368_512  # 2 x 4,089,184,256 multiply-adds
    assert found["totals"]["params"] == 25_557_032


def test_json_of_several_machines_is_a_list(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(Path(DEVICE).read_text().replace('"made_up"', '"other"'))

    found = json.loads(run("estimate", "resnet50", "--hw", f"{DEVICE},{other}", "--json")[1])

    assert [one["device"] for one in found] == ["made_up", "other"]


def test_one_machine_named_twice_is_one_machine(run: Run) -> None:
    assert isinstance(json.loads(run("estimate", "resnet50", "--hw", f"{DEVICE},{DEVICE}", "--json")[1]), dict)


def test_batch_of_a_file_fixed_at_one(run: Run) -> None:
    one = json.loads(run("estimate", SQUEEZENET, *HW, "--json")[1])
    eight = json.loads(run("estimate", SQUEEZENET, *HW, "--batch-size", "8", "--json")[1])

    assert eight["sizes"] == {"batch": 8}
    assert eight["totals"]["flop"] == 8 * one["totals"]["flop"]
    assert eight["totals"]["weight_bytes"] == one["totals"]["weight_bytes"]


@pytest.mark.parametrize("words", [
    ("--set", "batch=2", "seq=64", "bert_base", *HW),
    ("bert_base", *HW, "--set", "batch=2", "--set", "seq=64"),
    ("bert_base", "--set", "seq=64", "batch=2", *HW),
    ("bert_base", *HW, "--batch-size", "2", "--set=seq=64"),
])  # fmt: skip
def test_sizes_may_stand_anywhere(run: Run, words: tuple[str, ...]) -> None:
    found = json.loads(run("estimate", *words, "--json")[1])

    assert found["sizes"] == {"batch": 2, "seq": 64}


def test_input_gives_another_shape(run: Run) -> None:
    small = json.loads(run("estimate", SQUEEZENET, *HW, "--json", "--input", "data_0=1x3x112x112")[1])
    whole = json.loads(run("estimate", SQUEEZENET, *HW, "--json", "--input", "data_0=batch,3,224,224")[1])

    assert whole["sizes"] == {"batch": 1}
    assert small["totals"]["flop"] < 0.3 * whole["totals"]["flop"]  # a quarter of the pixels, less the borders


def test_dtype_and_runtime_reach_the_report(run: Run) -> None:
    found = json.loads(run("estimate", "resnet50", *HW, "--dtype", "fp16", "--runtime", "eager", "--json")[1])

    assert (found["dtype"], found["runtime"]) == ("fp16", "eager")
    assert found["totals"]["weight_bytes"] == pytest.approx(2 * found["totals"]["params"], rel=0.01)


def test_bounds_are_both_runtimes(run: Run) -> None:
    found = json.loads(run("estimate", "resnet50", *HW, "--bounds", "--json")[1])

    assert set(found["bounds"]) == {"eager", "compiled"}
    assert found["bounds"]["compiled"] == found["totals"]
    assert found["bounds"]["eager"]["kernels"] > found["totals"]["kernels"]
    assert "if eager" in run("estimate", "resnet50", *HW, "--bounds")[1]


def test_text_is_the_golden_one(run: Run, golden: Callable[[str, str], None]) -> None:
    code, out, err = run("estimate", "resnet50", *HW, "--batch-size", "8", "--bounds", "--top", "5")

    assert (code, err) == (0, "")
    golden("estimate_resnet50.txt", "\n".join(line.rstrip() for line in out.splitlines()) + "\n")


def test_text_compares_machines_first(run: Run, tmp_path: Path) -> None:
    lender = tmp_path / "lender.toml"
    lender.write_text(Path(DEVICE).read_text())
    other = tmp_path / "other.toml"
    other.write_text(
        Path(DEVICE).read_text().replace('"made_up"', '"other"').replace("static_w = 120", "static_w = 240")
    )

    out = run("estimate", "resnet50", "--hw", f"{DEVICE},{other}", "--top", "1")[1]

    assert "on 2 machines" in out.splitlines()[0]
    assert out.count("Where the joules go") == 2


def test_text_in_a_pipe_has_no_colour_and_fits(run: Run, tmp_path: Path) -> None:
    name = "block/" * 40 + "[bold]relu[/bold]"  # longer than any line, and it looks like markup
    write_model(tmp_path / "long.onnx", helper.make_node("Relu", ["x"], ["y"], name=name))

    out = run("estimate", "long.onnx", *HW, "--set", "n=3")[1]

    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines()) <= 160
    assert "[bold]relu[/bold]" in out


def test_csv_has_every_layer_in_si_units(run: Run, tmp_path: Path) -> None:
    report = json.loads(run("estimate", "resnet50", *HW, "--csv", "layers.csv", "--json")[1])

    rows = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    assert len(rows) == len(report["layers"])
    assert sum(float(row["energy_j"]) for row in rows) == pytest.approx(report["totals"]["energy_j"])
    assert {"model", "device", "runtime", *report["layers"][0]} == set(rows[0])
    assert os.listdir(tmp_path) == ["layers.csv"]


def test_strict_refuses_an_op_without_a_cost_rule(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "own.onnx", helper.make_node("Mystery", ["x"], ["y"], domain="own"))

    code, out, err = run("estimate", "own.onnx", *HW, "--set", "n=3", "--strict", "--csv", "layers.csv", "--json")

    assert (code, out) == (1, "")
    assert "1 op without a cost rule" in err and "Mystery" in err
    assert os.listdir(tmp_path) == ["own.onnx"]
    assert run("estimate", "own.onnx", *HW, "--set", "n=3")[0] == 0
    assert run("estimate", "resnet50", *HW, "--strict")[0] == 0


# ---- the other verbs -----------------------------------------------------------------------------------------------


def test_compiled_file_answers_without_its_model(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("compile", "resnet50", *HW, "--runtime", "eager", "--dtype", "fp16", "-o", "saved.wattir")

    assert (code, out) == (0, "saved.wattir: resnet50 on made_up, eager; sizes: batch=1\n")
    assert os.listdir(tmp_path) == ["saved.wattir"]
    saved = json.loads(run("estimate", "saved.wattir", "--batch-size", "4", "--json")[1])
    direct = json.loads(
        run("estimate", "resnet50", *HW, "--runtime", "eager", "--dtype", "fp16", "--batch-size", "4", "--json")[1]
    )
    assert saved == direct
    assert json.loads(run("estimate", "saved.wattir", "--runtime", "compiled", "--json")[1])["runtime"] == "compiled"


def test_layers_lists_every_layer(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("layers", "resnet50", *HW)
    kernels = len(wattir.estimate("resnet50", device=DEVICE).layers)

    assert code == 0
    assert f"{kernels} layers" in out
    assert out.count("Conv+Relu") > 10
    assert run("layers", "resnet50", *HW, "--csv", "all.csv")[1] == f"all.csv: {kernels} layers\n"
    assert len((tmp_path / "all.csv").read_text().splitlines()) == kernels + 1


def test_devices_shows_one_with_its_sources(run: Run) -> None:
    out = run("devices", DEVICE)[1]

    assert "made up for tests" in out  # the source of the limits
    assert "700 W" in out
    assert json.loads(run("devices", DEVICE, "--json")[1])["coefficients"]["static_w"] == 120.0


def test_devices_lists_all(run: Run) -> None:
    out = run("devices")[1]

    assert all(device in out for device in wattir.devices())
    assert len(json.loads(run("devices", "--json")[1])) == len(wattir.devices())


def test_models_lists_and_shows(run: Run) -> None:
    assert "resnet50" in run("models")[1]
    out = run("models", "resnet50")[1]
    assert "8.18 GFLOP" in out and "25.6 M" in out and "[batch, 3, 224, 224]" in out


@pytest.mark.parametrize(("name", "verb"), VERBS.items())
def test_help_has_examples_that_parse(run: Run, name: str, verb: ModuleType) -> None:
    code, out, _ = run(name, "--help")
    examples = [line.split(">")[0].strip() for line in verb.EXAMPLES.splitlines()[1:]]

    assert code == 0
    assert examples and all(line in out for line in examples)
    assert all(parse(shlex.split(line)[1:]).run for line in examples)
    assert parse(shlex.split(examples[0])[1:]).run is verb.run


def test_progress_shows_after_its_patience(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("wattir.cli.progress.PATIENCE_S", 0.01)
    with progress("reading a [large] file"):
        time.sleep(0.3)
    assert "reading a [large] file" in capsys.readouterr().err

    monkeypatch.setattr("wattir.cli.progress.PATIENCE_S", 60.0)
    with progress("reading a small file"):
        pass
    assert capsys.readouterr().err == ""


# ---- what goes wrong -----------------------------------------------------------------------------------------------

WRONG = [
    ((), "no verb; expected one of estimate"),
    (("estmate",), "did you mean estimate?"),
    (("estimate",), "required: MODEL"),
    (("estimate", "resnet50"), "no machine; expected --hw ID"),
    (("estimate", "resnet51", *HW), "did you mean resnet50"),
    (("estimate", "", *HW), "neither a file nor a known model"),
    (("estimate", "missing.onnx", *HW), "no such file"),
    (("estimate", ".", *HW), "a folder; expected a model file"),
    (("estimate", "empty.onnx", *HW), "empty"),
    (("estimate", "text.onnx", *HW), "text"),
    (("estimate", "half.wattir", *HW), "no line `graph`"),
    (("estimate", "resnet50", "--hw", "h1000"), "no such device"),
    (("estimate", "resnet50", "--hw", ""), "expected machine ids"),
    (("estimate", "resnet50", "--hw", "missing.toml"), "cannot be read"),
    (("estimate", "resnet50", "--hw", "empty.toml"), "empty.toml"),
    (("estimate", "resnet50", *HW, "--dtype", "fp15"), "did you mean fp16"),
    (("estimate", "resnet50", *HW, "--runtime", "egar"), "did you mean eager"),
    (("estimate", "resnet50", *HW, "--set", "batc=8"), "did you mean batch?"),
    (("estimate", "resnet50", *HW, "--set", "batch=x"), "expected a whole number such as batch=512"),
    (("estimate", "resnet50", *HW, "--set", "batch=1.5"), "expected a whole number"),
    (("estimate", "resnet50", *HW, "--set", "batch=-1"), "expected a whole number"),
    (("estimate", "resnet50", *HW, "--set", "8"), "expected DIM=VALUE"),
    (("estimate", "resnet50", *HW, "--set", f"batch={2**62}"), "expected a whole number from 0"),
    (("estimate", "resnet50", *HW, "--batch-size", "0"), "found 0; expected at least 1"),
    (("estimate", "resnet50", *HW, "--batch-size", "2", "--set", "batch=3"), "is given as 3 and as 2"),
    (("estimate", "resnet50", *HW, "--input", "x=1x3"), "inputs were given; expected none"),
    (("estimate", SQUEEZENET, *HW, "--input", "dato_0=1x3x9x9"), "did you mean data_0?"),
    (("estimate", SQUEEZENET, *HW, "--input", "data_0"), "expected NAME=1x3x224x224"),
    (("estimate", "open.onnx", *HW), "no value for size seq"),
    (("estimate", "fixed.onnx", *HW, "--batch-size", "2"), "no input leads with a batch of 1"),
    (("estimate", "resnet50", *HW, "--csv", "nowhere/layers.csv"), "cannot be written"),
    (("estimate", "resnet50", *HW, "--csv", "."), "cannot be written"),
    (("estimate", "resnet50", *HW, "--top", "many"), "whole number"),
    (("estimate", "resnet50", *HW, "--unheard-of"), "--unheard-of"),
    (("layers", "resnet50", "--hw", "h100_sxm,a10"), "2 machines; expected one"),
    (("compile", "resnet50", *HW, "-o", "saved.txt"), "ends in .wattir"),
    (("compile", "resnet50", *HW, "-o", "nowhere/saved.wattir"), "cannot be written"),
    (("devices", "h1000"), "no such device"),
    (("models", "resnet51"), "did you mean resnet50"),
]


@pytest.mark.parametrize(
    ("words", "said"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_line_and_nothing_written(run: Run, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    _write_bad_files(tmp_path)
    before = sorted(os.listdir(tmp_path))

    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1 and err.startswith("wattir")
    assert sorted(os.listdir(tmp_path)) == before


def _write_bad_files(folder: Path) -> None:
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "empty.toml").write_bytes(b"")
    (folder / "text.onnx").write_text("no model at all\n")
    (folder / "half.wattir").write_text("wattir 1\n")
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    write_model(folder / "open.onnx", relu, shape=(1, "seq"))
    write_model(folder / "fixed.onnx", relu, shape=(3, 4))


def test_folder_of_a_models_name_does_not_hide_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "resnet50").mkdir()

    assert run("estimate", "resnet50", *HW)[0] == 0


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (
            ZeroDivisionError("an\nodd thing"),
            2,
            "wattir: internal error: ZeroDivisionError: an odd thing; please report",
        ),
        (RecursionError("deep"), 2, "wattir: internal error: RecursionError: deep; please report"),
    ],
)
def test_what_nobody_expected(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, said: str
) -> None:
    def fail(arguments: object) -> int:
        raise raised

    monkeypatch.setattr(estimate, "run", fail)
    assert main(["estimate", "resnet50", *HW]) == code
    found = capfd.readouterr().err
    assert found.startswith(said) and found.count("\n") == (1 if said else 0)


@pytest.mark.parametrize("command", ["devices", "estimate resnet50 --hw h100_sxm"])
def test_reader_that_leaves_gives_the_shells_code_for_it(command: str) -> None:
    """rich's own answer to a closed pipe is 1, which here says that a check has failed."""
    read, write = os.pipe()
    os.close(read)
    run = [sys.executable, "-m", "wattir", *command.split()]
    assert subprocess.run(run, stdout=write, stderr=subprocess.STDOUT).returncode == 141
    os.close(write)


def test_debug_shows_the_traceback(run: Run) -> None:
    err = run("estimate", "resnet51", *HW, "--debug")[2]

    assert "Traceback" in err and err.splitlines()[-1].startswith("wattir: ")


def test_reader_that_goes_away_is_no_error() -> None:
    layers = shlex.join([sys.executable, "-m", "wattir", "layers", "resnet50", *HW, "--csv", "/dev/stdout"])
    command = f"{layers} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=HERE.parent, check=True)

    assert done.stdout.startswith("model,device") and done.stderr == ""


def test_terminal_that_knows_only_ascii(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wattir", "estimate", "resnet50", *HW]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, check=True, cwd=HERE.parent, env=environment)

    assert b"Where the joules go" in done.stdout and done.stdout.isascii()
