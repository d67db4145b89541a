"""Dims: arithmetic on formulas means what arithmetic on numbers means."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattir.dim_text import parse
from wattir.dims import (
    Dim,
    bounds,
    ceildiv,
    evaluate,
    exact_div,
    maximum,
    minimum,
    names,
    product,
    substitute,
    symbol,
)
from wattir.errors import SizeError

a, b, c = symbol("a"), symbol("b"), symbol("c")
VALUES = {"a": 7, "b": 3, "c": 128}

leaves = st.one_of(st.integers(0, 50), st.sampled_from([a, b, c]))
positive = st.one_of(st.integers(1, 50), st.sampled_from([a, b, c]))
formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda x, y: x + y, inner, inner),
        st.builds(lambda x, y: x - y, inner, inner),
        st.builds(lambda x, y: x * y, inner, inner),
        st.builds(lambda x, y: x // y, inner, positive),
        st.builds(lambda x, y: x % y, inner, positive),
        st.builds(minimum, inner, inner),
        st.builds(maximum, inner, inner),
    ),
    max_leaves=8,
)
sizes = st.fixed_dictionaries({name: st.integers(1, 300) for name in "abc"})


def oracle(text, values):
    """The value of a printed formula by Python itself."""
    return eval(text, {"min": min, "max": max, **values})


@given(formulas, sizes)
def test_a_formula_prints_as_python_that_gives_its_value(formula, values):
    assert evaluate(formula, values) == oracle(str(formula), values)


@given(formulas, formulas, sizes)
def test_operations_commute_with_evaluation(x, y, values):
    vx, vy = evaluate(x, values), evaluate(y, values)
    assert evaluate(x + y, values) == vx + vy
    assert evaluate(x * y, values) == vx * vy
    assert evaluate(x - y, values) == vx - vy
    assert evaluate(minimum(x, y), values) == min(vx, vy)
    assert evaluate(maximum(x, y), values) == max(vx, vy)


@given(formulas, positive, sizes)
def test_division_commutes_with_evaluation(x, y, values):
    vx, vy = evaluate(x, values), evaluate(y, values)
    assert evaluate(x // y, values) == vx // vy
    assert evaluate(x % y, values) == vx % vy
    assert evaluate(ceildiv(x, y), values) == math.ceil(vx / vy)


@given(formulas)
def test_text_parses_back_to_the_same_object(formula):
    parsed = parse(str(formula))
    assert parsed is formula or parsed == formula


@given(formulas, sizes)
def test_bounds_hold(formula, values):
    low, high = bounds(formula)
    assert low <= evaluate(formula, values) <= high


@given(formulas, st.lists(st.integers(1, 100), min_size=3, max_size=3))
def test_arrays_give_what_numbers_give(formula, values):
    arrays = {name: np.array(values) for name in "abc"}
    found = np.broadcast_to(evaluate(formula, arrays), (3,))
    assert list(found) == [evaluate(formula, dict.fromkeys("abc", v)) for v in values]


def test_equal_polynomials_are_one_object():
    assert 2 * a - a is a
    assert (a + 1) * (a - 1) is a * a - 1
    assert pickle.loads(pickle.dumps(a * b + ceildiv(c, 4))) is a * b + ceildiv(c, 4)


def test_division_that_comes_out_even_leaves_no_division():
    assert (64 * a * (b + 1)) // (b + 1) is 64 * a
    assert exact_div(a * b, c) is None
    assert (4 * a + 3) // 4 is a


def test_extremes_are_decided_where_sizes_are_at_least_one():
    assert maximum(a + 1, a) is a + 1
    assert minimum(a, 1) == 1
    assert isinstance(minimum(a, 128), Dim)


def test_substitution_keeps_other_names_free():
    assert substitute(a * b, {"a": 4}) is 4 * b
    assert names(substitute(a * b, {"a": c + 1})) == {"b", "c"}


def test_a_missing_size_is_named():
    with pytest.raises(SizeError, match="'b' is not given"):
        evaluate(a * b, {"a": 1})


@pytest.mark.parametrize("text", ["", "a +", "(a", "a b", "min(a)", "a ** 2", "__import__('os')", "1/2", "a;b"])
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(SizeError, match="size formula"):
        parse(text)


@pytest.mark.parametrize("text", ["*".join(["9" * 18] * 50_000), "b*" + "*".join(["9" * 18] * 50_000), "9" * 4000])
def test_numbers_that_no_network_has_are_refused_before_they_grow(text):
    with pytest.raises(SizeError, match="size formula") as refusal:
        parse(text)
    assert len(str(refusal.value)) < 300


def test_formulas_have_no_order_and_no_truth():
    with pytest.raises(TypeError):
        _ = a < b
    with pytest.raises(TypeError):
        bool(a)


def test_odd_names_become_plain_ones():
    assert str(symbol("batch size?")) == "batch_size_"
    assert str(symbol("1x")) == "_1x"
    assert str(symbol("min")) == "min_"


def test_product_of_nothing_is_one():
    assert product(()) == 1
