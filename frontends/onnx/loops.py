"""What Loop, Scan and SequenceMap share: a body that is lowered once and runs `trips` times.

The body's ops get `trips` in their `times`. A shape that grows by a fixed amount each trip (a concat onto what is
carried) is lowered at its mean, and leaves the loop at its end. One op of kind host, function ``loop``, takes what the
body makes and gives the node's outputs, so that nothing the next trip needs looks unused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from wattir.dims import Size
from wattir.errors import UnsupportedError
from wattir.frontends.onnx.node import Node, Value

MAX_ITEMS = 4096  # elements of a sequence that are told apart


@dataclass(slots=True)
class Body:
    """A nested graph as a loop. Its inputs are `lead`, `carried`, `tail`; its outputs are one for each of `lead` but
    the first, one for each of `carried`, then what is collected over the trips."""

    graph: onnx.GraphProto
    trips: Size
    lead: list[Value] = field(default_factory=list)
    carried: list[Value] = field(default_factory=list)
    tail: list[Value] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """Outputs before the carried ones: the condition of a Loop."""
        return max(len(self.lead) - 1, 0)


def body_of(node: Node, name: str) -> onnx.GraphProto:
    """A nested graph; a node that lacks it is refused."""
    graph = node.attr(name)
    if not isinstance(graph, onnx.GraphProto):
        node.fail(f"no graph {name!r}", "a node as the ONNX standard has it")
    return graph


def run_body(node: Node, body: Body) -> tuple[list[Value], list[Value]]:
    """What is carried as it leaves the loop, and one trip's elements of what is collected."""
    lowering = node.context.lowering
    marks = lowering.mark()
    after, collected = _lowered(node, body, body.carried)
    ends = [_at_trip(first, last, body.trips) for first, last in zip(body.carried, after, strict=True)]
    if any(first.shape != last.shape for first, last in zip(body.carried, after, strict=True) if first.items is None):
        pieces = lowering.cut(marks)
        node.warn("what it carries changes its shape; the body is costed at the mean shape")
        middle = [_at_trip(a, b, (body.trips - 1) // 2) for a, b in zip(body.carried, after, strict=True)]
        try:
            after, collected = _lowered(node, body, middle)
        except UnsupportedError:  # it does not grow evenly after all
            lowering.cut(marks)
            lowering.paste(pieces)
    for end, last in zip(ends, after, strict=True):
        end.name, end.fixed = last.name, last.fixed
    return ends, collected


def _lowered(node: Node, body: Body, carried: list[Value]) -> tuple[list[Value], list[Value]]:
    untouched = _untouched(body)
    entered = [_entered(node, body, i, value) if i not in untouched else value for i, value in enumerate(carried)]
    outputs = node.context.body(body.graph, [*body.lead, *entered, *body.tail], node.label, body.trips)
    collected = body.skipped + len(carried)
    return outputs[body.skipped : collected], outputs[collected:]


def _untouched(body: Body) -> set[int]:
    """Positions of what is carried that the body hands on as it is."""
    alias = {n.output[0]: n.input[0] for n in body.graph.node if n.op_type == "Identity" and n.input and n.output}
    inputs = [info.name for info in body.graph.input][len(body.lead) :]
    outputs = [info.name for info in body.graph.output][body.skipped :]
    pairs = list(zip(inputs, outputs, strict=False))[: len(body.carried)]
    return {i for i, (entered, left) in enumerate(pairs) if _unaliased(left, alias) == entered}


def _unaliased(name: str, alias: dict[str, str]) -> str:
    for _ in range(len(alias)):
        if name not in alias:
            break
        name = alias[name]
    return name


def _entered(node: Node, body: Body, index: int, value: Value) -> Value:
    """What is carried as one trip sees it: its content is not known."""
    if value.items is not None:
        return value
    name = body.graph.input[len(body.lead) + index].name
    made: Value = node.context.value(f"{node.label}/{name}", value.shape, value.dtype)
    same = node.builder.tensors[value.name].shape == value.shape
    emit(node, "view" if same else "copy", [value], [made], "carry")
    return made


def _at_trip(first: Value, last: Value, trips: Size) -> Value:
    """A carried value after some trips, if each adds as much as the first one did; the name is still the first's."""
    if first.items is not None and last.items is not None:
        return _longer(first, last, trips)
    if first.rank != last.rank:
        return Value(first.name, last.shape, last.dtype)
    shape = tuple(a if a == b else a + (b - a) * trips for a, b in zip(first.shape, last.shape, strict=True))
    return Value(first.name, shape, last.dtype)


def _longer(first: Value, last: Value, trips: Size) -> Value:
    before, after = first.items or [], last.items or []
    length = first.shape[0] + (last.shape[0] - first.shape[0]) * trips
    items = list(after)
    if isinstance(length, int) and isinstance(trips, int) and 0 <= length <= MAX_ITEMS and len(after) == last.shape[0]:
        items = (before + after[len(before) :] * trips)[:length] if len(after) > len(before) else after[:length]
    return Value(last.name, (length,), last.dtype, items=items)


def leave(node: Node, made: list[Value], outputs: list[Value]) -> None:
    """Declares the node's outputs and the op that stands for the loop itself; `made` is what the body made of each."""
    outs = []
    for index, value in enumerate(outputs[: len(node.out_names)]):
        if value.items is not None:
            node.same(index, value)
            continue
        name = node.out_names[index] or f"{node.label}:{index}"
        node.same(index, node.context.value(name, value.shape, value.dtype))
        outs.append(node.results[index])
    emit(node, "host", [v for v in made if v.items is None], [v for v in outs if v is not None], "loop")


def emit(node: Node, kind: str, ins: list[Value], outs: list[Value], function: str) -> None:
    """An op of this node whose outputs are not simply the node's."""
    if outs:
        names, made = tuple(v.name for v in ins), tuple(v.name for v in outs)
        node.builder.op(kind, names, made, name=node.label, source=node.op, times=node.times, function=function)
