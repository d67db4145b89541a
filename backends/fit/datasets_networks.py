"""First-party whole networks on one GPU: ``benchmarks/measurements/ID/networks.csv``, made by ``measure_cuda.py``.

A row is one forward of a network of torchvision or transformers, or one decode step of one token per sequence. It is
predicted from the built-in model of the same architecture, lowered for the runtime that it was measured in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from wattir.costs import tabulate
from wattir.dims import Dim, evaluate
from wattir.ir import Graph
from wattir.models import FOLDER
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision
from wattir.wattir_file import read
from wattir.work import Work

from .rows import Rows, network_rows

RUNTIME_OF_MODE = {"eager": "eager", "graph": "eager", "compile": "compiled"}
"""A captured graph runs eager's kernels, without the host between them."""
HOSTED = ("eager",)

NAMES = {
    ("llama-3.2-1b", "decode"): "llama_3_2_1b_decode", ("llama-3-8b", "decode"): "llama_3_8b_decode",
    ("llama-3.2-1b", "prefill"): "llama_3_2_1b", ("llama-3-8b", "prefill"): "llama_3_8b",
    ("gpt2", "prefill"): "gpt2",
}  # fmt: skip
"""(model, phase) of the table to the built-in model, where it is not the model's name with ``_`` for ``-``."""


@dataclass(frozen=True)
class Networks:
    """The rows that a built-in model covers, in the order of `table`; `uncovered`: model and phase -> rows without."""

    rows: Rows
    table: Any
    uncovered: Mapping[str, int]


def own_networks(folder: str) -> Rows:
    """What a fit reads: every covered row but the known traps, grouped by model."""
    found = covered(folder)
    trapped = np.array([bool(trap_of(row)) for row in found.table.itertuples()])
    return found.rows.without({"in a known trap (see PROVENANCE.md)": trapped})


def covered(folder: str, models: tuple[str, ...] = (FOLDER,)) -> Networks:
    """All rows of the table that a ``.wattir`` file in the folders `models` covers, by name and by size."""
    import pandas as pd

    table = pd.read_csv(os.path.join(folder, "networks.csv"))
    table = table[table.time_s.gt(0.0) & table.energy_j.gt(0.0)]
    works = [_works(row, models) for row in table.itertuples()]
    has = np.array([work is not None for work in works])
    missing = table[~has]
    uncovered = {str(name): int(n) for name, n in (missing.model + " " + missing.phase).value_counts().items()}
    kept = table[has].reset_index(drop=True)
    tables = [work for work in works if work is not None]
    host_ops = [
        float(evaluate(sum((w.times * w.launches for w in work), start=0), {})) if mode in HOSTED else 0.0
        for work, mode in zip(tables, kept["mode"], strict=True)
    ]
    rows = network_rows(
        tables, time_s=kept.time_s, energy_j=kept.energy_j, group=kept.model, label="network", host_ops=host_ops
    )
    return Networks(
        replace(rows, dropped={"of a network that no built-in model covers": int((~has).sum())}), kept, uncovered
    )


def trap_of(row: Any) -> str:
    """Why a measured row says little about the formula; empty for a good one. See PROVENANCE.md beside the table."""
    masked = row.phase == "decode" or row.model.startswith(("bert", "roberta"))
    if row.mode == "graph" and masked:
        return "masked attention takes another path under capture"
    if row.model.startswith("t5"):
        return "writes its attention scores out; the built-in model does not"
    if row.mode == "compile":
        return "torch.compile without CUDA graphs: no profile stands for it"
    return ""


def _works(row: Any, models: tuple[str, ...]) -> tuple[Work, ...] | None:
    name = NAMES.get((row.model, row.phase), row.model.replace("-", "_") if row.phase == "forward" else None)
    path = next((p for p in (os.path.join(m, f"{name}.wattir") for m in models) if os.path.exists(p)), None)
    if path is None:
        return None
    sizes = _sizes(row, _graph(path))
    if sizes is None:
        return None
    works = (at_sizes(work, sizes) for work in _kernels(path, str(row.math), RUNTIME_OF_MODE[row.mode]))
    if row.phase != "prefill":
        return tuple(works)
    return tuple(_of_last_token(work, int(row.seq)) if _makes_logits(work) else work for work in works)


def _makes_logits(work: Work) -> bool:
    return work.kind == "matmul" and int(str(work.n)) > LEAST_VOCABULARY


LEAST_VOCABULARY = 30_000


def _of_last_token(work: Work, seq: int) -> Work:
    """Measured prefills make the logits of the last token alone, the built-in models those of every position."""
    shares = {name: evaluate(getattr(work, name), {}) // seq for name in ("macs_causal", "m", "in_bytes", "out_bytes")}
    return replace(work, **shares)


@lru_cache
def _graph(path: str) -> Graph:
    return read(path).graph


@lru_cache
def _kernels(path: str, dtype: str, runtime: str) -> tuple[Work, ...]:
    return tabulate(lower_to_kernels(with_precision(_graph(path), dtype), runtime))


def _sizes(row: Any, graph: Graph) -> dict[str, int] | None:
    """The free dims' values for a row; None where the model was made for another image."""
    given = {"batch": row.batch, "seq": row.seq, "past": row.context}
    image = [graph.tensors[name].shape for name in graph.inputs if len(graph.tensors[name].shape) == 4]
    if row.phase == "forward" and image and not np.isnan(row.image) and image[0][-1] != int(row.image):
        return None
    return {name: int(given[name]) for name in graph.sizes}


def at_sizes(work: Work, sizes: Mapping[str, int]) -> Work:
    """The Work with numbers in place of formulas."""
    given = {field.name: getattr(work, field.name) for field in fields(work)}
    formulas = {name: value for name, value in given.items() if isinstance(value, Dim)}
    return replace(work, **{name: evaluate(value, sizes) for name, value in formulas.items()})
