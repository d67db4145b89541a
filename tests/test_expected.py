"""Expected joules: against the sum over all candidates, gradients against differences, in NumPy, PyTorch and JAX."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir import layers
from wattir.dims import symbol
from wattir.errors import InputError, SizeError
from wattir.ir import Graph, GraphBuilder

VALUES: dict[str, Any] = {"a": [64, 256, 128], "b": [96, 512], "rows": [7, 70, 700]}
WEIGHTS = st.floats(0.0, 1.0)


def two_products() -> Graph:
    """[rows, a] by [a, b] by [b, 100]: kernels that depend on two and on three sizes."""
    rows, a, b = symbol("rows"), symbol("a"), symbol("b")
    builder = GraphBuilder("two")
    builder.tensor("x", (rows, a), "bf16", "input")
    builder.tensor("v", (a, b), "bf16", "weight")
    builder.tensor("w", (b, 100), "bf16", "weight")
    builder.tensor("y", (rows, b), "bf16")
    builder.tensor("z", (rows, 100), "bf16")
    builder.op("matmul", ("x", "v"), ("y",), name="first", source="Gemm", groups=1, m=rows, n=b, k=a)
    builder.op("matmul", ("y", "w"), ("z",), name="second", source="Gemm", groups=1, m=rows, n=100, k=b)
    return builder.finish(("x",), ("z",))


MODEL = wattir.compile(two_products(), device="h100_sxm")


@st.composite
def probabilities(draw: st.DrawFn) -> dict[str, Any]:
    found = {}
    for name, values in VALUES.items():
        raw = np.array(draw(st.lists(WEIGHTS, min_size=len(values), max_size=len(values)))) + 0.01
        found[name] = raw / raw.sum()
    return found


def brute_force(p: dict[str, Any], metric: str, model: Any = MODEL) -> float:
    """The sum over all candidates of probability times single answer."""
    total = 0.0
    for at in itertools.product(*(range(len(values)) for values in VALUES.values())):
        chosen = {name: values[i] for i, (name, values) in zip(at, VALUES.items(), strict=True)}
        chance = math.prod(p[name][i] for i, name in zip(at, VALUES, strict=True))
        total += chance * getattr(model(**chosen), metric)
    return total


@pytest.mark.parametrize("metric", ["energy_j", "time_s"])
@given(p=probabilities())
def test_expectation_is_the_sum_over_all_candidates(metric: str, p: dict[str, Any]) -> None:
    assert MODEL.expected(VALUES, metric)(**p) == pytest.approx(brute_force(p, metric), rel=1e-12)


@pytest.mark.parametrize("metric", ["energy_j", "time_s"])
def test_waiting_for_the_host_is_in_it(metric: str) -> None:
    model = wattir.compile(two_products(), device="h100_sxm", runtime="eager")
    p = {"a": [0.2, 0.3, 0.5], "b": [0.9, 0.1], "rows": [0.1, 0.2, 0.7]}

    assert model.expected(VALUES, metric)(**p) == pytest.approx(brute_force(p, metric, model), rel=1e-12)
    assert model.expected(VALUES, metric)(**p) > MODEL.expected(VALUES, metric)(**p)


@given(p=probabilities())
def test_gradient_is_that_of_differences(p: dict[str, Any]) -> None:
    """The expectation is linear in the probabilities of one size: a difference over any step is the derivative."""
    expected = MODEL.expected(VALUES)
    slopes = expected.gradient(**p)

    for name, values in VALUES.items():
        for i in range(len(values)):
            step = np.eye(len(values))[i] * 0.5
            rise = expected(**{**p, name: p[name] + step}) - expected(**p)
            assert slopes[name][i] * 0.5 == pytest.approx(rise, rel=1e-9)


def test_a_settled_choice_is_the_answer_itself() -> None:
    expected = MODEL.expected(VALUES)

    assert expected(a=[0, 1, 0], b=[1, 0], rows=[0, 0, 1]) == pytest.approx(MODEL(a=256, b=96, rows=700).energy_j)
    assert expected(a=256, b=96, rows=700) == pytest.approx(MODEL(a=256, b=96, rows=700).energy_j)


@pytest.mark.parametrize(("a", "low", "high", "share"), [(65.0, 64, 128, 1 / 64), (200, 128, 256, 72 / 128)])
def test_a_number_between_two_values_is_interpolated(a: float, low: int, high: int, share: float) -> None:
    expected = MODEL.expected({**VALUES, "rows": 70})
    below, above = (MODEL(a=each, b=512, rows=70).energy_j for each in (low, high))

    assert expected(a=a, b=[0.0, 1.0]) == pytest.approx(below + share * (above - below), rel=1e-12)
    assert expected.gradient(a=a, b=[0.0, 1.0])["a"] == pytest.approx((above - below) / (high - low), rel=1e-9)
    assert expected(a=1e9, b=512) == expected(a=256, b=512)  # beyond the values: that of the end
    assert expected.gradient(a=1e9, b=512)["a"] == 0.0


def test_torch_has_the_same_value_and_gradient() -> None:
    torch = pytest.importorskip("torch")
    expected = MODEL.expected(VALUES)
    p = {"a": [0.2, 0.3, 0.5], "b": [0.9, 0.1], "rows": 100.0}
    given_p = {name: torch.tensor(each, dtype=torch.float64, requires_grad=True) for name, each in p.items()}
    found = expected(**given_p)
    found.backward()

    assert found.item() == expected(**p)
    for name, slope in expected.gradient(**p).items():
        assert given_p[name].grad.tolist() == slope.tolist()
    assert torch.autograd.gradcheck(lambda a, b: 1e3 * expected(a=a, b=b, rows=100.0), (given_p["a"], given_p["b"]))


def test_jax_has_the_same_value_and_gradient_also_compiled() -> None:
    jax = pytest.importorskip("jax")
    expected = MODEL.expected(VALUES)
    p = {"a": [0.2, 0.3, 0.5], "b": [0.9, 0.1], "rows": 100.0}
    given_p = {name: jax.numpy.asarray(each) for name, each in p.items()}

    def energy(p: Any) -> Any:
        return expected(**p)

    for function in (jax.value_and_grad(energy), jax.jit(jax.value_and_grad(energy))):
        value, slopes = function(given_p)
        assert float(value) == pytest.approx(expected(**p), rel=1e-6)
        for name, slope in expected.gradient(**p).items():
            assert np.asarray(slopes[name]) == pytest.approx(slope, rel=1e-5)
    many = {**given_p, "b": jax.numpy.asarray([[1.0, 0.0], [0.0, 1.0]])}
    rows = jax.vmap(energy, in_axes=({"a": None, "b": 0, "rows": None},))(many)
    assert rows.tolist() == pytest.approx([expected(**{**p, "b": b}) for b in ([1, 0], [0, 1])], rel=1e-6)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_step_down_the_gradient_saves_joules(framework: str) -> None:
    pytest.importorskip(framework)
    expected = MODEL.expected(VALUES)
    before, after = {"torch": torch_step, "jax": jax_step}[framework](expected)

    assert after < 0.999 * before


def torch_step(expected: Any) -> tuple[float, float]:
    import torch

    logits = {name: torch.zeros(len(values), requires_grad=True) for name, values in VALUES.items()}

    def energy() -> Any:
        return expected(**{name: torch.softmax(each, 0) for name, each in logits.items()})

    before = energy()
    (before / before.detach()).backward()
    with torch.no_grad():
        for each in logits.values():
            each -= 0.5 * each.grad
    return before.item(), energy().item()


def jax_step(expected: Any) -> tuple[float, float]:
    import jax

    def energy(logits: Any) -> Any:
        return expected(**{name: jax.nn.softmax(each) for name, each in logits.items()})

    logits = {name: jax.numpy.zeros(len(values)) for name, values in VALUES.items()}
    before, slopes = jax.value_and_grad(energy)(logits)
    return float(before), float(energy(jax.tree.map(lambda at, by: at - 0.5 * by / before, logits, slopes)))


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, wattir; from wattir import layers; from wattir.dims import symbol;"
        "m = wattir.compile(layers.matmul(symbol('m'), 64, 64), device='h100_sxm');"
        "e = m.expected({'m': [1, 2]}); e(m=[0.5, 0.5]); e.gradient(m=[0.5, 0.5]);"
        "assert not {'torch', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"a": [1, 0, 0], "b": [1, 0]}, "no choice of 'rows'; expected one for each of a, b, rows"),
        ({"a": [1, 0, 0], "b": [1, 0], "rows": 7, "c": 1}, "no size 'c'"),
        ({"a": [1, 0], "b": [1, 0], "rows": 7}, r"a has shape \(2,\); expected \(3,\), .* or a number from 64 to 256"),
        ({"a": [[1, 0, 0]], "b": [1, 0], "rows": 7}, r"a has shape \(1, 3\)"),
        ({"a": [1, math.nan, 0], "b": [1, 0], "rows": 7}, "a is not finite"),
    ],
)
def test_bad_choices_are_refused_by_name(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MODEL.expected(VALUES)(**choices)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"a": [1, 2], "b": [3]}, "no value for size rows"),
        ({**VALUES, "a": [64, -1]}, "size a=-1; expected a whole number"),
        ({**VALUES, "a": [64, 64]}, r"size a may be \[64, 64\]; expected a list of different whole numbers"),
        ({**VALUES, "a": [64, 1.5]}, "size a=1.5"),
        ({**VALUES, "a": []}, r"size a may be \[\]"),
        ({**VALUES, "c": [64]}, "no size 'c'"),
        ({**VALUES, "a": [2**30], "b": [2**25]}, r"at most 2\^53"),
    ],
)
def test_bad_values_are_refused_by_name(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SizeError, match=message):
        MODEL.expected(sizes)


def test_a_shape_that_turns_negative_is_refused() -> None:
    model = wattir.compile(layers.conv(1, 3, 8, (symbol("size"),) * 2, (7, 7), padding=0), device="h100_sxm")

    with pytest.raises(SizeError, match=r"axis of .* = -3"):
        model.expected({"size": [32, 3]})


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError, match="metric 'joules'; expected one of energy_j, time_s"):
        MODEL.expected(VALUES, "joules")
