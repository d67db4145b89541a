"""Differences by latent factors: they add up, swap with the sides, follow the physics, and print as a waterfall."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir.cli import main
from wattir.compare import FACTORS, Terms, difference, joules_of, log_mean, per_sample, terms_of
from wattir.ir import GraphBuilder

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
    one, many = (per_sample(terms("llama_3_8b_decode", batch=batch, past=512)) for batch in (1, 128))

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
    assert "samples" not in difference(per_sample(a), per_sample(b))


def test_eager_waits_for_the_host() -> None:
    compiled, eager = (terms("bert_base", "h100_sxm", how, batch=1, seq=16) for how in ("compiled", "eager"))
    found = difference(compiled, eager)

    assert found["host"] > 0


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


def test_same_question_twice_has_no_steps(run: Run) -> None:
    found = json.loads(run(A, A, "--json")[1])

    assert found["factors"] == [] and found["ratio"] == 1.0


@pytest.mark.parametrize(("words", "said"), [
    (("resnet50 --hw h100,a10", A), "A = 'resnet50 --hw h100,a10': 2 machines; expected one"),
    (("resnet50 --hw 'h100", A), "No closing quotation; expected such as"),
    ((A, "resnet50"), "no machine; expected --hw"),
    ((A, "resnet51 --hw h100"), "did you mean resnet50"),
    ((A, "resnet50 --hw h100 --bach 3"), "unrecognized arguments: --bach 3"),
    ((A, A, "--per", "token"), "'token' is not known"),
])  # fmt: skip
def test_bad_questions_are_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1
