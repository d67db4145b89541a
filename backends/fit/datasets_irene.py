"""Transformers, their modules and primitives on two desktop PCs: ``irene_transformers``; joules of the GPU's sensor.

The set copies one measurement to all layers of a shape: one is kept. Its joules at the wall are those of the GPU and a
constant power of the PC: 105 W beside the GTX 1070, 113 W beside the GTX 1080 Ti, within 0.5 % of every model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from wattir.work import Work

from . import irene_models
from .irene_models import TRANSFORMERS, Shape
from .rows import Rows, joined, launches, network_rows
from .tables import read_table

COPIED = ["layer_kind", "batch", "seq_len", "flops", "mem_bytes"]
"""Rows that agree in these are one measurement."""
SAME_BLOCKS = {"roberta-base": "bert-base-uncased"}
"""Models of one group: they have the same blocks."""


def primitives(folder: str, name: str) -> Rows:
    """Primitives, grouped by kind, batch and length."""
    return _parts(folder, name, "primitive_op", _primitive)


def modules(folder: str, name: str) -> Rows:
    """Modules of all depths, grouped by kind, batch and length."""
    return _parts(folder, name, "module", _module)


def models(folder: str, name: str) -> Rows:
    """Whole models, grouped by model."""
    table = _read(folder, name, "model")
    keys = ["model_id", "batch", "seq_len", "flops"]
    once = table.groupby(keys, as_index=False)[["latency_s", "gpu_energy_j"]].median()
    works = [irene_models.whole(_shape(row), row.flops) for row in once.itertuples()]
    groups = [f"model {SAME_BLOCKS.get(model, model)}" for model in once.model_id]
    rows = _rows(works, once, groups, "network")
    return replace(rows, dropped={"of a model without a description here": table.attrs["unknown"]})


def _parts(folder: str, name: str, scope: str, works_of: Callable[[Any], tuple[Work, ...] | None]) -> Rows:
    table = _read(folder, name, scope)
    once = table.groupby(["model_id", *COPIED], as_index=False)[["latency_s", "gpu_energy_j"]].median()
    once = once.groupby(COPIED, as_index=False).first()
    found = [works_of(row) for row in once.itertuples()]
    has = np.array([works is not None for works in found])
    kept = once[has]
    rows = _rows(
        [works for works in found if works], kept, joined(kept, "layer_kind", "batch", "seq_len"), "layer"
    )  # fmt: skip
    return replace(
        rows,
        dropped={
            "copies of one measurement": len(table) - len(once),
            "of a kind without a graph": int((~has).sum()),
            "of a model without a description here": table.attrs["unknown"],
        },
    )


def _rows(works: list[tuple[Work, ...]], table: Any, group: Any, label: str) -> Rows:
    return network_rows(
        works, time_s=table.latency_s, energy_j=table.gpu_energy_j, group=group, label=label,
        host_ops=[launches(each) for each in works],
    )  # fmt: skip


def _read(folder: str, name: str, scope: str) -> Any:
    table = read_table(folder, "data")
    same = table.hardware.str.contains(name, regex=False) & table.scope.eq(scope)
    table = table[same & ~(table.gpu_energy_j <= 0.0) & (table.latency_s > 0.0)]
    known = table.model_id.isin(TRANSFORMERS)
    kept = table[known].copy()
    kept.attrs["unknown"] = int((~known).sum())
    return kept


def _shape(row: Any) -> Shape:
    return Shape(TRANSFORMERS[row.model_id], int(row.batch), int(row.seq_len))


def _primitive(row: Any) -> tuple[Work, ...] | None:
    return irene_models.primitive(row.layer_kind, _shape(row), row.flops, row.mem_bytes)


def _module(row: Any) -> tuple[Work, ...] | None:
    return irene_models.module(row.layer_kind, _shape(row))
