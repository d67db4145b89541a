"""Softmax and normalizations that a framework writes out as reductions and arithmetic: what their patterns share.

A pattern starts from one op (the exponential, the root), finds the tensor `x` that it all comes from, and grows over
the arithmetic behind it for as long as nothing else is read. The ops so found become one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from wattir.dims import Size, exact_div
from wattir.ir import Graph, Op
from wattir.passes.rewrite import with_ops

ARITHMETIC = frozenset({
    "add", "sub", "mul", "div", "neg", "square", "integer_pow", "pow", "max", "min", "clamp", "clip", "sqrt", "rsqrt",
    "reciprocal", "abs", "cast", "transpose", "where", "log", "exp", "is_finite", "equal", "greater", "expand",
})  # fmt: skip
FEW = 24  # ops of one pattern


@dataclass(frozen=True, slots=True)
class Region:
    """Ops in order that become `op`, which stands at the place of the last of them."""

    members: tuple[Op, ...]
    op: Op


def replace_regions(graph: Graph, found: Iterable[Region]) -> Graph:
    """The graph with each region as one op; of two that overlap, the first is taken."""
    taken: set[int] = set()
    fused: dict[int, Op] = {}
    for region in found:
        marks = {id(op) for op in region.members}
        if marks.isdisjoint(taken):
            taken |= marks
            fused[id(region.members[-1])] = region.op
    if not taken:
        return graph
    kept = (fused.get(id(op), op) for op in graph.ops if id(op) not in taken or id(op) in fused)
    return with_ops(graph, kept)


def function_of(op: Op) -> str:
    """The op's function without what a mask adds to its name."""
    return str(op.attrs.get("function", "")).removeprefix("triangle_").removeprefix("reduce_")


def is_arithmetic(op: Op) -> bool:
    """Pointwise arithmetic, or a cast."""
    return op.kind in ("pointwise", "copy") and function_of(op) in ARITHMETIC


def made_by(graph: Graph, name: str) -> Op | None:
    return graph.producers.get(name)


def behind(graph: Graph, name: str, stop: Callable[[Op], bool]) -> tuple[list[Op], list[Op]]:
    """The arithmetic that makes a small tensor, back to the ops where `stop` says so: (arithmetic, stops)."""
    passed: dict[int, Op] = {}
    stops: dict[int, Op] = {}
    stack = [name]
    while stack and len(passed) < FEW:
        op = made_by(graph, stack.pop())
        if op is None or id(op) in passed or id(op) in stops:
            continue
        if stop(op):
            stops[id(op)] = op
        elif is_arithmetic(op):
            passed[id(op)] = op
            stack += op.ins
    return list(passed.values()), list(stops.values())


def grow(graph: Graph, x: str, seed: Iterable[Op], length: Size, masks: bool = False) -> Iterator[list[Op]]:
    """The seed with more and more of the arithmetic and the sums behind it, the longest first."""
    members = {id(op): op for op in seed}
    least = len(members)
    made = {name for op in members.values() for name in op.outs}
    for _ in range(FEW):
        added = next(_next(graph, x, members, made, length, masks), None)
        if added is None:
            break
        members[id(added)] = added
        made.update(added.outs)
    places = {id(op): place for place, op in enumerate(graph.ops)}
    order = sorted(members.values(), key=lambda op: places[id(op)])
    yield from (order[:count] for count in range(len(order), least, -1))


def _next(graph: Graph, x: str, members: dict[int, Op], made: set[str], length: Size, masks: bool) -> Iterator[Op]:
    for name in list(made):
        for op in graph.readers.get(name, ()):
            if id(op) not in members and _belongs(graph, op, x, made, length, masks):
                yield op


def _belongs(graph: Graph, op: Op, x: str, made: set[str], length: Size, masks: bool) -> bool:
    if op.kind == "reduction":
        return function_of(op) in ("sum", "mean") and op.attrs["length"] == length and op.ins[0] in made
    if not is_arithmetic(op):
        return False
    others = [name for name in op.ins if name not in made and name != x]
    return all(_is_parameter(graph, name) or (masks and function_of(op) == "where") for name in others)


def _is_parameter(graph: Graph, name: str) -> bool:
    return graph.tensors[name].role in ("weight", "constant")


def only_result(graph: Graph, members: list[Op]) -> str | None:
    """The one tensor that is read from outside, if the last of the members makes it; else None."""
    inside = {id(op) for op in members}
    seen = [name for op in members for name in op.outs if _is_seen(graph, inside, name)]
    return seen[0] if len(seen) == 1 and seen[0] in members[-1].outs else None


def _is_seen(graph: Graph, inside: set[int], name: str) -> bool:
    return name in graph.outputs or any(id(op) not in inside for op in graph.readers[name])


def fused(graph: Graph, members: list[Op], x: str, kind: str, function: str, length: Size) -> Region | None:
    """The region as one op, if all of it runs as often and only a result as large as `x` is read."""
    out = only_result(graph, members)
    if out is None or len({op.times for op in members}) != 1:
        return None
    if graph.tensors[out].elements != graph.tensors[x].elements:
        return None
    made = {name for op in members for name in op.outs}
    others = dict.fromkeys(name for op in members for name in op.ins if name not in made and name != x)
    source = "+".join(dict.fromkeys(op.source for op in members))
    attrs = {"function": function, "length": length}
    op = Op(kind, (x, *others), (out,), _name(members, kind), source, attrs, members[-1].times)
    return Region(tuple(members), op)


def _name(members: list[Op], kind: str) -> str:
    """The path of the first op that has one (``a.b.rsqrt``), with the kind in place of its last word."""
    paths = [op.name.rpartition(".")[0] for op in members if "/" not in op.name]
    if not paths:
        return members[0].name
    path = next((path for path in paths if path), "")
    return f"{path}.{kind}" if path else kind


def is_row_of(graph: Graph, small: str, x: str, length: Size) -> bool:
    """Whether a tensor has one element for each `length` of x."""
    return exact_div(graph.tensors[x].elements, length) == graph.tensors[small].elements
