"""ai.onnx attention: Attention (opset 23 on), RotaryEmbedding, LinearAttention, TensorScatter."""

from __future__ import annotations

from wattir.dims import Size
from wattir.frontends.onnx.attending import Heads, append, attend, mark_state, optional, rotary, scores_shape
from wattir.frontends.onnx.broadcast import text
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import output


@rule("Attention")
def attention(node: Node) -> None:
    """q, k, v are [b, heads, s, d], or [b, s, heads * d] with the numbers of heads as attributes."""
    q, k, v = node.value(0), node.value(1), node.value(2)
    past_k, past_v = optional(node, 4), optional(node, 5)
    sizes = _heads(node, q, k, v, past_k)
    flat = (sizes.batch, sizes.q, sizes.heads * sizes.dv)
    result = node.result(flat if q.rank == 3 else (sizes.batch, sizes.heads, sizes.q, sizes.dv))
    mask = (optional(node, 3), optional(node, 6))
    if past_k is not None or node.wanted(1):
        k = _cached(node, 1, past_k, k, sizes, sizes.d)
        v = _cached(node, 2, past_v, v, sizes, sizes.dv)
    if node.wanted(3):
        scores = node.result(scores_shape(sizes), index=3)
        node.emit("copy", ins=(q,), outs=(scores,), function="scores")  # the attention below has them anyway
    attend(node, sizes, (q, k, v), result, mask)


def _heads(node: Node, q: Value, k: Value, v: Value, past_k: Value | None) -> Heads:
    heads, kv_heads = node.attr("q_num_heads"), node.attr("kv_num_heads")
    if q.rank == 3:
        if not heads or not kv_heads:
            node.fail("3-D inputs without q_num_heads and kv_num_heads", "both attributes")
        batch, length, width = q.shape
        lengths, d, dv = (length, k.shape[1]), width // heads, v.shape[2] // kv_heads
    else:
        batch, heads, length, d = q.shape
        kv_heads = k.shape[1]
        lengths, dv = (length, k.shape[2]), v.shape[3]
    past: Size = 0 if past_k is None else past_k.shape[2]
    left = node.attr("left_window_size", -1)
    window = left + 1 if left >= 0 else 0
    causal = bool(node.attr("is_causal", 0))
    return Heads(batch, heads, kv_heads, lengths[0], lengths[1] + past, d, dv, causal, window)


def _cached(node: Node, index: int, past: Value | None, new: Value, sizes: Heads, width: Size) -> Value:
    present = output(node, index, (sizes.batch, sizes.kv_heads, sizes.kv, width), new.dtype, f"present_{index}")
    append(node, past, new, present, new.elements)
    return present


@rule("RotaryEmbedding")
def rotary_embedding(node: Node) -> None:
    x = node.value(0)
    rotary(node, x, node.result(x.shape), tuple(node.ins[1:]))


@rule("LinearAttention")
def linear_attention(node: Node) -> None:
    """A state [b, kv heads, d, dv] is updated by each of t tokens; queries [b, t, heads * d] read it.

    Per token and element of the state: 2 operations for the outer product, 1 for the decay, 2 for the delta rule's
    reading, and 2 for each query head that reads it.
    """
    q, v = node.value(0), node.value(2)
    heads, kv_heads = int(node.attr("q_num_heads", 1)), int(node.attr("kv_num_heads", 1))
    batch, steps, width = q.shape
    d, dv = width // heads, v.shape[2] // kv_heads
    result = node.result((batch, steps, heads * dv))
    state = output(node, 1, (batch, kv_heads, d, dv), _state_dtype(node, q), "state")
    mark_state(node, optional(node, 3))
    function = text(node.attr("update_rule", "gated_delta"))
    ops = 2 + ("gated" in function) + 2 * ("delta" in function) + 2 * (heads // kv_heads)
    outs = (result, state)
    node.emit("scan", outs=outs, function=function, steps=steps, elements=state.elements, ops=ops,
              chunk=int(node.attr("chunk_size", 64)))  # fmt: skip


def _state_dtype(node: Node, q: Value) -> str:
    past = optional(node, 3)
    return q.dtype if past is None else past.dtype


@rule("TensorScatter")
def tensor_scatter(node: Node) -> None:
    """New keys or values are written into a cache in place."""
    cache, update = node.value(0), node.value(1)
    mark_state(node, cache)
    node.result(cache.shape)
    node.emit("scatter", function="cache_append", updates=update.elements)
