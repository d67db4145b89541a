"""Rotary position embeddings written out as products, halves and a concatenation become one pointwise op."""

from __future__ import annotations

from collections.abc import Iterator

from wattir.ir import Graph, Op
from wattir.passes.rewrite import only_reader
from wattir.passes.written_out import Region, function_of, made_by, replace_regions

_HALVES = ("slice", "split", "chunk", "split_with_sizes", "neg")


def recognise_rotary(graph: Graph) -> Graph:
    """Every ``x cos + concat(-x2, x1) sin``, where x1 and x2 are the halves of x: 2 products and 1 sum an element."""
    sums = (op for op in graph.ops if op.kind == "pointwise" and function_of(op) == "add" and len(op.ins) == 2)
    return replace_regions(graph, (region for op in sums if (region := _region(graph, op)) is not None))


def _region(graph: Graph, total: Op) -> Region | None:
    for straight, turned in (total.ins, total.ins[::-1]):
        plain, crossed = _product(graph, straight, total), _product(graph, turned, total)
        if plain is None or crossed is None:
            continue
        for concat in _concats(graph, crossed):
            halves = list(_halves(graph, concat))
            made = {name for op in halves for name in op.outs}
            sources = {name for op in (*halves, concat) for name in op.ins if name not in made}
            if len(sources) == 1 and sources <= set(plain.ins) and _is_whole(graph, sources, concat):
                return _fused(graph, sources.pop(), [*halves, concat, plain, crossed, total])
    return None


def _product(graph: Graph, name: str, reader: Op) -> Op | None:
    made = made_by(graph, name)
    if made is None or made.kind != "pointwise" or function_of(made) != "mul" or len(made.ins) != 2:
        return None
    return made if only_reader(graph, name) is reader and made.times == reader.times else None


def _concats(graph: Graph, product: Op) -> Iterator[Op]:
    for name in product.ins:
        made = made_by(graph, name)
        if made is None or made.kind != "copy" or made.attrs["function"] != "concat" or len(made.ins) != 2:
            continue
        if only_reader(graph, name) is product:
            yield made


def _halves(graph: Graph, concat: Op) -> Iterator[Op]:
    """The slices and the negation behind a concatenation, if nothing else reads them."""
    found: dict[int, Op] = {}
    stack = list(concat.ins)
    while stack:
        op = made_by(graph, stack.pop())
        if op is None or op.kind not in ("copy", "view", "pointwise") or function_of(op) not in _HALVES:
            continue
        inside = {id(concat), *found, id(op)}
        if not any(_is_seen(graph, inside, name) for name in op.outs):
            found[id(op)] = op
            stack += op.ins
    places = {id(op): place for place, op in enumerate(graph.ops)} if found else {}
    yield from sorted(found.values(), key=lambda op: places[id(op)])


def _is_seen(graph: Graph, inside: set[int], name: str) -> bool:
    return name in graph.outputs or any(id(reader) not in inside for reader in graph.readers[name])


def _is_whole(graph: Graph, sources: set[str], concat: Op) -> bool:
    (x,) = sources
    return graph.tensors[x].elements == graph.tensors[concat.outs[0]].elements


def _fused(graph: Graph, x: str, members: list[Op]) -> Region:
    made = {name for op in members for name in op.outs}
    tables = dict.fromkeys(name for op in members for name in op.ins if name not in made and name != x)
    last = members[-1]
    attrs = {"function": "rotary", "ops": 3}
    return Region(tuple(members), Op("pointwise", (x, *tables), last.outs, last.name, "rotary", attrs, last.times))
