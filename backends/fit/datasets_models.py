"""Whole forwards of transformers in eager PyTorch, with the kernels that each ran: the set ``whole_models_eager``.

A sample is the sum over its kernel list and what that leaves out (`unlisted`), and each kernel is one op for the host
to launch. The lists are of bf16; an fp32 forward runs the same kernels without the casts. A forward without a list gets
that of its model at other sizes, where all kernels grow with batch and length as plain powers. Left out: forwards of
models without lists, and failed runs (implied FLOP per second above the chip's peak).
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

from .functions import function_graph
from .rows import UNKNOWN, Array, Rows, launches, network_rows, one_by_one
from .tables import read_table
from .unlisted import Kernels, completed

NAME = re.compile(r"(?P<model>.+)_p(?:bf16|fp32)_b(?P<batch>\d+)(?:_s(?P<seq>\d+))?(?=_|\.|$)")
CLOCK = re.compile(r"_freq(\d+)")
ONE_OPERAND = ("scalar_add", "scalar_mul", "unspecified_scalar", "relu", "tanh", "gelu", "silu", "copy")
Key = tuple[str, int, int]


def whole_models(folder: str, which: str, peak_flop_per_s: float, hardware: str | None = None) -> Rows:
    """Forwards of one of the sets a10, a100, h100, dvfs; grouped by model, each at the clock that was asked for.
    `hardware`: where a set is of several machines."""
    table = read_table(folder, "data")
    table = table[(table["set"] == which) & (table.hardware.eq(hardware) | (hardware is None))]
    works, has, odd = one_by_one(zip(table.workload, table["dtype"], strict=True), lambda row: _forward(folder, *row))
    kept = table[has]
    asked = kept.workload.str.extract(CLOCK)[0].astype(float)
    rows = network_rows(
        works, time_s=kept.latency_ms * 1e-3, energy_j=kept.energy_j, group=kept.family, label="network",
        host_ops=[launches(table) for table in works], clock_hz=1e6 * asked.fillna(kept.sm_clock_mhz),
    )  # fmt: skip
    flop = np.bincount(rows.sample, 2.0 * rows.work[:, 0] * rows.times, rows.samples)
    rows = rows.without({"failed run: more FLOP/s than the peak": flop / rows.time_s > peak_flop_per_s})
    return replace(rows, dropped={**rows.dropped, NO_LIST: odd.pop(UNKNOWN, 0), **odd})


NO_LIST = "of a model without a kernel list"


def _forward(folder: str, workload: str, dtype: str) -> tuple[Work, ...] | None:
    """The kernels of a forward; None where no list tells."""
    key = _key(workload)
    kernels = None if key is None else _kernels(folder, key)
    if key is None or kernels is None:
        return None
    return _works(_text(completed(kernels)), dtype, _tokens(key, kernels)) or None


def _key(name: str) -> Key | None:
    """(model, batch, length or 0) of a workload or of a list's file."""
    found = NAME.match(name)
    return (found["model"], int(found["batch"]), int(found["seq"] or 0)) if found else None


@lru_cache
def _lists(folder: str) -> dict[Key, Kernels]:
    """All kernel lists of the set."""
    path = os.path.join(folder, "kernel_lists")
    found: dict[Key, Kernels] = {}
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        key = _key(name)
        if key is not None:
            with open(os.path.join(path, name), encoding="utf-8") as file:
                found[key] = json.load(file)
    return found


def _kernels(folder: str, wanted: Key) -> Kernels | None:
    """The list of a forward, or what follows for it from the model's lists at other sizes."""
    lists = _lists(folder)
    if wanted in lists:
        return lists[wanted]
    model = {key: kernels for key, kernels in lists.items() if key[0] == wanted[0]}
    lengths = [len(kernels) for kernels in model.values()]
    alike = {key: kernels for key, kernels in model.items() if len(kernels) == max(lengths, key=lengths.count)}
    return _grown(alike, wanted) if len(alike) > 1 else None


def _grown(lists: dict[Key, Kernels], wanted: Key) -> Kernels | None:
    """The list at other sizes: every number as a constant times powers of batch and length; None where one is not."""
    pattern = next(iter(lists.values()))
    cells = [(i, name) for i, (size, _) in enumerate(pattern) for name, value in size.items() if _counts(value)]
    known = np.log([[max(kernels[i][0].get(name, 0), 1) for i, name in cells] for kernels in lists.values()])
    sizes = np.array([_powers(key) for key in lists])
    powers = np.linalg.lstsq(sizes, known, rcond=None)[0]
    if np.abs(sizes @ powers - known).max() > 1e-6:
        return None
    numbers = np.rint(np.exp(_powers(wanted) @ powers)).astype(int)
    grown = [(dict(size), kind) for size, kind in pattern]
    for (i, name), number in zip(cells, numbers.tolist(), strict=True):
        grown[i][0][name] = number if pattern[i][0][name] else 0
    return grown


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _powers(key: Key) -> Array:
    return np.array([1.0, np.log(key[1]), np.log(max(key[2], 1))])


def _tokens(key: Key, kernels: Kernels) -> int:
    """Tokens of a forward: batch by length, or the rows that it normalizes."""
    rows = [size["batch"] for size, kind in kernels if kind[0] == "layernorm"]
    return key[1] * key[2] or max(rows, key=rows.count, default=0)


def _text(kernels: Kernels) -> str:
    return json.dumps(kernels, sort_keys=True)


@lru_cache
def _works(text: str, dtype: str, tokens: int) -> tuple[Work, ...]:
    """The Work of a forward, equal kernels merged into one with `times`."""
    kernels = [json.dumps(kernel, sort_keys=True) for kernel in json.loads(text)]
    found: list[Work] = []
    for kernel in dict.fromkeys(kernels):
        size, kind = json.loads(kernel)
        graph = _graph(size, kind, dtype, tokens)
        if graph is not None:
            found += [replace(work, times=kernels.count(kernel)) for work in tabulate(graph)]
    return tuple(found)


def _graph(size: dict[str, Any], kind: list[str], dtype: str, tokens: int) -> Graph | None:
    own = dtype if size.get("prec", size.get("precM")) == "bf16" else "fp32"
    if kind[0] == "gemm":
        m, n = size["dimM"], size["dimN"]
        m, n = (n, m) if tokens == n and size["batch"] == 1 else (m, n)  # cuBLAS has the features first
        return layers.matmul(m, n, size["dimK"], own, groups=size["batch"], weight=size["batch"] == 1)
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
    if op == "mean":
        return layers.pointwise(elements // 2, own)  # read once: as many bytes as half of them read and written
    return function_graph(op, elements, own, 1 if op in ONE_OPERAND else 2)
