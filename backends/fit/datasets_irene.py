"""Transformers, their modules and primitives on two desktop PCs: ``irene_transformers``; joules of the GPU's sensor.

The set copies one measurement to all layers of a shape: one is kept. Its joules at the wall are those of the GPU and a
constant power of the PC: 105 W beside the GTX 1070, 113 W beside the GTX 1080 Ti, within 0.5 % of every model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from wattir.work import Work

from . import irene_models
from .irene_models import TRANSFORMERS, Shape
from .rows import Rows, joined, launches, network_rows, one_by_one
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
    keys = ["model_id", "batch", "seq_len", "flops"]
    table = _read(folder, name, "model", keys)
    once = table.groupby(keys, as_index=False)[["latency_s", "gpu_energy_j"]].median()
    works, known, odd = one_by_one(once.itertuples(), lambda row: irene_models.whole(_shape(row), row.flops))
    once = once[known]
    groups = [f"model {SAME_BLOCKS.get(model, model)}" for model in once.model_id]
    rows = _rows(works, once, groups, "network")
    return replace(rows, dropped={**table.attrs["dropped"], **odd})


def _parts(folder: str, name: str, scope: str, works_of: Callable[[Any], tuple[Work, ...] | None]) -> Rows:
    table = _read(folder, name, scope, COPIED)
    once = table.groupby(["model_id", *COPIED], as_index=False)[["latency_s", "gpu_energy_j"]].median()
    once = once.groupby(COPIED).first().reset_index()
    works, known, odd = one_by_one(once.itertuples(), lambda row: works_of(row) or None)
    kept = once[known]
    rows = _rows(works, kept, joined(kept, "layer_kind", "batch", "seq_len"), "layer")
    copies = {"copies of one measurement": len(table) - len(once)}
    return replace(rows, dropped={**copies, **table.attrs["dropped"], **odd})


def _rows(works: list[tuple[Work, ...]], table: Any, group: Any, label: str) -> Rows:
    return network_rows(
        works, time_s=table.latency_s, energy_j=table.gpu_energy_j, group=group, label=label,
        host_ops=[launches(each) for each in works],
    )  # fmt: skip


def _read(folder: str, name: str, scope: str, sizes: list[str]) -> Any:
    table = read_table(folder, "data")
    same = table.hardware.astype(str).str.contains(name, regex=False) & table.scope.eq(scope)
    table = table[same]
    seen = ~(table.gpu_energy_j <= 0.0) & (table.latency_s > 0.0)
    known, sized = table.model_id.isin(TRANSFORMERS), table[sizes].notna().all(axis=1)
    kept = table[seen & known & sized].copy()
    kept.attrs["dropped"] = {
        "no seconds, or no joules above idle": int((~seen).sum()),
        "of a model without a description here": int((seen & ~known).sum()),
        "a size is missing": int((seen & known & ~sized).sum()),
    }
    return kept


def _shape(row: Any) -> Shape:
    return Shape(TRANSFORMERS[row.model_id], int(row.batch), int(row.seq_len))


def _primitive(row: Any) -> tuple[Work, ...] | None:
    return irene_models.primitive(row.layer_kind, _shape(row), row.flops, row.mem_bytes)


def _module(row: Any) -> tuple[Work, ...] | None:
    return irene_models.module(row.layer_kind, _shape(row))
