"""Mixtures of experts: the table ``moe`` of the kernel sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .library import libraries, made_rows, stacked
from .routing import grouped, routed, visiting
from .rows import Array, Rows, joined

WEIGHTS = {
    "bfloat16": ("bf16", 2.0), "float16": ("fp16", 2.0), "fp8": ("fp8", 1.0), "fp8_block": ("fp8", 1.0),
    "int4_wo": ("bf16", 0.53), "w4afp8": ("fp8", 0.53), "nvfp4": ("fp4", 0.5625), "w4a16_mxfp4": ("bf16", 0.53),
    "w4a8_mxfp4_mxfp8": ("fp8", 0.53),
}  # fmt: skip
"""Math, and bytes of a weight with its scales."""
UNGATED = ("moe_torch_flow_nongated",)
WHOLE = "fused_moe|tritonexperts|marlin"
"""Libraries whose results have a place for every choice of every token: activation and sum walk over all of them, also
where only a few are of this device's experts (vLLM and SGLang, ``fused_moe``). Others gather their own rows first."""

IN_GROUPS = "min_latency"
"""The library whose collector routes every layer as DeepSeek-V3 does (collector/trtllm/collect_moe.py, "all use
deepseek setting"): TensorRT-LLM's for few tokens. Balanced choices then bring the first of 64 devices half of all
rows, and measured times agree (256 experts: 0.41 ms, 0.84 on a device that has all)."""


def moe(table: Any, dtype: str) -> Rows:
    """The two products of the experts that tokens reach on one device, and what moves rows to, between and from them
    (permutation, activation, sum), grouped by the layer's sizes and its shards.

    A network has the latter as ops of their own: hence a family apart from products. `moe_tp_size` devices share an
    expert's width; of the `moe_ep_size` that experts are spread over, this is the one measured (`routed`). What moves
    rows has the first product's sizes, without its multiply-adds: its time follows the same layout.
    """
    math, width = WEIGHTS[dtype]
    hidden = table.hidden_size.to_numpy(float)
    tokens, rows, experts = _reaching(table)
    inner = table.inter_size.to_numpy(float) / table.moe_tp_size.to_numpy(float)
    gates = np.where(libraries(table).isin(UNGATED), 1.0, 2.0)
    whole = libraries(table).str.contains(WHOLE).to_numpy()
    placed = np.where(whole, tokens * table.topk.to_numpy(float), rows)
    products = (
        (gates * inner, hidden, rows * hidden + placed * gates * inner),
        (hidden, inner, rows * inner + placed * hidden),
    )
    common = {"m": np.maximum(rows / experts, 1.0), "groups": experts, "launches": 1.0, "tokens": tokens,
              "experts": table.num_experts.to_numpy(float)}  # fmt: skip
    kernels: list[dict[str, Any]] = [
        {"macs_causal": rows * n * k, "n": n, "k": k,
         "weight_bytes": experts * n * k * width, "activation_bytes": 2.0 * moved}
        for n, k, moved in products
    ]  # fmt: skip
    moved = placed * ((gates + 1.0) * inner + hidden) + tokens * hidden
    ops = placed * (4.0 * inner + hidden)
    kernels.append({"n": gates * inner, "k": hidden, "ops": ops, "activation_bytes": 2.0 * moved})
    group = joined(table, "hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size", "moe_ep_size")
    return stacked([made_rows("experts", math, {**cells, **common}, table, group) for cells in kernels])


def _reaching(table: Any) -> tuple[Array, Array, Array]:
    """Tokens, the rows of them that the measured device multiplies, and the experts that it multiplies them by."""
    tokens = table.num_tokens.to_numpy(float, copy=True)
    rows, experts = _by_routing(routed, table).reshape(-1, 2).T
    in_groups = libraries(table).str.contains(IN_GROUPS).to_numpy()
    rows[in_groups], experts[in_groups] = _by_routing(grouped, table[in_groups]).reshape(-1, 2).T
    remote = _multiplies_remote(table)
    tokens[remote] = _by_routing(visiting, table[remote])
    rows[remote] = (tokens * table.topk.to_numpy(float))[remote]
    return tokens, np.maximum(rows, 1.0), np.maximum(experts, 1.0)


def _by_routing(find: Callable[[int, int, int, str, int], Any], table: Any) -> Array:
    """What a function of `wattir.backends.fit.routing` finds for every row."""
    keys = ("num_experts", "topk", "moe_ep_size", "distribution", "num_tokens")
    columns = (table[name].tolist() for name in keys)
    return np.array([find(int(e), int(k), int(ep), spread, int(t)) for e, k, ep, spread, t in
                     zip(*columns, strict=True)], float)  # fmt: skip


def _multiplies_remote(table: Any) -> Array:
    """Where tokens' choices on other devices are multiplied too, by the first expert of this one.

    aiconfigurator's collector (collector/sglang/collect_moe.py, ``topk_ids.clamp(min=0)``) does so for SGLang: tokens
    that visit the device bring all of their choices. The times say the same: under balanced loads one of 2 to 8
    devices takes as long as one that has all 128 experts, one of 16 half. In the rows of 0.5.14, layers of 8 experts
    alone are so; there all others mask what is not theirs.
    """
    text = {name: table.reindex(columns=[name], fill_value="")[name].astype(str) for name in ("framework", "version")}
    clamped = text["version"].eq(CLAMPED_VERSION) | table.num_experts.le(CLAMPED_EXPERTS)
    found: Array = (text["framework"].eq("SGLang") & clamped & table.moe_ep_size.gt(1)).to_numpy()
    return found


CLAMPED_VERSION = "0.5.10"
CLAMPED_EXPERTS = 8
