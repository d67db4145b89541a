"""Multi-head latent attention of DeepSeek's models: the tables ``*mla*`` of the kernel sets.

Sizes of DeepSeek-V3 (its config.json): hidden 7168, query rank 1536, key-value rank 512, heads of 128 with 64 more that
rotate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wattir import layers
from wattir.dims import symbol

from .library import MATH, made_rows, seconds_and_joules
from .rows import Array, Rows, joined, layer_rows

HIDDEN, QUERY_RANK, RANK, HEAD, ROTATED = 7168.0, 1536.0, 512.0, 128.0, 64.0
LATENT = RANK + ROTATED


def context(table: Any, dtype: str) -> Rows:
    """Causal attention with keys of 192 and values of 128, all heads their own, grouped by heads and batch."""
    names = {"b": "batch_size", "h": "num_heads", "s": "isl"}
    b, h, s = (symbol(name) for name in names)
    graph = layers.attention(b, h, s, s, int(HEAD + ROTATED), "bf16", causal=True, v_dim=int(HEAD))
    sizes = {name: table[column].to_numpy(float) for name, column in names.items()}
    return layer_rows(graph, sizes, group=joined(table, "num_heads", "batch_size"), **seconds_and_joules(table))


def generation(table: Any, dtype: str) -> Rows:
    """One new token, all heads against the one latent that is key and value at once."""
    batch, heads, kv = _decode_sizes(table)
    cells = {
        "macs_causal": batch * heads * kv * (LATENT + RANK), "m": heads, "n": kv, "k": LATENT + RANK, "groups": batch,
        "tokens": batch, "ops": 4.0 * batch * heads * kv, "special": batch * heads * kv, "launches": 1.0,
        "state_bytes": batch * kv * LATENT * _width(dtype), "activation_bytes": 2.0 * batch * heads * (LATENT + RANK),
    }  # fmt: skip
    return made_rows("decode", "bf16", cells, table, joined(table, "num_heads", "batch_size"))


def products(table: Any, dtype: str) -> Rows:
    """The heads' products into the latent (``mla_gen_pre``) and out of it (``mla_gen_post``), grouped by heads."""
    tokens, heads = (table[name].to_numpy(float) for name in ("num_tokens", "num_heads"))
    before = table.op_name.astype(str).eq("mla_gen_pre").to_numpy()
    cells = {
        "macs_causal": tokens * heads * HEAD * RANK, "m": tokens, "n": np.where(before, RANK, HEAD),
        "k": np.where(before, HEAD, RANK), "groups": heads, "weight_bytes": 2.0 * heads * HEAD * RANK,
        "activation_bytes": 2.0 * tokens * heads * (HEAD + RANK), "launches": 1.0,
    }  # fmt: skip
    return made_rows("matmul", "bf16", cells, table, joined(table, "num_heads"))


def context_module(table: Any, dtype: str) -> Rows:
    """A whole layer's attention over a prompt: five products and the attention, grouped by heads and batch."""
    batch, heads, length = (table[name].to_numpy(float) for name in ("batch_size", "num_heads", "isl"))
    tokens, pairs = batch * length, batch * heads * length * (length + 1.0) / 2.0
    weights = _projections(heads) + RANK * heads * 2.0 * HEAD
    macs = tokens * weights + pairs * (2.0 * HEAD + ROTATED)
    return _module(table, dtype, batch, length, heads, macs, weights, 0.0, pairs)


def generation_module(table: Any, dtype: str) -> Rows:
    """A whole layer's attention for one new token each, with the latent absorbed into queries and outputs."""
    batch, heads, kv = _decode_sizes(table)
    weights = _projections(heads) + RANK * heads * 2.0 * HEAD
    pairs = batch * heads * kv
    macs = batch * weights + pairs * (LATENT + RANK)
    state = batch * kv * LATENT * np.where(table.kv_cache_dtype.astype(str).eq("fp8"), 1.0, 2.0)
    return _module(table, dtype, np.ones(len(table)), batch, heads, macs, weights, state, pairs)


def _projections(heads: Array) -> Array:
    """Weights of a layer's attention but for those out of the latent."""
    down = HIDDEN * (QUERY_RANK + LATENT)
    return down + QUERY_RANK * heads * (HEAD + ROTATED) + heads * HEAD * HIDDEN


def _module(
    table: Any, dtype: str, groups: Array, m: Array, heads: Array, macs: Array, weights: Array, state: Any, pairs: Array
) -> Rows:
    """The module as one kernel as wide as its queries and as deep as its multiply-adds then need."""
    n = heads * (HEAD + ROTATED)
    width = {"bfloat16": 2.0, "nvfp4": 0.5625}.get(dtype, 1.0)
    cells = {
        "macs_causal": macs, "m": m, "n": n, "k": macs / (groups * m * n), "groups": groups, "ops": 4.0 * pairs,
        "special": pairs, "weight_bytes": weights * width, "state_bytes": state, "launches": 10.0,
        "activation_bytes": 2.0 * groups * m * (2.0 * HIDDEN + 6.0 * heads * HEAD),
    }  # fmt: skip
    return made_rows("mla", MATH[dtype], cells, table, joined(table, "num_heads", "batch_size"))


def _decode_sizes(table: Any) -> tuple[Array, Array, Array]:
    names = ("batch_size", "num_heads")
    return (*(table[name].to_numpy(float) for name in names), (table.isl + table.step).to_numpy(float))


def _width(dtype: str) -> float:
    return 1.0 if MATH[dtype] == "fp8" else 2.0
