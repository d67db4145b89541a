"""Reading and writing by index: Gather*, Scatter*, OneHot, and their like (Gather itself is in rules_move)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from wattir.dims import Dim, Size
from wattir.frontends.onnx.broadcast import Shape, axis_of, is_number
from wattir.frontends.onnx.node import Node, rule
from wattir.frontends.onnx.unknown_sizes import free_size


@rule("GatherElements")
def gather_elements(node: Node) -> None:
    node.result(node.value(1).shape)
    node.emit("gather", function="gather_elements")


def gather_nd(node: Node) -> None:
    """Indices [.., n] pick slices by their first n axes (after batch_dims)."""
    data, indices = node.value(0), node.value(1)
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        node.fail(f"indices whose last axis is {depth}", "a number of axes")
    start = int(node.attr("batch_dims", 0)) + depth
    node.result((*indices.shape[:-1], *data.shape[start:]))
    node.emit("gather", function="gather_nd")


rule("GatherND")(gather_nd)
rule("GatherND", domain="com.microsoft")(gather_nd)


@rule("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(node: Node) -> None:
    """Picks along the last axis; a vector counts as one row."""
    x, indices = node.value(0), node.value(1)
    lead: Shape = x.shape[:-1] or (1,)
    node.result((*lead, indices.elements))
    node.emit("gather", function="gather")


def _scatter(node: Node, function: str) -> None:
    """Updates are written into a copy of the data."""
    node.result(node.value(0).shape)
    node.emit("scatter", function=function, updates=node.value(2).elements)


rule("Scatter", "ScatterElements")(partial(_scatter, function="scatter_elements"))
rule("ScatterND")(partial(_scatter, function="scatter_nd"))


@rule("OneHot")
def one_hot(node: Node) -> None:
    indices, depth, values = node.value(0), node.known(1), node.value(2)
    axis = axis_of(node, node.attr("axis", -1), indices.rank + 1)
    size: Size = free_size(node, "depth") if depth is None else _whole(depth[0])
    node.result((*indices.shape[:axis], size, *indices.shape[axis:]), values.dtype)
    node.emit("pointwise", ins=(indices, values), function="one_hot", ops=1)


def _whole(element: Any) -> Size:
    return element if is_number(element) else int(element)


@rule("ReverseSequence")
def reverse_sequence(node: Node) -> None:
    node.result(node.value(0).shape)
    node.emit("copy", function="reverse")


@rule("Compress")
def compress(node: Node) -> None:
    """Slices where the condition holds: all of them, unless the condition is known."""
    x, condition = node.value(0), node.value(1)
    axis = node.attr("axis")
    shape: Shape = (x.elements,) if axis is None else x.shape
    at = 0 if axis is None else axis_of(node, axis, x.rank)
    kept: Size = shape[at] if condition.data is None else sum(bool(item) for item in condition.data)
    if condition.data is None:
        node.warn("the output is bounded by its maximum, every element kept")
    node.result((*shape[:at], kept, *shape[at + 1 :]))
    node.emit("gather", function="compress")


@rule("NonZero")
def non_zero(node: Node) -> None:
    """[rank, found] indices, row-major."""
    x = node.value(0)
    data = x.data
    if data is None or not all(isinstance(size, int) for size in x.shape):
        node.warn("the output is bounded by its maximum, every element found")
        node.result((x.rank, x.elements), "int64", fixed=False)
        node.emit("gather", function="non_zero")
        return
    found = [at for at, element in enumerate(data) if isinstance(element, Dim) or bool(element)]
    node.result((x.rank, len(found)), "int64", _unravelled(found, x.shape))
    node.emit("gather", function="non_zero")


def _unravelled(flat: Sequence[int], shape: Shape) -> tuple[int, ...]:
    rows, stride = [], 1
    for size in reversed(shape):
        rows.append([at // stride % int(size) for at in flat])  # type: ignore[arg-type]
        stride *= int(size)  # type: ignore[arg-type]
    return tuple(index for row in reversed(rows) for index in row)
