"""Activations between int8 products in int8: what an engine that is built ahead of time (TensorRT) makes of a network.

Frameworks hold the rest of a quantized network, its residuals and what is pooled or moved, in 16 bits.
"""

from __future__ import annotations

from dataclasses import replace

from wattir.ir import Graph, Tensor, replace_graph
from wattir.kinds import FLOATS

MOVES = frozenset({"copy", "gather", "pooling", "resize"})
"""Kinds whose results are of the type of what they read."""


def narrow_activations(graph: Graph) -> Graph:
    """The graph with all that int8 products make or read in int8, also where it is moved on the way."""
    products = (op for op in graph.ops if op.attrs.get("math") == "int8")
    narrow = {name for op in products for name in (*op.ins, *op.outs)}
    for ops in (graph.ops[::-1], graph.ops):
        for op in ops:
            if op.kind in MOVES and not narrow.isdisjoint((*op.ins, *op.outs)):
                narrow.update((*op.ins, *op.outs))
    tensors = {name: _narrowed(tensor) if name in narrow else tensor for name, tensor in graph.tensors.items()}
    return replace_graph(graph, tensors=tensors)


def _narrowed(tensor: Tensor) -> Tensor:
    return replace(tensor, dtype="int8") if tensor.dtype in FLOATS and tensor.role != "state" else tensor
