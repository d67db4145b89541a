"""com.microsoft.nchwc: what onnxruntime saves at its highest level of optimisation on x86.

Channels lie in blocks of 8 or 16 and are padded to whole ones; padded ones run too, and count. Shapes are written
[n, c, h, w] all the same. Source: onnxruntime, nchwc_schema_defs.cc and nchwc_transformer.cc.
"""

from __future__ import annotations

from wattir.frontends.onnx.node import Node, rule
from wattir.frontends.onnx.rules_conv import conv_sizes
from wattir.frontends.onnx.rules_fused import activation
from wattir.frontends.onnx.rules_image import upsample
from wattir.frontends.onnx.rules_pool import global_pool, pool

NCHWC = "com.microsoft.nchwc"

rule("MaxPool", "AveragePool", domain=NCHWC)(pool)
rule("GlobalMaxPool", "GlobalAveragePool", domain=NCHWC)(global_pool)
rule("Upsample", domain=NCHWC)(upsample)


@rule("Conv", domain=NCHWC)
def blocked_conv(node: Node) -> None:
    """x, weight, bias, and a tensor that is added. The weight says how many channels of x are read."""
    x, weight = node.value(0).shape, node.value(1).shape
    read = (x[0], weight[1] * int(node.attr("group", 1)), *x[2:])
    shape, sizes = conv_sizes(node, read, weight)
    result = node.result(shape)
    node.emit("conv", **sizes, **activation(node, result))


@rule("ReorderInput", domain=NCHWC)
def to_blocks(node: Node) -> None:
    shape = node.value(0).shape
    node.result((shape[0], shape[-1], *shape[1:-1]) if node.attr("channels_last", 0) else shape)
    node.emit("copy", function="reorder")


@rule("ReorderOutput", domain=NCHWC)
def from_blocks(node: Node) -> None:
    """`channels`: those that are no padding."""
    shape = node.value(0).shape
    batch, channels, spatial = shape[0], node.attr("channels", 0), shape[2:]
    node.result((batch, *spatial, channels) if node.attr("channels_last", 0) else (batch, channels, *spatial))
    node.emit("copy", function="reorder")
