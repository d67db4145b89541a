"""Layers on CPUs in eager PyTorch: ``getzner_cpu_layers``, ``willowec_cpu_layers``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from wattir import layers
from wattir.ir import Graph

from .functions import function_graph
from .rows import JOULES_OF, Rows, joined, network_rows, one_by_one
from .tables import read_table

Row = Any


def getzner(folder: str) -> Rows:
    """Layers with random sizes on two Xeon Gold 5120, grouped by kind and channels; three repeats merged."""
    table = read_table(folder, "data")
    few = table.quality.eq("few_passes")
    sizes = ["layer_kind", "batch", "image_size", "kernel_size", "in_channels", "out_channels", "stride", "padding",
             "in_features", "out_features"]  # fmt: skip
    table = table[~few].groupby(sizes, as_index=False, dropna=False)[["latency_s", "energy_j"]].median()
    graphs, known, dropped = one_by_one(table.itertuples(), _getzner_graph)
    kept = table[known]
    groups = joined(kept, "layer_kind", "in_channels", "out_channels", "in_features", "out_features")
    rows = network_rows(graphs, time_s=kept.latency_s, energy_j=kept.energy_j, group=groups, label="layer")
    return replace(rows, dropped={"few_passes": int(few.sum()), **dropped})


def _getzner_graph(row: Row) -> Graph | None:
    kind = row.layer_kind
    if kind == "Linear":
        return layers.matmul(int(row.batch), int(row.out_features), int(row.in_features), "fp32")
    if kind == "Softmax":
        return layers.softmax(int(row.batch), int(row.in_features), "fp32")
    if kind in ("ReLU", "Sigmoid", "Tanh"):
        return function_graph(kind.lower(), int(row.batch * row.in_features), "fp32")
    return _square(row, row.in_channels, row.out_channels, row.padding)


def _square(row: Row, c_in: float, c_out: float, padding: float) -> Graph | None:
    """A convolution or a max pooling with square images and kernels."""
    if row.layer_kind not in ("Conv2d", "MaxPool2d"):
        return None
    size, kernel, stride, pad = (int(value) for value in (row.image_size, row.kernel_size, row.stride, padding))
    if size + 2 * pad < kernel:
        raise ValueError(f"a kernel of {kernel} in an image of {size}")
    if row.layer_kind == "Conv2d":
        return layers.conv(
            int(row.batch), int(c_in), int(c_out), (size, size), (kernel, kernel), "fp32", stride=stride, padding=pad
        )
    out = (size + 2 * pad - kernel) // stride + 1
    lead = (int(row.batch), int(c_in))
    return layers.pooling((*lead, size, size), (*lead, out, out), kernel * kernel, "fp32")


def willowec(folder: str, host: str) -> Rows:
    """Layers with random sizes on one of two CPUs, grouped by kind and channels."""
    table = read_table(folder, "data")
    table = table[table.host.eq(host)]
    trained = table["mode"].ne("inference")
    table = table[~trained]
    bad = table.quality.eq("bad") | ~(table.latency_s > 0.0) | (table.energy_j <= 0.0)
    short = table.quality.eq("short_lt_1ms") & ~bad
    table = table[~bad]
    graphs, known, odd = one_by_one(table.itertuples(), _willowec_graph)
    kept = table[known]
    energy = kept.energy_j.where(~kept.quality.eq("short_lt_1ms"), np.nan)
    groups = joined(kept, "layer_kind", "c_in", "c_out")
    rows = network_rows(graphs, time_s=kept.latency_s, energy_j=energy, group=groups, label="layer")
    dropped = {"not of inference": int(trained.sum()), "marked bad or not positive": int(bad.sum())}
    return replace(rows, dropped={**dropped, f"{JOULES_OF} rows under 1 ms": int(short.sum()), **odd})


def _willowec_graph(row: Row) -> Graph | None:
    if row.layer_kind == "Linear":
        return layers.matmul(int(row.batch), int(row.c_out), int(row.c_in), "fp32")
    return _square(row, row.c_in, row.c_out, 0)
