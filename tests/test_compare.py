"""Differences by latent factors: they add up, swap with the sides, follow the physics, and print as a waterfall."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir.cli import main
from wattir.compare import FACTORS, Terms, difference, joules_of, log_mean, per_one, terms_of
from wattir.device import load_device
from wattir.generation_compare import generation_terms
from wattir.generation_model import Sharing
from wattir.generation_report import GenerationReport, generate
from wattir.ir import GraphBuilder
from wattir.serving_compare import serving_terms
from wattir.serving_model import Deployment, Request
from wattir.serving_report import Load, ServingReport, serve

VALUES = st.floats(1e-6, 1e6)
PAIRS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4)


def made(values: list[tuple[float, float, float]]) -> Terms:
    names = ("compute volume", "utilisation", "machine power")
    return {f"term {i}": dict(zip(names, row, strict=True)) for i, row in enumerate(values)}


def terms(
    model: str, device: str = "h100_sxm", runtime: str = "compiled", dtype: str | None = None, **sizes: int
) -> Terms:
    return terms_of(wattir.compile(model, device=device, runtime=runtime, dtype=dtype), sizes)


@given(PAIRS, PAIRS)
def test_factors_add_up_and_swap_sign_with_the_sides(a: list, b: list) -> None:
    left, right = made(a), made(b)
    there, back = difference(left, right), difference(right, left)
    larger = max(joules_of(left), joules_of(right))

    assert sum(there.values()) == pytest.approx(joules_of(right) - joules_of(left), abs=1e-9 * larger)
    assert all(there[name] == pytest.approx(-back.get(name, 0.0), abs=1e-9 * larger) for name in there)


def test_one_factor_by_hand() -> None:
    a, b = {"t": {"compute volume": 2.0, "machine power": 3.0}}, {"t": {"compute volume": 8.0, "machine power": 3.0}}

    assert difference(a, b) == pytest.approx({"compute volume": 18.0})  # 8 x 3 - 2 x 3, all of it the volume's


def test_two_factors_share_by_their_logarithms() -> None:
    a, b = {"t": {"compute volume": 1.0, "machine power": 1.0}}, {"t": {"compute volume": 2.0, "machine power": 4.0}}

    found = difference(a, b)

    assert found["machine power"] / found["compute volume"] == pytest.approx(math.log(4) / math.log(2))
    assert sum(found.values()) == pytest.approx(7.0)


def test_what_is_not_there_on_one_side_goes_to_the_factor_that_is_zero() -> None:
    a, b = {"t": {"host": 0.0, "machine power": 3.0}}, {"t": {"host": 2.0, "machine power": 5.0}}

    assert difference(a, b) == {"host": 10.0}
    assert difference({}, b) == {"host": 5.0, "machine power": 5.0}  # a term that A knows nothing of
    assert difference(a, a) == {}


@given(VALUES, VALUES)
def test_log_mean_lies_between(a: float, b: float) -> None:
    assert min(a, b) * (1 - 1e-9) <= log_mean(a, math.log(b / a)) <= max(a, b) * (1 + 1e-9)


def test_an_exchange_over_a_slower_link_is_communication() -> None:
    builder = GraphBuilder("sum")
    for name, role in (("x", "input"), ("y", "value")):
        builder.tensor(name, (2**26,), "bf16", role)
    builder.op("collective", ("x",), ("y",), name="sum", source="psum", function="all_reduce", ranks=8)
    graph = builder.finish(("x",), ("y",))
    costs = [wattir.compile(graph, device=device) for device in ("h100_sxm", "l40s")]  # NVLink, PCIe

    fast, slow = (terms_of(cost, {}) for cost in costs)
    found = difference(fast, slow)

    assert joules_of(slow) == pytest.approx(costs[1]().energy_j, rel=1e-9)
    assert found["communication"] == max(found.values()) > 0.0


@pytest.mark.parametrize(("model", "device", "runtime", "dtype", "sizes"), [
    ("resnet50", "h100_sxm", "compiled", None, {"batch": 8}),
    ("resnet50", "rtx_2080_ti", "compiled", None, {"batch": 64}),  # at its power limit
    ("bert_base", "h100_sxm", "eager", "fp16", {"batch": 1, "seq": 16}),  # waits for the host
    ("llama_3_8b_decode", "b200_sxm", "compiled", "fp8", {"batch": 16, "past": 512}),
    ("sd_1_5_unet", "xeon_gold_5120", "compiled", None, {"batch": 1}),
])  # fmt: skip
def test_terms_are_the_joules_of_the_pass(model: str, device: str, runtime: str, dtype: str, sizes: dict) -> None:
    cost = wattir.compile(model, device=device, runtime=runtime, dtype=dtype)

    assert joules_of(terms_of(cost, sizes)) == pytest.approx(cost(**sizes).energy_j, rel=1e-12)


def test_larger_batch_saves_memory_traffic_and_no_compute() -> None:
    """A decode step reads its weights once however many sequences share it."""
    one, many = (per_one(terms("llama_3_8b_decode", batch=batch, past=512)) for batch in (1, 128))

    found = difference(one, many)

    assert found["memory traffic"] < 0.6 * sum(found.values()) < 0
    assert abs(found.get("compute volume", 0.0)) < 1e-9 * joules_of(one)


def test_deeper_network_is_more_work_on_the_same_machine() -> None:
    found = difference(terms("resnet18", batch=32), terms("resnet152", batch=32))

    assert found["compute volume"] > 0 and found["memory traffic"] > 0
    assert "samples" not in found and "host" not in found


def test_samples_are_a_factor_of_the_pass_alone() -> None:
    a, b = terms("resnet50", batch=32), terms("resnet50", batch=64)

    assert difference(a, b)["samples"] > 0.8 * (joules_of(b) - joules_of(a))
    assert "samples" not in difference(per_one(a), per_one(b))


def test_eager_waits_for_the_host() -> None:
    compiled, eager = (terms("bert_base", "h100_sxm", how, batch=1, seq=16) for how in ("compiled", "eager"))
    found = difference(compiled, eager)

    assert found["host"] > 0


# ---- served models --------------------------------------------------------------------------------------------------

QWEN, EXPERTS = "Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B-Instruct-2507"
SMALL = "{} --hw h100_sxm --isl 512 --osl 300 --concurrency 8"


def served(model: str = QWEN, osl: int = 300, load: Load | None = None, **how: Any) -> ServingReport:
    return serve(model, load_device("h100_sxm"), Request(512, osl), load or Load(16), Deployment(**how))


@pytest.mark.parametrize("report", [
    served(), served(EXPERTS, tp_size=2, ep_size=2), served(load=Load(rate=0.1)),  # mostly nothing to do
    served(load=Load(600)),  # at the power limit
    serve(QWEN, load_device("b200_sxm"), Request(9000, 20, draft=2, acceptance=0.7, draft_cost=0.1), Load(4)),
])  # fmt: skip
def test_terms_are_the_joules_of_the_request(report: ServingReport) -> None:
    terms = serving_terms(report)

    assert joules_of(terms) == pytest.approx(report.request_j, rel=1e-9)
    assert joules_of(per_one(terms)) == pytest.approx(report.token_j, rel=1e-9)
    assert all(value >= 0.0 for factors in terms.values() for value in factors.values())


@pytest.mark.parametrize(("a", "b", "factor"), [
    ({}, {"load": Load(2)}, "memory traffic"),  # weights are read for fewer texts
    ({}, {"tp_size": 4}, "launches"),  # each of four waits between as many kernels
    ({}, {"weights": "fp8"}, "memory traffic"),
    ({"load": Load(rate=5.0)}, {"load": Load(rate=0.1)}, "utilisation"),
    ({}, {"model": "Qwen/Qwen3-32B"}, "memory traffic"),
])  # fmt: skip
def test_what_changed_is_what_is_named(a: dict, b: dict, factor: str) -> None:
    found = difference(*(per_one(serving_terms(served(**side))) for side in (a, b)))

    assert max(found, key=lambda name: abs(found[name])) == factor
    assert "tokens" not in found


def test_tokens_are_a_factor_of_the_request_alone() -> None:
    short, long = (serving_terms(served(osl=osl)) for osl in (300, 3000))

    assert difference(short, long)["tokens"] > 0.7 * (joules_of(long) - joules_of(short))
    assert "tokens" not in difference(per_one(short), per_one(long))


def call(model: str = "black-forest-labs/FLUX.1-dev", device: str = "h100_sxm", **asked: Any) -> GenerationReport:
    sharing = Sharing(asked.pop("ulysses", 1), asked.pop("ring", 1))
    return generate(model, load_device(device), sharing, None, **asked)


@pytest.mark.parametrize("report", [
    call(), call(steps=4, batch=3), call("stabilityai/sdxl-turbo"), call("THUDM/CogVideoX-2b", "b200_sxm", frames=9),
    call(ulysses=4, device="b200_sxm"), call("stabilityai/stable-diffusion-3.5-large", ring=2),
], ids=lambda each: each.model)  # fmt: skip
def test_terms_are_the_joules_of_the_call(report: GenerationReport) -> None:
    terms = generation_terms(report)

    assert joules_of(terms) == pytest.approx(report.call_j, rel=1e-9)
    assert joules_of(per_one(terms)) == pytest.approx(report.energy_j, rel=1e-9)
    assert all(value >= 0.0 for factors in terms.values() for value in factors.values())


@pytest.mark.parametrize(("a", "b", "factor"), [
    ({"steps": 8}, {"steps": 32}, "steps"), ({}, {"width": 2048, "height": 2048}, "compute volume"),
    ({"model": "stabilityai/stable-diffusion-3.5-large", "guidance": False},
     {"model": "stabilityai/stable-diffusion-3.5-large", "guidance": True}, "steps"),
])  # fmt: skip
def test_what_changed_of_a_call_is_what_is_named(a: dict, b: dict, factor: str) -> None:
    found = difference(*(per_one(generation_terms(call(**side))) for side in (a, b)))

    assert max(found, key=lambda name: abs(found[name])) == factor


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        code = main(("compare", *words))
        return (code, *capsys.readouterr())

    return command


A, B = "resnet50 --hw h100_sxm", "resnet50 --hw a100_pcie --batch-size 16"


def test_json_adds_up_to_the_estimates(run: Run) -> None:
    found = json.loads(run(A, B, "--per", "pass", "--json")[1])
    sides = [
        wattir.estimate("resnet50", device="h100_sxm"),
        wattir.estimate("resnet50", device="a100_pcie", sizes={"batch": 16}),
    ]
    energies = [side.totals["energy_j"] for side in sides]

    assert [found["a"]["energy_j"], found["b"]["energy_j"]] == pytest.approx(energies)
    assert sum(step["energy_j"] for step in found["factors"]) == pytest.approx(energies[1] - energies[0])
    assert {step["factor"] for step in found["factors"]} <= set(FACTORS)
    assert found["ratio"] == pytest.approx(energies[1] / energies[0])


def test_text_and_page_have_both_ends_and_every_factor(run: Run) -> None:
    code, out, _ = run(A, B, "--html", "why.html")
    page = Path("why.html").read_text(encoding="utf-8")

    assert code == 0
    assert "times the joules of A per sample" in out and "times the joules of A per sample" in page
    assert all(name in out and name in page for name in ("machine power", "utilisation", "a100_pcie"))
    assert "<script" not in page and "http" not in page


def test_what_does_not_differ_is_drawn_nowhere(run: Run) -> None:
    """One machine: its factors differ by rounding alone, some 1e-17 J."""
    _, out, _ = run("resnet50 --hw h100_sxm", "resnet50 --hw h100_sxm --batch-size 64", "--html", "why.html")
    page = Path("why.html").read_text(encoding="utf-8")

    for text in (out, page):
        assert "utilisation" in text and not any(name in text for name in ("machine power", "machine speed", "others"))


def test_served_models_compare_per_token_or_request(run: Run) -> None:
    a, b = SMALL.format(QWEN), SMALL.format("Qwen/Qwen3-32B")
    found = {per: json.loads(run(a, b, "--json", *more)[1]) for per, more in (
        ("token", ()), ("request", ("--per", "request")))}  # fmt: skip
    code, out, _ = run(a, b, "--html", "why.html")

    for per, each in found.items():
        assert each["per"] == per and each["a"]["energy_j_per_token"] * (300 if per == "request" else 1) == (
            pytest.approx(each["a"]["energy_j"]))  # fmt: skip
        change = each["b"]["energy_j"] - each["a"]["energy_j"]
        assert sum(step["energy_j"] for step in each["factors"]) == pytest.approx(change)
    assert code == 0 and "per token" in out and "memory traffic" in Path("why.html").read_text(encoding="utf-8")


def test_calls_of_generators_compare_with_all_that_was_asked(run: Run) -> None:
    few, many = (f"black-forest-labs/FLUX.1-dev --hw h100_sxm --steps {steps}" for steps in (4, 28))
    found = json.loads(run(few, many, "--json")[1])

    assert found["per"] == "output" and found["a"]["prompt"]["steps"] == 4
    assert found["b"]["energy_j"] == pytest.approx(found["b"]["energy_j_per_image"])
    change = found["b"]["energy_j"] - found["a"]["energy_j"]
    assert sum(step["energy_j"] for step in found["factors"]) == pytest.approx(change)


def test_same_question_twice_has_no_steps(run: Run) -> None:
    found = json.loads(run(A, A, "--json")[1])

    assert found["factors"] == [] and found["ratio"] == 1.0


@pytest.mark.parametrize(("words", "said"), [
    (("resnet50 --hw h100,a10", A), "A = 'resnet50 --hw h100,a10': 2 machines; expected one"),
    (("resnet50 --hw 'h100", A), "No closing quotation; expected such as"),
    ((A, "resnet50"), "no machine; expected --hw"),
    ((A, "resnet51 --hw h100"), "did you mean resnet50"),
    ((A, "resnet50 --hw h100 --bach 3"), "unrecognized arguments: --bach 3"),
    ((A, A, "--per", "tokens"), "'tokens' is not known; expected one of sample, pass, token, request, output, call"),
    ((A, A, "--per", "token"), "--per token: says nothing of a pass; expected sample or pass"),
    ((A, SMALL.format(QWEN)), "A is a pass, B a request; expected two passes, two requests (with --isl and --osl)"),
    ((A, "stabilityai/sdxl-turbo --hw h100"), "A is a pass, B a call"),
    ((A, "resnet50 --hw h100 --steps 4"), "--steps: only for generators"),
    ((SMALL.format(QWEN), SMALL.format("Qwen/Qwen3-7B")), "no published model of this name"),
])  # fmt: skip
def test_bad_questions_are_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1
