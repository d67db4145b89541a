"""The README is true: its commands run, its Python runs, its example and its table are what the code gives."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import pytest

import wattir
from wattir.cli import main
from wattir.runtime import OWN_KERNELS, load_runtime

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
MODEL = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
EXAMPLE = re.search(r"what `(wattir .*)` prints", TEXT)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("wattir ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model.onnx and the machine that the text describes, to work in."""
    shutil.copy(MODEL, tmp_path / "model.onnx")
    (tmp_path / "my_gpu.toml").write_text(*blocks("toml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_run_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(commands()) > 5
    for line in commands():
        assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)


def test_python_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks("python"):
        for framework in re.findall(r"^import (torch|jax)$", block, flags=re.MULTILINE):
            pytest.importorskip(framework)
        exec(compile(block, str(README), "exec"), {})

    assert "[" in capsys.readouterr().out  # the array of a thousand settings


def test_make_commands_are_targets() -> None:
    targets = re.findall(r"^(\w+):", (README.parent / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = [line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")]

    assert named == ["demo", "test"]
    assert set(named) <= set(targets)


def example(capsys: pytest.CaptureFixture[str]) -> str:
    assert EXAMPLE is not None
    assert main(shlex.split(EXAMPLE[1])[1:]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    return "\n".join(["```text", *lines]).rstrip() + "\n```\n"


def machines() -> str:
    """Machines of one scope whose coefficients have one origin share a row."""
    found: dict[tuple[str, str], list[wattir.Device]] = {}
    for device in map(wattir.load_device, wattir.devices()):
        sets = ", ".join(dict.fromkeys(fit["data_set"].partition(":")[0] for fit in device.fits))
        joules = "" if any("energy_median_ape" in fit for fit in device.fits) else ", seconds only"
        origin = f"measured ({sets}{joules})" if device.measured else f"borrowed from `{device.borrowed_from}`"
        found.setdefault((device.scope, origin), []).append(device)
    rows = ["| id | machine | joules of | coefficients |", "|---|---|---|---|"]
    for (scope, origin), group in found.items():
        ids, names = ", ".join(f"`{device.id}`" for device in group), "; ".join(device.name for device in group)
        rows.append(f"| {ids} | {names} | {scope} | {origin} |")
    return "\n".join(rows) + "\n"


def accuracy() -> str:
    """By measured set: the errors that its parts' fit records have, in the middle and at worst."""
    parts: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for device in (*map(wattir.load_device, wattir.devices()), *map(load_runtime, OWN_KERNELS)):
        stacks = (*device.engines.values(), *device.stacks.values())
        for fit in (*device.fits, *(fit for stack in stacks for fit in stack.fits)):
            parts.setdefault(re.split(r":| \(", fit["data_set"])[0], []).append((device.id, fit))
    rows = [
        "| measured set, from | machines | rows | left out | seconds | joules | fitted |",
        "|---|---|--:|---|--:|--:|---|",
    ]
    for name, found in sorted(parts.items()):
        fits = [fit for _, fit in found]
        ids = sorted({device_id for device_id, _ in found})
        groups = sorted({re.sub(r"^\(.*", "a kernel's sizes", fit["grouped_by"]) for fit in fits})
        cells = (
            f"`{name}`, {ORIGINS[name]}", ", ".join(f"`{each}`" for each in ids) if len(ids) < 4 else len(ids),
            f"{sum(fit['rows'] for fit in fits):,}", "; ".join(groups),
            errors(fits, r"(prefill_|decode_)?time_median_ape"), errors(fits, "energy_median_ape"),
            max(fit["date"] for fit in fits),
        )  # fmt: skip
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows) + "\n"


def repository(name: str) -> str:
    """A link to a repository on GitHub."""
    return f"[{name}](https://github.com/{name})"


ORIGINS = {
    "getzner_cpu_layers": repository("JohannesGetzner/dl-energy-estimator"),
    "gpu_power_anchors": repository("sinkers/gpu-power-lab"),
    "hw_gpt_bench_latency": repository("automl/HW-GPT-Bench"),
    "irene_transformers": repository("StonyBrookNLP/irene"),
    "kernels_latency": repository("ai-dynamo/aiconfigurator"),
    "kernels_power": repository("ai-dynamo/aiconfigurator"),
    "mlenergy_v2_diffusion": repository("ml-energy/leaderboard-v2"),
    "mlenergy_v2_llm": repository("ml-energy/leaderboard-v2"),
    "mlenergy_v3_diffusion": repository("ml-energy/leaderboard"),
    "mlenergy_v3_llm": repository("ml-energy/leaderboard"),
    "mlperf_power": repository("mlcommons/inference_results_v2.0") + " and other rounds",
    "nas_bench_201_pi5": repository("roldebijvank/HW-NAS-Bench-360"),
    "nas_latency_27_devices": repository("HayeonLee/HELP"),
    "splitwise_phase_times": repository("Mutinifni/splitwise-sim"),
    "torch_layers_a30_2080ti": repository("ConstantinNicolai/ml-operator-profiling"),
    "wattir": "`benchmarks/measurements`",
    "whole_models_eager": "the artefact of [EnergAIzer](https://arxiv.org/abs/2604.20105)",
    "willowec_cpu_layers": repository("willowec/characterizing-pytorch-power"),
}
"""Where each set was published."""


def errors(fits: list[Mapping[str, Any]], wanted: str) -> str:
    """The median of these errors, and the largest."""
    found = [100 * error for fit in fits for key, error in fit.items() if re.fullmatch(wanted, key)]
    worst = f" ({max(found):.2g} %)" if len(found) > 1 else ""
    return f"{median(found):.2g} %{worst}" if found else ""


WRITTEN = {"example": example, "machines": lambda _: machines(), "accuracy": lambda _: accuracy()}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_part_is_what_the_code_gives(
    name: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """With --update-golden the part is written anew."""
    expected = WRITTEN[name](capsys)
    text = README.read_text(encoding="utf-8")
    start, end = re.search(rf"<!-- {name}: .*? -->\n", text), text.index("<!-- end -->", text.index(f"<!-- {name}:"))
    assert start is not None
    if request.config.getoption("--update-golden"):
        README.write_text(text[: start.end()] + expected + text[end:], encoding="utf-8")
        return
    assert text[start.end() : end] == expected, "run pytest tests/test_readme.py --update-golden"
