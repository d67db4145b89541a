"""What joules cover, and how they are told of something else: by hand, there and back, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

import wattir
from wattir.chain import Node, node_of
from wattir.cli import main
from wattir.device import load_device
from wattir.errors import FleetError
from wattir.scope import at_scope, conversion

NODE = Node("n", "made up", 4, 400.0, 1.25, "made up", width=0.1)
BOARD = load_device("h100_sxm")
REPORT = wattir.estimate(wattir.layers.matmul(4096, 4096, 4096, "bf16"), device=BOARD)


def test_the_plug_by_hand() -> None:
    found = at_scope(REPORT, BOARD, "node", NODE)
    before, after = REPORT.totals, found.totals

    assert after["energy_j"] == pytest.approx(1.25 * before["energy_j"] + 100.0 * before["time_s"])  # one of four
    assert after["power_w"] == pytest.approx(after["energy_j"] / before["time_s"])
    assert after["energy_high_j"] / after["energy_j"] > 1.1  # the conversion's own width on top
    assert after["time_s"] == before["time_s"] and found.energy_scope == "node"
    assert "made up" in found.warnings[-1]


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_layers_still_add_up_and_shares_are_whole(runtime: str) -> None:
    found = wattir.estimate("resnet50", device="gtx_1070", runtime=runtime, scope="wall")

    assert sum(layer.energy_j for layer in found.layers) == pytest.approx(found.totals["energy_j"])
    assert sum(found.coverage[origin] for origin in ("measured", "modelled", "unknown")) == pytest.approx(1.0)


def test_there_and_back() -> None:
    there = at_scope(REPORT, BOARD, "wall", NODE)
    back = at_scope(there, replace(BOARD, scope="wall"), "board", NODE)

    assert back.totals["energy_j"] == pytest.approx(REPORT.totals["energy_j"])


def test_wall_and_node_are_one_place_and_ones_own_scope_is_no_conversion() -> None:
    assert conversion(BOARD, "wall") == conversion(BOARD, "node")
    assert at_scope(REPORT, BOARD, "board").totals == REPORT.totals
    assert at_scope(REPORT, replace(BOARD, scope="wall"), "node").totals == REPORT.totals


@pytest.mark.parametrize(("device", "wanted", "node", "said"), [
    ("h100_sxm", "package", None, "nothing is known between these; expected board, wall or node"),
    ("raspberry_pi_5", "wall", None, "nothing leads from a rail to the plug"),
    ("xeon_gold_5120", "node", NODE, "node n is known around a board, not a package"),
    ("h100_sxm", "wal", None, "scope 'wal': not known; expected one of board, package, rail, wall, node; did you mean"),
])  # fmt: skip
def test_what_cannot_be_converted_is_refused(device: str, wanted: str, node: Node | None, said: str) -> None:
    with pytest.raises(FleetError) as refused:
        conversion(load_device(device), wanted, node)

    assert said in str(refused.value)


def test_less_than_the_rest_draws_is_refused() -> None:
    with pytest.raises(FleetError, match="no joules are left for the board"):
        at_scope(REPORT, replace(BOARD, scope="wall"), "board", replace(NODE, host_w=1e6))


def test_the_command_says_what_the_joules_cover(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("estimate", "resnet50", "--hw", "gtx_1080_ti", "--scope", "wall", "--bounds")
    assert main((*words, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    text = capsys.readouterr().out

    assert found["energy_scope"] == "wall" and "at the wall" in text
    assert found["bounds"]["compiled"] == found["totals"]  # converted alike


@pytest.mark.skipif("WATTIR_DATA" not in os.environ, reason="needs the measured sets: WATTIR_DATA")
@pytest.mark.parametrize("device", ["gtx_1070", "gtx_1080_ti"])
def test_both_meters_of_a_pc_agree_by_the_factors_of_its_node(device: str) -> None:
    pd, np = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    table = pd.read_parquet(os.path.join(os.environ["WATTIR_DATA"], "irene_transformers", "data.parquet"))
    name = load_device(device).name.removeprefix("NVIDIA GeForce ")
    rows = table[
        table.hardware.str.contains(f"{name} \\(", regex=True) & (table.gpu_energy_j > 0) & (table.energy_j > 0)
    ]
    node = node_of(device, "board")
    assert node is not None and len(rows) > 1000
    errors = np.log((node.overhead * rows.gpu_energy_j + node.host_w * rows.latency_s) / rows.energy_j)

    assert np.median(np.abs(errors)) < 0.005
    assert 0.8 <= float((np.abs(errors) <= node.width).mean()) <= 0.97  # copies of rows weigh as they come
