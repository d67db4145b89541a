"""Collectives over a node's links: ``custom_allreduce`` and ``nccl`` of the kernel sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from .library import made_rows
from .rows import Array, Rows, joined


def custom(table: Any, dtype: str) -> Rows:
    """All-reduces of a server's own, of `message_size` 16 bit numbers; grouped by size."""
    return _rows(table, 2.0, np.full(len(table), 2.0))


def nccl(table: Any, dtype: str) -> Rows:
    """All-reduce, all-gather, reduce-scatter and all-to-all of NCCL; grouped by size."""
    width = 1.0 if dtype == "int8" else 2.0
    rounds = np.where(table.op_name.astype(str).eq("all_reduce"), 2.0, 1.0)
    return _rows(table, width, rounds)


def _rows(table: Any, width: float, rounds: Array) -> Rows:
    """As the cost rule of a collective has it: `rounds` (r - 1) / r of the bytes leave each of r devices."""
    ranks, moved = table.num_gpus.to_numpy(float), width * table.message_size.to_numpy(float)
    cells = {
        "groups": ranks, "activation_bytes": 2.0 * moved, "link_bytes": rounds * (ranks - 1.0) / ranks * moved,
        "launches": 1.0,
    }  # fmt: skip
    return made_rows("collective", "bf16", cells, table, joined(table, "message_size"))
