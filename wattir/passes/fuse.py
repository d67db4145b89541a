"""Fusion for compiled runtimes: pointwise ops and copies join their producer's kernel, reductions take in theirs.

A kernel is one anchor at most (a contraction, norm, softmax, reduction, pooling ...) with pointwise work around it:

1. a pointwise op, cast, copy or (de)quantize joins the kernel that makes one of its inputs, as its epilogue, if it has
   as many elements as the kernel's result; its other inputs are read by the kernel;
2. a norm, softmax or reduction takes in a kernel of pointwise work that it alone reads, as its prologue;
3. never if the join would make two kernels wait for each other.

What a fused kernel reads and writes is what crosses its border. This is what XLA, TensorRT and inductor share; none of
them does exactly this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from wattir.costs import op_work
from wattir.dims import Size
from wattir.ir import Graph, Op
from wattir.passes.rewrite import with_ops

POINTWISE = frozenset({"pointwise", "copy", "quantize", "random"})
TAKES_EPILOGUE = POINTWISE | {"matmul", "conv", "norm", "softmax", "reduction", "pooling", "resize", "gather"}
TAKES_PROLOGUE = frozenset({"norm", "softmax", "reduction"})


@dataclass(slots=True)
class _Kernel:
    """Ops that run as one. `elements`: of its result; `last`: place of its last op; `inputs`: kernels it waits for."""

    ops: list[Op]
    elements: Size
    last: int
    inputs: set[int] = field(default_factory=set)

    @property
    def anchor(self) -> Op:
        return next((op for op in self.ops if op.kind not in POINTWISE), self.ops[0])


def fuse(graph: Graph) -> Graph:
    """The graph with one op for each kernel."""
    grouping = _Grouping(graph)
    for place, op in enumerate(graph.ops):
        grouping.place(place, op)
    return with_ops(graph, [_kernel_op(graph, kernel) for kernel in grouping.in_order()])


class _Grouping:
    """Kernels by the place of their first op, and which kernel makes each tensor."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.kernels: dict[int, _Kernel] = {}
        self.maker: dict[str, int] = {}

    def place(self, place: int, op: Op) -> None:
        sources = list(dict.fromkeys(self.maker[name] for name in op.ins if name in self.maker))
        home = next((number for number in reversed(sources) if self._joins(op, number, sources)), None)
        if home is None:
            home = place
            self.kernels[home] = _Kernel([], self._elements(op), place)
        kernel = self.kernels[home]
        kernel.ops.append(op)
        kernel.elements, kernel.last = self._elements(op), place
        kernel.inputs.update(number for number in sources if number != home)
        self.maker.update(dict.fromkeys(op.outs, home))

    def _elements(self, op: Op) -> Size:
        return self.graph.tensors[op.outs[0]].elements

    def _joins(self, op: Op, number: int, sources: list[int]) -> bool:
        kernel = self.kernels[number]
        if kernel.ops[-1].times != op.times:
            return False
        if not (self._is_epilogue(op, kernel) or self._is_prologue_of(op, kernel)):
            return False
        return not any(self._waits_for(other, number) for other in sources if other != number)

    def _is_epilogue(self, op: Op, kernel: _Kernel) -> bool:
        return op.kind in POINTWISE and kernel.anchor.kind in TAKES_EPILOGUE and kernel.elements == self._elements(op)

    def _is_prologue_of(self, op: Op, kernel: _Kernel) -> bool:
        """Whether `op` reduces what this kernel of pointwise work makes, and nobody else reads any of that."""
        if op.kind not in TAKES_PROLOGUE or any(member.kind not in POINTWISE for member in kernel.ops):
            return False
        if op.ins[0] != kernel.ops[-1].outs[0]:
            return False
        inside = {id(op), *(id(member) for member in kernel.ops)}
        return not any(_crosses(self.graph, inside, name) for member in kernel.ops for name in member.outs)

    def _waits_for(self, number: int, wanted: int) -> bool:
        """Whether a kernel needs, directly or through others, the result of another."""
        stack, seen = [number], {number}
        while stack:
            for source in self.kernels[stack.pop()].inputs - seen:
                if source == wanted:
                    return True
                seen.add(source)
                if self.kernels[source].last > wanted:  # what ended before `wanted` began cannot wait for it
                    stack.append(source)
        return False

    def in_order(self) -> Iterator[_Kernel]:
        """The kernels, each after those it waits for; among the ready ones the earliest first."""
        done: set[int] = set()
        for number in sorted(self.kernels):
            yield from self._with_inputs(number, done)

    def _with_inputs(self, number: int, done: set[int]) -> Iterator[_Kernel]:
        stack = [number]
        while stack:
            waiting = [source for source in sorted(self.kernels[stack[-1]].inputs) if source not in done]
            if waiting:
                stack.append(waiting[0])
                continue
            ready = stack.pop()
            if ready not in done:
                done.add(ready)
                yield self.kernels[ready]


def _kernel_op(graph: Graph, kernel: _Kernel) -> Op:
    if len(kernel.ops) == 1:
        return kernel.ops[0]
    anchor = kernel.anchor
    made = {name for op in kernel.ops for name in op.outs}
    inside = {id(op) for op in kernel.ops}
    ins = tuple(dict.fromkeys(n for op in _anchor_first(kernel) for n in op.ins if n not in made))
    outs = tuple(name for op in kernel.ops for name in op.outs if _crosses(graph, inside, name))
    others = [op_work(op, graph) for op in kernel.ops if op is not anchor]
    fused = {
        "fused_ops": sum((work.ops for work in others), start=anchor.attrs.get("fused_ops", 0)),
        "fused_special": sum((work.special for work in others), start=anchor.attrs.get("fused_special", 0)),
    }
    source = "+".join(dict.fromkeys(op.source for op in kernel.ops))
    return replace(anchor, ins=ins, outs=outs, source=source, attrs={**anchor.attrs, **fused})


def _anchor_first(kernel: _Kernel) -> list[Op]:
    return [kernel.anchor, *(op for op in kernel.ops if op is not kernel.anchor)]


def _crosses(graph: Graph, inside: set[int], name: str) -> bool:
    """Whether a tensor made in a kernel of these ops (by identity) is seen from outside."""
    if name in graph.outputs or graph.tensors[name].role == "state":
        return True
    return any(id(op) not in inside for op in graph.readers[name])
