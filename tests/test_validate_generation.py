"""A user's measured images and videos beside what is predicted of them: errors by hand, what is left out and why."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("scipy")

from wattir.cli import main
from wattir.device import load_device
from wattir.generation_model import Sharing
from wattir.generation_report import generate

H100 = load_device("h100_sxm")
PIXART, SD, WAN = "PixArt-Sigma-XL-2-512-MS", "stable-diffusion-v1-5/stable-diffusion-v1-5", "Wan2.1-T2V-1.3B-Diffusers"
CALLS: list[dict[str, Any]] = [
    {"model": PIXART, "steps": 20},
    {"model": PIXART, "steps": 4, "batch": 2, "height": 512, "width": 768},
    {"model": PIXART, "steps": 8, "guidance": False, "ulysses": 2},
    {"model": SD, "steps": 2, "height": 512, "width": 512},
    {"model": WAN, "steps": 2, "frames": 5, "height": 240, "width": 416},
]


def measured(call: dict[str, Any], off: float) -> dict[str, Any]:
    """The call as if it had taken `off` times what is predicted."""
    asked = {name: value for name, value in call.items() if name not in ("model", "ulysses")}
    found = generate(call["model"], H100, Sharing(call.get("ulysses", 1)), **asked)
    return {**call, "time_s": off * found.time_s, "energy_j": off * found.call_j}


def put(path: Path, rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def said(path: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["validate", path, "--hw", "h100_sxm", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_errors_are_those_that_were_made(tmp_path, capsys):
    found = said(put(tmp_path / "rows.csv", [measured(call, 1.25) for call in CALLS]), capsys)
    for what in ("time", "energy"):
        assert found[what]["bias"] == pytest.approx(1 / 1.25 - 1, abs=1e-4)
        assert found[what]["median_ape"] == pytest.approx(0.2, abs=1e-4) and found[what]["tau"] == 1.0
    assert {name: each["rows"] for name, each in found["kinds"].items()} == {PIXART: 3, SD: 1, WAN: 1}
    assert not found["dropped"]
    inside = [each["energy"]["coverage"] for each in found["kinds"].values()]
    assert inside == [float(width >= 0.2231) for width in widths()]  # log 1.25


def widths() -> list[float]:
    return [H100.stacks[name].interval for name in ("xdit", "diffusers", "xdit")]


def test_a_resolution_stands_for_both_sides_and_joules_may_be_missing(tmp_path, capsys):
    row = measured({"model": SD, "steps": 2, "height": 256, "width": 256}, 1.0)
    asked = {name: row[name] for name in ("model", "steps", "time_s")} | {"resolution": 256}
    found = said(put(tmp_path / "rows.csv", [asked]), capsys)
    assert found["time"]["median_ape"] == pytest.approx(0.0, abs=1e-6) and "energy" not in found


def test_what_cannot_be_predicted_is_counted_by_its_reason(tmp_path, capsys):
    good = measured(CALLS[0], 1.0)
    bad = [{"steps": -3}, {"height": 500}, {"frames": 5}, {"model": "somebody/unheard-of"}, {"steps": 2.5}]
    found = said(put(tmp_path / "rows.csv", [good, *({**good, **change} for change in bad)]), capsys)
    assert found["rows"] == 1 and sum(found["dropped"].values()) == len(bad)
    reasons = " | ".join(found["dropped"])
    for part in ("steps = -3", "height = 500", "it makes images", "unheard-of", "steps = 2.5; expected a whole number"):
        assert part in reasons


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"model": SD, "steps": 2, "tme_s": 3.0}], "column 'tme_s'.*did you mean time_s"),
        ([{"model": SD, "steps": 2}], "nothing measured; expected a column time_s or energy_j"),
        ([{"model": SD, "steps": 2, "time_s": "soon"}], "row 1: time_s = 'soon'; expected a number"),
        ([{"model": SD, "steps": 2, "time_s": 0.0}], "row 1: time_s = 0.0; expected more than 0"),
        ([{"model": "x/y", "steps": 2, "time_s": 1.0}], "no row can be predicted.*no published generator"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_calls_is_refused_in_one_line(tmp_path, capsys, rows, reason):
    assert main(["validate", put(tmp_path / "rows.csv", rows), "--hw", "h100_sxm"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert re.search(reason, captured.err)


def test_the_table_names_models(tmp_path, capsys):
    assert main(["validate", put(tmp_path / "rows.csv", [measured(CALLS[0], 1.1)]), "--hw", "h100_sxm"]) == 0
    out = capsys.readouterr().out
    assert PIXART in out and "all" in out and "-9.1" in out
