"""Ordering, bounded searches, and random numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.dims import Size, minimum
from wattir.frontends.onnx.broadcast import Shape, axis_of, is_number
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import Node, rule
from wattir.frontends.onnx.unknown_sizes import declared


@rule("TopK")
def top_k(node: Node) -> None:
    """K is an attribute before opset 10, then input 1; it is bounded by the axis where it is not known."""
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", -1), x.rank)
    length = x.shape[axis]
    shape = (*x.shape[:axis], _count(node, axis, length), *x.shape[axis + 1 :])
    node.result(shape)
    if node.wanted(1):
        node.result(shape, "int64", index=1)
    node.emit("sort", ins=(x,), function="topk", length=length)


def _count(node: Node, axis: int, length: Size) -> Size:
    known = node.known(1) if node.attr("k") is None else (node.attr("k"),)
    if known:
        return known[0] if is_number(known[0]) else int(known[0])
    hint = declared(node)
    if hint is not None:
        return hint[axis]
    node.warn("K depends on data; the output is bounded by its maximum, the whole axis")
    return length


@rule("NonMaxSuppression")
def non_max_suppression(node: Node) -> None:
    """boxes [b, n, 4], scores [b, c, n]: at most b * c * min(n, max_output_boxes_per_class) rows of 3 indices."""
    boxes, scores = node.value(0), node.value(1)
    count = boxes.shape[1]
    limit = node.known(2) if node.given(2) else (0,)
    per_class = minimum(count, int(limit[0])) if limit else count
    node.warn("the output is bounded by its maximum, every class full")
    node.result((scores.shape[0] * scores.shape[1] * per_class, 3), "int64", fixed=False)
    node.emit("sort", function="non_max_suppression", length=count)


@rule("Unique")
def unique(node: Node) -> None:
    """Values (or slices along `axis`), first indices, inverse indices, counts; as many as there are elements."""
    x, axis = node.value(0), node.attr("axis")
    at = 0 if axis is None else axis_of(node, axis, x.rank)
    shape: Shape = (x.elements,) if axis is None else x.shape
    node.warn("the output is bounded by its maximum, every element its own")
    node.result(shape, fixed=False)
    for index in (1, 2, 3):
        if node.wanted(index):
            node.result((shape[at],), "int64", index=index, fixed=False)
    node.emit("sort", function="unique", length=shape[at])


# ---- random ---------------------------------------------------------------------------------------------------------


def _random(node: Node, function: str) -> None:
    """A shape attribute, or the shape of the first input."""
    shape: Any = tuple(node.attr("shape")) if node.attr("shape") is not None else node.value(0).shape
    dtype = dtype_of(node.attr("dtype"), node.value(0).dtype if node.given(0) else "fp32")
    node.result(shape, dtype, fixed=False)
    node.emit("random", ins=(), function=function)


rule("RandomNormal", "RandomNormalLike")(partial(_random, function="normal"))
rule("RandomUniform", "RandomUniformLike")(partial(_random, function="uniform"))


@rule("Bernoulli")
def bernoulli(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape, dtype_of(node.attr("dtype"), x.dtype), fixed=False)
    node.emit("random", function="bernoulli")


@rule("Multinomial")
def multinomial(node: Node) -> None:
    """[b, classes] gives [b, samples]."""
    x = node.value(0)
    samples: Size = node.attr("sample_size", 1)
    node.result((x.shape[0], samples), dtype_of(node.attr("dtype"), "int32"), fixed=False)
    node.emit("random", function="multinomial")
