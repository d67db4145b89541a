"""Batch norms in inference are a scale and a shift per channel, which the convolution before them takes in."""

from __future__ import annotations

from wattir.ir import Graph, Op
from wattir.passes.rewrite import only_reader, with_ops


def fold_batch_norm(graph: Graph) -> Graph:
    """Without the batch norms that alone read a convolution or matrix product with a weight."""
    renamed: dict[str, str] = {}
    kept: list[Op] = []
    for op in graph.ops:
        if _folds(graph, op):
            renamed[op.outs[0]] = op.ins[0]
        else:
            kept.append(op)
    return with_ops(graph, kept, renamed)


def _folds(graph: Graph, op: Op) -> bool:
    if op.kind != "norm" or op.attrs["function"] != "batch_norm":
        return False
    made = graph.producers.get(op.ins[0])
    return made is not None and made.kind in ("conv", "matmul") and only_reader(graph, op.ins[0]) is op
