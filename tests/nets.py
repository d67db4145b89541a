"""Graphs written by hand, op by op, and what tests ask of graphs."""

from __future__ import annotations

from typing import Any

from wattir.costs import tabulate
from wattir.dims import Size
from wattir.graph_check import check_graph
from wattir.ir import Graph, GraphBuilder, Op


class Net:
    """A graph in the making: each method adds an op and gives the name of its result."""

    def __init__(self, dtype: str = "fp32") -> None:
        self.builder, self.dtype = GraphBuilder("net"), dtype
        self.inputs: list[str] = []

    def given(self, name: str, *shape: Size, role: str = "input", dtype: str = "") -> str:
        if role in ("input", "state"):
            self.inputs.append(name)
        return self.builder.tensor(name, shape, dtype or self.dtype, role)

    def op(self, kind: str, name: str, shape: tuple[Size, ...], *ins: str, dtype: str = "", **attrs: Any) -> str:
        out = self.builder.tensor(name, shape, dtype or self.dtype)
        self.builder.op(kind, ins, (out,), name=name, source=kind, **attrs)
        return out

    def matmul(
        self, name: str, groups: Size, m: Size, n: Size, k: Size, *ins: str, shape: tuple[Size, ...] = ()
    ) -> str:
        return self.op("matmul", name, shape or (groups, m, n), *ins, groups=groups, m=m, n=n, k=k)

    def pointwise(self, name: str, *ins: str, function: str = "add", like: str = "") -> str:
        shape = self.builder.tensors[like or ins[0]].shape
        return self.op("pointwise", name, shape, *ins, function=function, ops=1)

    def done(self, *outputs: str) -> Graph:
        return check_graph(self.builder.finish(tuple(self.inputs), outputs))


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def only(graph: Graph, kind: str) -> Op:
    (found,) = [op for op in graph.ops if op.kind == kind]
    return found


def work(graph: Graph, *columns: str) -> Size:
    return sum((getattr(row, column) * row.times for row in tabulate(graph) for column in columns), start=0)


def all_bytes(graph: Graph) -> Any:
    return work(graph, "weight_bytes", "in_bytes", "out_bytes", "state_bytes")
