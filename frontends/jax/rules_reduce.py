"""Reductions, windows, running sums, sorting."""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.dims import Size, product
from wattir.frontends.jax.node import Node, rule
from wattir.frontends.jax.sizes import size_of


def _reduce(node: Node, function: str) -> None:
    """`axes` become one element each."""
    x, axes = node.ins[0], node.params.get("axes", node.params.get("dimensions", ()))
    length = product(x.shape[int(axis)] for axis in axes)
    if length == 1 and len(node.ins) == 1 and node.outs[0][1] == x.dtype:
        node.same(x, data=None, ramp=None)
        return
    node.emit("reduction", function=function, length=length)


for _primitive, _function in {
    "reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod", "reduce_and": "all",
    "reduce_or": "any", "reduce_xor": "xor", "argmax": "argmax", "argmin": "argmin", "reduce": "reduce",
}.items():  # fmt: skip
    rule(_primitive)(partial(_reduce, function=_function))


def _window(node: Node, function: str) -> None:
    """Each output sees a window; one as long as its axis is a running reduction."""
    sizes = node.params["window_dimensions"]
    window = product(size_of(size) for size in sizes)
    if window == 1 and node.outs[0][0] == node.ins[0].shape:
        node.same(node.ins[0])
        return
    node.emit("pooling", ins=node.ins[:1], function=function, window=window)


for _primitive, _function in {
    "reduce_window_max": "max", "reduce_window_min": "min", "reduce_window_sum": "sum", "reduce_window": "reduce",
}.items():  # fmt: skip
    rule(_primitive)(partial(_window, function=_function))


def _running(node: Node, special: int) -> None:
    """One operation an element, as ONNX's CumSum."""
    attrs: dict[str, Any] = {"special": special} if special else {}
    node.emit("pointwise", function=node.op, ops=1, **attrs)


for _primitive in ("cumsum", "cumprod", "cummax", "cummin"):
    rule(_primitive)(partial(_running, special=0))
rule("cumlogsumexp")(partial(_running, special=2))


@rule("sort")
def sort(node: Node) -> None:
    axis = int(node.params.get("dimension", -1))
    node.emit("sort", function="sort", length=_length(node, axis))


@rule("top_k")
def top_k(node: Node) -> None:
    node.emit("sort", function="topk", length=_length(node, int(node.params.get("axis", -1))))


@rule("approx_top_k")
def approx_top_k(node: Node) -> None:
    node.emit("sort", function="topk", length=_length(node, int(node.params["reduction_dimension"])))


def _length(node: Node, axis: int) -> Size:
    shape = node.ins[0].shape
    return shape[axis] if shape else 1


@rule("batch_norm")
def batch_norm(node: Node) -> None:
    """Of other producers: x, then scale, shift and (unless they are results) mean and variance by feature."""
    x, axis = node.ins[0], int(node.params["feature_index"])
    length = product(size for place, size in enumerate(x.shape) if place != axis)
    node.emit("norm", function="batch_norm", length=length)


@rule("quantize", "dequantize")
def quantize(node: Node) -> None:
    node.emit("quantize", fold=False, function=node.op)
