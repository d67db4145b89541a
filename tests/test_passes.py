"""Each pass on graphs written by hand: what it takes, what it leaves alone, and the laws of fusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattir.costs import tabulate
from wattir.dims import Size, symbol
from wattir.graph_check import check_graph
from wattir.graph_text import graph_text
from wattir.ir import Graph, GraphBuilder, Op, replace_graph
from wattir.passes import lower_to_kernels
from wattir.passes.attention import recognise_attention
from wattir.passes.batch_norm import fold_batch_norm
from wattir.passes.cache import append_in_place, mark_caches
from wattir.passes.fuse import fuse
from wattir.passes.layout import drop_dead, drop_views, fold_transposes
from wattir.passes.precision import with_precision
from wattir.passes.quantized import narrow_contractions


class Net:
    """A graph in the making: each method adds an op and gives the name of its result."""

    def __init__(self, dtype: str = "fp32") -> None:
        self.builder, self.dtype = GraphBuilder("net"), dtype
        self.inputs: list[str] = []

    def given(self, name: str, *shape: Size, role: str = "input", dtype: str = "") -> str:
        if role in ("input", "state"):
            self.inputs.append(name)
        return self.builder.tensor(name, shape, dtype or self.dtype, role)

    def op(self, kind: str, name: str, shape: tuple[Size, ...], *ins: str, dtype: str = "", **attrs: Any) -> str:
        out = self.builder.tensor(name, shape, dtype or self.dtype)
        self.builder.op(kind, ins, (out,), name=name, source=kind, **attrs)
        return out

    def matmul(self, name: str, groups: Size, m: Size, n: Size, k: Size, *ins: str, shape: tuple[Size, ...] = ()) -> str:
        return self.op("matmul", name, shape or (groups, m, n), *ins, groups=groups, m=m, n=n, k=k)

    def pointwise(self, name: str, *ins: str, function: str = "add", like: str = "") -> str:
        shape = self.builder.tensors[like or ins[0]].shape
        return self.op("pointwise", name, shape, *ins, function=function, ops=1)

    def done(self, *outputs: str) -> Graph:
        return check_graph(self.builder.finish(tuple(self.inputs), outputs))


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def only(graph: Graph, kind: str) -> Op:
    (found,) = [op for op in graph.ops if op.kind == kind]
    return found


def work(graph: Graph, *columns: str) -> Size:
    return sum((getattr(row, column) * row.times for row in tabulate(graph) for column in columns), start=0)


def all_bytes(graph: Graph) -> Any:
    return work(graph, "weight_bytes", "in_bytes", "out_bytes", "state_bytes")


# ---- attention ----------------------------------------------------------------------------------------------------

BATCH, HEADS, SEQ, D = 2, 4, 16, 8
ROWS = BATCH * HEADS


def written_out(around: Callable[[Net, str], str] | None = None, after: Callable[[Net, str], str] | None = None) -> Net:
    """q k^T, what `around` makes of the scores, softmax, what `after` makes of it, times v: the result is ``mix``."""
    net = Net()
    for name in ("q", "k", "v"):
        net.given(name, BATCH, HEADS, SEQ, D)
    scores = net.matmul("scores", ROWS, SEQ, SEQ, D, "q", "k", shape=(BATCH, HEADS, SEQ, SEQ))
    scores = around(net, scores) if around else scores
    p = net.op("softmax", "p", (BATCH, HEADS, SEQ, SEQ), scores, function="softmax", length=SEQ)
    p = after(net, p) if after else p
    net.matmul("mix", ROWS, SEQ, D, SEQ, p, "v", shape=(BATCH, HEADS, SEQ, D))
    return net


def scaled(net: Net, scores: str) -> str:
    return net.pointwise("scaled", scores, net.given("scale", role="constant"), function="mul")


def masked(net: Net, scores: str) -> str:
    return net.pointwise("masked", net.given("mask", 1, 1, SEQ, SEQ), scaled(net, scores), like=scores)


def triangle(net: Net, scores: str) -> str:
    mask = net.given("mask", 1, 1, SEQ, SEQ, role="constant")
    return net.pointwise("masked", scores, mask, function="triangle_add")


def chosen(net: Net, scores: str) -> str:
    """``where(allowed, scores, -inf)``: the scores are not the first operand."""
    allowed = net.given("allowed", 1, 1, SEQ, SEQ, dtype="bool")
    return net.pointwise("chosen", allowed, scores, net.given("low", role="constant"), function="where", like=scores)


def guarded(net: Net, p: str) -> str:
    """Rows without any key are zero: ``where(is_nan(p), 0, p)``, which reads the probabilities twice."""
    nan = net.pointwise("nan", p, function="is_nan")
    return net.pointwise("safe", nan, net.given("zero", role="constant"), p, function="where", like=p)


@pytest.mark.parametrize("around", [None, scaled, masked, chosen, triangle], ids=lambda f: getattr(f, "__name__", "bare"))
@pytest.mark.parametrize("after", [None, guarded], ids=["plain", "guarded"])
def test_attention_is_recognised(around: Any, after: Any) -> None:
    graph = written_out(around, after).done("mix")
    found = check_graph(recognise_attention(graph))
    assert kinds(found) == ["attention"]
    expected = {"batch": 2, "heads": 4, "kv_heads": 4, "q": 16, "kv": 16, "d": 8, "dv": 8, "causal": around is triangle}
    assert found.ops[0].attrs == expected
    assert found.ops[0].ins[:3] == ("q", "k", "v")
    assert work(found, "macs") == work(graph, "macs")
    assert all_bytes(found) < all_bytes(graph)


def test_a_mask_stays_an_input_of_its_attention() -> None:
    found = recognise_attention(written_out(masked).done("mix"))
    assert set(only(found, "attention").ins) == {"q", "k", "v", "mask", "scale"}


@pytest.mark.parametrize("outputs", [("mix", "scores"), ("mix", "p")])
def test_scores_or_probabilities_that_are_outputs_are_kept(outputs: tuple[str, ...]) -> None:
    graph = written_out().done(*outputs)
    assert recognise_attention(graph) == graph


@pytest.mark.parametrize("read_twice", ["scores", "p"])
def test_scores_or_probabilities_that_are_read_twice_are_kept(read_twice: str) -> None:
    net = written_out()
    net.pointwise("also", read_twice, function="relu")
    graph = net.done("mix", "also")
    assert recognise_attention(graph) == graph


def test_a_guard_that_others_read_is_kept() -> None:
    net = written_out(after=guarded)
    graph = net.done("mix", "nan")
    assert recognise_attention(graph) == graph


def test_probabilities_as_second_operand_are_no_attention() -> None:
    net = Net()
    net.given("x", SEQ, SEQ)
    p = net.op("softmax", "p", (SEQ, SEQ), "x", function="softmax", length=SEQ)
    graph = net.op("matmul", "mix", (SEQ, SEQ), "x", p, groups=1, m=SEQ, n=SEQ, k=SEQ) and net.done("mix")
    assert "attention" not in kinds(recognise_attention(graph))


def test_a_softmax_over_channels_is_no_attention() -> None:
    net = Net()
    net.given("x", 8, 32)
    net.given("w", 32, 10, role="weight")
    net.matmul("logits", 1, 8, 10, 32, "x", "w", shape=(8, 10))
    net.op("softmax", "p", (8, 10), "logits", function="softmax", length=10)
    graph = net.done("p")
    assert recognise_attention(graph) == graph


def grouped(scale_keys: bool) -> Graph:
    """Two heads of keys and values, copied to four; exporters put half of the scale on the keys' copy."""
    net = Net()
    net.given("q", BATCH, HEADS, SEQ, D)
    scale = net.given("scale", role="constant")
    for name in ("k", "v"):
        net.given(name, BATCH, 2, SEQ, D)
        net.op("copy", f"{name}4", (BATCH, 2, 2, SEQ, D), name, function="expand")
    keys = net.op("copy", "turned", (BATCH, HEADS, D, SEQ), "k4", function="transpose")
    keys = net.pointwise("half", keys, scale, function="mul") if scale_keys else keys
    net.matmul("scores", ROWS, SEQ, SEQ, D, "q", keys, shape=(BATCH, HEADS, SEQ, SEQ))
    net.op("softmax", "p", (BATCH, HEADS, SEQ, SEQ), "scores", function="softmax", length=SEQ)
    net.matmul("mix", ROWS, SEQ, D, SEQ, "p", "v4", shape=(BATCH, HEADS, SEQ, D))
    return net.done("mix")


@pytest.mark.parametrize("scale_keys", [False, True])
def test_grouped_queries_read_the_keys_that_there_are(scale_keys: bool) -> None:
    found = drop_dead(recognise_attention(grouped(scale_keys)))
    assert kinds(found) == ["attention"]
    assert (found.ops[0].ins, found.ops[0].attrs["kv_heads"]) == (("q", "k", "v"), 2)
    # q and the result have 4 heads, keys and values 2
    assert all_bytes(found) == (4 + 2 + 2 + 4) * BATCH * SEQ * D * 4


def test_an_attention_op_reads_keys_before_they_are_copied_to_more_heads() -> None:
    whole = recognise_attention(written_out().done("mix"))
    net = Net()
    net.given("q", BATCH, HEADS, SEQ, D)
    for name in ("k", "v"):
        net.given(name, BATCH, 2, SEQ, D)
        net.op("copy", f"{name}4", (BATCH, HEADS, SEQ, D), name, function="expand")
    net.op("attention", "mix", (BATCH, HEADS, SEQ, D), "q", "k4", "v4", **whole.ops[0].attrs)
    found = drop_dead(recognise_attention(net.done("mix")))
    assert (found.ops[0].ins, found.ops[0].attrs["kv_heads"]) == (("q", "k", "v"), 2)


# ---- caches -------------------------------------------------------------------------------------------------------


def decoding(shown: bool = True) -> Graph:
    """A cache of `past` keys, one new row, and attention over both; the grown cache is an output if `shown`."""
    past = symbol("past")
    net = Net("bf16")
    net.given("q", 1, HEADS, 1, D)
    net.given("past_k", 1, HEADS, past, D)
    net.given("x", 1, HEADS, 1, D)
    new = net.pointwise("new", "x", function="relu")
    grown = net.op("copy", "k", (1, HEADS, past + 1, D), "past_k", new, function="concat")
    sizes = {"batch": 1, "heads": HEADS, "kv_heads": HEADS, "q": 1, "kv": past + 1, "d": D, "dv": D, "causal": False}
    net.op("attention", "mix", (1, HEADS, 1, D), "q", grown, grown, **sizes)
    return net.done("mix", *(["k"] if shown else []))


def test_a_cache_is_state_and_only_its_new_row_is_written() -> None:
    marked = check_graph(mark_caches(decoding()))
    assert {name for name, tensor in marked.tensors.items() if tensor.role == "state"} == {"past_k", "k"}
    found = check_graph(append_in_place(marked))
    assert only(found, "scatter").attrs == {"function": "cache_append", "updates": HEADS * D}
    past, row = symbol("past"), HEADS * D * 2
    assert work(found, "state_bytes") == row + (past + 1) * row  # the row written, all read


def test_a_concatenation_that_is_not_given_back_is_no_cache() -> None:
    graph = decoding(shown=False)
    assert mark_caches(graph) == graph
    assert kinds(append_in_place(graph)) == kinds(graph)


# ---- batch norms --------------------------------------------------------------------------------------------------


def convolution(net: Net) -> str:
    net.given("x", 1, 4, 8, 8)
    net.given("w", 4, 4, 3, 3, role="weight")
    sizes = {"batch": 1, "c_in": 4, "c_out": 4, "groups": 1, "kernel": (3, 3), "in_spatial": (8, 8), "out_spatial": (8, 8)}
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

FUSABLE = ("pointwise", "pointwise", "matmul", "reduction", "softmax", "norm", "transpose", "widen")


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
            values.append(net.op(kind, name, (8, 8), a, function="softmax" if kind == "softmax" else "layer_norm", length=8))
        elif kind == "transpose":
            values.append(net.op("copy", name, (8, 8), a, function="transpose"))
        elif kind == "widen" and small:
            values.append(net.pointwise(name, a, draw(st.sampled_from(small))))
        else:
            values.append(net.pointwise(name, a, b))
    made = [*values[2:], *small]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    return drop_dead(net.done(*outputs))


@settings(max_examples=150, deadline=None)
@given(networks())
def test_fusion_keeps_the_work_and_saves_bytes(graph: Graph) -> None:
    fused = check_graph(fuse(graph))  # in runnable order: no two kernels wait for each other
    assert len(fused.ops) <= len(graph.ops)
    assert work(fused, "macs") == work(graph, "macs")
    assert work(fused, "ops") == work(graph, "ops")
    assert work(fused, "special") == work(graph, "special")
    assert all_bytes(fused) <= all_bytes(graph)
    assert set(graph.outputs) <= {name for op in fused.ops for name in op.outs}


@settings(max_examples=50, deadline=None)
@given(networks())
def test_whole_pipelines_give_legal_graphs(graph: Graph) -> None:
    for runtime in ("eager", "compiled"):
        found = check_graph(lower_to_kernels(graph, runtime))
        assert work(found, "macs") == work(graph, "macs")


def test_two_kernels_never_wait_for_each_other() -> None:
    """`sum` reads a matmul's result and an epilogue would read both: joining the matmul would close a circle."""
    net = Net()
    net.given("x", 8, 8)
    a = net.matmul("a", 1, 8, 8, 8, "x", "x", shape=(8, 8))
    b = net.matmul("b", 1, 8, 8, 8, a, "x", shape=(8, 8))
    net.pointwise("both", a, b)
    found = check_graph(fuse(net.done("both")))
    assert [op.source for op in found.ops] == ["matmul", "matmul+pointwise"]


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


def test_a_decode_step_as_text(golden: Callable[[str, str], None]) -> None:
    golden("compiled_decode_step.txt", graph_text(lower_to_kernels(decoding(), "compiled")))
