"""Attention written out as product, softmax, product becomes one op of kind ``attention``."""

from __future__ import annotations

from dataclasses import dataclass

from wattir.dims import Size, exact_div
from wattir.ir import Graph, Op
from wattir.passes.rewrite import only_reader, with_ops

_BETWEEN = ("pointwise", "copy", "quantize")  # scale, mask, cast: what may stand between the products and the softmax


@dataclass(frozen=True, slots=True)
class _Match:
    scores: Op
    softmax: Op
    mix: Op
    chain: tuple[Op, ...]  # ops between the two products that the fused kernel swallows


def recognise_attention(graph: Graph) -> Graph:
    """Every ``matmul -> (scale, mask, cast)* -> softmax -> (cast)* -> matmul`` becomes one attention op.

    The scores must be read by nothing else. Where keys and values are copies of fewer heads (grouped-query attention
    written with an expanded copy), the op reads the original and `kv_heads` says how many there are.
    """
    found = [match for op in graph.ops if op.kind == "softmax" and (match := _match(graph, op)) is not None]
    replaced = {id(match.mix): _fused(graph, match) for match in found}
    gone = {id(op) for match in found for op in (match.scores, match.softmax, *match.chain)}
    ops = (replaced.get(id(op), op) for op in graph.ops if id(op) not in gone)
    return with_ops(graph, ops) if found else graph


def _match(graph: Graph, softmax: Op) -> _Match | None:
    before, scores = _walk_up(graph, softmax)
    after, mix = _walk_down(graph, softmax)
    if scores is None or mix is None or scores.times != mix.times:
        return None
    a, b = scores.attrs, mix.attrs
    if a["groups"] != b["groups"] or a["m"] != b["m"] or a["n"] != b["k"]:
        return None
    return _Match(scores, softmax, mix, (*before, *after))


def _walk_up(graph: Graph, softmax: Op) -> tuple[list[Op], Op | None]:
    """From the softmax to the product that makes its scores; the ops on the way, each read by the next alone."""
    passed: list[Op] = []
    op, name = softmax, softmax.ins[0]
    while True:
        made = _main_producer(graph, op, name)
        if made is None or only_reader(graph, made.outs[0]) is not op:
            return [], None
        if made.kind == "matmul":
            return passed, made
        if made.kind not in _BETWEEN:
            return [], None
        passed.append(made)
        op, name = made, made.ins[0]


def _main_producer(graph: Graph, op: Op, first: str) -> Op | None:
    """The producer of the input that carries the scores: for a mask or a `where` it need not be the first."""
    names = (first,) if op.kind == "softmax" else op.ins
    elements = graph.tensors[op.outs[0]].elements
    makers = [graph.producers[n] for n in names if n in graph.producers and graph.tensors[n].elements == elements]
    products = [m for m in makers if m.kind == "matmul" or (m.kind in _BETWEEN and m.ins)]
    return products[0] if products else None


def _walk_down(graph: Graph, softmax: Op) -> tuple[list[Op], Op | None]:
    passed: list[Op] = []
    op = softmax
    while True:
        reader = only_reader(graph, op.outs[0])
        if reader is None:
            return [], None
        if reader.kind == "matmul":
            return (passed, reader) if reader.ins[0] == op.outs[0] and len(reader.ins) >= 2 else ([], None)
        if reader.kind not in _BETWEEN or graph.tensors[reader.outs[0]].elements != graph.tensors[op.outs[0]].elements:
            return [], None
        passed.append(reader)
        op = reader


def _fused(graph: Graph, match: _Match) -> Op:
    a, b = match.scores.attrs, match.mix.attrs
    shape = graph.tensors[match.softmax.outs[0]].shape
    batch, heads = (shape[0], shape[1]) if len(shape) == 4 else (a["groups"], 1)
    q, k, v = match.scores.ins[0], match.scores.ins[1], match.mix.ins[1]
    key, value = _before_expansion(graph, k), _before_expansion(graph, v)
    kv_heads = _kv_heads(graph, key, k, heads)
    inner = {name for op in match.chain for name in op.outs} | set(match.scores.outs) | set(match.softmax.outs)
    extra = [name for op in match.chain for name in op.ins if name not in inner]
    return Op(
        "attention", tuple(dict.fromkeys((q, key, value, *extra))), match.mix.outs,
        match.softmax.name, f"{match.scores.source}+{match.softmax.source}+{match.mix.source}",
        {
            "batch": batch, "heads": heads, "kv_heads": kv_heads, "q": a["m"], "kv": a["n"], "d": a["k"], "dv": b["n"],
            "causal": _is_causal(graph, match.chain),
        },
        match.mix.times,
    )  # fmt: skip


def _is_causal(graph: Graph, chain: tuple[Op, ...]) -> bool:
    """Whether a mask on the way is made by a triangle (`Trilu`, `tril`)."""
    frontier, seen = list(chain), set[int]()
    while frontier:
        op = frontier.pop()
        if id(op) in seen or op.kind not in _BETWEEN:
            continue
        if str(op.attrs.get("function", "")).startswith("tri"):
            return True
        seen.add(id(op))
        frontier += [graph.producers[name] for name in op.ins if name in graph.producers]
    return False


def _before_expansion(graph: Graph, name: str) -> str:
    """The tensor behind copies (expansion to more heads, transposes) of keys or values."""
    made = graph.producers.get(name)
    while made is not None and made.kind == "copy" and made.attrs["function"] in ("expand", "transpose", "tile"):
        name, made = made.ins[0], graph.producers.get(made.ins[0])
    return name


def _kv_heads(graph: Graph, key: str, expanded: str, heads: Size) -> Size:
    ratio = exact_div(graph.tensors[expanded].elements, graph.tensors[key].elements)
    fewer = None if ratio is None else exact_div(heads, ratio)
    return heads if fewer is None else fewer
