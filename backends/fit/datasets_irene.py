"""BERT-like models and their primitives on two desktop GPUs: the set ``irene_transformers``; the GPU sensor's joules.

The set copies one measurement to all layers of a shape: one is kept. All models have 768 features and 12 heads, so that
sizes follow from the FLOP. Only the primitives and the whole models are used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

from .rows import Rows, joined, launches, network_rows
from .tables import read_table

FEATURES, HEADS, VOCABULARY = 768, 12, 30522
BLOCKS = {"bert-base-uncased": 12, "roberta-base": 12, "distilbert-base-uncased": 6}


def primitives(folder: str, name: str) -> Rows:
    """Primitives, grouped by kind, batch and length."""
    table = _read(folder, name)
    table = table[table.scope == "primitive_op"]
    keys = ["layer_kind", "batch", "seq_len", "flops", "mem_bytes"]
    once = table.groupby(keys, as_index=False)[["latency_s", "gpu_energy_j"]].median()
    graphs = [_primitive(row) for row in once.itertuples()]
    rows = network_rows(
        graphs, time_s=once.latency_s, energy_j=once.gpu_energy_j, group=joined(once, "layer_kind", "batch", "seq_len"),
        label="layer", host_ops=1.0,
    )  # fmt: skip
    return replace(rows, dropped={"copies of one measurement": len(table) - len(once)})


def models(folder: str, name: str) -> Rows:
    """Whole encoders, grouped by depth (BERT and RoBERTa have the same layers)."""
    table = _read(folder, name)
    table = table[(table.scope == "model") & table.model_id.isin(BLOCKS)]
    keys = ["model_id", "batch", "seq_len"]
    once = table.groupby(keys, as_index=False)[["latency_s", "gpu_energy_j"]].median()
    works = [encoder(int(row.batch), int(row.seq_len), BLOCKS[row.model_id]) for row in once.itertuples()]
    return network_rows(
        works, time_s=once.latency_s, energy_j=once.gpu_energy_j,
        group=[f"encoder of {BLOCKS[model]} blocks" for model in once.model_id], label="network",
        host_ops=[launches(table) for table in works],
    )  # fmt: skip


def _read(folder: str, name: str) -> Any:
    table = read_table(folder, "data")
    same = table.hardware.str.contains(name, regex=False)
    return table[same & ~(table.gpu_energy_j <= 0.0) & (table.latency_s > 0.0)]


def _primitive(row: Any) -> Graph:
    batch, length = int(row.batch), int(row.seq_len)
    rows, points = batch * length, batch * length * FEATURES
    if row.layer_kind == "Linear":
        wide = round(row.flops / (2 * rows * FEATURES))
        m, n = (rows, wide) if wide >= FEATURES else (batch, FEATURES)  # the pooler sees one token of each
        return layers.matmul(m, n, FEATURES, "fp32")
    if row.layer_kind == "MatMul":
        return layers.matmul(length, length, FEATURES // HEADS, "fp32", groups=batch * HEADS, weight=False)
    if row.layer_kind == "Softmax":
        return layers.softmax(batch * HEADS * length, length, "fp32")
    if row.layer_kind == "LayerNorm":
        return layers.norm(rows, FEATURES, "fp32")
    if row.layer_kind == "Embedding":
        return layers.gather(VOCABULARY, FEATURES, rows, "fp32")
    return layers.pointwise(points // length, "fp32", ops=1, special=2)  # tanh of the pooler


def encoder(batch: int, length: int, blocks: int) -> tuple[Work, ...]:
    """The Work of a BERT encoder in eager PyTorch: products, softmax, norms, GELU, residuals, transposes."""
    rows, groups, head = batch * length, batch * HEADS, FEATURES // HEADS
    points = rows * FEATURES
    per_block = [
        (4, layers.matmul(rows, FEATURES, FEATURES, "fp32")),
        (1, layers.matmul(rows, 4 * FEATURES, FEATURES, "fp32")),
        (1, layers.matmul(rows, FEATURES, 4 * FEATURES, "fp32")),
        (1, layers.matmul(length, length, head, "fp32", groups=groups, weight=False)),
        (1, layers.matmul(length, head, length, "fp32", groups=groups, weight=False)),
        (2, layers.pointwise(groups * length * length, "fp32", ops=1)),  # scale and mask
        (1, layers.softmax(groups * length, length, "fp32")),
        (2, layers.norm(rows, FEATURES, "fp32")),
        (2, layers.pointwise(points, "fp32", operands=2)),
        (1, layers.pointwise(4 * points, "fp32", ops=6, special=1)),
        (4, layers.copy((rows, FEATURES), "fp32")),
    ]
    around = [(2, layers.gather(VOCABULARY, FEATURES, rows, "fp32")), (1, layers.norm(rows, FEATURES, "fp32"))]
    counted = [(blocks * times, graph) for times, graph in per_block] + around
    return tuple(replace(tabulate(graph)[0], times=times) for times, graph in counted)
