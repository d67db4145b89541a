"""Kernels of inference servers (aiconfigurator): sets ``kernels_power`` and ``kernels_latency``.

Each kernel is replayed in a CUDA graph over six copies of its weights, so weights stay in the last-level cache only
where six of them fit. Power of short kernels is the neighbours' (NVML averages over 100 ms): joules are taken from
0.1 ms on, seconds from all. Every row's kind names its kernel's library (``matmul@torch_flow``), so that each has its
own corrections; the physics of a family is fitted to one server's libraries (`MAIN`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wattir import layers
from wattir.dims import symbol
from wattir.kinds import DTYPE_BYTES

from . import datasets_experts as experts
from . import datasets_links as links
from . import datasets_mla as mla
from . import datasets_states as states
from .library import (
    BLOCKED,
    MATH,
    SCALE_LAUNCHES,
    by_library,
    libraries,
    made_rows,
    no_rows,
    seconds_and_joules,
)
from .rows import ACTIVATION_BYTES, STATE_BYTES, Array, Rows, joined, layer_rows, together
from .tables import read_table

COPIES = 6
"""Copies of a product's weights that its replay rotates."""
BLOCKED_S = 4e-4
"""Shorter products in blocks of 8 bit numbers are their launch."""
MAIN = frozenset({
    "vllm_default", "torch.nn.functional.linear", "CutlassFP8ScaledMMLinearKernel", "vllm_flash_attn",
    "vllm_flash_attn_fa2", "vllm_flash_attn_fa3", "vllm_flashinfer", "vllm_vit_flash_attn", "vllm_vit_flash_attn_fa2",
    "vllm_vit_flash_attn_fa3", "vllm_fused_moe", "vllm_unquantizedfusedmoe_triton_tritonexperts",
    "vllm_modeloptfp8moe_triton_tritonexperts", "causal_conv1d_fn", "causal_conv1d_update", "chunk_gated_delta_rule",
    "fused_recurrent_gated_delta_rule", "mamba_chunk_scan_combined", "default", "NCCL", "vLLM_custom_graph",
})  # fmt: skip
"""What the server that all systems have runs by default, and libraries without a rival."""
UNTYPICAL = "vllm_modeloptfp8moe_flashinfer_cutlass_flashinferexperts"
"""Takes 2 to 5 times as long as any other library for the same experts in 8 bits on H100, and twice as long as they
take in 16 bits: it informs the corrections of its own kernels alone."""
JOULES = ("gemm", "encoder_attention")
"""Whose watts inform the physics. Those of context and decode attention are at odds with first-party rows of the same
kernels on H200: 335 to 480 against 590 to 725 W in decode, 443 to 485 against 690 W in context, where the set's own
encoder attention draws 690 W too. Rows of 10 ms and more differ as much, so neighbours are not the reason. Data that do
not toggle (a cache and a prompt of constants) draw less at the same speed; ours are random, as what a network computes
is. On B200 they drive the energy of a byte to 3 pJ, a tenth of any DRAM's; and with those of experts and latent
attention the energies of products come out at 24 % instead of 7. The libraries' own corrections of power take all of
them as they are.
"""
WRAPPED = ("conv1d@vllm_causal_conv1d_fn",)
"""Timed with what wraps them: their layout by the host, and rows of several sequences that are brought into another
order: up to 13 times as long as TensorRT-LLM's kernel on the same B200. Their own corrections learn from them."""
COARSE = ("mla_bmm",)
"""Timed one launch at a time, to steps of 2 us from 4.1 on: nothing for the physics of products of 2 us."""
CACHE_HELD_BYTES = 4e7
"""A KV cache up to this size stays in the last-level cache while one kernel is replayed."""


def gemm(table: Any, dtype: str) -> Rows:
    """Products [m, k] by [k, n], grouped by (n, k), with what narrows their activations (`NARROWED`)."""
    math, weight_bytes, activation_bytes = GEMM[dtype]
    m, n, k = (table[name].to_numpy(float) for name in ("m", "n", "k"))
    narrowed = float(dtype in NARROWED)
    scaled = float(dtype == "fp8") * libraries(table).isin(SCALED).to_numpy()
    moved = activation_bytes + narrowed * (2.0 + activation_bytes) + 2.0 * scaled
    cells = {
        "macs_causal": m * n * k, "m": m, "n": n, "k": k, "groups": 1.0, "ops": 3.0 * narrowed * m * k,
        "weight_bytes": weight_bytes * n * k, "activation_bytes": moved * m * k + 2.0 * m * n,  # results are 16 bit
        "launches": 1.0 + narrowed + SCALE_LAUNCHES * scaled,
    }  # fmt: skip
    return made_rows("matmul", math, cells, table, joined(table, "n", "k"))


GEMM = {
    "bfloat16": ("bf16", 2.0, 2.0), "float16": ("fp16", 2.0, 2.0), "fp8": ("fp8", 1.0, 1.0),
    "fp8_static": ("fp8", 1.0, 1.0), "fp8_ootb": ("fp8", 1.0, 1.0), "fp8_block": ("fp8", 1.0, 1.0),
    "nvfp4": ("fp4", 0.5625, 0.5625), "int8_wo": ("bf16", 1.0, 2.0), "int4_wo": ("bf16", 0.5, 2.0),
    "sq": ("int8", 1.0, 1.0),
}  # fmt: skip
"""Math, and bytes of a weight and of an activation; fp4 has a scale of a byte for 16."""
NARROWED = ("fp8", "fp8_static", "fp8_ootb", "fp8_block", "nvfp4")
"""Types whose replay begins with activations of 16 bits: where k is deep and n narrow they take 5 to 15 bytes for each
element of [m, k], bf16 takes the 2 it must, and SmoothQuant, whose activations come as bytes, 1.8."""
SCALED = ("torch_flow",)
"""Libraries that in fp8 first look for the scale of a whole tensor: a replay takes the kernels of ``computescale`` and
``scale_matrix`` at the same (m, k) and, over those, what a bf16 product takes."""


def context_attention(table: Any, dtype: str) -> Rows:
    """Causal attention of a whole prompt, grouped by heads, groups, head size and batch."""
    return together([_attention(part, MATH[dtype], True) for part in _by_window(table)])


def generation_attention(table: Any, dtype: str) -> Rows:
    """One new token against a KV cache of `isl + step`, grouped as in context."""
    parts = [_attention(part, "bf16", False) for part in _by_window(table)]
    rows = together(parts)
    rows.work[:, STATE_BYTES] *= DTYPE_BYTES[MATH[dtype]] / DTYPE_BYTES["bf16"]
    held = rows.work[:, STATE_BYTES] <= CACHE_HELD_BYTES  # the one cache is read again and again: as activations are
    rows.work[:, ACTIVATION_BYTES] += np.where(held, rows.work[:, STATE_BYTES], 0.0)
    rows.work[:, STATE_BYTES] = np.where(held, 0.0, rows.work[:, STATE_BYTES])
    return rows


def encoder_attention(table: Any, dtype: str) -> Rows:
    """Attention without a mask, grouped by heads and batch."""
    names = {"b": "batch_size", "h": "num_heads", "s": "isl", "d": "head_dim"}
    b, h, s, d = (symbol(name) for name in names)
    sizes = {name: table[column].to_numpy(float) for name, column in names.items()}
    graph = layers.attention(b, h, s, s, d, MATH[dtype])
    return layer_rows(graph, sizes, group=joined(table, "num_heads", "batch_size"), **seconds_and_joules(table))


def _by_window(table: Any) -> Iterator[Any]:
    for windowed in (False, True):
        part = table[(table.window_size.fillna(0.0) > 0.0) == windowed]
        if len(part):
            yield part


def _attention(table: Any, math: str, context: bool) -> Rows:
    names = {"b": "batch_size", "h": "num_heads", "g": "num_key_value_heads", "d": "head_dim"}
    sizes = {name: table[column].to_numpy(float) for name, column in names.items()}
    sizes["kv"] = (table.isl + (0 if context else table.step)).to_numpy(float)
    sizes["w"] = table.window_size.fillna(0.0).to_numpy(float)
    window = symbol("w") if context and sizes["w"].max() > 0.0 else 0
    if not context:  # the cache of a layer with a window holds no more than that
        sizes["kv"] = np.where(sizes["w"] > 0.0, np.minimum(sizes["kv"], sizes["w"]), sizes["kv"])
    b, h, g, d, kv = (symbol(name) for name in ("b", "h", "g", "d", "kv"))
    graph = layers.attention(b, h, kv if context else 1, kv, d, math, kv_heads=g, causal=True, window=window)
    group = joined(table, "num_heads", "num_key_value_heads", "head_dim", "batch_size")
    return layer_rows(graph, sizes, group=group, **seconds_and_joules(table))


@dataclass(frozen=True)
class KernelTable:
    """A table of the sets: its reader, the column of its number type, the families of its kernels, what is left out as
    a whole in validation, and copies of weights that a replay rotates."""

    read: Callable[[Any, str], Rows]
    dtype: str
    families: tuple[str, ...]
    grouped_by: str
    copies: int = 0


HEADS = "(heads, kv heads, head size, batch)"
TABLES: dict[str, KernelTable] = {
    "gemm": KernelTable(gemm, "gemm_dtype", ("matmul",), "(n, k)", COPIES),
    "context_attention": KernelTable(context_attention, "attn_dtype", ("attention",), HEADS),
    "encoder_attention": KernelTable(encoder_attention, "attn_dtype", ("attention",), "(heads, batch)"),
    "generation_attention": KernelTable(generation_attention, "kv_cache_dtype", ("decode",), HEADS),
    "moe": KernelTable(experts.moe, "moe_dtype", ("experts",), "(hidden, inner, experts, top k, tp, ep)"),
    "context_mla": KernelTable(mla.context, "kv_cache_dtype", ("attention",), "(heads, batch)"),
    "generation_mla": KernelTable(mla.generation, "kv_cache_dtype", ("decode",), "(heads, batch)"),
    "mla_bmm": KernelTable(mla.products, "bmm_dtype", ("matmul",), "heads"),
    "mla_context_module": KernelTable(mla.context_module, "gemm_type", ("mla",), "(heads, batch)"),
    "mla_generation_module": KernelTable(mla.generation_module, "gemm_type", ("mla",), "(heads, batch)"),
    "gdn": KernelTable(states.gated_delta, "", ("scan", "conv1d"), "(batch, length)"),
    "mamba2": KernelTable(states.mamba2, "", ("scan", "conv1d"), "(batch, length)"),
    "computescale": KernelTable(states.compute_scale, "quant_dtype", ("quantize",), "columns"),
    "scale_matrix": KernelTable(states.scale_matrix, "quant_dtype", ("quantize",), "columns"),
    "custom_allreduce": KernelTable(links.custom, "allreduce_dtype", ("collective",), "bytes"),
    "nccl": KernelTable(links.nccl, "nccl_dtype", ("collective",), "bytes"),
}


OPTIONAL: Mapping[str, Any] = {
    "framework": "", "op_name": "", "window_size": 0.0, "step": 0, "distribution": "balanced", "moe_tp_size": 1,
    "moe_ep_size": 1,
}  # fmt: skip
"""What a column says that a table lacks."""


def kernels(folder: str, name: str, system: str, dtype: str = "") -> Rows:
    """The rows of one table of one system, of one number type where the table has several."""
    table = read_table(folder, name)
    table = table[table.system.eq(system)]
    table = table.assign(**{column: value for column, value in OPTIONAL.items() if column not in table})
    types = set(table[TABLES[name].dtype].astype(str)) if TABLES[name].dtype else set()
    if dtype:
        table = table[table[TABLES[name].dtype].eq(dtype)]
    if table.empty:
        return no_rows()
    rows = by_library(table, lambda part: TABLES[name].read(part, dtype), dtype)
    informing = _informing(rows, dtype, types) & (name not in COARSE)
    physics = np.stack([informing, informing & (name in JOULES)], axis=1).astype(float)
    rows = replace(rows, weight=physics, label=np.full(rows.samples, name))
    return rows.without({"no time": ~(rows.time_s > 0.0)})


def _informing(rows: Rows, dtype: str, types: set[str]) -> Array:
    """Where rows inform the physics: those of the main server's libraries, in types without scales of their own.

    A type that the main server lacks is informed by all but the `UNTYPICAL` library; fp8 that comes in blocks alone,
    by its longer products.
    """
    first = rows.kind_index[np.searchsorted(rows.sample, np.arange(rows.samples))]
    wrapped = np.array([family in WRAPPED for family, _ in rows.kinds])[first]
    main = np.isin(rows.label, list(MAIN)) & ~wrapped
    if dtype == "fp8_block" and "fp8" not in types:
        return np.asarray(main & (rows.time_s > BLOCKED_S))
    if dtype in BLOCKED:
        return np.zeros(rows.samples, bool)
    return np.asarray(main if main.any() else rows.label != UNTYPICAL)


def known_dtype(name: str, dtype: str) -> bool:
    """Whether rows of this number type can be read."""
    tables: dict[str, Mapping[str, object]] = {"gemm": GEMM, "moe": experts.WEIGHTS}
    return dtype in tables.get(name, MATH)
