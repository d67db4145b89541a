"""Casts and moves between devices."""

from __future__ import annotations

from wattir.frontends.torch.node import Node, rule

CASTS = (
    "to", "_to_copy", "type_as", "float", "half", "double", "int", "long", "bfloat16", "bool", "byte", "char", "short",
    "_cast_Byte", "_cast_Char", "_cast_Double", "_cast_Float", "_cast_Half", "_cast_Int", "_cast_Long", "_cast_Short",
    "cpu", "cuda", "_to_cpu", "to_dense", "_to_dense", "to_mkldnn", "to_sparse",
)  # fmt: skip


@rule(*CASTS)
def cast(node: Node) -> None:
    """Nothing where the type stays; a move to another device is taken for one that is not needed."""
    x = node.tensor(0)
    if node.out.dtype == x.dtype:
        node.same(x)
        return
    node.emit("copy", ins=(x,), function="cast")
    node.lowering.env[node.out.name].strides = x.strides


@rule("convert_element_type", space="prims")
def convert(node: Node) -> None:
    cast(node)
