"""Normalizations and dropout."""

from __future__ import annotations

from wattir.dims import product
from wattir.frontends.onnx.broadcast import axes_of, axis_of
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import Node, Value, rule


@rule("BatchNormalization")
def batch_norm(node: Node) -> None:
    """Scale and B are parameters, mean and variance are buffers. One channel is normalized over all its places."""
    x = node.value(0)
    node.constant(3)
    node.constant(4)
    node.result(x.shape)
    channels = x.shape[1:2] or (1,)
    for index in range(1, len(node.out_names)):
        if node.wanted(index):
            node.result(channels, node.value(3).dtype, index=index)
    node.emit("norm", function="batch_norm", length=product((*x.shape[:1], *x.shape[2:])))


@rule("InstanceNormalization")
def instance_norm(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape)
    node.emit("norm", function="instance_norm", length=product(x.shape[2:]))


@rule("LayerNormalization")
def layer_norm(node: Node) -> None:
    """Over the axes from `axis` on; optional outputs are the mean and the inverse standard deviation."""
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", -1), x.rank)
    node.result(x.shape)
    statistics(node, x, axis, dtype_of(node.attr("stash_type", 1), "fp32"))
    node.emit("norm", function="layer_norm", length=product(x.shape[axis:]))


def statistics(node: Node, x: Value, axis: int, dtype: str) -> None:
    """Outputs 1 and 2 where they are wanted: one number for each row of the axes before `axis`."""
    shape = x.shape[:axis] + (1,) * (x.rank - axis)
    for index in (1, 2):
        if node.wanted(index):
            node.result(shape, dtype, index=index)


@rule("RMSNormalization")
def rms_norm(node: Node) -> None:
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", -1), x.rank)
    node.result(x.shape)
    node.emit("norm", function="rms_norm", length=product(x.shape[axis:]))


@rule("GroupNormalization")
def group_norm(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape)
    node.emit("norm", function="group_norm", length=product(x.shape[1:]) // int(node.attr("num_groups", 1)))


@rule("LpNormalization")
def lp_norm(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape)
    length = x.shape[axis_of(node, node.attr("axis", -1), x.rank)]
    node.emit("norm", function=f"l{node.attr('p', 2)}_norm", length=length)


@rule("LRN")
def lrn(node: Node) -> None:
    """Over `size` neighbouring channels."""
    node.result(node.value(0).shape)
    node.emit("norm", function="lrn", length=node.attr("size", 1))


@rule("MeanVarianceNormalization")
def mean_variance_norm(node: Node) -> None:
    x = node.value(0)
    axes = axes_of(node, node.attr("axes") or (0, 2, 3), x.rank)
    node.result(x.shape)
    node.emit("norm", function="mean_variance_norm", length=product(x.shape[axis] for axis in axes))


@rule("Dropout")
def dropout(node: Node) -> None:
    """A view in inference; random numbers and a product where training_mode says so."""
    x = node.value(0)
    training = node.known(2)
    trained = training is not None and bool(training[0])
    result = node.result(x.shape, x.dtype, fixed=False if trained else None)
    mask = _mask(node, x, trained)
    if trained:
        drawn = mask or node.inner("mask", x.shape, "bool")
        node.emit("random", ins=(), outs=(drawn,), function="bernoulli")
        node.emit("pointwise", ins=(x, drawn), outs=(result,), function="dropout", ops=2)
        return
    node.emit("view", ins=(x,), outs=(result,), function="dropout")
    if mask is not None:
        node.emit("copy", ins=(), outs=(mask,), function="fill")


def _mask(node: Node, x: Value, trained: bool) -> Value | None:
    if not node.wanted(1):
        return None
    return node.result(x.shape, "bool" if node.opset >= 10 else x.dtype, index=1, fixed=False if trained else None)
