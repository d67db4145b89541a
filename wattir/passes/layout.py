"""Canonical form: dead ops, views, and transposes that a contraction reads through."""

from __future__ import annotations

from collections.abc import Container

from wattir.dims import bounds
from wattir.ir import Graph, Op
from wattir.passes.rewrite import resolve, with_ops


def drop_dead(graph: Graph) -> Graph:
    """Without the ops whose results nobody reads. State and collectives stay: they act on the world."""
    live = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if not live.isdisjoint(op.outs) or op.kind == "collective" or _writes_state(op, graph):
            kept.append(op)
            live.update(op.ins)
    return with_ops(graph, reversed(kept))


def _writes_state(op: Op, graph: Graph) -> bool:
    return any(graph.tensors[name].role == "state" for name in op.outs)


def drop_views(graph: Graph) -> Graph:
    """Without views: whoever reads a view's result reads what it is a view of.

    A tensor that grew in the frontend's eyes (a broadcast view) keeps its small bytes, which is what is read. A view of
    a part (a slice) stays, at no cost: whoever reads it reads that part alone.
    """
    return _without(graph, [op for op in graph.ops if op.kind == "view" and op.ins and not _is_part(graph, op)])


def _is_part(graph: Graph, op: Op) -> bool:
    whole, part = graph.tensors[op.ins[0]], graph.tensors[op.outs[0]]
    return part.dtype == whole.dtype and bounds(part.elements - whole.elements)[1] < 0


def fold_transposes(graph: Graph) -> Graph:
    """Without the transposes that only contractions read, in turn or at once: these take operands in any layout."""
    free: dict[int, Op] = {}
    for op in reversed(graph.ops):
        if _is_transpose(op) and _only_contractions_read(graph, op.outs[0], free):
            free[id(op)] = op
    return _without(graph, list(reversed(free.values())))


def _is_transpose(op: Op) -> bool:
    return op.kind == "copy" and op.attrs["function"] == "transpose"


def _only_contractions_read(graph: Graph, name: str, free: Container[int]) -> bool:
    readers = graph.readers[name]
    folded = all(op.kind in ("matmul", "attention") or id(op) in free for op in readers)
    return bool(readers) and name not in graph.outputs and folded


def _without(graph: Graph, ops: list[Op]) -> Graph:
    renamed: dict[str, str] = {}
    gone = {id(op) for op in ops}
    for op in ops:
        renamed.update({out: resolve(op.ins[0], renamed) for out in op.outs})
    return with_ops(graph, (op for op in graph.ops if id(op) not in gone), renamed)
