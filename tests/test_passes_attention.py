"""Attention, caches and rotary embeddings, recognised or left alone in graphs written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from nets import Net, all_bytes, kinds, only, work

from wattir.dims import symbol
from wattir.graph_check import check_graph
from wattir.graph_text import graph_text
from wattir.ir import Graph
from wattir.passes import lower_to_kernels
from wattir.passes.attention import recognise_attention
from wattir.passes.cache import append_in_place, mark_caches
from wattir.passes.layout import drop_dead
from wattir.passes.rotary import recognise_rotary

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


@pytest.mark.parametrize(
    "around", [None, scaled, masked, chosen, triangle], ids=lambda f: getattr(f, "__name__", "bare")
)
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


def test_a_chain_of_squares_is_walked_once() -> None:
    net = Net()
    x = net.given("x", SEQ, SEQ)
    for place in range(60):  # each doubles the ways up
        x = net.pointwise(f"square{place}", x, x, function="mul")
    net.op("softmax", "p", (SEQ, SEQ), x, function="softmax", length=SEQ)
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


# ---- rotary embeddings --------------------------------------------------------------------------------------------


def rotated(second: str = "q", output: str = "") -> Graph:
    """``q cos + concat(-q2, q1) sin``; the second half may be another tensor's, a half may be an output."""
    net = Net()
    for name in ("q", "other"):
        net.given(name, 2, 8, 16)
    for name in ("cos", "sin"):
        net.given(name, 8, 16)
    upper = net.op("copy", "upper", (2, 8, 8), second, function="slice")
    lower = net.op("copy", "lower", (2, 8, 8), "q", function="slice")
    halves = net.op(
        "copy", "turned", (2, 8, 16), net.pointwise("minus", upper, function="neg"), lower, function="concat"
    )
    net.pointwise(
        "y", net.pointwise("a", "q", "cos", function="mul"), net.pointwise("b", halves, "sin", function="mul")
    )
    return net.done("y", *([output] if output else []))


def test_a_rotary_embedding_is_one_op() -> None:
    found = check_graph(recognise_rotary(rotated()))
    assert [(op.kind, op.attrs["function"], op.ins) for op in found.ops] == [
        ("pointwise", "rotary", ("q", "cos", "sin"))
    ]
    assert all_bytes(found) == (2 * 8 * 16 * 2 + 8 * 16 * 2) * 4  # q read, y written, two tables read


@pytest.mark.parametrize("graph", [rotated(second="other"), rotated(output="lower"), rotated(output="turned")])
def test_what_only_looks_like_a_rotary_embedding_stays(graph: Graph) -> None:
    assert recognise_rotary(graph) == graph


def test_a_decode_step_as_text(golden: Callable[[str, str], None]) -> None:
    golden("compiled_decode_step.txt", graph_text(lower_to_kernels(decoding(), "compiled")))
