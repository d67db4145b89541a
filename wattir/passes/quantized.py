"""Quantized networks written as dequantize -> contraction -> quantize become narrow contractions."""

from __future__ import annotations

from dataclasses import replace

from wattir.costs import op_work
from wattir.ir import Graph, Op
from wattir.kinds import DTYPE_BYTES
from wattir.passes.rewrite import only_reader, with_ops


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


def widen_in_products(graph: Graph) -> Graph:
    """Products read weights and caches as they are in memory where these are widened and scaled for them alone.

    ``x @ (w8.astype(bf16) * scale)``: a compiler widens on the way to the tensor units. The scales are read besides,
    and what the steps compute is done by the product's kernel.
    """
    return with_ops(graph, (_widening(graph, op) if op.kind in ("matmul", "attention") else op for op in graph.ops))


def _widening(graph: Graph, op: Op) -> Op:
    ins, scales, work = list(op.ins), list[str](), []
    for place, name in enumerate(op.ins[: 3 if op.kind == "attention" else 2]):
        source, steps = _widened(graph, op, name)
        if source is not None:
            ins[place] = source
            made = {name for step in steps for name in (source, *step.outs)}
            scales += [read for step in steps for read in step.ins if read not in made]
            work += [op_work(step, graph) for step in steps]
    if not work:
        return op
    fused = sum((each.ops for each in work), start=op.attrs.get("fused_ops", 0))
    return replace(op, ins=tuple(dict.fromkeys((*ins, *scales))), attrs={**op.attrs, "fused_ops": fused})


def _widened(graph: Graph, reader: Op, name: str) -> tuple[str | None, list[Op]]:
    """The narrow tensor behind an operand, and the steps that only this operand is made by."""
    steps: list[Op] = []
    made = graph.producers.get(name)
    while made is not None and made.times == reader.times and only_reader(graph, name) is (steps or [reader])[-1]:
        steps.append(made)
        if _widens(graph, made, HELD if reader.kind == "matmul" else (*HELD, "input")):
            return made.ins[0], steps
        name = _scaled(graph, made)
        made = graph.producers.get(name)
    return None, []


HELD = ("weight", "constant", "state")
"""Roles of what is narrow in memory; an input that attention reads so is a cache that the caller holds."""


def _widens(graph: Graph, op: Op, roles: tuple[str, ...]) -> bool:
    if op.kind not in ("copy", "quantize") or op.attrs["function"] not in ("cast", "dequantize"):
        return False
    source = graph.tensors[op.ins[0]]
    return source.role in roles and DTYPE_BYTES[source.dtype] <= 1


def _scaled(graph: Graph, op: Op) -> str:
    """What a step multiplies by, or adds to, fewer numbers; "" for any other step."""
    if op.kind != "pointwise" or op.attrs["function"] not in ("mul", "div", "add", "sub"):
        return ""
    elements = graph.tensors[op.outs[0]].elements
    whole = [name for name in op.ins if graph.tensors[name].elements == elements]
    return whole[0] if len(whole) == 1 else ""
