"""Kernels of inference servers (aiconfigurator): sets ``kernels_power`` and ``kernels_latency``.

Each kernel is replayed in a CUDA graph over six copies of its weights, so weights stay in the last-level cache only
where six of them fit. Power of short kernels is the neighbours' (NVML averages over 100 ms): joules are taken from
0.1 ms on, seconds from all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wattir import layers
from wattir.dims import symbol

from .rows import Array, Rows, joined, layer_rows, together
from .tables import read_table

COPIES = 6
"""Copies of a product's weights that its replay rotates."""
SHORT_S = 1e-4
NO_JOULES = ("context_attention", "generation_attention")
"""Their watts are at odds with first-party rows of the same kernels on H200: 335 to 480 against 590 to 725 W in decode,
443 to 485 against 690 W in context, where the set's own encoder attention draws 690 W too. Rows of 10 ms and more, with
a window of a second and more, differ as much, so neighbours are not the reason. Data that do not toggle (a cache and a
prompt of constants) draw less at the same speed; ours are random, as what a network computes is. On B200 they drive the
energy of a byte to 3 pJ, a tenth of any DRAM's.
"""

CACHE_HELD_BYTES = 4e7
"""A KV cache up to this size stays in the last-level cache while one kernel is replayed."""
MATH = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "float16": "fp16"}
BLOCKED_S = 4e-4
SOURCES_LEFT_OUT = ("triton", "vllm_triton_attn", "vllm_flash_attn_fa4")
"""Slow fallbacks of a server, not what it runs by default."""
SERVER = "VLLM"
"""Whose kernels are used where there are several servers' for one dtype: the one that all systems have."""


def gemm(folder: str, system: str, math: str) -> Rows:
    """Products [m, k] by [k, n], grouped by (n, k)."""
    table = _read(folder, "gemm", system)
    table = table[table.gemm_dtype.map(MATH).eq(math)]
    if (table.gemm_dtype == "fp8").any():  # scaled by block only where there is nothing simpler
        table = table[table.gemm_dtype == "fp8"]
    table = _of_one_server(table)
    blocked = table.gemm_dtype.eq("fp8_block").to_numpy() & (table.time_s.to_numpy() < BLOCKED_S)
    m, n, k = (table[name].to_numpy(float) for name in ("m", "n", "k"))
    graph = layers.matmul(symbol("m"), symbol("n"), symbol("k"), math)
    rows = layer_rows(
        graph, {"m": m, "n": n, "k": k}, time_s=table.time_s, energy_j=table.energy_j, label="matmul",
        group=joined(table, "n", "k"),
    )  # fmt: skip
    narrow = {"fp8": 2.0, "fp4": 4.0}.get(math, 1.0)  # results are bf16
    rows.work[:, 8] += (narrow - 1.0) * rows.work[:, 8] * (m * n) / (m * n + m * k)
    return rows.without(_common_traps(table, rows) | {"fp8_block under 0.4 ms: its launch, not the product": blocked})


def context_attention(folder: str, system: str, math: str) -> Rows:
    """Causal attention of a whole prompt, grouped by heads, groups, head size and batch."""
    table = _read(folder, "context_attention", system)
    table = table[table.attn_dtype.map(MATH).eq(math) & ~table.kernel_source.isin(SOURCES_LEFT_OUT)]
    return _attention(_of_one_server(table), math, context=True)


def generation_attention(folder: str, system: str, math: str) -> Rows:
    """One new token against a KV cache of `isl + step`, grouped as in context."""
    table = _read(folder, "generation_attention", system)
    same = table.kv_cache_dtype.map(MATH).eq(math)
    table = table[same & ~table.kernel_source.isin(SOURCES_LEFT_OUT)]
    return _attention(_of_one_server(table), math, context=False)


def encoder_attention(folder: str, system: str, math: str) -> Rows:
    """Attention without a mask, grouped by heads and batch."""
    table = _read(folder, "encoder_attention", system)
    table = _of_one_server(table[table.attn_dtype.map(MATH).eq(math)])
    if table.empty:
        return _none(math)
    names = {"b": "batch_size", "h": "num_heads", "s": "isl", "d": "head_dim"}
    b, h, s, d = (symbol(name) for name in names)
    sizes = {name: table[column].to_numpy(float) for name, column in names.items()}
    rows = layer_rows(
        layers.attention(b, h, s, s, d, math), sizes, time_s=table.time_s, energy_j=table.energy_j, label="encoder",
        group=joined(table, "num_heads", "batch_size"),
    )  # fmt: skip
    return rows.without(_common_traps(table, rows))


def _attention(table: Any, math: str, *, context: bool) -> Rows:
    """Rows with and without a window apart: each is one graph with free sizes."""
    parts = [_attention_part(part, math, context) for part in _by_window(table)]
    return together(parts) if parts else _none(math)


def _by_window(table: Any) -> Iterator[Any]:
    for windowed in (False, True):
        part = table[(table.window_size > 0) == windowed]
        if len(part):
            yield part


def _attention_part(table: Any, math: str, context: bool) -> Rows:
    names = {"b": "batch_size", "h": "num_heads", "g": "num_key_value_heads", "d": "head_dim"}
    sizes = {name: table[column].to_numpy(float) for name, column in names.items()}
    sizes["kv"] = (table.isl + (0 if context else table.step)).to_numpy(float)
    sizes["w"] = table.window_size.fillna(0.0).to_numpy(float)
    window = symbol("w") if context and sizes["w"].max() > 0.0 else 0
    if not context:  # the cache of a layer with a window holds no more than that
        sizes["kv"] = np.where(sizes["w"] > 0.0, np.minimum(sizes["kv"], sizes["w"]), sizes["kv"])
    b, h, g, d, kv = (symbol(name) for name in ("b", "h", "g", "d", "kv"))
    graph = layers.attention(b, h, kv if context else 1, kv, d, math, kv_heads=g, causal=True, window=window)
    rows = layer_rows(
        graph, sizes, time_s=table.time_s, energy_j=table.energy_j, label="context" if context else "decode",
        group=joined(table, "num_heads", "num_key_value_heads", "head_dim", "batch_size"),
    )  # fmt: skip
    held = rows.work[:, 9] <= (
        0.0 if context else CACHE_HELD_BYTES
    )  # the one cache is read again and again: as activations are
    rows.work[:, 8] += np.where(held, rows.work[:, 9], 0.0)
    rows.work[:, 9] = np.where(held, 0.0, rows.work[:, 9])
    return rows.without(_common_traps(table, rows))


def _read(folder: str, name: str, system: str) -> Any:
    """The set's rows of a system."""
    table = read_table(folder, name, system)
    time_s = table.latency_ms * 1e-3
    silent = (time_s < SHORT_S) | (name in NO_JOULES)
    table = table.assign(time_s=time_s, energy_j=(table.power_w * time_s).where(~silent))
    if "step" in table:
        table["step"] = table.step.astype(float)
    if "window_size" in table:
        table["window_size"] = table.window_size.fillna(0.0)
    return table


def _of_one_server(table: Any) -> Any:
    usual = table.framework.eq(SERVER)
    return table[usual] if usual.any() else table


def _common_traps(table: Any, rows: Rows) -> dict[str, Array]:
    return {"no time": ~(rows.time_s > 0.0)}


def _none(math: str) -> Rows:
    empty = np.zeros(0)
    return layer_rows(layers.matmul(symbol("m"), 1, 1, math), {"m": empty}, time_s=empty, energy_j=empty, group=empty)
