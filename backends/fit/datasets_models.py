"""Whole forwards of transformers in eager PyTorch, with the kernels that each ran: the set ``whole_models_eager``.

A sample is the sum over its kernel list, and each kernel is one op for the host to launch. The lists are of bf16; an
fp32 forward runs the same kernels without the casts. Left out: forwards without a list, and failed runs (implied FLOP
per second above the chip's peak).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

from .rows import Rows, launches, network_rows
from .tables import read_table

TRAIL = re.compile(r"(_modeprefill)?(_attneager)?(_freq\d+)?(_iter\d+)?(\.csv|\.json)$")
ONE_OPERAND = ("scalar_add", "scalar_mul", "unspecified_scalar", "relu", "tanh", "gelu", "silu")
OPS = {"gelu": (6, 1), "silu": (2, 2), "tanh": (1, 2)}


def whole_models(folder: str, which: str, peak_flop_per_s: float) -> Rows:
    """Forwards of one of the sets a10, a100, h100; grouped by model."""
    table = read_table(folder, "data")
    table = table[table["set"] == which]
    lists = {_plain(name): name for name in sorted(os.listdir(os.path.join(folder, "kernel_lists")))}
    found = [lists.get(_plain(name.replace("_pfp32", "_pbf16"))) for name in table.workload]
    has = np.array([name is not None for name in found])
    path = os.path.join(folder, "kernel_lists")
    works = [
        kernel_list(os.path.join(path, name), dtype)
        for name, dtype in zip(found, table.dtype, strict=True) if name is not None
    ]  # fmt: skip
    kept = table[has]
    rows = network_rows(
        works, time_s=kept.latency_ms * 1e-3, energy_j=kept.energy_j, group=kept.family, label="network",
        host_ops=[launches(table) for table in works],
    )  # fmt: skip
    flop = np.bincount(rows.sample, 2.0 * rows.work[:, 0] * rows.times, rows.samples)
    rows = rows.without({"failed run: more FLOP/s than the peak": flop / rows.time_s > peak_flop_per_s})
    return replace(rows, dropped={**rows.dropped, "without a kernel list": int((~has).sum())})


def _plain(name: str) -> str:
    return TRAIL.sub("", name)


@lru_cache
def kernel_list(path: str, dtype: str) -> tuple[Work, ...]:
    """The Work of a forward, equal kernels merged into one with `times`."""
    with open(path, encoding="utf-8") as file:
        kernels = [json.dumps([size, kind], sort_keys=True) for size, kind in json.load(file)]
    found: list[Work] = []
    for text in dict.fromkeys(kernels):
        size, kind = json.loads(text)
        graph = _graph(size, kind, dtype)
        if graph is not None:
            found += [replace(work, times=kernels.count(text)) for work in tabulate(graph)]
    return tuple(found)


def _graph(size: dict[str, Any], kind: list[str], dtype: str) -> Graph | None:
    own = dtype if size.get("prec", size.get("precM")) == "bf16" else "fp32"
    if kind[0] == "gemm":
        return layers.matmul(
            size["dimM"], size["dimN"], size["dimK"], own, groups=size["batch"], weight=size["batch"] == 1
        )
    if kind[0] == "conv2d":
        return layers.conv(
            size["b"], size["c"], size["m"], (size["hw"],) * 2, (size["rs"],) * 2, own, stride=size["stride"],
            padding=size["padding"],
        )  # fmt: skip
    if kind[0] == "layernorm":
        return layers.norm(size["batch"], size["dim"], own)
    if kind[0] == "softmax":
        return layers.softmax(size["batch"], size["dim"], own)
    return _elementwise(size["op"], size["dim"], own, dtype)


def _elementwise(op: str, elements: int, own: str, dtype: str) -> Graph | None:
    if op.startswith("typecast"):
        return None if dtype == "fp32" else layers.pointwise(elements * 3 // 2, dtype)  # 2 bytes one way, 4 the other
    ops, special = OPS.get(op, (1, 0))
    return layers.pointwise(elements, own, operands=1 if op in ONE_OPERAND else 2, ops=ops, special=special)
