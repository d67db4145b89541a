"""Mixtures of experts: the table ``moe`` of the kernel sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from .library import made_rows, stacked
from .rows import Array, Rows, joined

WEIGHTS = {
    "bfloat16": ("bf16", 2.0), "fp8": ("fp8", 1.0), "fp8_block": ("fp8", 1.0), "int4_wo": ("bf16", 0.53),
    "nvfp4": ("fp4", 0.5625), "w4a16_mxfp4": ("bf16", 0.53), "w4a8_mxfp4_mxfp8": ("fp8", 0.53),
}  # fmt: skip
"""Math, and bytes of a weight with its scales."""
UNGATED = ("moe_torch_flow_nongated",)


def moe(table: Any, dtype: str) -> Rows:
    """The two products of the experts that tokens reach on one device, grouped by the layer's sizes and its shards.

    Measured with routing, activation and permutation, which a network has as ops of their own: a family apart from
    products. Tokens times top k rows are spread over the devices of `moe_ep_size`; `moe_tp_size` devices share an
    expert's width.
    """
    math, width = WEIGHTS[dtype]
    hidden, tokens = table.hidden_size.to_numpy(float), table.num_tokens.to_numpy(float)
    inner = table.inter_size.to_numpy(float) / table.moe_tp_size.to_numpy(float)
    gates = np.where(table.kernel_source.isin(UNGATED), 1.0, 2.0)
    rows = tokens * table.topk.to_numpy(float) / table.moe_ep_size.to_numpy(float)
    experts = np.maximum(_reached(table), 1.0)
    group = joined(table, "hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size", "moe_ep_size")
    parts = []
    for n, k, read, written in (
        (gates * inner, hidden, tokens * hidden, rows * inner), (hidden, inner, rows * inner, tokens * hidden),
    ):  # fmt: skip
        cells = {
            "macs_causal": rows * n * k, "m": np.maximum(rows / experts, 1.0), "n": n, "k": k, "groups": experts,
            "weight_bytes": experts * n * k * width, "activation_bytes": 2.0 * (read + written), "launches": 1.0,
        }  # fmt: skip
        parts.append(made_rows("experts", math, cells, table, group))
    return stacked(parts)


def _reached(table: Any) -> Array:
    """Experts of one device that a row reaches, expected: E (1 - (1 - k/E)^tokens) where all are as likely; balanced
    rows go round; under a power law expert i of E is drawn in proportion to i^-a."""
    found = np.zeros(len(table))
    keys = ["num_experts", "topk", "moe_ep_size", "distribution", "num_tokens"]
    for key, places in table.reset_index(drop=True).groupby(keys, observed=True).indices.items():
        found[places] = _expected(*key)
    return found


def _expected(count: float, chosen: float, devices: float, distribution: str, tokens: float) -> float:
    if distribution.startswith("power_law"):
        share = np.arange(1.0, count + 1.0) ** -float(distribution.rpartition("_")[2])
        chance = np.minimum(chosen * share / share.sum(), 1.0)
        return float((1.0 - (1.0 - chance) ** tokens).sum() / devices)
    return float(min(count, tokens * chosen) / devices)
