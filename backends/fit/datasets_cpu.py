"""Layers and networks on CPUs: ``getzner_cpu_layers``, ``willowec_cpu_layers``, ``nas_bench_201_pi5``."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

from .rows import JOULES_OF, Rows, joined, network_rows
from .tables import read_table

Row = Any


def getzner(folder: str) -> Rows:
    """Layers with random sizes on two Xeon Gold 5120, grouped by kind and channels; three repeats merged."""
    table = read_table(folder, "data")
    few = table.quality.eq("few_passes")
    sizes = ["layer_kind", "batch", "image_size", "kernel_size", "in_channels", "out_channels", "stride", "padding",
             "in_features", "out_features"]  # fmt: skip
    table = table[~few].groupby(sizes, as_index=False, dropna=False)[["latency_s", "energy_j"]].median()
    graphs = [_getzner_graph(row) for row in table.itertuples()]
    kept = table[np.array([graph is not None for graph in graphs], bool)]
    groups = joined(kept, "layer_kind", "in_channels", "out_channels", "in_features", "out_features")
    rows = network_rows(
        [graph for graph in graphs if graph is not None], time_s=kept.latency_s, energy_j=kept.energy_j, group=groups,
        label="layer",
    )  # fmt: skip
    return replace(rows, dropped={"few_passes": int(few.sum())})


def _getzner_graph(row: Row) -> Graph | None:
    kind = row.layer_kind
    if kind == "Linear":
        return layers.matmul(int(row.batch), int(row.out_features), int(row.in_features), "fp32")
    if kind == "Softmax":
        return layers.softmax(int(row.batch), int(row.in_features), "fp32")
    if kind in ACTIVATIONS:
        ops, special = ACTIVATIONS[kind]
        return layers.pointwise(int(row.batch * row.in_features), "fp32", ops=ops, special=special)
    return _square(row, row.in_channels, row.out_channels, row.padding)


ACTIVATIONS = {"ReLU": (1, 0), "Sigmoid": (1, 2), "Tanh": (1, 2)}


def _square(row: Row, c_in: float, c_out: float, padding: float) -> Graph | None:
    """A convolution or a max pooling with square images and kernels."""
    size, kernel, stride, pad = (int(value) for value in (row.image_size, row.kernel_size, row.stride, padding))
    if size + 2 * pad < kernel:
        return None
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
    table = table[table.host.eq(host) & table["mode"].eq("inference")]
    bad = table.quality.eq("bad") | ~(table.latency_s > 0.0) | (table.energy_j <= 0.0)
    short = table.quality.eq("short_lt_1ms") & ~bad
    table = table[~bad]
    graphs = [_willowec_graph(row) for row in table.itertuples()]
    kept = table[np.array([graph is not None for graph in graphs], bool)]
    energy = kept.energy_j.where(~kept.quality.eq("short_lt_1ms"), np.nan)
    rows = network_rows(
        [graph for graph in graphs if graph is not None], time_s=kept.latency_s, energy_j=energy,
        group=joined(kept, "layer_kind", "c_in", "c_out"), label="layer",
    )  # fmt: skip
    dropped = {"marked bad or not positive": int(bad.sum()), f"{JOULES_OF} rows under 1 ms": int(short.sum())}
    return replace(rows, dropped=dropped)


def _willowec_graph(row: Row) -> Graph | None:
    if row.layer_kind == "Linear":
        return layers.matmul(int(row.batch), int(row.c_out), int(row.c_in), "fp32")
    return _square(row, row.c_in, row.c_out, 0)


INPUTS = {"cifar100": (3, 32, 32, 100), "ninapro": (1, 52, 16, 18), "darcy": (1, 88, 88, 1)}
CELLS = 5
CHANNELS = (16, 32, 64)
SHORT_S = 1e-4


def nas_bench_201(folder: str, framework: str) -> Rows:
    """NAS-Bench-201 networks on one core of a Raspberry Pi 5, batch 1, grouped by architecture."""
    table = read_table(folder, "data")
    table = table[table.device.eq("pi5") & table.framework.eq(framework)]
    copies, short = ~table.is_measured_rep, table.latency_s < SHORT_S
    short |= ~table.arch_str.map(lambda arch: any(target == 3 for _, target, _ in _live_edges(arch)))
    table = table[~copies & ~short]
    works = [network(arch, task) for arch, task in zip(table.arch_str, table.task, strict=True)]
    rows = network_rows(
        works, time_s=table.latency_s, energy_j=table.energy_j, group=table.arch_idx.astype(str), label="network"
    )
    return replace(
        rows,
        dropped={
            "isomorphic copies": int(copies.sum()),
            "under 0.1 ms or without a way to the output": int(short.sum()),
        },
    )


def network(arch: str, task: str) -> tuple[Work, ...]:
    """The Work of one network: stem, three stages of `CELLS` cells, two residual blocks between them, classifier.

    Batch normalization and ReLU are folded into the convolutions, as the runtimes do.
    """
    live = _live_edges(arch)
    edges = Counter(function for _, _, function in live)
    adds = sum(max(inputs - 1, 0) for inputs in Counter(target for _, target, _ in live).values())
    found = list(_frame(task))
    for stage in range(3):
        conv3, conv1, pool, add = _stage(task, stage)
        counts = (edges["nor_conv_3x3"], edges["nor_conv_1x1"], edges["avg_pool_3x3"], adds)
        kernels = zip((conv3, conv1, pool, add), counts, strict=True)
        found += [replace(work, times=CELLS * count) for work, count in kernels if count]
    return tuple(found)


def _live_edges(arch: str) -> list[tuple[int, int, str]]:
    """(from, to, operation) of the edges of a cell that lie on a way from its input to its output."""
    edges = [
        (int(part.split("~")[1]), target, part.split("~")[0])
        for target, node in enumerate(arch.split("+"), 1) for part in node.strip("|").split("|")
        if not part.startswith("none")
    ]  # fmt: skip
    reached, needed = {0}, {3}
    for source, target, _ in edges:  # in order of target
        reached |= {target} if source in reached else set()
    for source, target, _ in sorted(edges, key=lambda edge: -edge[1]):
        needed |= {source} if target in needed else set()
    return [edge for edge in edges if edge[0] in reached and edge[1] in needed]


@lru_cache
def _stage(task: str, stage: int) -> tuple[Work, ...]:
    channels, height, width = CHANNELS[stage], *_spatial(task, stage)
    shape = (1, channels, height, width)
    graphs = (
        layers.conv(1, channels, channels, (height, width), (3, 3), "fp32"),
        layers.conv(1, channels, channels, (height, width), (1, 1), "fp32"),
        layers.pooling(shape, shape, 9, "fp32"),
        layers.pointwise(channels * height * width, "fp32", operands=2),
    )
    return tuple(tabulate(graph)[0] for graph in graphs)


@lru_cache
def _frame(task: str) -> tuple[Work, ...]:
    """What all networks of a task share."""
    c_in, height, width, classes = INPUTS[task]
    graphs = [layers.conv(1, c_in, CHANNELS[0], (height, width), (3, 3), "fp32")]
    for stage in (1, 2):
        before, after = CHANNELS[stage - 1], CHANNELS[stage]
        large, small = _spatial(task, stage - 1), _spatial(task, stage)
        graphs += [
            layers.conv(1, before, after, large, (3, 3), "fp32", stride=2),
            layers.conv(1, after, after, small, (3, 3), "fp32"),
            layers.pooling((1, before, *large), (1, before, *small), 4, "fp32"),
            layers.conv(1, before, after, small, (1, 1), "fp32"),
            layers.pointwise(after * small[0] * small[1], "fp32", operands=2),
        ]
    last = _spatial(task, 2)
    graphs += [
        layers.pooling((1, CHANNELS[2], *last), (1, CHANNELS[2], 1, 1), last[0] * last[1], "fp32"),
        layers.matmul(1, classes, CHANNELS[2], "fp32"),
    ]
    return tuple(tabulate(graph)[0] for graph in graphs)


def _spatial(task: str, stage: int) -> tuple[int, int]:
    _, height, width, _ = INPUTS[task]
    return -(-height // 2**stage), -(-width // 2**stage)
