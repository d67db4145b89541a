"""If, Loop and Scan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx

from wattir.dims import Size, bounds, maximum, symbol
from wattir.errors import UnsupportedError
from wattir.frontends.onnx.broadcast import axis_of
from wattir.frontends.onnx.loops import Body, body_of, leave, run_body
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.rough_cost import rough_cost

ENDLESS = (1 << 31) - 1  # exporters write a `while` as a `for` with this many trips or more
Branch = tuple[list[Value], tuple[list[Any], ...], float]


# ---- If -----------------------------------------------------------------------------------------------------------


@rule("If")
def if_(node: Node) -> None:
    """A condition that is known picks its branch; else the dearest is kept."""
    condition = node.known(0)
    branches = {True: body_of(node, "then_branch"), False: body_of(node, "else_branch")}
    if condition is not None:
        values = node.context.body(branches[bool(condition[0])], [])
    else:
        values = _dearest(node, branches[True], branches[False])
    for index, value in enumerate(values[: len(node.out_names)]):
        node.same(index, value)


def _dearest(node: Node, then: onnx.GraphProto, otherwise: onnx.GraphProto) -> list[Value]:
    """Both branches are lowered; of two that cost the same, the one with more axes is kept (`Lowering.fewer_axes`)."""
    lowered: dict[str, Branch] = {}
    errors = []
    for name, graph in (("then", then), ("else", otherwise)):
        try:
            lowered[name] = _tried(node, graph)
        except UnsupportedError as error:
            errors.append(error)
    if not lowered:
        raise errors[0]
    lowering = node.context.lowering
    axes = {name: sum(value.rank for value in branch[0]) for name, branch in lowered.items()}
    kept = max(lowered, key=lambda name: (lowered[name][2], -axes[name] if lowering.fewer_axes else axes[name]))
    values, pieces, _ = lowered[kept]
    same = len({branch[2] for branch in lowered.values()}) < len(lowered)
    lowering.open_axes |= same and len(set(axes.values())) > 1
    lowering.paste(pieces)
    fits = "of two that cost the same, as the rest fits" if same else "the dearest"
    why = f"the other cannot be lowered ({errors[0]})" if errors else fits
    node.warn(f"which branch runs depends on data; the {kept} branch is costed, {why}")
    return values


def _tried(node: Node, graph: onnx.GraphProto) -> Branch:
    """A branch's outputs, what lowering it added (taken back again), and its cost."""
    lowering = node.context.lowering
    marks = lowering.mark()
    try:
        values = node.context.body(graph, [])
    except UnsupportedError:
        lowering.cut(marks)
        raise
    cost = rough_cost(lowering.builder.ops[marks[0] :], lowering.builder.tensors)
    return values, lowering.cut(marks), cost


# ---- Loop ---------------------------------------------------------------------------------------------------------


@rule("Loop")
def loop(node: Node) -> None:
    """``for`` with a condition: inputs trip count, condition, carried; outputs carried, collected."""
    graph = body_of(node, "body")
    carried = [v for v in node.ins[2:] if v is not None]
    count, condition = node.known(0), node.known(1)
    trips: Size = 0 if condition is not None and not condition[0] else _trips(node, graph, count)
    counter = node.context.value(f"{node.label}:trip", (), "int64", "constant")
    again = replace(node.context.value(f"{node.label}:condition", (), "bool", "constant"), data=(True,), fixed=True)
    _run(node, Body(graph, trips, [counter, again], carried))


def _trips(node: Node, graph: onnx.GraphProto, count: tuple[Any, ...] | None) -> Size:
    """As the caller says, else the maximum that the node gives, else a free size that whoever estimates must give."""
    given: Size | None = node.context.trip_count(node)
    if given is not None:
        if bounds(given)[0] < 0:
            node.fail(f"a trip count of {given}", "0 or more")
        return given
    if count is not None and (not isinstance(count[0], int) or count[0] < ENDLESS):
        if not _only_counts(graph):
            node.warn(f"when it stops depends on data; the maximum of {count[0]} trips is taken")
        return maximum(count[0], 0)
    trips = symbol(f"trip_count.{node.label}")
    node.warn(f"the trip count depends on data; it is the size {trips}")
    return trips


def _only_counts(graph: onnx.GraphProto) -> bool:
    """Whether the body hands its condition on, or makes it constant."""
    made = {name: n for n in graph.node for name in n.output}
    name, entered = graph.output[0].name, graph.input[1].name
    for _ in range(len(graph.node) + 1):
        if name == entered or name in {tensor.name for tensor in graph.initializer}:
            return True
        maker = made.get(name)
        if maker is None or maker.op_type == "Constant":
            return True
        if maker.op_type not in ("Identity", "Cast"):
            return False
        name = maker.input[0]
    return False


def _run(node: Node, body: Body, axes: tuple[int, ...] = ()) -> None:
    """Lowers the body and declares the node's outputs; `axes` are where collected outputs are stacked."""
    lowering = node.context.lowering
    marks = lowering.mark()
    ends, elements = run_body(node, body)
    if body.trips == 0:
        lowering.cut(marks)
    at = axes or (0,) * len(elements)
    stacked = [_stacked(node, v, body.trips, axis) for v, axis in zip(elements, at, strict=True)]
    if body.trips == 0:
        leave(node, body.carried, [*body.carried, *stacked])
    else:
        leave(node, [*ends, *elements], [*ends, *stacked])


def _stacked(node: Node, element: Value, trips: Size, axis: int) -> Value:
    if element.items is not None:
        return element
    at = axis_of(node, axis, element.rank + 1)
    return Value(element.name, (*element.shape[:at], trips, *element.shape[at:]), element.dtype)


# ---- Scan ---------------------------------------------------------------------------------------------------------


@rule("Scan")
def scan(node: Node) -> None:
    """Slices of some inputs go through the body in turn; opset 8 has a batch before all of them."""
    graph = body_of(node, "body")
    count = node.attr("num_scan_inputs", 0)
    ins = [v for v in (node.ins[1:] if node.opset < 9 else node.ins) if v is not None]
    if not 0 < count <= len(ins):
        node.fail(f"num_scan_inputs of {count} of {len(ins)} inputs", f"1 to {len(ins)}")
    carried, scanned = ins[: len(ins) - count], ins[len(ins) - count :]
    if node.opset < 9:
        _batched_scan(node, graph, carried, scanned)
        return
    given = node.attr("scan_input_axes") or (0,) * count
    axes = [axis_of(node, axis, v.rank) for axis, v in zip(given, scanned, strict=True)]
    trips = scanned[0].shape[axes[0]]
    tail = [_sliced(node, v, axis) for v, axis in zip(scanned, axes, strict=True)]
    _run(node, Body(graph, trips, [], carried, tail), tuple(node.attr("scan_output_axes") or ()))


def _sliced(node: Node, value: Value, axis: int) -> Value:
    """One trip's part of an input: the body reads it in place."""
    shape = (*value.shape[:axis], *value.shape[axis + 1 :])
    made: Value = node.context.value(f"{node.label}/{value.name}", shape, value.dtype)
    node.builder.op(
        "copy", (value.name,), (made.name,), name=node.label, source=node.op, times=node.times, function="slice"
    )
    return made


def _batched_scan(node: Node, graph: onnx.GraphProto, carried: list[Value], scanned: list[Value]) -> None:
    """Opset 8: each sample of the batch has its own trips over axis 1."""
    batch, trips = scanned[0].shape[0], scanned[0].shape[1]
    single = [replace(v, shape=v.shape[1:], data=None) for v in carried]
    tail = [_sliced(node, replace(v, shape=v.shape[1:]), 0) for v in scanned]
    ends, elements = run_body(node, Body(graph, batch * trips, [], single, tail))
    states = [replace(end, shape=(batch, *end.shape)) for end in ends]
    stacked = [replace(e, shape=(batch, trips, *e.shape)) for e in elements]
    leave(node, [*ends, *elements], [*states, *stacked])
