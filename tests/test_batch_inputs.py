"""What arrays of sizes may hold: anything else is refused by name and index, wherever it stands."""

from __future__ import annotations

import array
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir.dims import symbol
from wattir.errors import InputError, SizeError
from wattir.graph_check import MAX_DIM

MODEL = wattir.compile("bert_base", device="h100_sxm")
PRODUCT = wattir.compile(wattir.layers.matmul(symbol("m"), symbol("n"), 64), device="h100_sxm")
FEW = wattir.compile(wattir.layers.matmul(64, 64, 64), device="h100_sxm")


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[Any, str]:
    """An array with something in it that is no size, and how the error must name it."""
    bad = draw(st.sampled_from([-1, -(2**62), MAX_DIM + 1, 2**63 - 1, math.nan, math.inf, -math.inf, 0.5, -3.0, 1e300]))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    at = tuple(draw(st.integers(0, axis - 1)) for axis in shape)
    sizes = np.ones(shape, np.int64 if isinstance(bad, int) else np.float64)
    sizes[at] = bad
    return sizes, f"size seq[{', '.join(map(str, at))}] = {sizes[at]}; expected a whole number from 0 to {MAX_DIM}"


@given(spoilt(), st.booleans())
def test_one_bad_size_is_named_wherever_it_stands(given_sizes: tuple[Any, str], as_list: bool) -> None:
    sizes, message = given_sizes
    with pytest.raises(SizeError) as caught:
        MODEL(batch=1, seq=sizes.tolist() if as_list else sizes)

    assert str(caught.value) == message


@pytest.mark.parametrize("at", [0, 5, 20_000, 99_999])
@pytest.mark.parametrize("bad", [-1, MAX_DIM + 1])
def test_so_is_one_among_many(at: int, bad: int) -> None:
    seq = np.full(100_000, 77)
    seq[at] = bad

    with pytest.raises(SizeError, match=rf"size seq\[{at}\] = {bad}; expected a whole number"):
        MODEL(batch=1, seq=seq)


@pytest.mark.parametrize("at", [0, 20_000, 99_999])
def test_a_product_past_what_a_double_counts_is_named(at: int) -> None:
    batch = np.ones(100_000, np.int64)
    batch[at] = 2**30

    with pytest.raises(SizeError, match=rf"candidate \[{at}\]: bert_base: .* is \d+ at .*; expected at most 2\^53"):
        MODEL(batch=batch, seq=2**14)


@pytest.mark.parametrize(
    ("seq", "message"),
    [
        ([1, None], r"size seq\[1\] = None"),
        ([[1], ["a"]], r"size seq\[1, 0\] = a"),
        (np.array([True, False]), r"size seq\[0\] = True"),
        (np.array([1 + 2j]), r"size seq\[0\] = \(1\+2j\)"),
        (np.array(["2020-01-01"], "M8[D]"), r"size seq\[0\] = 2020-01-01"),
        ([[1, 2], [3]], r"size seq is no array of numbers \(setting an array element with a sequence\)"),
        ([10**30, 1], r"size seq\[0\] = 10{30}"),
        (np.array([5, 2**63], np.uint64), r"size seq\[1\] = 9223372036854775808"),
        (np.ma.array([5, 6], mask=[False, True]), r"size seq\[1\] = masked"),
        (np.array(math.nan), "size seq = nan"),
        (np.empty((0, 3), int), "size seq is an empty array"),
        ({1, 2}, r"size seq=\{1, 2\}"),
        (array.array("i", [1]), r"size seq=array"),
        ((1, 2, 3), r"sizes do not broadcast: batch \(2,\), seq \(3,\)"),
    ],
)
def test_what_is_no_size_is_refused(seq: Any, message: str) -> None:
    with pytest.raises(SizeError, match=message):
        MODEL(batch=[1, 2], seq=seq)


def test_names_are_checked_too() -> None:
    with pytest.raises(SizeError, match="no size 'sec'; expected batch, seq; did you mean seq"):
        MODEL(batch=[1, 2], sec=[1, 2])
    with pytest.raises(SizeError, match="no size 'batch'; expected none, all its sizes are fixed"):
        FEW(batch=[1, 2])
    with pytest.raises(SizeError, match="no value for size n; give it with --set n=VALUE"):
        PRODUCT(m=[1, 2])
    with pytest.raises(SizeError, match="size batch=-1"):
        MODEL(batch=-1, seq=[1, 2])


def test_tensors_and_ranges_will_do() -> None:
    torch = pytest.importorskip("torch")
    expected = MODEL(batch=1, seq=[5, 6, 7]).energy_j.tolist()

    for seq in (
        range(5, 8),
        (5, 6, 7),
        torch.tensor([5, 6, 7]),
        np.array([5, 6, 7], object),
        np.array([5.0, 6, 7], "f2"),
    ):
        assert MODEL(batch=1, seq=seq).energy_j.tolist() == expected
    with pytest.raises(SizeError, match=r"size seq is no array of numbers .*requires grad"):
        MODEL(batch=1, seq=torch.tensor([5.0], requires_grad=True))


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(ANYTHING, ANYTHING)
def test_anything_is_answered_or_refused_in_one_line(batch: Any, seq: Any) -> None:
    try:
        found = MODEL(batch=batch, seq=seq)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(found.energy_j).all()
        assert (np.asarray(found.energy_low_j) <= found.energy_j).all()
