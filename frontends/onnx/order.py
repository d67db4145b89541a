"""Names and order of an ONNX model: every name defined once and before its use, calls of functions without a cycle.

All linear in nodes, names and uses, but for a heap where nodes have to be sorted.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import onnx

from .tensors import AGAIN, Source, short, text
from .wire import refused

MAX_CALLED_NODES = 1 << 24  # nodes of a model once every call of a function is written out

Free = dict[str, str]  # name that an enclosing graph has to define -> the node that uses it
Key = tuple[str, str, str]  # domain, name, overload of a function


def graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a node, e.g. both branches of an If."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes_in(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """`nodes` and all nodes of their bodies."""
    for node in nodes:
        yield node
        for graph in graphs_in(node):
            yield from nodes_in(graph.node)


def settle_model(model: onnx.ModelProto, source: Source) -> None:
    """Checks names and sorts nodes of the graph and of all functions, in place; raises ModelFileError."""
    free = settle_graph(model.graph, "the graph", source)
    for function in model.functions:
        where = f"function {short(function.name)}"
        source.holders.extend((f"a default of {where}", a) for a in function.attribute_proto if holds_tensors(a))
        given = [text(name, "an input name", source.label) for name in function.input]
        free |= settle(function, given, function.output, where, source)
    for name, user in free.items():
        raise refused(source.label, f"{user} uses {short(name)}, which nothing defines", "a graph that is whole", AGAIN)
    if model.functions:
        _check_calls(model, source)


def settle_graph(graph: onnx.GraphProto, where: str, source: Source) -> Free:
    """As `settle`. An input that is also an initializer (all are, before IR 4) counts once."""
    source.graphs.append(graph)
    constants = [tensor.name for tensor in graph.initializer] + [s.values.name for s in graph.sparse_initializer]
    constants = [text(name, "an initializer name", source.label) for name in constants]
    _check_once(constants, f"initializers in {where}", source.label)
    inputs = [text(value.name, "an input name", source.label) for value in graph.input]
    _check_once(inputs, f"inputs of {where}", source.label)
    outputs = [value.name for value in graph.output]
    return settle(graph, list({*inputs, *constants}), outputs, where, source)


def settle(
    body: onnx.GraphProto | onnx.FunctionProto, given: list[str], outputs: Iterable[str], where: str, source: Source
) -> Free:
    """Sorts the nodes of one body, in place; returns the names it takes from outside.

    A body that is in order is left alone; otherwise the stable topological order and a warning.
    """
    nodes = body.node
    _check_once([*given, *(name for node in nodes for name in node.output if name)], f"values in {where}", source.label)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output}
    known = {*given, *maker, ""}
    needs = [_needs(node, f"{_title(node, i)} in {where}", source) for i, node in enumerate(nodes)]
    before = [{maker[name] for name in need if name in maker and name} for need in needs]
    if any(index <= max(made, default=-1) for index, made in enumerate(before)):
        _sort(body, before, where, source)
    free = {name: user for need in needs for name, user in need.items() if name not in known}
    for name in outputs:
        if text(name, "an output name", source.label) not in known:
            free.setdefault(name, f"the list of outputs of {where}")
    return free


def _needs(node: onnx.NodeProto, user: str, source: Source) -> Free:
    """All names that `node` and its bodies take from outside the node."""
    _check_node(node, user, source.label)
    needs = dict.fromkeys(node.input, user)
    for graph in _opened(node, user, source):
        needs |= settle_graph(graph, f"a body of {user}", source)
    return needs


def _check_node(node: onnx.NodeProto, user: str, label: str) -> None:
    """Names are text and there is an operator."""
    for name in (*node.input, *node.output, node.name, node.op_type, node.domain, node.overload):
        text(name, f"a name of {user}", label)
    if not node.op_type:
        raise refused(label, f"{user} has no op_type", "an operator", AGAIN)


def _opened(node: onnx.NodeProto, user: str, source: Source) -> Iterator[onnx.GraphProto]:
    """The bodies of a node; notes in `source` which attributes hold tensors."""
    for attribute in node.attribute:
        name = text(attribute.name, f"an attribute name of {user}", source.label)
        text(attribute.ref_attr_name, f"an attribute reference of {user}", source.label)
        if holds_tensors(attribute):
            source.holders.append((f"attribute {short(name)} of {user}", attribute))
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def holds_tensors(attribute: onnx.AttributeProto) -> bool:
    """Whether there is a tensor in an attribute, dense or sparse."""
    single = attribute.HasField("t") or attribute.HasField("sparse_tensor")
    return single or bool(attribute.tensors or attribute.sparse_tensors)


def _title(node: onnx.NodeProto, index: int) -> str:
    """A node for people: its name or number, and its operator."""
    return f"node {short(node.name) if node.name else f'#{index}'} ({short(node.op_type)[1:-1]})"


def _check_once(names: Sequence[str | bytes], what: str, label: str) -> None:
    """No name twice."""
    if len(set(names)) == len(names):
        return
    twice = next(name for name, times in Counter(names).items() if times > 1)
    raise refused(label, f"{short(twice)} is defined twice among the {what}", "each name once", AGAIN)


def _sort(body: onnx.GraphProto | onnx.FunctionProto, before: list[set[int]], where: str, source: Source) -> None:
    """Puts the nodes of `body` into stable topological order, in place."""
    order = _order(before)
    if len(order) < len(before):
        titles = [_title(body.node[i], i) for i in _cycle(before, order)]
        raise refused(source.label, f"a cycle in {where}: {_chain(titles)}", "a graph without one", AGAIN)
    nodes = [body.node[index] for index in order]
    del body.node[:]
    body.node.extend(nodes)
    source.notes.append(f"{source.label}: the nodes of {where} were not in order; sorted")


def _order(before: list[set[int]]) -> list[int]:
    """Indices such that all of `before[i]` precede i, lowest first; those on or behind a cycle are missing."""
    after: list[list[int]] = [[] for _ in before]
    for index, made in enumerate(before):
        for earlier in made:
            after[earlier].append(index)
    waits = [len(made) for made in before]
    ready = [index for index, wait in enumerate(waits) if not wait]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for later in after[index]:
            waits[later] -= 1
            if not waits[later]:
                heapq.heappush(ready, later)
    return order


def _cycle(before: list[set[int]], order: list[int]) -> list[int]:
    """One cycle among what `order` lacks, each index used by the next."""
    done = set(order)
    index = next(i for i in range(len(before)) if i not in done)
    seen: dict[int, None] = {}
    while index not in seen:
        seen[index] = None
        index = min(before[index] - done)
    path = list(seen)
    return path[path.index(index) :][::-1]


def _chain(titles: list[str]) -> str:
    """`a -> b -> a`, five at most."""
    shown = [*titles[:4], *(["..."] if len(titles) > 4 else []), titles[0]]
    return " -> ".join(shown)


def _key(domain: str, name: str, overload: str) -> Key:
    """Of a function or of a node; the default domain has two names."""
    return ("" if domain == "ai.onnx" else domain), name, overload


def _check_calls(model: onnx.ModelProto, source: Source) -> None:
    """No function twice, none that calls itself, and not too many nodes once all calls are written out."""
    keys = [_key(f.domain, f.name, f.overload) for f in model.functions]
    for part in (part for key in keys for part in key):
        text(part, "a function name", source.label)
    if len(set(keys)) < len(keys):
        raise refused(source.label, "a function defined twice", "each domain, name and overload once", AGAIN)
    index = {key: i for i, key in enumerate(keys)}
    calls = [_calls(function.node, index) for function in model.functions]
    order = _order([called - {-1} for called in map(set, calls)])
    if len(order) < len(keys):
        names = [short(keys[i][1]) for i in _cycle([set(c) - {-1} for c in calls], order)]
        raise refused(source.label, f"functions call each other: {_chain(names[::-1])}", "no recursion", AGAIN)
    sizes = {-1: 1}
    for i in order:
        sizes[i] = min(_size(calls[i], sizes), MAX_CALLED_NODES + 1)
    if _size(_calls(model.graph.node, index), sizes) > MAX_CALLED_NODES:
        found = f"over {MAX_CALLED_NODES:,} nodes once the calls of functions are written out"
        raise refused(source.label, found, "a smaller model", AGAIN)


def _calls(nodes: Iterable[onnx.NodeProto], index: dict[Key, int]) -> Counter[int]:
    """Function -> times it is called in `nodes`; -1 for all other nodes."""
    return Counter(index.get(_key(node.domain, node.op_type, node.overload), -1) for node in nodes_in(nodes))


def _size(calls: Counter[int], sizes: dict[int, int]) -> int:
    """Nodes in a body with these calls, all written out."""
    return sum(times * sizes[i] for i, times in calls.items())
