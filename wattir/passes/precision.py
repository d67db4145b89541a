"""What-if: the same network in another precision."""

from __future__ import annotations

from dataclasses import replace

from wattir.errors import InputError, suggestion
from wattir.ir import Graph, Op, Tensor, replace_graph
from wattir.kinds import CONTRACTIONS, FLOATS

PRECISIONS = {
    "bf16": ("bf16", None),
    "fp16": ("fp16", None),
    "fp32": ("fp32", None),
    "tf32": ("fp32", "tf32"),
    "int8": ("fp16", "int8"),
    "fp8": ("bf16", "fp8"),
}
"""name -> dtype that floating tensors are held in, and what contractions compute in where that differs."""


def with_precision(graph: Graph, precision: str | None) -> Graph:
    """The graph with its floating tensors held, and its contractions computed, in `precision`; None changes nothing.

    int8 and fp8: weights of contractions and activations that only contractions read are narrow, the rest is 16 bits
    wide. tf32: 32 bits wide, contractions on TF32 units. Integer tensors and already narrow weights stay.
    """
    if precision is None:
        return graph
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise InputError(f"dtype {precision!r}: not known; expected one of {known}{suggestion(precision, PRECISIONS)}")
    held, math = PRECISIONS[precision]
    narrow = _read_by_contractions_alone(graph) if math in ("int8", "fp8") else frozenset()
    tensors = {name: _cast(tensor, math if name in narrow and math else held) for name, tensor in graph.tensors.items()}
    ops = tuple(_computed_in(op, math) for op in graph.ops)
    return replace_graph(graph, tensors=tensors, ops=ops)


def _read_by_contractions_alone(graph: Graph) -> frozenset[str]:
    return frozenset(
        name
        for name, readers in graph.readers.items()
        if readers and all(op.kind in ("matmul", "conv") and name in op.ins[:2] for op in readers)
    )


def _cast(tensor: Tensor, dtype: str) -> Tensor:
    return replace(tensor, dtype=dtype) if tensor.dtype in FLOATS - {"fp8", "fp4"} else tensor


def _computed_in(op: Op, math: str | None) -> Op:
    if op.kind not in CONTRACTIONS or math is None or op.attrs.get("math") == "int8":
        return op
    narrow = math in ("int8", "fp8")
    return op if narrow and op.kind == "recurrent" else replace(op, attrs={**op.attrs, "math": math})
