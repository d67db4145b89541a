"""The top-down fleet against the published table, the laws of its formula, and what its files must look like."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wattir.cli import main
from wattir.errors import FleetError
from wattir.fleet import J_PER_WH, PUBLISHED, ServedModel, Spread, Workload, blended, load_fleet, query_j, simulate
from wattir.fleet_predict import Beside, beside

TABLE = {  # Wh per query: median, Q1, Q3 of arXiv 2509.20241, from 10,000 draws
    ("traditional", "deepseek_r1"): (0.633, 0.257, 1.292),
    ("traditional", "llama_3_1_405b"): (0.385, 0.192, 0.682),
    ("traditional", "nemotron_ultra_253b"): (0.130, 0.052, 0.263),
    ("traditional", "llama_3_1_70b"): (0.095, 0.049, 0.166),
    ("traditional", "mixtral_8x22b"): (0.064, 0.032, 0.112),
    ("long", "deepseek_r1"): (10.602, 4.293, 21.706),
    ("long", "llama_3_1_405b"): (3.391, 1.692, 6.009),
    ("long", "nemotron_ultra_253b"): (2.166, 0.866, 4.382),
    ("long", "llama_3_1_70b"): (0.757, 0.389, 1.348),
    ("long", "mixtral_8x22b"): (0.527, 0.266, 0.933),
}
BLEND = {"traditional": (0.308, 0.165, 0.602), "long": (3.907, 2.151, 7.047)}
LAWS = {  # b0, b1, b2 as published
    "deepseek_r1": (10.559, -0.539, -0.005), "llama_3_1_405b": (9.762, -0.585, 0.227),
    "llama_3_1_70b": (10.824, -0.562, 0.262), "mixtral_8x22b": (11.225, -0.553, 0.252),
}  # fmt: skip
SOURCE_ERROR = 0.036
"""2.5 standard errors of a median of 10,000 draws of an exponential (1 / sqrt(n) / ln 2): what the table itself is off.
Nemotron's medians lie 3.3 % from it on every seed: 0.1258 Wh at a flat 5200 tokens/s, where a median of 10,000 draws
has a standard error of 1.42 %, so the published 0.130 is one 2.3 errors off. No other recipe explains it, as its
quartiles lie 1.2 and 1.7 % off."""


def wh(quartiles: dict[str, float]) -> tuple[float, ...]:
    return tuple(quartiles[key] / J_PER_WH for key in ("median_j", "q1_j", "q3_j"))


@pytest.fixture(scope="module", params=[0, 1])
def found(request: pytest.FixtureRequest) -> dict[str, dict[str, object]]:
    return simulate(load_fleet(), 100_000, request.param)


@pytest.mark.parametrize("where", TABLE, ids="-".join)
def test_each_model_is_as_published(found: dict[str, dict], where: tuple[str, str]) -> None:
    tolerance = SOURCE_ERROR if where[1] == "nemotron_ultra_253b" else 0.03

    assert wh(found["workloads"][where[0]]["models"][where[1]]) == pytest.approx(TABLE[where], rel=tolerance)


@pytest.mark.parametrize("work", BLEND)
def test_blend_is_as_published(found: dict[str, dict], work: str) -> None:
    assert wh(found["workloads"][work]["blend"]) == pytest.approx(BLEND[work], rel=0.02)


def test_levers_and_day_are_as_published(found: dict[str, dict]) -> None:
    levers = found["workloads"]["traditional"]["levers"]
    gwh = {name: joules / J_PER_WH / 1e9 for name, joules in found["day"].items()}

    assert [wh(lever)[0] for lever in levers.values()] == pytest.approx([0.159, 0.079, 0.113], rel=0.02)
    assert gwh == pytest.approx({"traditional_j": 0.73, "long_j": 10.5, "mixed_j": 1.71, "improved_j": 0.80}, rel=0.02)


@pytest.mark.parametrize("name", LAWS)
def test_throughput_law_is_as_published(name: str) -> None:
    model = next(model for model in load_fleet().models if model.id == name)

    assert model.law() == pytest.approx(LAWS[name], abs=6e-4)


def test_two_points_give_the_larger_throughput_and_no_law_passes_it() -> None:
    two = ServedModel("m", "m", 1.0, 1000.0, ((10, 10, 50), (10, 20, 80)))
    three = replace(two, points=((10, 10, 50), (10, 1000, 80), (100, 10, 40)))

    assert two.tokens_per_s(500, np.array([1.0, 1e6])).tolist() == pytest.approx([80, 80])
    assert three.tokens_per_s(10, np.array([1e9])).tolist() == pytest.approx([80])


def test_query_by_hand_where_nothing_spreads() -> None:
    model = ServedModel("m", "m", 1.0, 1000.0, ((10, 10, 100.0),))
    work = Workload(10, 1e6, Spread(0.5, 0.5 + 1e-12), Spread(1.2, 1.2 + 1e-12))

    median = float(np.median(query_j(model, work, 10_001, np.random.default_rng(0))))

    assert median == pytest.approx(1.2 * 1000 * 0.5 * 1e6 / 100, rel=1e-3)  # W x tokens / (tokens/s)


def test_spread_has_its_quantiles() -> None:
    drawn = Spread(0.4, 0.9).draw(np.random.default_rng(0), 400_000)

    assert np.percentile(drawn, (5, 95)).tolist() == pytest.approx([0.4, 0.9], rel=0.01)


def test_blend_keeps_the_middle_of_each_part() -> None:
    ramp = np.arange(10_001.0)

    kept = blended([ramp, ramp + 1e6])

    assert kept[kept < 1e6].min() == 1400  # 5 % and then 10 % of the remaining 90 %
    assert kept[kept < 1e6].max() == 8600


@pytest.mark.parametrize(("old", "new", "said"), [
    ("queries = 1e9", "queries = -1", "fleet queries = -1; expected a number above 0"),
    ("queries = 1e9", "querys = 1e9", "unknown key fleet 'querys'; did you mean queries?"),
    ("pue = [1.05, 1.6]", "pue = [1.6, 1.05]", "expected [P5, P95] with P5 below P95"),
    ("node_w = 12800", "node_w = true", "models.deepseek_r1 node_w = True"),
    ("node_w = 12800\n", "", "models.deepseek_r1 'node_w' is missing"),
    ("[500, 2000, 1300]", "[500, 1300]", "a point is not [input tokens, output tokens, tokens/s]"),
    ("[fleet]", "[fleet", "not TOML"),
    ("[fleet]", "a = " + 9999 * "[", "not TOML"),
])  # fmt: skip
def test_a_bad_file_is_refused_by_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(Path(PUBLISHED).read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    with pytest.raises(FleetError) as refused:
        load_fleet(str(path))

    assert said in str(refused.value)
    assert str(path) in str(refused.value)


Printed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Printed:
    def command(*words: str) -> tuple[int, str, str]:
        code = main(("fleet", *words))
        return (code, *capsys.readouterr())

    return command


def test_command_changes_what_is_asked(run: Printed) -> None:
    every = json.loads(run("--json")[1])
    one = json.loads(run("llama_3_1_70b", "--json", "--queries", "2e9", "--pue", "1.1,1.2")[1])

    assert list(one["workloads"]["long"]["models"]) == ["llama_3_1_70b"]
    median = [found["workloads"]["long"]["models"]["llama_3_1_70b"]["median_j"] for found in (every, one)]
    assert median[1] / median[0] == pytest.approx((1.1 * 1.2) ** 0.5 / (1.05 * 1.6) ** 0.5, rel=0.01)  # of the medians


def test_same_seed_same_text(run: Printed) -> None:
    first, again, other = (run("--draws", "2000", "--seed", seed)[1] for seed in ("1", "1", "2"))

    assert first == again != other
    assert "0.7" in first and "GWh" in first


@pytest.mark.parametrize(("words", "said"), [
    (("llama_405b",), "'llama_405b': no such model; expected one of deepseek_r1"),
    (("--pue", "2,1"), "expected P5,P95 with P5 below P95"),
    (("--long-share", "2"), "expected a share from 0 to 1"),
    (("--draws", "10"), "draws = 10; expected from 1000 to 10000000"),
    (("--file", "no.toml"), "no.toml: cannot be read"),
])  # fmt: skip
def test_bad_arguments_are_one_line(run: Printed, words: tuple[str, ...], said: str) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1


# ---- bottom-up ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both() -> tuple[Beside, ...]:
    return beside(load_fleet(), 256)


def test_factors_lead_from_top_down_to_bottom_up(both: tuple[Beside, ...]) -> None:
    assert {one.model for one in both} == {"deepseek_r1", "llama_3_1_405b", "llama_3_1_70b", "mixtral_8x22b"}
    for one in both:
        assert math.prod(one.factors.values()) == pytest.approx(one.bottom_up.query_j / one.top_down.query_j)
        assert one.factors["prefill"] >= 1.0 and 0.0 < one.prefill_share < 1.0


def test_prefill_weighs_less_the_longer_the_answer(both: tuple[Beside, ...]) -> None:
    share = {(one.model, one.workload): one.prefill_share for one in both}

    assert all(share[model, "traditional"] > 3 * share[model, "long"] for model, _ in share)


def test_no_node_draws_its_nameplate(both: tuple[Beside, ...]) -> None:
    """A measured 8x H100 node peaked at 76 % of its nameplate (arXiv 2506.14551)."""
    assert all(one.bottom_up.node_w < 0.8 * 10_200 for one in both)


def test_top_down_side_is_the_formula() -> None:
    one = next(one for one in beside(load_fleet(), 64) if one.model == "deepseek_r1")

    assert one.top_down.tokens_per_s == pytest.approx(1300, rel=0.02)
    assert one.top_down.node_w == pytest.approx(12_800 * math.sqrt(0.4 * 0.9))
    seconds = 300 / one.top_down.tokens_per_s
    assert one.top_down.query_j == pytest.approx(math.sqrt(1.05 * 1.6) * one.top_down.node_w * seconds)


def test_the_command_shows_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "llama_3_1_70b", "--bottom-up", "--draws", "1000"]) == 0
    assert "Bottom-up beside it" in capsys.readouterr().out
    assert main(["fleet", "llama_3_1_70b", "--bottom-up", "--draws", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bottom_up"]
    assert [one["workload"] for one in found] == ["traditional", "long"]
    assert main(["fleet", "nemotron_ultra_253b", "--bottom-up", "--draws", "1000"]) == 2
    assert "says how it is served" in capsys.readouterr().err
