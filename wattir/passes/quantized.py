"""Quantized networks written as dequantize -> contraction -> quantize become narrow contractions."""

from __future__ import annotations

from dataclasses import replace

from wattir.ir import Graph, Op
from wattir.kinds import DTYPE_BYTES
from wattir.passes.rewrite import with_ops


def narrow_contractions(graph: Graph) -> Graph:
    """Contractions read the narrow tensors behind `dequantize`; with both operands narrow they compute in int8.

    With only the weight narrow (weight-only quantization) the math stays in floats and the weight's stream shrinks.
    The dequantize ops that nobody reads any more are left to `drop_dead`.
    """
    return with_ops(graph, (_narrowed(graph, op) if op.kind in ("matmul", "conv") else op for op in graph.ops))


def _narrowed(graph: Graph, op: Op) -> Op:
    sources = [_behind_dequantize(graph, name) for name in op.ins]
    if all(source is None for source in sources):
        return op
    ins = tuple(source or name for source, name in zip(sources, op.ins, strict=True))
    integer = all(source is not None and DTYPE_BYTES[graph.tensors[source].dtype] == 1 for source in sources[:2])
    widest = graph.tensors[op.ins[0]].dtype
    attrs = {**op.attrs, "math": "int8" if integer else op.attrs.get("math", widest)}
    return replace(op, ins=ins, attrs=attrs)


def _behind_dequantize(graph: Graph, name: str) -> str | None:
    made = graph.producers.get(name)
    if made is None or made.kind != "quantize" or made.attrs["function"] != "dequantize":
        return None
    return made.ins[0]
