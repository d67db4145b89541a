"""Folding, layout, quantization, precision and fusion: what passes take and leave in graphs written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, all_bytes, kinds, work

from wattir.costs import tabulate
from wattir.graph_check import check_graph
from wattir.ir import Graph, replace_graph
from wattir.passes import RUNTIMES, lower_to_kernels
from wattir.passes.batch_norm import fold_batch_norm
from wattir.passes.fuse import fuse
from wattir.passes.layout import drop_dead, drop_views, fold_transposes
from wattir.passes.precision import with_precision
from wattir.passes.quantized import narrow_contractions

# ---- batch norms --------------------------------------------------------------------------------------------------


def convolution(net: Net) -> str:
    net.given("x", 1, 4, 8, 8)
    net.given("w", 4, 4, 3, 3, role="weight")
    sizes = {
        "batch": 1,
        "c_in": 4,
        "c_out": 4,
        "groups": 1,
        "kernel": (3, 3),
        "in_spatial": (8, 8),
        "out_spatial": (8, 8),
    }
    return net.op("conv", "conv", (1, 4, 8, 8), "x", "w", **sizes)


def normalized(net: Net, x: str, function: str = "batch_norm") -> str:
    scale = net.given("scale", 4, role="weight")
    return net.op("norm", "norm", (1, 4, 8, 8), x, scale, function=function, length=64)


def test_a_batch_norm_folds_into_the_convolution_that_it_alone_reads() -> None:
    net = Net()
    normalized(net, convolution(net))
    found = check_graph(fold_batch_norm(net.done("norm")))
    assert (kinds(found), found.outputs) == (["conv"], ("conv",))


def test_a_batch_norm_stays_where_others_read_the_convolution() -> None:
    net = Net()
    x = convolution(net)
    normalized(net, x)
    net.pointwise("skip", x, function="relu")
    assert kinds(fold_batch_norm(net.done("norm", "skip"))) == ["conv", "norm", "pointwise"]


def test_a_batch_norm_stays_where_the_convolution_is_an_output() -> None:
    net = Net()
    normalized(net, convolution(net))
    assert kinds(fold_batch_norm(net.done("norm", "conv"))) == ["conv", "norm"]


@pytest.mark.parametrize("function", ["group_norm", "layer_norm"])
def test_other_norms_stay(function: str) -> None:
    net = Net()
    normalized(net, convolution(net), function)
    assert kinds(fold_batch_norm(net.done("norm"))) == ["conv", "norm"]


def test_a_batch_norm_before_a_convolution_stays() -> None:
    net = Net()
    net.given("image", 1, 4, 8, 8)
    normalized(net, "image")
    assert kinds(fold_batch_norm(net.done("norm"))) == ["norm"]


# ---- layout -------------------------------------------------------------------------------------------------------


def test_views_and_dead_ops_go() -> None:
    net = Net()
    net.given("x", 4, 8)
    net.op("view", "flat", (32,), "x", function="reshape")
    net.pointwise("used", "flat", function="relu")
    net.pointwise("unused", "flat", function="relu")
    found = check_graph(drop_views(drop_dead(net.done("used"))))
    assert [(op.name, op.ins) for op in found.ops] == [("used", ("x",))]


@pytest.mark.parametrize(("reader", "left"), [("matmul", []), ("pointwise", ["turned"])])
def test_transposes_fold_into_contractions_alone(reader: str, left: list[str]) -> None:
    net = Net()
    net.given("x", 8, 16)
    net.given("w", 8, 4, role="weight")
    net.op("copy", "turned", (16, 8), "x", function="transpose")
    net.matmul("product", 1, 16, 4, 8, "turned", "w", shape=(16, 4))
    outputs = ["product"]
    if reader == "pointwise":
        outputs.append(net.pointwise("too", "turned", function="relu"))
    found = check_graph(fold_transposes(net.done(*outputs)))
    assert [op.name for op in found.ops if op.kind == "copy"] == left


# ---- quantized networks and what-ifs of precision -----------------------------------------------------------------


def quantized(activations: bool) -> Graph:
    """QDQ: a weight of 8 bits, and activations of 8 bits or floats, dequantized before a product."""
    net = Net()
    net.given("x", 4, 32, dtype="int8" if activations else "fp32")
    net.given("w", 32, 16, role="weight", dtype="int8")
    for name, shape in (("x", (4, 32)), ("w", (32, 16))):
        if name == "w" or activations:
            net.op("quantize", f"{name}f", shape, name, net.given(f"s{name}", role="constant"), function="dequantize")
    net.matmul("y", 1, 4, 16, 32, "xf" if activations else "x", "wf", shape=(4, 16))
    return net.done("y")


@pytest.mark.parametrize(("activations", "math"), [(True, "int8"), (False, "fp32")])
def test_products_read_what_is_behind_dequantize(activations: bool, math: str) -> None:
    found = drop_dead(narrow_contractions(quantized(activations)))
    (row,) = tabulate(check_graph(found))
    assert (row.math, row.weight_bytes) == (math, 32 * 16)  # one byte a weight
    assert row.in_bytes == 4 * 32 * (1 if activations else 4)


def perceptron() -> Graph:
    net = Net()
    net.given("x", 4, 32)
    net.given("w", 32, 16, role="weight")
    net.given("scale", 16, role="weight")
    net.matmul("y", 1, 4, 16, 32, "x", "w", shape=(4, 16))
    net.op("norm", "z", (4, 16), "y", "scale", function="layer_norm", length=16)
    return net.done("z")


@pytest.mark.parametrize(
    ("precision", "weights", "scales", "math"),
    [("fp32", 4, 4, "fp32"), ("tf32", 4, 4, "tf32"), ("bf16", 2, 2, "bf16"), ("fp16", 2, 2, "fp16"),
     ("int8", 1, 2, "int8"), ("fp8", 1, 2, "fp8")],
)  # fmt: skip
def test_bytes_of_weights_follow_the_precision(precision: str, weights: int, scales: int, math: str) -> None:
    product, norm = tabulate(check_graph(with_precision(perceptron(), precision)))
    assert (product.weight_bytes, product.math) == (32 * 16 * weights, math)
    assert norm.weight_bytes == 16 * scales  # not a contraction's: 16 bits at least


def test_integers_keep_their_width() -> None:
    net = Net()
    net.given("table", 100, 8, role="weight")
    net.given("ids", 4, dtype="int64")
    net.op("gather", "rows", (4, 8), "table", "ids", function="embedding")
    assert with_precision(net.done("rows"), "bf16").tensors["ids"].dtype == "int64"


# ---- fusion -------------------------------------------------------------------------------------------------------

FUSABLE = ("pointwise", "pointwise", "matmul", "reduction", "softmax", "norm", "transpose", "widen", "sort", "centre")


@st.composite
def networks(draw: Any) -> Graph:
    """Random DAGs over [8, 8] tensors: each op reads one or two earlier ones; some reduce, some are outputs."""
    net = Net()
    values = [net.given("x0", 8, 8), net.given("x1", 8, 8)]
    small: list[str] = []
    for place in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(FUSABLE))
        a, b = (draw(st.sampled_from(values)) for _ in range(2))
        name = f"t{place}"
        if kind == "matmul":
            values.append(net.matmul(name, 1, 8, 8, 8, a, b, shape=(8, 8)))
        elif kind == "reduction":
            small.append(net.op("reduction", name, (8, 1), a, function="sum", length=8))
        elif kind in ("softmax", "norm"):
            values.append(
                net.op(kind, name, (8, 8), a, function="softmax" if kind == "softmax" else "layer_norm", length=8)
            )
        elif kind == "sort":
            values.append(net.op("sort", name, (8, 8), a, function="sort", length=8))
        elif kind == "centre":
            small.append(net.op("reduction", f"{name}s", (8, 1), a, function="sum", length=8))
            values.append(net.pointwise(name, a, small[-1]))
        elif kind == "transpose":
            values.append(net.op("copy", name, (8, 8), a, function="transpose"))
        elif kind == "widen" and small:
            values.append(net.pointwise(name, a, draw(st.sampled_from(small))))
        else:
            values.append(net.pointwise(name, a, b))
    made = [*values[2:], *small]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    return drop_dead(net.done(*outputs))


@settings(max_examples=150)
@given(networks())
def test_fusion_keeps_the_work_and_saves_bytes(graph: Graph) -> None:
    fused = check_graph(fuse(graph))  # in runnable order: no two kernels wait for each other
    assert len(fused.ops) <= len(graph.ops)
    assert work(fused, "macs") == work(graph, "macs")
    assert work(fused, "ops") == work(graph, "ops")
    assert work(fused, "special") == work(graph, "special")
    assert all_bytes(fused) <= all_bytes(graph)
    assert set(graph.outputs) <= {name for op in fused.ops for name in op.outs}


@settings(max_examples=50)
@given(networks())
def test_whole_pipelines_give_legal_graphs(graph: Graph) -> None:
    for runtime in RUNTIMES:
        found = check_graph(lower_to_kernels(graph, runtime))
        assert work(found, "macs") == work(graph, "macs")


def test_two_kernels_never_wait_for_each_other() -> None:
    """`both` would join the product, but the sum that it also reads waits for that product."""
    net = Net()
    net.given("x", 8, 8)
    a = net.matmul("a", 1, 8, 8, 8, "x", "x", shape=(8, 8))
    total = net.op("reduction", "total", (8, 1), a, function="sum", length=8)
    net.pointwise("both", a, total)
    found = check_graph(fuse(net.done("both")))
    assert [op.source for op in found.ops] == ["matmul", "reduction", "pointwise"]


def test_an_epilogue_joins_its_product_and_leaves_nothing_between() -> None:
    net = Net()
    net.given("x", 8, 8)
    net.matmul("y", 1, 8, 8, 8, "x", "x", shape=(8, 8))
    net.pointwise("z", "y", function="relu")
    (kernel,) = fuse(net.done("z")).ops
    assert (kernel.kind, kernel.ins, kernel.outs, kernel.attrs["fused_ops"]) == ("matmul", ("x",), ("z",), 64)


def test_ops_of_a_loop_do_not_join_what_runs_once() -> None:
    net = Net()
    net.given("x", 8, 8)
    net.matmul("y", 1, 8, 8, 8, "x", "x", shape=(8, 8))
    net.pointwise("z", "y", function="relu")
    graph = net.done("z")
    first, last = graph.ops
    looped = replace_graph(graph, ops=(first, replace(last, times=3)))
    assert len(fuse(looped).ops) == 2
