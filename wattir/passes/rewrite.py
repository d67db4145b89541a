"""What passes share: a new graph from new ops, with some tensors standing for others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from wattir.ir import Graph, Op, Tensor, replace_graph


def with_ops(
    graph: Graph,
    ops: Iterable[Op],
    renamed: Mapping[str, str] | None = None,
    added: Mapping[str, Tensor] | None = None,
) -> Graph:
    """The graph with these ops; reads of a `renamed` tensor read the one it stands for; unused tensors are dropped."""
    renamed = renamed or {}
    ops = tuple(_redirected(op, renamed) for op in ops)
    outputs = tuple(resolve(name, renamed) for name in graph.outputs)
    used = {name for op in ops for name in (*op.ins, *op.outs)}.union(outputs, graph.inputs)
    tensors = {name: t for name, t in {**graph.tensors, **(added or {})}.items() if name in used}
    return replace_graph(graph, ops=ops, outputs=outputs, tensors=tensors)


def resolve(name: str, renamed: Mapping[str, str]) -> str:
    """The tensor that `name` stands for in the end."""
    while name in renamed:
        name = renamed[name]
    return name


def _redirected(op: Op, renamed: Mapping[str, str]) -> Op:
    if not any(name in renamed for name in op.ins):
        return op
    return replace(op, ins=tuple(resolve(name, renamed) for name in op.ins))


def only_reader(graph: Graph, name: str) -> Op | None:
    """The single op that reads a tensor which is no output of the graph, else None."""
    readers = graph.readers.get(name, ())
    return readers[0] if len(readers) == 1 and name not in graph.outputs else None
