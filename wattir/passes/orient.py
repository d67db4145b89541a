"""Products around a softmax, written with their operands in either order, turned so that attention is seen in them."""

from __future__ import annotations

from dataclasses import replace

from wattir.ir import Graph, Op
from wattir.passes.rewrite import only_reader, with_ops

_BETWEEN = ("pointwise", "copy", "quantize")


def orient_products(graph: Graph) -> Graph:
    """Scores have keys as columns, and the second product has the probabilities first: ``a b`` is ``(b^T a^T)^T``.

    ``einsum`` puts its operands in the order that suits its output; the work is the same.
    """
    turned: dict[int, Op] = {}
    for op in graph.ops:
        if op.kind == "softmax":
            turned.update(_scores(graph, op))
            turned.update(_mix(graph, op))
    return with_ops(graph, (turned.get(id(op), op) for op in graph.ops)) if turned else graph


def _scores(graph: Graph, softmax: Op) -> dict[int, Op]:
    op: Op | None = graph.producers.get(softmax.ins[0])
    elements = graph.tensors[softmax.outs[0]].elements
    while op is not None and op.kind in _BETWEEN:
        makers = [graph.producers.get(name) for name in op.ins if graph.tensors[name].elements == elements]
        op = next((made for made in makers if made is not None), None)
    if op is None or op.kind != "matmul" or op.attrs["n"] == softmax.attrs["length"]:
        return {}
    return {id(op): _turned(op)} if op.attrs["m"] == softmax.attrs["length"] else {}


def _mix(graph: Graph, softmax: Op) -> dict[int, Op]:
    op, elements = softmax, graph.tensors[softmax.outs[0]].elements
    while True:
        reader = only_reader(graph, op.outs[0])
        if reader is None:
            return {}
        if reader.kind == "matmul":
            return {id(reader): _turned(reader)} if reader.ins[1:2] == op.outs[:1] else {}
        if reader.kind not in _BETWEEN or graph.tensors[reader.outs[0]].elements != elements:
            return {}
        op = reader


def _turned(op: Op) -> Op:
    ins = (op.ins[1], op.ins[0], *op.ins[2:]) if len(op.ins) > 1 else op.ins
    return replace(op, ins=ins, attrs={**op.attrs, "m": op.attrs["n"], "n": op.attrs["m"]})
