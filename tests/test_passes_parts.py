"""Parts of a tensor: compiled runtimes read them where they lie, eager ones copy them."""

from __future__ import annotations

import pytest
from nets import Net, all_bytes, kinds, only

from wattir.ir import Graph
from wattir.passes import lower_to_kernels
from wattir.passes.layout import fold_reordering, join_parts, read_through_parts

ROWS = 2 * 8 * 4  # bytes of [2, 8]


def part(kind: str, function: str, output: str = "y") -> Graph:
    """relu of a half of x [4, 8]."""
    net = Net()
    net.given("x", 4, 8)
    index = (net.given("one", role="constant", dtype="int64"),) if kind == "gather" else ()
    half = net.op(kind, "half", (2, 8), "x", *index, function=function)
    y = net.pointwise("relu", half, function="relu")
    return net.done({"y": y, "half": half}[output])


@pytest.mark.parametrize(("kind", "function"), [("copy", "slice"), ("copy", "split"), ("gather", "gather")])
def test_a_part_is_read_where_it_lies(kind: str, function: str) -> None:
    compiled = lower_to_kernels(part(kind, function), "compiled")

    assert kinds(compiled) == ["view", "pointwise"]
    assert all_bytes(compiled) == 2 * ROWS  # the half is read, its relu written


@pytest.mark.parametrize(("kind", "function"), [("copy", "slice"), ("gather", "gather")])
def test_an_eager_runtime_copies_it(kind: str, function: str) -> None:
    assert kinds(lower_to_kernels(part(kind, function), "eager")) == [kind, "pointwise"]


def test_what_is_given_back_is_copied_out() -> None:
    assert kinds(read_through_parts(part("copy", "slice", output="half")))[0] == "copy"


@pytest.mark.parametrize("function", ["embedding", "index"])
def test_reads_by_other_indices_stay(function: str) -> None:
    assert kinds(read_through_parts(part("gather", function)))[0] == "gather"


def test_indices_that_depend_on_data_stay() -> None:
    net = Net()
    net.given("x", 4, 8)
    net.given("i", dtype="int64")
    row = net.op("gather", "row", (8,), "x", "i", function="gather")

    assert kinds(read_through_parts(net.done(net.pointwise("relu", row, function="relu"))))[0] == "gather"


def test_weights_are_split_once_for_all() -> None:
    net = Net()
    net.given("w", 4, 8, role="weight")
    half = net.op("copy", "half", (2, 8), "w", function="split")

    assert kinds(read_through_parts(net.done(net.pointwise("relu", half, function="relu"))))[0] == "copy"


@pytest.mark.parametrize("function", ["transpose", "reshape", "contiguous", "clone"])
@pytest.mark.parametrize("reader", ["matmul", "pointwise"])
def test_a_product_reads_a_part_of_any_layout(function: str, reader: str) -> None:
    net = Net()
    net.given("x", 8, 4)
    net.given("w", 8, 3, role="weight")
    turned = net.op("copy", "turned", (4, 8), "x", function=function)
    half = net.op("view", "half", (2, 8), turned, function="slice")
    product = net.matmul("product", 1, 2, 3, 8, half, "w", shape=(2, 3))
    graph = net.done(product if reader == "matmul" else net.pointwise("relu", half, function="relu"), product)

    assert ("copy" in kinds(fold_reordering(graph))) == (reader == "pointwise")


def test_a_copy_that_repeats_elements_stays() -> None:
    net = Net()
    net.given("x", 1, 8)
    net.given("w", 8, 3, role="weight")
    repeated = net.op("copy", "repeated", (2, 8), "x", function="reshape")

    assert "copy" in kinds(fold_reordering(net.done(net.matmul("product", 1, 2, 3, 8, repeated, "w", shape=(2, 3)))))


@pytest.mark.parametrize(("other", "joined"), [("x", True), ("z", False)])
def test_a_roll_is_one_copy(other: str, joined: bool) -> None:
    """Of parts of one tensor: they are read at once. Of parts of two they are not."""
    net = Net()
    net.given("x", 4, 8)
    net.given("z", 4, 8)
    first = net.op("view", "first", (1, 8), "x", function="slice")
    rest = net.op("view", "rest", (3, 8), other, function="slice")
    graph = join_parts(net.done(net.op("copy", "rolled", (4, 8), rest, first, function="concat"), "z"))

    assert only(graph, "copy").ins == (("x",) if joined else (rest, first))
    assert all_bytes(graph) == 2 * 4 * 8 * 4
    assert ("view" in kinds(graph)) is not joined


@pytest.mark.parametrize("inputs", [1, 2])
def test_attention_takes_in_the_scale_of_its_queries(inputs: int) -> None:
    """By a number in the op, or by a constant."""
    net = Net()
    for name in "qkv":
        net.given(name, 2, 4, 16, 8)
    net.given("scale", role="constant")
    scaled = net.pointwise("scaled", *("q", "scale")[:inputs], function="mul")
    scores = net.matmul("scores", 8, 16, 16, 8, scaled, "k", shape=(2, 4, 16, 16))
    weights = net.op("softmax", "softmax", (2, 4, 16, 16), scores, function="softmax", length=16)
    mixed = net.matmul("mixed", 8, 16, 8, 16, weights, "v", shape=(2, 4, 16, 8))
    compiled = lower_to_kernels(net.done(mixed), "compiled")

    assert kinds(compiled) == ["attention"]
    assert only(compiled, "attention").ins[:3] == ("q", "k", "v")
