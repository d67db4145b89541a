"""Search spaces: a candidate costs what its network costs, one by one and in a batch; bad candidates are refused."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir import layers
from wattir.dim_text import parse
from wattir.dims import equal, evaluate, parts_by_names, symbol
from wattir.errors import InputError, SizeError, SpaceError
from wattir.spaces import Block, Choice, Space, composed, supernet


def conv(channels: int, side: int, kernel: int) -> Any:
    return layers.conv(1, channels, channels, (side, side), (kernel, kernel), "fp32")


def cells() -> Space:
    """Three edges that choose among four ops, in two stages of cells between a stem and a classifier."""
    parts: list[Any] = [layers.conv(1, 3, 16, (32, 32), (3, 3), "fp32"), layers.matmul(1, 10, 32, "fp32")]
    for channels, side in ((16, 32), (32, 16)):
        pool = layers.pooling((1, channels, side, side), (1, channels, side, side), 9, "fp32")
        blocks = {"none": None, "1x1": conv(channels, side, 1), "3x3": conv(channels, side, 3), "pool": pool}
        parts += [Choice(f"edge{edge}", blocks, 5) for edge in range(3)]
    return supernet("cells", parts)


def sized() -> Space:
    """Widths, a depth with optional layers, heads and a batch, all of one network."""
    width, depth, heads, batch = (symbol(name) for name in ("width", "depth", "heads", "batch"))
    parts = [
        Block(layers.matmul(64 * batch, 4 * width, width), depth),
        Block(layers.matmul(64 * batch, width, 4 * width), depth),
        Block(layers.attention(batch, heads, 64, 64, width // heads), depth),
        Block(layers.norm(64 * batch, width), sum((equal(depth, n) for n in (3, 4)), start=0)),
    ]
    graph = composed("sized", parts)
    return Space(graph, {"width": (256, 64, 128), "depth": range(1, 5), "heads": (1, 2, 4), "batch": (1, 8)})


def built_in() -> Space:
    """A built-in model over two of its sizes, one of them with too many values for tables of both."""
    return Space(wattir.lower("bert_base"), {"batch": range(1, 65), "seq": range(1, 8193)})


SPACES = {"cells": cells, "sized": sized, "built_in": built_in}


@pytest.mark.parametrize("runtime", ["compiled", "eager"])
@pytest.mark.parametrize("name", SPACES)
def test_a_candidate_costs_the_same_one_by_one_and_in_a_batch(name: str, runtime: str) -> None:
    space = SPACES[name]()
    price = space.compile("h100_sxm", runtime)
    indices = np.random.default_rng(5).integers(0, space.size, 200)
    found = price(indices)

    for place, index in enumerate(indices):
        one = price.model(**space[int(index)])
        for field in one.__slots__:
            assert getattr(found, field)[place] == pytest.approx(getattr(one, field), rel=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_indices_and_sizes_are_the_same_candidates(name: str) -> None:
    space = SPACES[name]()
    sizes = space.sample(50, seed=3)
    indices = [space.index(dict(zip(space.names, row.tolist(), strict=True))) for row in sizes]
    price = space.compile("a100_sxm")

    assert [list(space[index].values()) for index in indices] == sizes.tolist()
    assert price(indices).energy_j.tolist() == price(sizes).energy_j.tolist()
    assert price(sizes.astype(np.float32)).time_s.tolist() == price(sizes).time_s.tolist()


def test_a_supernet_is_the_sum_of_the_blocks_it_chose() -> None:
    """Blocks are fused each on their own: a candidate's joules are those of its blocks, each in a network of two."""
    space = cells()
    candidate = space.candidate({"edge0": "3x3", "edge1": "none", "edge2": "1x1"})
    frame = [layers.conv(1, 3, 16, (32, 32), (3, 3), "fp32"), layers.matmul(1, 10, 32, "fp32")]
    chosen = [conv(16, 32, 3), conv(16, 32, 1), conv(32, 16, 3), conv(32, 16, 1)]  # in each of two stages
    device = wattir.load_device("raspberry_pi_5")
    expected = [
        (times, times * first_layer_j(block, device)) for times, of in ((1, frame), (5, chosen)) for block in of
    ]
    found = space.compile(device).model.report(**candidate)
    layer_j = sorted((layer.times, layer.energy_j) for layer in found.layers)

    assert layer_j == [(times, pytest.approx(joules, rel=1e-12)) for times, joules in sorted(expected)]
    assert sum(joules for _, joules in expected) == pytest.approx(found.totals["energy_j"], rel=1e-12)


def first_layer_j(block: Any, device: Any) -> float:
    """Joules of a layer that is not the only one: weights of a network of one layer would never be hot."""
    return wattir.estimate(composed("two", [block, layers.norm(1, 8)]), device=device).layers[0].energy_j


def test_a_model_in_several_parts_is_lowered_once() -> None:
    assert len(cells().graph.ops) == 2 + 2 * 3  # stem and classifier; three blocks in each of two stages


def test_an_index_counts_the_last_name_fastest() -> None:
    space = cells()

    assert space.names == ("edge0", "edge1", "edge2")
    assert space.size == len(space) == 64
    assert space[0b_01_10_11] == {"edge0": 1, "edge1": 2, "edge2": 3}
    assert space.index({"edge0": "1x1", "edge1": 2, "edge2": "pool"}) == 27
    assert space.label(space[27]) == {"edge0": "1x1", "edge1": "3x3", "edge2": "pool"}
    assert list(space)[27] == space[27]


def test_a_space_past_2_53_takes_sizes_and_no_indices() -> None:
    blocks = {str(n): layers.matmul(1, 64, 64 * n) for n in range(1, 10)}
    space = supernet("long", [Choice(f"at{n}", blocks) for n in range(22)])
    price = space.compile("h100_sxm")
    sizes = space.sample(20)

    assert space.size == 9**22
    assert space[space.index(space[9**22 - 5])] == space[9**22 - 5]
    assert price(sizes.astype(np.uint8)).energy_j.tolist() == price(sizes).energy_j.tolist()
    with pytest.raises(SpaceError, match=r"too many for indices; expected sizes \[n, names\]"):
        price([1, 2])


@pytest.mark.parametrize("metric", ["energy_j", "time_s"])
@pytest.mark.parametrize("runtime", ["compiled", "eager"])
@pytest.mark.parametrize("name", ["cells", "sized"])
def test_what_a_relaxed_candidate_costs_is_the_sum_over_all_candidates(name: str, runtime: str, metric: str) -> None:
    """Each candidate's probability times its answer; joules of the Raspberry Pi never wait for a host."""
    space = SPACES[name]()
    price = space.compile("raspberry_pi_5", runtime)
    rng = np.random.default_rng(2)
    likely = {name: rng.dirichlet(np.ones(len(values))) for name, values in space.values.items()}
    chances = functools.reduce(np.multiply.outer, likely.values()).ravel()  # the last name counts fastest
    expected = price.expected(metric)

    assert expected(**likely) == pytest.approx(chances @ getattr(price(range(space.size)), metric), rel=1e-12)
    slopes = expected.gradient(**likely)
    for name, slope in slopes.items():
        for place in range(len(slope)):
            step = {name: likely[name] + 1e-3 * np.eye(len(slope))[place]}
            rise = expected(**{**likely, **step}) - expected(**likely)
            assert 1e-3 * slope[place] == pytest.approx(rise, rel=1e-6, abs=1e-9 * expected(**likely))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_relaxed_candidate_has_gradients_in_a_framework(framework: str) -> None:
    pytest.importorskip(framework)
    space = cells()
    expected = space.compile("h100_sxm").expected()
    logits = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slopes = np.stack(list(expected.gradient(**dict(zip(space.names, likely, strict=True))).values()))
    by_logits = likely * (slopes - (slopes * likely).sum(axis=1, keepdims=True))  # the softmax's own rule

    found = {"torch": by_torch, "jax": by_jax}[framework](expected, space.names, logits)
    assert found == pytest.approx(by_logits, rel=1e-3, abs=1e-4 * np.abs(by_logits).max())


def by_torch(expected: Any, names: tuple[str, ...], logits: Any) -> Any:
    import torch

    asked = torch.tensor(logits, requires_grad=True)
    expected(**dict(zip(names, torch.softmax(asked, 1), strict=True))).backward()
    return asked.grad.numpy()


def by_jax(expected: Any, names: tuple[str, ...], logits: Any) -> Any:
    import jax

    def joules(asked: Any) -> Any:
        return expected(**dict(zip(names, jax.nn.softmax(asked, axis=1), strict=True)))

    return np.asarray(jax.jit(jax.grad(joules))(logits))


@pytest.mark.parametrize(
    ("likely", "text"),
    [
        ({"edge0": [1, 0, 0], "edge1": [1, 0, 0, 0], "edge2": 0}, r"edge0 has shape \(3,\); expected \(4,\)"),
        ({"edge0": [1, 0, 0, math.nan], "edge1": [1, 0, 0, 0], "edge2": 0}, "edge0 is not finite"),
        ({"edge0": 0}, "no choice of 'edge1'"),
        ({"edge0": "a", "edge1": 0, "edge2": 0}, "edge0 = 'a'; expected probabilities or a number"),
        ({"edge0": [[1], [2, 3]], "edge1": 0, "edge2": 0}, r"edge0 has no shape; expected \(4,\)"),
    ],
)
def test_probabilities_that_are_not_right_are_refused(likely: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        cells().compile("h100_sxm").expected()(**likely)


@pytest.mark.parametrize(
    ("candidates", "text"),
    [
        ([0, 64], r"cells: candidates\[1\] = 64; expected from 0 to 63"),
        ([3, -1], r"candidates\[1\] = -1; expected from 0 to 63"),
        ([0.0, 1.5], r"candidates\[1\] = 1.5; expected from 0 to 63"),
        ([0.0, math.nan], r"candidates\[1\] = nan"),
        ([[0, 1, 2], [0, 4, 0]], r"candidates\[1\]: edge1 = 4; expected one of 0, 1, 2, 3"),
        ([[0, 1, -1]], r"candidates\[0\]: edge2 = -1; expected one of"),
        ([[0, 1]], r"shape \[1, 2\]; expected indices \[n\] or sizes \[n, 3\] of edge0, edge1, edge2"),
        (3, r"shape \[\]; expected"),
        (["a"], r"dtype <U1; expected whole numbers"),
        ([[1], [2, 3]], r"candidates: no array of numbers \(setting an array element with a sequence\)"),
        (np.ma.array([1, 2], mask=[False, True]), "some are masked"),
        ([2**70], "dtype object; expected whole numbers"),
        (np.array([[0, 1, 2], [0, -1, 0]], np.int8), r"candidates\[1\]: edge1 = -1; expected one of"),
        (np.array([1, 2**63], np.uint64), r"candidates\[1\] = 9223372036854775808; expected from 0 to 63"),
    ],
)
def test_a_bad_candidate_is_refused_with_its_place(candidates: Any, text: str) -> None:
    with pytest.raises(SpaceError, match=text):
        cells().compile("h100_sxm")(candidates)


def test_a_candidate_that_cannot_be_is_refused_with_its_place() -> None:
    side = symbol("side")
    space = Space(layers.conv(1, 3, 8, (side, side), (7, 7), padding=0), {"side": (32, 3)})

    with pytest.raises(SizeError, match=r"candidate \[2\]: .*axis of .* = -3"):
        space.compile("h100_sxm")([0, 0, 1])


def test_a_block_that_runs_less_than_never_is_refused() -> None:
    depth = symbol("depth")
    graph = composed("deep", [Block(layers.matmul(64, 64, 64), depth - 2), layers.norm(64, 64)])
    price = Space(graph, {"depth": (4, 2, 1)}).compile("h100_sxm")
    text = r"op 'matmul/matmul' runs as often as depth - 2 = -1"

    assert price([0, 1]).time_s[0] > price([1]).time_s[0] > 0.0
    for ask in (lambda: price([0, 2]), lambda: price.model(depth=1), lambda: price.model(depth=[4, 1]), price.expected):
        with pytest.raises(SizeError, match=text):
            ask()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"widht": (1, 2)}, "widht: not a size of the graph; expected one of width; did you mean width"),
        ({}, "no values for size width"),
        ({"width": ()}, "width: 0 values; expected from 1 to 65535"),
        ({"width": (8, 8)}, "8 stands twice"),
        ({"width": (-8,)}, "width=-8; expected a whole number from 0"),
        ({"width": (8, math.nan)}, "width=nan; expected a whole number from 0"),
        ({"width": 8}, "width = 8; expected a list of its values"),
    ],
)
def test_values_that_are_not_right_are_refused(values: Any, text: str) -> None:
    width = symbol("width")

    with pytest.raises(SpaceError, match=text):
        Space(layers.matmul(64, width, width), values)


@pytest.mark.parametrize(
    ("candidate", "text"),
    [
        ({"edge0": "5x5", "edge1": 0, "edge2": 0}, "edge0 = '5x5'; expected one of none, 1x1, 3x3, pool"),
        ({"edge0": 9, "edge1": 0, "edge2": 0}, "edge0 = 9; expected one of none"),
        ({"edge0": 0, "edge1": 0}, "no value for edge2"),
        ({"edge": 0}, "no name 'edge'; expected one of edge0"),
    ],
)
def test_a_candidate_by_names_is_checked(candidate: Any, text: str) -> None:
    with pytest.raises(SpaceError, match=text):
        cells().index(candidate)


def test_choices_may_be_narrowed() -> None:
    space = cells()
    few = Space(space.graph, {**space.values, "edge0": (0, 2)}, space.labels)

    assert few.index({"edge0": "3x3", "edge1": 0, "edge2": 0}) == 16
    with pytest.raises(SpaceError, match="edge0 = 'pool'; expected one of none, 3x3"):
        few.index({"edge0": "pool", "edge1": 0, "edge2": 0})


def test_what_is_no_space_is_refused() -> None:
    block = layers.matmul(1, 64, 64)

    with pytest.raises(SpaceError, match="a space of int; expected a graph"):
        Space(3, {})  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="odd: choice 'a b'; expected a name such as edge0"):
        supernet("odd", [Choice("a b", {"x": block, "y": None})])
    for times in (1.5, -1):
        with pytest.raises(SpaceError, match=rf"odd: a part runs {times} times; expected a number or a formula"):
            composed("odd", [Block(block, times)])  # type: ignore[arg-type]
        with pytest.raises(SpaceError, match=rf"choice 'a' runs {times} times; expected a number or a formula"):
            supernet("odd", [Choice("a", {"x": block}, times)])  # type: ignore[arg-type]
    for blocks in ([block], {}):
        with pytest.raises(SpaceError, match=r"odd: choice 'a' of .*; expected blocks by label"):
            supernet("odd", [Choice("a", blocks)])  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="index 64; expected from 0 to 63"):
        cells().rows(np.array([3, 64]))
    with pytest.raises(SpaceError, match=r"indices float64\[1\]; expected whole numbers \[n\]"):
        cells().rows(np.array([1.5]))
    for count in (-1, 1.5, "a"):
        with pytest.raises(SpaceError, match=r"a sample of .*; expected a whole number from 0 on"):
            cells().sample(count)  # type: ignore[arg-type]


def test_spaces_and_prices_are_shown_in_one_line() -> None:
    price = cells().compile("h100_sxm")

    assert repr(price) == f"<PricedSpace of {cells()} on h100_sxm, compiled>"
    assert repr(cells()).startswith("<Space cells: 64 candidates of ")
    assert repr(price.model).startswith("<CostModel of cells on h100_sxm, compiled, sizes {")


def test_large_values_are_told_apart() -> None:
    """Sizes too large for a table of addresses, out of order, beside a size with a gap."""
    m, n = symbol("m"), symbol("n")
    price = Space(layers.matmul(m, n, 64), {"m": (2**20, 7, 65535, 2**17), "n": (5, 1)}).compile("h100_sxm")
    rows = price.space.rows(np.arange(8))

    assert price(rows).energy_j.tolist() == price(range(8)).energy_j.tolist()
    assert price(rows[::-1]).energy_j.tolist() == price(range(8)).energy_j.tolist()[::-1]
    with pytest.raises(SpaceError, match=r"candidates\[2\]: m = 65534; expected one of 1048576, 7"):
        price([[7, 5], [65535, 1], [65534, 1]])


def test_choices_of_one_name_must_agree() -> None:
    block = layers.matmul(1, 64, 64)

    with pytest.raises(SpaceError, match="choice 'a' is among x, y, then among x"):
        supernet("odd", [Choice("a", {"x": block, "y": None}), Choice("a", {"x": block})])


@given(st.integers(0, 9), st.integers(0, 9))
def test_equal_is_one_where_both_are_equal(a: int, b: int) -> None:
    x, y = symbol("x"), symbol("y")
    formula = equal(x, y + 1)

    assert evaluate(equal(x, b), {"x": a}) == equal(a, b) == (a == b)
    assert evaluate(formula, {"x": a, "y": b}) == (a == b + 1)
    assert evaluate(formula, {"x": np.array([a]), "y": np.array([b])}).tolist() == [a == b + 1]
    assert parse(str(formula)) is formula
    assert equal(x, y) is equal(y, x)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 6))
def test_parts_by_names_add_up(places: list[int], more: int) -> None:
    names = ("a", "b", "c")
    total = more + sum((equal(symbol(n), place) * symbol(n) for n, place in zip(names, places, strict=False)), start=0)
    sizes = dict.fromkeys(names, 3)

    assert sum(evaluate(part, sizes) for part in parts_by_names(total)) == evaluate(total, sizes)
