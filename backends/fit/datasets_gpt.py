"""Decoders of GPT-2's size on GPUs and CPUs, seconds only: the set ``hw_gpt_bench_latency`` (HW-GPT-Bench).

A sample is one forward of 1,024 tokens a sequence in eager PyTorch. On GPUs it is the sum of the kernels' own seconds,
as a profiler has them, so the host does not count; weights and the residual stream are fp32, and autocast makes the
operands of products 16 bit in every forward anew. On CPUs it is the seconds of all ops in fp32. The widths are the
set's: heads of 64, and three matrices in an MLP (its multiply-adds say so).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

from .functions import function_graph
from .rows import Rows, network_rows, one_by_one
from .tables import read_table

HEAD = 64
VOCABULARY = 50254
ROTATED = 16
"""Of each head's elements a quarter get rotary positions, the default of the models' code."""
TABLE_LAUNCHES = 12
"""Small kernels that make the table of rotary positions, in every layer anew."""
HALF = {"NVIDIA V100": "fp16", "NVIDIA P100": "fp16", "NVIDIA RTX 2080 Ti": "fp16"}
"""GPUs without bf16."""


def hw_gpt_bench(folder: str, device: str, scales: Sequence[str] = (), hardware: str | None = None) -> Rows:
    """The models of one machine, of these scales (s, m, l; all if none is said); grouped by scale, width and depth.
    `hardware`: where tables call several machines by one name of a device."""
    table = read_table(folder, "data")
    table = table[table.device.eq(device) & (table.hardware.eq(hardware) | (hardware is None))]
    table = table[table.scale.isin(scales)] if scales else table
    dtype = "fp32" if "cpu" in device else HALF.get(str(table.hardware.iloc[0]), "bf16") if len(table) else "bf16"
    works, known, odd = one_by_one(table.itertuples(), lambda row: _decoder(row, dtype))
    table = table[known]
    widths = zip(table.scale, table.embed_dim, table.n_layer, strict=True)
    rows = network_rows(
        works, time_s=table.latency_s, energy_j=np.full(len(table), np.nan),
        group=[f"{scale} {width}x{depth}" for scale, width, depth in widths], label=table.scale.astype(str),
    )  # fmt: skip
    return replace(rows, dropped=odd)


def _decoder(row: Any, dtype: str) -> tuple[Work, ...]:
    sizes = (int(row.batch_latency), int(row.seq_len), int(row.embed_dim))
    return decoder(*sizes, _first(row.n_layer, row.n_head), _first(row.n_layer, row.mlp_ratio), dtype)


def _first(layers_used: float, text: str) -> tuple[int, ...]:
    """One number a layer; the lists go on to the deepest model's."""
    return tuple(int(number) for number in text.split()[: int(layers_used)])


def decoder(
    batch: int, seq: int, width: int, heads: tuple[int, ...], ratios: tuple[int, ...], dtype: str
) -> tuple[Work, ...]:
    """The kernels of a forward of `batch` sequences: `heads` and the MLP's widths over `width`, layer by layer.

    `dtype`: what products compute in; fp32 means no autocast.
    """
    found = list(_frame(batch, seq, width, dtype))
    for count, layers_of in Counter(heads).items():
        found += _repeated(layers_of, _attention_part, batch, seq, width, count, dtype)
    for ratio, layers_of in Counter(ratios).items():
        found += _repeated(layers_of, _mlp_part, batch * seq, width, ratio * width, dtype)
    return tuple(found)


@lru_cache(maxsize=2**14)
def _repeated(count: int, part: Callable[..., tuple[Work, ...]], *sizes: Any) -> tuple[Work, ...]:
    """The Work of so many layers' part: thousands of decoders share it."""
    return tuple(replace(work, times=work.times * count) for work in part(*sizes))


@lru_cache
def _frame(batch: int, seq: int, width: int, dtype: str) -> tuple[Work, ...]:
    """What surrounds the layers: embedding, the last norm, and the logits of every token."""
    tokens = batch * seq
    return _works(
        layers.gather(VOCABULARY, width, tokens, "fp32"), *_normalized(tokens, width, dtype),
        *_product(tokens, VOCABULARY, width, dtype),
    )  # fmt: skip


@lru_cache
def _attention_part(batch: int, seq: int, width: int, heads: int, dtype: str) -> tuple[Work, ...]:
    """Norm, attention and the addition to the residual stream of a layer."""
    tokens, inner = batch * seq, heads * HEAD
    small = [replace(work, times=TABLE_LAUNCHES) for work in _works(layers.pointwise(seq * ROTATED, "fp32"))]
    rotation = [*_rotation(tokens, heads, dtype)] * 2  # of queries and of keys
    return (
        *_works(
            *_normalized(tokens, width, dtype), *_product(tokens, 3 * inner, width, dtype),
            *[layers.copy((tokens, inner), dtype)] * 3,  # queries, keys and values, each contiguous
            *rotation, layers.attention(batch, heads, seq, seq, HEAD, dtype, causal=True),
            *_product(tokens, width, inner, dtype), layers.pointwise(tokens * width, "fp32", operands=2),
        ),
        *small,
    )  # fmt: skip


@lru_cache
def _mlp_part(tokens: int, width: int, inner: int, dtype: str) -> tuple[Work, ...]:
    """Norm, gated MLP and the addition to the residual stream of a layer."""
    return _works(
        *_normalized(tokens, width, dtype), *_product(tokens, inner, width, dtype) * 2,
        function_graph("silu", tokens * inner, dtype),
        layers.pointwise(tokens * inner, dtype, operands=2), *_product(tokens, width, inner, dtype),
        layers.pointwise(tokens * width, "fp32", operands=2),
    )  # fmt: skip


def _normalized(tokens: int, width: int, dtype: str) -> list[Graph]:
    """A norm in fp32, and its cast."""
    return [layers.norm(tokens, width, "fp32"), *_cast(tokens * width, dtype)]


def _product(tokens: int, outputs: int, inputs: int, dtype: str) -> list[Graph]:
    """A linear layer, and the cast of its weights."""
    return [*_cast(outputs * inputs, dtype), layers.matmul(tokens, outputs, inputs, dtype)]


def _cast(elements: int, dtype: str) -> list[Graph]:
    """From fp32: 4 bytes are read and 2 written; nothing where products are fp32 too."""
    return [] if dtype == "fp32" else [layers.pointwise(elements * 3 // 2, dtype)]


def _rotation(tokens: int, heads: int, dtype: str) -> Iterator[Graph]:
    """Half turned, two products, their sum, the cast back, and the join with what is not rotated."""
    some = tokens * heads * ROTATED
    yield layers.copy((some,), dtype)
    yield from [layers.pointwise(some, "fp32", operands=2)] * 3
    yield from _cast(some, dtype)
    yield layers.copy((tokens * heads, HEAD), dtype)


def _works(*graphs: Graph) -> tuple[Work, ...]:
    """The Work of each distinct kernel, with how often it runs."""
    found = Counter(work for graph in graphs for work in tabulate(graph))
    return tuple(replace(work, times=work.times * count) for work, count in found.items())
