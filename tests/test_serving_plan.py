"""Plans: what is chosen keeps the targets, nothing on the front is beaten, and misses are said."""

from __future__ import annotations

import json

import pytest

from wattir.cli import main
from wattir.device import load_device
from wattir.errors import InputError
from wattir.serving_model import Deployment, Request
from wattir.serving_plan import Targets, deployments, plan
from wattir.serving_report import Load, serve

QWEN = "Qwen/Qwen3-8B"
H100 = load_device("h100_sxm")
ASK = ["serve-plan", QWEN, "--hw", "h100_sxm", "--isl", "512", "--osl", "300", "--max-devices", "2"]


@pytest.fixture(scope="module")
def found():
    return plan(QWEN, [H100], Request(512, 300), Load(rate=10.0), Targets(1.0, 0.009, 4))


def test_what_is_kept_keeps_the_targets_and_serves_the_load(found):
    assert 0 < len(found.kept) < len(found.every) <= found.tried
    for each in found.kept:
        assert each.tpot_s <= 0.009 and each.ttft_s <= 1.0 and each.deployment.devices <= 4
        assert each.requests_per_s == pytest.approx(10.0, rel=1e-6)
        assert each.running <= each.most_running


def test_nothing_on_the_front_is_beaten(found):
    for each in found.front:
        better = [one for one in found.kept if one.tpot_s < each.tpot_s and one.token_j < each.token_j]
        assert not better
    assert found.front[-1].token_j == found.kept[0].token_j  # the thriftiest of all ends the front


def test_stages_that_do_as_replicas_do_are_said_once(found):
    answers = [(each.deployment.tp_size, each.deployment.ranks * each.deployment.dp_size, round(each.token_j, 12),
                round(each.tpot_s, 12)) for each in found.every]  # fmt: skip
    assert len(set(answers)) == len(answers)
    assert {each.deployment.pp_size for each in found.every} == {1}  # whose tie it was


def test_a_full_configuration_costs_what_estimate_says():
    best = plan(QWEN, [H100], Request(512, 300), Load(64), Targets(devices=1)).kept[0]
    assert best.running == pytest.approx(64)
    assert best.token_j == pytest.approx(serve(QWEN, H100, Request(512, 300), Load(64)).token_j)


def test_tighter_targets_cost_more(found):
    loose = plan(QWEN, [H100], Request(512, 300), Load(rate=10.0), Targets(1.0, 0.1, 4))
    assert loose.kept[0].token_j < found.kept[0].token_j


def test_dense_models_have_no_experts_to_share():
    from wattir.serving_model import described

    every = list(deployments(described(QWEN), 8, (None,), (None,)))
    assert {each.ep_size for each in every} == {1} and max(each.ranks for each in every) == 8
    sparse = deployments(described("Qwen/Qwen3-30B-A3B-Instruct-2507"), 8, (None,), (None,))
    assert any(each.ep_size == 8 and each.tp_size == 1 for each in sparse)


def test_the_command_prints_tables_and_json(capsys):
    assert main([*ASK, "--rate", "5", "--tpot", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "keep the targets" in said and "Front of joules" in said
    assert main([*ASK, "--rate", "5", "--json", "--top", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["best"]) == 3 and found["tried"] >= found["fit"] >= found["kept"]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--rate", "5", "--tpot", "0.0001"], 1, "none of"),
        (["--rate", "100000"], 2, "no configuration of at most 2 devices"),
        (["--rate", "1", "--concurrency", "2"], 2, "found both; expected one"),
        (["--concurrency", "4", "--weights", "fp7"], 2, "weights = 'fp7'"),
        (["--concurrency", "4", "--tpot", "0"], 2, "tpot_s = 0.0; expected seconds above 0"),
    ],
)
def test_misses_and_bad_input_are_one_line(capsys, more, code, said):
    assert main([*ASK, *more]) == code
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and said in errors[0]


def test_a_model_too_large_names_the_limit():
    with pytest.raises(InputError, match="weights take"):
        plan("meta-llama/Llama-3.1-405B-Instruct", [H100], Request(500, 300), Load(1), Targets(devices=4))


def test_a_load_too_large_is_not_blamed_on_the_memory():
    with pytest.raises(InputError, match="fit the memory, but not so large a load"):
        plan("Qwen/Qwen3-8B", [H100], Request(500, 300), Load(rate=1e5), Targets(devices=2))


def test_the_batch_is_the_one_that_the_rate_keeps_busy(found):
    one = next(each for each in found.every if each.deployment == Deployment())
    asked = serve(QWEN, H100, Request(512, 300), Load(rate=10.0))
    assert one.running == pytest.approx(asked.running, rel=0.03)  # interpolated there, halved to the end here
    assert one.token_j == pytest.approx(asked.token_j, rel=0.03)
