"""com.microsoft ops that are neither attention nor fused layers: older names, small algebra, generation loops."""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.dims import Size, product
from wattir.frontends.onnx.attending import optional
from wattir.frontends.onnx.broadcast import axis_of, text
from wattir.frontends.onnx.node import RULES, Node, rule
from wattir.frontends.onnx.products import output
from wattir.frontends.onnx.rules_conv import emit_causal_conv, transposed_sizes
from wattir.frontends.onnx.rules_math import emit_pointwise

MS = "com.microsoft"
SAME_AS_STANDARD = {"GridSample": 16, "Pad": 13, "Range": 11, "Trilu": 14, "Unique": 11, "LinearAttention": 27}


def _as_standard(node: Node, opset: int) -> None:
    """An op that became part of ai.onnx in `opset`, with the same inputs and attributes."""
    node.opset = opset
    RULES[("", node.op)](node)


for _op, _opset in SAME_AS_STANDARD.items():
    rule(_op, domain=MS)(partial(_as_standard, opset=_opset))


@rule("CausalConvWithState", domain=MS)
def causal_conv(node: Node) -> None:
    emit_causal_conv(node, node.value(0), node.value(1), optional(node, 2))


@rule("ConvTransposeWithDynamicPads", domain=MS)
def conv_transpose_dynamic_pads(node: Node) -> None:
    """Pads are input 2; none where they are not known."""
    pads = node.known(2)
    if node.given(2) and pads is None:
        node.warn("the pads depend on data; taken as none")
    node.attrs = {**node.attrs, "pads": tuple(pads or ()) or None}
    shape, sizes = transposed_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape)
    node.emit("conv", ins=(node.value(0), node.value(1), optional(node, 3)), **sizes)


@rule("ExpandDims", domain=MS)
def expand_dims(node: Node) -> None:
    x, axis = node.value(0), node.known(1)
    if axis is None:
        node.fail("the axis is not known", "a constant")
    at = axis_of(node, int(axis[0]), x.rank + 1)
    node.result((*x.shape[:at], 1, *x.shape[at:]))
    node.emit("view", ins=(x,), function="unsqueeze")


@rule("SampleOp", domain=MS)
def sample_op(node: Node) -> None:
    node.result(node.value(0).shape)
    node.emit("view", function="identity")


@rule("IsAllFinite", domain=MS)
def is_all_finite(node: Node) -> None:
    node.result((), "bool")
    node.emit("reduction", function="all", length=sum((v.elements for v in node.ins if v is not None), start=0))


@rule("Inverse", domain=MS)
def inverse(node: Node) -> None:
    """Elimination of [.., n, n]: 2 n^3 operations for n^2 elements."""
    x = node.value(0)
    node.result(x.shape)
    emit_pointwise(node, "inverse", 2 * x.shape[-1])


@rule("CropAndResize", domain=MS)
def crop_and_resize(node: Node) -> None:
    x, rois, size = node.value(0), node.value(1), node.known(3)
    if size is None:
        node.fail("crop_size is not known", "a constant of two numbers")
    node.result((rois.shape[0], x.shape[1], *size))
    node.emit("resize", function="crop", taps=1 if text(node.attr("mode", "bilinear")) == "nearest" else 4)


@rule("NGramRepeatBlock", domain=MS)
def ngram_repeat_block(node: Node) -> None:
    scores = node.value(1)
    node.result(scores.shape, scores.dtype)
    emit_pointwise(node, "ngram_repeat_block", 1)


@rule("RelativePositionBias", domain=MS)
def relative_position_bias(node: Node) -> None:
    """bias_table [buckets, heads] gives [1, heads, q, k]; the lengths are inputs 1 and 2."""
    table, q, k = node.value(0), node.known(1), node.known(2)
    if q is None or k is None:
        node.fail("query_length or key_length is not known", "constants, or lengths that follow from the shapes")
    node.result((1, table.shape[1], q[0], k[0]))
    node.emit("gather", function="relative_position_bias")


@rule("GatedRelativePositionBias", domain=MS)
def gated_relative_position_bias(node: Node) -> None:
    """q [b, s, hidden] by weight [head size, d] gates a bias [1, heads, s, s]."""
    q, bias = node.value(0), node.value(2)
    batch, length, _ = q.shape
    node.result((batch, bias.shape[1], length, length))
    emit_pointwise(node, "gated_bias", 4, 1)


@rule("RemovePadding", domain=MS)
def remove_padding(node: Node) -> None:
    """[b, s, hidden] gives the tokens that are no padding, at most b * s, and where they were."""
    x = node.value(0)
    batch, length, hidden = x.shape
    node.warn("the tokens are bounded by their maximum, no padding")
    node.result((batch * length, hidden))
    shapes: tuple[tuple[Size, ...], ...] = ((batch, length), (batch + 1,), (1,))
    for index, shape in enumerate(shapes, 1):
        if node.wanted(index):
            node.result(shape, "int32", index=index)
    node.emit("gather", function="remove_padding")


@rule("RestorePadding", domain=MS)
def restore_padding(node: Node) -> None:
    x, offset = node.value(0), node.value(1)
    node.result((*offset.shape, x.shape[-1]))
    node.emit("copy", function="restore_padding")


# ---- generation loops -----------------------------------------------------------------------------------------------


def _generation(node: Node, beams: int | None) -> None:
    """A whole decoding loop in one node: its decoder is a nested graph that runs as often as the texts decide."""
    ids, most = node.value(0), node.known(1)
    length: Any = most[0] if most else ids.shape[1]
    batch = ids.shape[0]
    returned = node.known(beams) if beams is not None else None
    count: Any = returned[0] if returned else 1
    shape: tuple[Size, ...] = (batch, length) if beams is None else (batch, count, length)
    node.result(shape, "int32", fixed=False)
    for index in range(1, len(node.out_names)):
        if node.wanted(index):
            made = output(node, index, shape[:-1], "fp32", "scores")
            made.fixed = False
    node.warn("the decoder inside is not counted; lower the decoder's own file and give it phases and steps")
    node.emit("unknown")


rule("GreedySearch", "Sampling", domain=MS)(partial(_generation, beams=None))
rule("BeamSearch", "WhisperBeamSearch", domain=MS)(partial(_generation, beams=4))


@rule("WordConvEmbedding", domain=MS)
def word_conv_embedding(node: Node) -> None:
    """Characters [b, words, chars] are embedded, convolved and pooled: one vector for each word."""
    x, weight, table = node.value(0), node.value(1), node.value(3)
    columns = weight.shape[0]
    result = node.result((*x.shape[:-1], columns), weight.dtype)
    depth = product(weight.shape[1:])
    windows = product(x.shape)
    embedded = node.inner("embedded", (*x.shape, table.shape[-1]), weight.dtype)
    made = node.inner("windows", (*x.shape, columns), weight.dtype)
    node.emit("gather", ins=(table, x), outs=(embedded,), function="embedding")
    ins = (embedded, weight, optional(node, 2))
    node.emit("matmul", ins=ins, outs=(made,), groups=1, m=windows, n=columns, k=depth)
    node.emit("reduction", ins=(made,), outs=(result,), function="max", length=x.shape[-1])
