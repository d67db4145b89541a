"""Convolutions of every rank."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, product
from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.program import TensorRef


def emit_conv(
    node: Node, x: Value, weight: Value, bias: Value | None, groups: Size, *, transposed: bool = False,
    out: TensorRef | Value | None = None,
) -> None:  # fmt: skip
    """x [n, c, ..] by weight [o, c / groups, ..], or [c, o / groups, ..] transposed; n may be absent."""
    out = node.out if out is None else out
    rank = weight.rank - 2
    batch = x.shape[0] if x.rank == rank + 2 else 1
    c_out = weight.shape[1] * groups if transposed else weight.shape[0]
    sizes: dict[str, Any] = {"batch": batch, "c_in": x.shape[-rank - 1], "c_out": c_out, "groups": groups}
    spatial: dict[str, Any] = {"in_spatial": x.shape[-rank:], "out_spatial": out.shape[-rank:]}
    more: dict[str, Any] = {"transposed": True} if transposed else {}
    node.emit("conv", ins=(x, weight, bias), outs=(out,), **sizes, kernel=weight.shape[2:], **spatial, **more)


@rule("conv1d", "conv2d", "conv3d")
def conv(node: Node) -> None:
    emit_conv(node, node.tensor(0), node.tensor(1, "weight"), node.value(2, "bias"), node.arg(6, "groups", 1))


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(node: Node) -> None:
    ins = node.tensor(0), node.tensor(1, "weight"), node.value(2, "bias")
    emit_conv(node, *ins, node.arg(6, "groups", 1), transposed=True)


@rule("convolution", "_convolution", "convolution_overrideable")
def convolution(node: Node) -> None:
    ins = node.tensor(0), node.tensor(1, "weight"), node.value(2, "bias")
    emit_conv(node, *ins, node.arg(8, "groups", 1), transposed=bool(node.arg(6, "transposed", False)))


@rule("cudnn_convolution", "mkldnn_convolution", "_convolution_mode", "miopen_convolution", "_conv_depthwise2d",
      "conv_depthwise3d", "thnn_conv2d", "_slow_conv2d_forward", "slow_conv3d", "slow_conv_dilated2d",
      "slow_conv_dilated3d", "cudnn_convolution_relu", "cudnn_convolution_add_relu", "slow_conv3d_forward",
      "_nnpack_spatial_convolution")  # fmt: skip
def backend_conv(node: Node) -> None:
    """The groups follow from the channels of input and weight."""
    x, weight, *others = node.inputs()
    groups = x.shape[-weight.rank + 1] // weight.shape[1]
    emit_conv(node, x, weight, others[0] if others else None, groups)


@rule("cudnn_convolution_transpose", "slow_conv_transpose2d", "slow_conv_transpose3d", "miopen_convolution_transpose")
def backend_transposed(node: Node) -> None:
    x, weight, *others = node.inputs()
    emit_conv(node, x, weight, others[0] if others else None, node.out.shape[1] // weight.shape[1], transposed=True)


@rule("conv_tbc")
def conv_tbc(node: Node) -> None:
    """x [time, batch, channels], weight [kernel, c_in, c_out]."""
    x, weight = node.tensor(0), node.tensor(1)
    kernel, c_in, c_out = weight.shape
    node.emit("conv", batch=x.shape[1], c_in=c_in, c_out=c_out, groups=1, kernel=(kernel,),
              in_spatial=x.shape[:1], out_spatial=node.out.shape[:1])  # fmt: skip


@rule("deform_conv2d", space="torchvision")
def deform_conv(node: Node) -> None:
    """Samples the input at offset places (4 taps each), then a convolution of what was sampled."""
    x, weight, offset, mask = (node.tensor(index) for index in range(4))
    groups = x.shape[1] // weight.shape[1]
    sampled = node.inner("sampled", (x.shape[0], x.shape[1] * product(weight.shape[2:]), *node.out.shape[2:]), x.dtype)
    node.emit("resize", ins=(x, offset, mask), outs=(sampled,), function="deform", taps=4)
    sizes = {"batch": x.shape[0], "c_in": x.shape[1], "c_out": weight.shape[0], "groups": groups}
    node.emit("conv", ins=(sampled, weight, node.value(4)), outs=(node.out,), **sizes, kernel=weight.shape[2:],
              in_spatial=x.shape[2:], out_spatial=node.out.shape[2:])  # fmt: skip
