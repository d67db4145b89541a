"""Normalizations."""

from __future__ import annotations

from wattir.dims import Size, product
from wattir.frontends.torch.node import Node, rule


def emit_norm(node: Node, function: str, length: Size) -> None:
    node.emit("norm", function=function, length=length)


@rule("layer_norm", "native_layer_norm")
def layer_norm(node: Node) -> None:
    emit_norm(node, "layer_norm", product(node.ints(1, "normalized_shape")))


@rule("rms_norm", "_fused_rms_norm")
def rms_norm(node: Node) -> None:
    emit_norm(node, "rms_norm", product(node.ints(1, "normalized_shape")))


@rule("group_norm")
def group_norm(node: Node) -> None:
    x = node.tensor(0)
    emit_norm(node, "group_norm", product(x.shape[1:]) // node.arg(1, "num_groups", 1))


@rule("native_group_norm")
def native_group_norm(node: Node) -> None:
    x = node.tensor(0)
    emit_norm(node, "group_norm", product(x.shape[1:]) // node.arg(6, "group", 1))


@rule("instance_norm")
def instance_norm(node: Node) -> None:
    emit_norm(node, "instance_norm", product(node.tensor(0).shape[2:]))


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
      "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_impl_index", "_batch_norm_no_update",
      "_batch_norm_with_update", "_native_batch_norm_legit_functional", "batch_norm_elemt",
      "_batch_norm_with_update_functional", "quantized_batch_norm")  # fmt: skip
def batch_norm(node: Node) -> None:
    """One channel is normalized over all its places; with running statistics it is a scale and a shift."""
    x = node.tensor(0)
    emit_norm(node, "batch_norm", product((*x.shape[:1], *x.shape[2:])))


@rule("local_response_norm")
def lrn(node: Node) -> None:
    emit_norm(node, "lrn", node.arg(1, "size", 5))


@rule("_weight_norm", "_weight_norm_interface")
def weight_norm(node: Node) -> None:
    """v g / |v|, over all axes but one."""
    v, g = node.tensor(0), node.tensor(1)
    emit_norm(node, "weight_norm", v.elements // g.elements)
