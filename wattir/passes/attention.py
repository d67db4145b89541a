"""Attention written out as product, softmax, product becomes one op of kind ``attention``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wattir.dims import Size, exact_div, product
from wattir.ir import Graph, Op
from wattir.passes.rewrite import only_reader, with_ops

_BETWEEN = ("pointwise", "copy", "quantize")  # scale, mask, cast: what may stand between the products and the softmax
MAX_BETWEEN = 64


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
    replaced |= {id(op): _with_own_heads(graph, op) for op in graph.ops if op.kind == "attention"}
    gone = {id(op) for match in found for op in (match.scores, match.softmax, *match.chain)}
    ops = (replaced.get(id(op), op) for op in graph.ops if id(op) not in gone)
    return with_ops(graph, ops) if replaced else graph


def _match(graph: Graph, softmax: Op) -> _Match | None:
    before, scores = _walk_up(graph, softmax)
    after, mix = _walk_down(graph, softmax)
    if scores is None or mix is None or scores.times != mix.times:
        return None
    a, b = scores.attrs, mix.attrs
    if a["groups"] != b["groups"] or a["m"] != b["m"] or a["n"] != b["k"]:
        return None
    return _Match(scores, softmax, mix, (*before, *after))


def _walk_up(graph: Graph, op: Op, most: int = MAX_BETWEEN) -> tuple[list[Op], Op | None]:
    """From the softmax to the product that makes its scores; the ops on the way, each read by the next alone."""
    for made in _makers(graph, op) if most else ():
        if only_reader(graph, made.outs[0]) is not op:
            continue
        if made.kind == "matmul":
            return [], made
        passed, scores = _walk_up(graph, made, most - 1) if made.kind in _BETWEEN else ([], None)
        if scores is not None:
            return [made, *passed], scores
    return [], None


def _makers(graph: Graph, op: Op) -> list[Op]:
    """The producers of what may carry the scores: for a mask or a `where` it need not be the first input."""
    names = op.ins[:1] if op.kind == "softmax" else dict.fromkeys(op.ins)
    elements = graph.tensors[op.outs[0]].elements
    return [graph.producers[n] for n in names if n in graph.producers and graph.tensors[n].elements == elements]


def _walk_down(graph: Graph, softmax: Op) -> tuple[list[Op], Op | None]:
    """From the softmax to the product that mixes the values; the ops on the way, which nothing else reads."""
    passed: list[Op] = []
    op = softmax
    while True:
        *guards, reader = _one_reader(graph, op.outs[0])
        if reader is None:
            return [], None
        if reader.kind == "matmul":
            return (passed, reader) if reader.ins[0] == op.outs[0] and len(reader.ins) >= 2 else ([], None)
        if reader.kind not in _BETWEEN or graph.tensors[reader.outs[0]].elements != graph.tensors[op.outs[0]].elements:
            return [], None
        passed += [guard for guard in guards if guard is not None] + [reader]
        op = reader


def _one_reader(graph: Graph, name: str) -> list[Op | None]:
    """The only reader of a tensor, behind those that ask something of it for that reader alone; [None] if none is.

    Exporters guard rows that are masked as a whole: ``where(is_nan(p), 0, p)``.
    """
    *asking, last = graph.readers[name] or (None,)
    if last is None or name in graph.outputs:
        return [None]
    guarded = all(op.kind == "pointwise" and only_reader(graph, op.outs[0]) is last for op in asking)
    return [*asking, last] if guarded and (not asking or last.kind in _BETWEEN) else [None]


def _fused(graph: Graph, match: _Match) -> Op:
    a, b = match.scores.attrs, match.mix.attrs
    batch, heads, shared = _heads(graph, match)
    q, k, v = _before_scaling(graph, match.scores.ins[0]), match.scores.ins[1], match.mix.ins[1]
    key, value = _before_expansion(graph, k), _before_expansion(graph, v)
    kv_heads = _kv_heads(graph, key, k, heads) if shared == 1 else heads // shared
    inner = {name for op in match.chain for name in op.outs} | set(match.scores.outs) | set(match.softmax.outs)
    extra = [name for op in match.chain for name in op.ins if name not in inner]
    return Op(
        "attention", (q, key, value, *_others(extra, q, key, value)), match.mix.outs,
        match.softmax.name, f"{match.scores.source}+{match.softmax.source}+{match.mix.source}",
        {
            "batch": batch, "heads": heads, "kv_heads": kv_heads, "q": a["m"] // shared, "kv": a["n"], "d": a["k"],
            "dv": b["n"], "causal": _is_causal(graph, match.chain),
        },
        match.mix.times,
    )  # fmt: skip


def _others(names: Iterable[str], *operands: str) -> tuple[str, ...]:
    """Each once, and none that is an operand: masks, biases."""
    return tuple(name for name in dict.fromkeys(names) if name not in operands)


def _heads(graph: Graph, match: _Match) -> tuple[Size, Size, Size]:
    """Batch, heads, and how many heads share keys by being rows of one product (grouped-query attention by einsum)."""
    shape, a = graph.tensors[match.softmax.outs[0]].shape, match.scores.attrs
    shared = exact_div(a["m"], shape[-2]) if len(shape) > 3 else 1
    if shared is None or a["groups"] * shared * a["m"] // shared != product(shape[:-1]):
        shared = 1
    lead = [size for size in shape[:-2] if size != 1]
    batch = shape[0] if len(shape) == 4 else (lead[0] if len(lead) > 1 else a["groups"])
    heads = exact_div(a["groups"] * shared, batch)
    if heads is None or (shared != 1 and exact_div(heads, shared) is None):
        return a["groups"], shared, shared
    return batch, heads, shared


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


def _with_own_heads(graph: Graph, op: Op) -> Op:
    """An attention op that reads keys and values as they were before they were copied to more heads."""
    if len(op.ins) < 3:
        return op
    a, (q, k, v, *rest) = op.attrs, op.ins
    row = a["batch"] * a["kv_heads"] * a["kv"]
    if graph.tensors[k].elements != row * a["d"] or graph.tensors[v].elements != row * a["dv"]:
        return op
    key, value = _before_expansion(graph, k), _before_expansion(graph, v)
    fewer = _kv_heads(graph, key, k, a["kv_heads"])
    if fewer == a["kv_heads"] or fewer != _kv_heads(graph, value, v, a["kv_heads"]):
        return op
    return replace(op, ins=(q, key, value, *_others(rest, q, key, value)), attrs={**a, "kv_heads": fewer})


def _before_expansion(graph: Graph, name: str) -> str:
    """The tensor behind copies (expansion to more heads, transposes) and scaling of keys or values."""
    made = graph.producers.get(name)
    while made is not None and (_moves(made) or _scales(graph, made)):
        name, made = made.ins[0], graph.producers.get(made.ins[0])
    return name


def _before_scaling(graph: Graph, name: str) -> str:
    """The tensor behind copies and scaling of queries, which have as many heads throughout."""
    source = _before_expansion(graph, name)
    return source if graph.tensors[source].elements == graph.tensors[name].elements else name


def _moves(op: Op) -> bool:
    return op.kind == "copy" and op.attrs["function"] in _MOVES


_MOVES = ("expand", "transpose", "tile", "reshape", "contiguous", "clone")


def _scales(graph: Graph, op: Op) -> bool:
    """Whether an op multiplies by one number, which may be written in the op: the scale of scores, or its root."""
    if op.kind != "pointwise" or op.attrs["function"] not in ("mul", "div") or len(op.ins) > 2:
        return False
    return all(graph.tensors[name].elements == 1 for name in op.ins[1:])


def _kv_heads(graph: Graph, key: str, expanded: str, heads: Size) -> Size:
    ratio = exact_div(graph.tensors[expanded].elements, graph.tensors[key].elements)
    fewer = None if ratio is None else exact_div(heads, ratio)
    return heads if fewer is None else fewer
