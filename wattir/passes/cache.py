"""Caches of keys and values: inputs that grow by what is new and are given back."""

from __future__ import annotations

from dataclasses import replace

from wattir.dims import Size
from wattir.ir import Graph, Op, replace_graph
from wattir.passes.rewrite import with_ops


def mark_caches(graph: Graph) -> Graph:
    """An input that is concatenated with new rows and given back longer is state, and so is the longer one."""
    state = {name for op in graph.ops if _grows_cache(graph, op) for name in (op.ins[0], op.outs[0])}
    tensors = {name: replace(t, role="state") if name in state else t for name, t in graph.tensors.items()}
    return replace_graph(graph, tensors=tensors) if state else graph


def append_in_place(graph: Graph) -> Graph:
    """Caches have room at their end: only the new rows are written, where an eager framework copies the whole."""
    return with_ops(graph, (_append(graph, op) if _grows_cache(graph, op) else op for op in graph.ops))


def _grows_cache(graph: Graph, op: Op) -> bool:
    if op.kind != "copy" or op.attrs["function"] != "concat" or len(op.ins) != 2 or op.outs[0] not in graph.outputs:
        return False
    past, new = op.ins
    known = past in graph.inputs and graph.tensors[past].role in ("input", "state")
    return known and new in graph.producers and len(graph.readers[past]) == 1


def _append(graph: Graph, op: Op) -> Op:
    updates: Size = graph.tensors[op.ins[1]].elements
    return replace(op, kind="scatter", attrs={"function": "cache_append", "updates": updates})
