"""Biases in eager frameworks: part of a product's kernel, a kernel of their own after a convolution."""

from __future__ import annotations

from dataclasses import replace

from wattir.ir import Graph, Op, Tensor
from wattir.kinds import FLOATS
from wattir.passes.rewrite import only_reader, with_ops


def join_bias(graph: Graph) -> Graph:
    """Products by a weight take in the addition of a weight vector to their result, as BLAS epilogues do."""
    joined = {id(op): _product(graph, op) for op in graph.ops if _is_bias(graph, op)}
    gone = {id(product) for product in joined.values()}
    ops = (_joined(joined[id(op)], op) if id(op) in joined else op for op in graph.ops if id(op) not in gone)
    return with_ops(graph, ops) if joined else graph


def split_conv_bias(graph: Graph) -> Graph:
    """Convolutions with a bias become a convolution and a pointwise addition: PyTorch's cuDNN path adds it in place."""
    ops: list[Op] = []
    added: dict[str, Tensor] = {}
    for op in graph.ops:
        bias = _conv_bias(graph, op)
        if bias is None:
            ops.append(op)
            continue
        bare = f"{op.outs[0]}~without_bias"
        added[bare] = replace(graph.tensors[op.outs[0]], role="value")
        ops.append(replace(op, ins=tuple(name for name in op.ins if name != bias), outs=(bare,)))
        ops.append(Op("pointwise", (bare, bias), op.outs, op.name, "bias", {"function": "add", "ops": 1}, op.times))
    return with_ops(graph, ops, added=added) if added else graph


def _conv_bias(graph: Graph, op: Op) -> str | None:
    """The weight vector among a floating convolution's inputs."""
    if op.kind != "conv" or len(op.outs) != 1 or graph.tensors[op.outs[0]].dtype not in FLOATS:
        return None
    vectors = [
        name for name in op.ins[2:] if graph.tensors[name].role == "weight" and len(graph.tensors[name].shape) == 1
    ]
    return vectors[0] if len(op.ins) == 3 and vectors else None


def _is_bias(graph: Graph, op: Op) -> bool:
    if op.kind != "pointwise" or op.attrs["function"] != "add" or len(op.ins) != 2:
        return False
    vectors = [name for name in op.ins if graph.tensors[name].role in ("weight", "constant")]
    if len(vectors) != 1 or len(graph.tensors[vectors[0]].shape) != 1:
        return False
    made = _maker(graph, op)
    if made is None or made.kind != "matmul" or made.times != op.times or only_reader(graph, made.outs[0]) is not op:
        return False
    return any(graph.tensors[name].role == "weight" for name in made.ins) and len(made.ins) == 2


def _maker(graph: Graph, op: Op) -> Op | None:
    return next((graph.producers[name] for name in op.ins if name in graph.producers), None)


def _product(graph: Graph, op: Op) -> Op:
    found = _maker(graph, op)
    assert found is not None
    return found


def _joined(product: Op, add: Op) -> Op:
    bias = next(name for name in add.ins if name != product.outs[0])
    return replace(product, ins=(*product.ins, bias), outs=add.outs, source=f"{product.source}+{add.source}")
