"""com.microsoft's attention ops: packed projections, caches, grouped heads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from wattir.dims import Size, maximum
from wattir.frontends.onnx.attending import Heads, append, attend, optional, rotary, scores_shape
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import linear, output
from wattir.frontends.onnx.rules_quant import buffers

MS = "com.microsoft"


def _projected(
    node: Node,
    operands: tuple[Value, Value, Value | None],
    masks: tuple[Value | None, ...],
    past: Value | None,
    **more: Any,
) -> None:
    """One product for q, k and v (columns by qkv_hidden_sizes, else thirds), then the attention.

    x is [b, s, hidden]; the cache is one tensor [2, b, heads, length, d] for keys and values.
    """
    x, weight, bias = operands
    widths = tuple(node.attr("qkv_hidden_sizes") or (weight.shape[-1] // 3,) * 3)
    heads = int(node.attr("num_heads", 1))
    batch, length = x.shape[0], x.shape[1]
    d, dv = widths[0] // heads, widths[2] // heads
    before: Size = 0 if past is None else past.shape[3]
    causal = bool(node.attr("unidirectional", 0))
    dtype = "fp32" if more else x.dtype
    sizes = Heads(batch, heads, heads, length, before + length, d, dv, causal)
    result = node.result((batch, length, widths[2]), dtype)
    columns: Size = sum(widths, start=0)
    packed = node.inner("qkv", (batch, length, columns), dtype)
    linear(node, x, weight, columns, added=(bias,), out=packed, **more)
    operand: tuple[Value, ...] = (packed,)
    if past is not None or node.wanted(1):
        present = output(node, 1, (2, batch, heads, sizes.kv, d), dtype, "present")
        append(node, past, packed, present, 2 * batch * heads * length * d)
        operand = (packed, present)
    attend(node, sizes, operand, result, masks)


@rule("Attention", domain=MS)
def attention(node: Node) -> None:
    operands = (node.value(0), node.value(1), optional(node, 2))
    _projected(node, operands, (optional(node, 3), optional(node, 5)), optional(node, 4))


@rule("QAttention", domain=MS)
def quantized_attention(node: Node) -> None:
    """The projection is in 8-bit integers; inputs 3, 4, 6, 7 are scales and zero points."""
    buffers(node, 3, 4, 6, 7)
    operands = (node.value(0), node.value(1), optional(node, 2))
    _projected(node, operands, (optional(node, 5),), optional(node, 8), math="int8")


@rule("DecoderMaskedSelfAttention", domain=MS)
def decoder_self_attention(node: Node) -> None:
    """The cache is a buffer of the greatest length; all of it is counted."""
    operands = (node.value(0), node.value(1), optional(node, 2))
    _projected(node, operands, (optional(node, 3), optional(node, 5)), optional(node, 4))


@rule("LongformerAttention", domain=MS)
def longformer(node: Node) -> None:
    """Each query sees `window` keys on either side; the global tokens' own projection is not counted."""
    x, weight = node.value(0), node.value(1)
    heads = int(node.attr("num_heads", 1))
    batch, length, hidden = x.shape
    result = node.result(x.shape)
    packed = linear(node, x, weight, weight.shape[-1], added=(optional(node, 2),), tag="qkv")
    window = 2 * int(node.attr("window", 0)) + 1
    sizes = Heads(batch, heads, heads, length, length, hidden // heads, hidden // heads, False, window)
    node.warn("attention of the global tokens is not counted")
    attend(node, sizes, (packed,), result, (optional(node, 3),))


def _multi_head(node: Node, key: int, caches: tuple[int, int], masks: tuple[int, ...]) -> None:
    """q [b, s, hidden], and k, v as [b, kv, hidden] or [b, heads, kv, d]; or packed on the axis before the last.

    Packed: q, k and v in q [b, s, heads, 3, d], or k and v in k [b, kv, heads, 2, d].
    """
    q, k, v = node.value(0), optional(node, key), optional(node, key + 1)
    heads = int(node.attr("num_heads", 1))
    batch, length = q.shape[0], q.shape[1]
    d = q.shape[-1] if q.rank == 5 else q.shape[-1] // heads
    new, dv = _new_keys(k, v, heads, length, d)
    past = optional(node, caches[0])
    before: Size = 0 if past is None else past.shape[2]
    causal = bool(node.attr("unidirectional", 0))
    sizes = Heads(batch, heads, heads, length, before + new, d, dv, causal)
    result = node.result((batch, length, heads * dv))
    operands = tuple(value for value in (q, k, v) if value is not None)
    if past is not None or node.wanted(1):
        operands = _with_caches(node, operands, caches, sizes, new)
    if node.wanted(3):
        scores = node.result(scores_shape(sizes), index=3)
        node.emit("copy", ins=(q,), outs=(scores,), function="scores")
    attend(node, sizes, operands, result, tuple(optional(node, index) for index in masks))


def _new_keys(k: Value | None, v: Value | None, heads: int, length: Size, d: Size) -> tuple[Size, Size]:
    """How many keys come in, and the head size of the values."""
    if k is None or v is None:
        return (length if k is None else k.shape[1]), d
    if k.rank == 4:
        return k.shape[2], v.shape[3]
    return k.shape[1], v.shape[2] // heads


def _with_caches(
    node: Node, operands: tuple[Value, ...], caches: tuple[int, int], sizes: Heads, new_keys: Size
) -> tuple[Value, ...]:
    """(q, keys, values) where the last two are caches with the new ones appended."""
    q, *new = operands
    made = []
    for index, cache in enumerate(caches):
        width = sizes.dv if index else sizes.d
        shape, updates = (sizes.batch, sizes.kv_heads, sizes.kv, width), sizes.batch * sizes.kv_heads * new_keys * width
        present = output(node, index + 1, shape, q.dtype, f"present_{index}")
        append(node, optional(node, cache), new[min(index, len(new) - 1)] if new else q, present, updates)
        made.append(present)
    return (q, *made)


rule("MultiHeadAttention", domain=MS)(partial(_multi_head, key=1, caches=(6, 7), masks=(3, 4, 5)))
rule("DecoderMaskedMultiHeadAttention", domain=MS)(partial(_multi_head, key=1, caches=(5, 6), masks=(3, 4, 10)))


def _grouped(
    node: Node, caches: tuple[int, int], total_input: int, tables: tuple[int, int], masks: tuple[int, ...]
) -> None:
    """q [b, s, heads * d] with k, v [b, s, kv_heads * d], or all three packed in q; caches [b, kv_heads, length, d].

    Keys are the cache and the new ones, or total_sequence_length where that is known. Causal unless it says not.
    """
    q, k, v = node.value(0), optional(node, 1), optional(node, 2)
    heads, kv_heads = int(node.attr("num_heads", 1)), int(node.attr("kv_num_heads", 1))
    batch, length, columns = q.shape
    d = columns // heads if k is not None else columns // (heads + 2 * kv_heads)
    past = optional(node, caches[0])
    kv = _total(node, total_input, length if past is None else past.shape[2] + length)
    window = max(int(node.attr("local_window_size", -1)), 0)
    sizes = Heads(batch, heads, kv_heads, length, kv, d, d, bool(node.attr("causal", 1)), window)
    result = node.result((batch, length, heads * d))
    operands = tuple(value for value in (q, k, v) if value is not None)
    if node.attr("do_rotary", 0):
        operands = _rotated(node, operands, tables)
    grown = replace(sizes, kv=kv if past is None else maximum(kv, past.shape[2]))
    operands = _with_caches(node, operands, caches, grown, length)
    if node.wanted(3):
        scores = node.result(scores_shape(sizes), index=3)
        node.emit("copy", ins=(q,), outs=(scores,), function="scores")
    attend(node, sizes, operands, result, tuple(optional(node, index) for index in masks))


def _total(node: Node, index: int, otherwise: Size) -> Size:
    known = node.known(index)
    return otherwise if not known or isinstance(known[0], float) else known[0]


def _rotated(node: Node, operands: tuple[Value, ...], tables: tuple[int, int]) -> tuple[Value, ...]:
    """q and k (or q, k and v packed) turned by their positions."""
    made = list(operands)
    for index, value in enumerate(operands[:2]):
        made[index] = node.inner(f"rotary_{index}", value.shape, value.dtype)
        rotary(node, value, made[index], tuple(optional(node, table) for table in tables))
    return tuple(made)


rule("GroupQueryAttention", domain=MS)(partial(_grouped, caches=(3, 4), total_input=6, tables=(7, 8), masks=(10, 5)))
rule("SparseAttention", domain=MS)(partial(_grouped, caches=(3, 4), total_input=7, tables=(9, 10), masks=(5, 6)))


@rule("PackedAttention", domain=MS)
def packed_attention(node: Node) -> None:
    """x [tokens, hidden] without padding; token_offset [b, s] says the padded size, which bounds the attention."""
    x, weight, offset = node.value(0), node.value(1), node.value(3)
    heads = int(node.attr("num_heads", 1))
    widths = tuple(node.attr("qkv_hidden_sizes") or (weight.shape[-1] // 3,) * 3)
    result = node.result((x.shape[0], widths[2]))
    packed = linear(node, x, weight, sum(widths, start=0), added=(optional(node, 2),), tag="qkv")
    _on_padded(node, offset, heads, (widths[0] // heads, widths[2] // heads), (packed,), result)


@rule("PackedMultiHeadAttention", domain=MS)
def packed_multi_head(node: Node) -> None:
    """q, k, v [tokens, hidden], or packed in q [tokens, heads, 3, d]."""
    q, offset = node.value(0), node.value(4)
    heads = int(node.attr("num_heads", 1))
    operands = tuple(value for value in (q, optional(node, 1), optional(node, 2)) if value is not None)
    d = q.shape[-1] if q.rank == 4 else q.shape[-1] // heads
    dv = operands[2].shape[-1] // heads if len(operands) == 3 else d
    result = node.result((q.shape[0], heads * dv))
    _on_padded(node, offset, heads, (d, dv), operands, result)


def _on_padded(
    node: Node, offset: Value, heads: int, widths: tuple[Size, Size], operands: tuple[Value, ...], result: Value
) -> None:
    batch, length = offset.shape
    node.warn("sequence lengths are bounded by their maximum, the padded length")
    attend(node, Heads(batch, heads, heads, length, length, *widths), operands, result)


@rule("PagedAttention", domain=MS)
def paged_attention(node: Node) -> None:
    """q [tokens, heads * d] over caches [blocks, block size, kv_heads, d]; block_table [b, blocks] bounds the keys."""
    q, cache, table = node.value(0), node.value(3), node.value(7)
    heads, kv_heads = int(node.attr("num_heads", 1)), int(node.attr("kv_num_heads", 1))
    d = cache.shape[-1]
    kv = table.shape[1] * cache.shape[1]
    result = node.result((q.shape[0], heads * d))
    for index in (1, 2):
        if node.wanted(index) and node.given(index + 2):
            present = node.result(node.value(index + 2).shape, cache.dtype, index=index)
            append(node, node.value(index + 2), optional(node, index) or q, present, q.shape[0] * kv_heads * d)
    node.warn("the keys are bounded by their maximum, all blocks of the table")
    window = max(int(node.attr("local_window_size", -1)), 0)
    sizes = Heads(1, heads, kv_heads, q.shape[0], kv, d, d, True, window)
    attend(node, sizes, (q, cache), result)
