"""Rows of kernels by the library that ran them: each library's kinds carry its name after an at sign."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from wattir import layers
from wattir.dims import symbol
from wattir.work import CELLS

from .rows import Array, Rows, layer_rows, together

SHORT_S = 1e-4
SCALE_LAUNCHES = 5.0
"""Of what finds a tensor's scale in TensorRT-LLM: 8.2 us on B200 at least, where one pass (``scale_matrix``) has 1.6
at least."""
MATH = {"bfloat16": "bf16", "half": "fp16", "float16": "fp16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4",
        "int8": "int8", "": "bf16"}  # fmt: skip
BLOCKED = ("fp8_block", "int8_wo", "int4_wo", "sq", "w4afp8", "w4a16_mxfp4", "w4a8_mxfp4_mxfp8")
"""Number types with scales of their own: other kernels than those of the plain type that they compute in."""


def by_library(table: Any, read: Callable[[Any], Rows], dtype: str) -> Rows:
    """All rows, their kinds tagged by library and what else makes another kernel; labels name the library."""
    parts = []
    for tag, part in table.groupby(_tags(table, dtype), sort=True):
        rows = read(part)
        kinds = tuple((f"{family}@{tag}" if tag else family, math) for family, math in rows.kinds)
        library = part.kernel_source.astype(str).to_numpy() if tag else np.full(rows.samples, "")
        parts.append(replace(rows, kinds=kinds, label=library))
    return together(parts)


def spread_of(family: str) -> float:
    """The exponent of the power law that the tokens of a tagged kind of experts are spread by; 0: balanced."""
    found = POWER_LAW.search(family)
    return float(found[1]) if found else 0.0


def without_spread(family: str) -> str:
    """The kind that differs by how tokens are spread alone."""
    return POWER_LAW.sub("", family)


POWER_LAW = re.compile(r"_power_law_(\d+\.\d+)")


def libraries(table: Any) -> Any:
    """The library of every row, of no name where the table does not say."""
    return table.reindex(columns=["kernel_source"], fill_value="")["kernel_source"].astype(str)


def _tags(table: Any, dtype: str) -> Any:
    """The library, and the server where it gives none a name; the collective or product; number types of its own."""
    if "kernel_source" not in table:
        return np.full(len(table), "")
    tags = table.kernel_source.astype(str).fillna("unknown")
    tags = tags.where(~tags.isin(SHARED), table.framework.astype(str).str.lower() + "_" + tags)
    if "op_name" in table:
        operation = table.op_name.astype(str)
        tags = tags.where(~operation.isin(OPERATIONS), tags + "_" + operation)
    for column in ("attn_dtype", "mla_dtype"):
        if column in table and "kv_cache_dtype" in table:
            cache = table.kv_cache_dtype.astype(str)
            tags = tags.where(cache.eq(table[column].astype(str)), tags + "_cache_" + cache)
    if "distribution" in table:
        spread = table.distribution.astype(str)
        tags = tags.where(spread.eq("balanced"), tags + "_" + spread)
    if dtype in BLOCKED:
        tags = tags + "_" + dtype
    return tags.str.replace(r"[^0-9A-Za-z_.]+", "_", regex=True)


SHARED = ("default", "causal_conv1d_fn", "causal_conv1d_update", "chunk_gated_delta_rule",
          "fused_recurrent_gated_delta_rule", "mamba_chunk_scan_combined")  # fmt: skip
"""Names that several servers give to kernels of their own."""
OPERATIONS = ("all_gather", "all_reduce", "alltoall", "reduce_scatter", "mla_gen_pre", "mla_gen_post", "compute_scale",
              "scale_matrix", "mla_context_module", "mla_generation_module", "encoder_attention")  # fmt: skip
"""Of one library that does several."""


def seconds_and_joules(table: Any) -> dict[str, Array]:
    """The columns `time_s` and `energy_j`: joules of kernels under `SHORT_S` are not known."""
    time_s = table.latency_ms.to_numpy(float) * 1e-3
    power_w = table.power_w.to_numpy(float) if "power_w" in table else np.full(len(table), np.nan)
    return {"time_s": time_s, "energy_j": np.where(time_s >= SHORT_S, power_w * time_s, np.nan)}


def made_rows(family: str, math: str, cells: dict[str, Any], table: Any, group: Array) -> Rows:
    """One kernel a row from its cells (`wattir.work.CELLS`; missing ones are 0)."""
    rows = layer_rows(
        layers.matmul(symbol("m"), 1, 1, math), {"m": np.ones(len(table))}, group=group, family=family,
        math=math, **seconds_and_joules(table),
    )  # fmt: skip
    unknown = sorted(set(cells) - set(CELLS))
    if unknown:
        raise KeyError(f"no cells {unknown}")
    columns = [np.broadcast_to(np.asarray(cells.get(name, 0.0), float), len(table)) for name in CELLS]
    return replace(rows, work=np.stack(columns, axis=1).copy())


def stacked(parts: list[Rows]) -> Rows:
    """Samples of several kernels each, from rows that have one of them each."""
    first = parts[0]
    kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.kinds))
    order = np.argsort(np.concatenate([part.sample for part in parts]), kind="stable")
    index = [np.array([kinds.index(kind) for kind in part.kinds])[part.kind_index] for part in parts]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("work", "hot", "times", "sample")
    }
    return replace(first, kinds=kinds, kind_index=np.concatenate(index)[order], **joined)


def no_rows() -> Rows:
    """None."""
    empty = np.zeros(0)
    return layer_rows(layers.matmul(symbol("m"), 1, 1, "bf16"), {"m": empty}, time_s=empty, energy_j=empty, group=empty)
