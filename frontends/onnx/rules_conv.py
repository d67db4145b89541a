"""Convolutions: plain, transposed, deformable, causal with state."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, product
from wattir.frontends.onnx.attending import mark_state
from wattir.frontends.onnx.broadcast import Shape, text, transposed_out, windows_out
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import output


def conv_sizes(node: Node, x: Shape, weight: Shape, *, last: bool = False) -> tuple[Shape, dict[str, Any]]:
    """Output shape and attributes of a convolution of x [n, c, ..] (`last`: [n, .., c]) by weight [o, c/g, ..].

    Channels-last fused ops hold the weight as [o, .., c/g].
    """
    spatial = x[1:-1] if last else x[2:]
    c_in = x[-1] if last else x[1]
    kernel = weight[1:-1] if last else weight[2:]
    if len(kernel) != len(spatial) or len(x) < 3:
        node.fail(f"input with {len(x)} axes and weight with {len(weight)}", "as many, and at least 3")
    out = windows_out(node, spatial, kernel)
    shape = (x[0], *out, weight[0]) if last else (x[0], weight[0], *out)
    sizes: dict[str, Any] = {"batch": x[0], "c_in": c_in, "c_out": weight[0], "groups": node.attr("group", 1)}
    sizes |= {"kernel": kernel, "in_spatial": spatial, "out_spatial": out}
    return shape, sizes


def transposed_sizes(node: Node, x: Shape, weight: Shape) -> tuple[Shape, dict[str, Any]]:
    """The same of a transposed convolution by weight [c, o/g, ..]."""
    groups = node.attr("group", 1)
    kernel = weight[2:]
    if len(kernel) != len(x) - 2 or len(x) < 3:
        node.fail(f"input with {len(x)} axes and weight with {len(weight)}", "as many, and at least 3")
    out = transposed_out(node, x[2:], kernel)
    c_out = weight[1] * groups
    sizes: dict[str, Any] = {"batch": x[0], "c_in": x[1], "c_out": c_out, "groups": groups, "kernel": kernel}
    sizes |= {"in_spatial": x[2:], "out_spatial": out, "transposed": True}
    return (x[0], c_out, *out), sizes


@rule("Conv")
def conv(node: Node) -> None:
    shape, sizes = conv_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape)
    node.emit("conv", **sizes)


@rule("ConvTranspose")
def conv_transpose(node: Node) -> None:
    shape, sizes = transposed_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape)
    node.emit("conv", **sizes)


@rule("DeformConv")
def deform_conv(node: Node) -> None:
    """Samples the input at offset places (4 taps of each kernel position), then a convolution of what was sampled."""
    x, weight, offset = node.value(0), node.value(1), node.value(2)
    shape, sizes = conv_sizes(node, x.shape, weight.shape)
    result = node.result(shape)
    points = product(sizes["kernel"])
    sampled = node.inner("sampled", (x.shape[0], x.shape[1] * points, *sizes["out_spatial"]), x.dtype)
    mask = node.ins[4] if node.given(4) else None
    node.emit("resize", ins=(x, offset, mask), outs=(sampled,), function="deform", taps=2 ** len(sizes["kernel"]))
    bias = node.ins[3] if node.given(3) else None
    node.emit("conv", ins=(sampled, weight, bias), outs=(result,), **sizes)


@rule("CausalConvWithState")
def causal_conv(node: Node) -> None:
    """Depthwise over [batch, channels, length]; the state is the last ``kernel - 1`` positions."""
    emit_causal_conv(node, node.value(0), node.value(1), node.ins[2] if node.given(2) else None)


def emit_causal_conv(node: Node, x: Value, weight: Value, bias: Value | None) -> None:
    batch, channels, length = x.shape
    kernel = weight.shape[-1]
    past = node.ins[3] if node.given(3) else None
    mark_state(node, past)
    result = node.result(x.shape)
    state: Shape = (batch, channels, kernel - 1)
    present = output(node, 1, state, x.dtype, "state")
    sizes = {"batch": batch, "c_in": channels, "c_out": channels, "groups": channels, "kernel": (kernel,)}
    spatial = {"in_spatial": (length,), "out_spatial": (length,)}
    activation = text(node.attr("activation", "none"))
    fused: dict[str, Size] = {}
    if activation not in ("none", ""):
        fused = {"fused_ops": 3 * result.elements, "fused_special": result.elements}  # x sigmoid(x)
    node.emit("conv", ins=(x, weight, bias, past), outs=(result,), **sizes, **spatial, **fused)
    node.emit("copy", ins=(x,), outs=(present,), function="state")
