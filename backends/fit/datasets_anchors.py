"""Square products on one B300, run flat out: ``gpu_power_anchors``. Rungs of other kernels have no size to go by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from wattir import layers

from .library import no_rows
from .rows import Array, Rows, layer_rows, one_by_one, together
from .tables import read_table

PRODUCTS = r"^rung-(?:prec-|tensor-only-(?!wmma)|tensor-16k\.|soak|locked|cap-)"
"""Files of rungs that run one product of `size` cubed again and again."""
MATH = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8", "tf32": "tf32", "fp32": "tf32", "fp64": "fp64", "int8": "int8"}
"""fp32 ran at the rate of TF32, fifteen times that of fp32."""


def anchors_table(folder: str) -> Any:
    """The table, with what `math` each product ran in; empty for rungs that are none, or failed."""
    table = read_table(folder, "data")
    product = table.file.astype(str).str.contains(PRODUCTS) & table.iterations.gt(0) & table.power_w.gt(0)
    return table.assign(math=table.precision.map(MATH).where(product, "").fillna(""))


def anchors(folder: str, hardware: str) -> Rows:
    """A row a rung: seconds and joules of one product; at the clock that a lowered power limit left."""
    table = anchors_table(folder)
    table = table[table.hardware.eq(hardware) & table.math.ne("")]
    found, _, odd = one_by_one(table.itertuples(), _rung)
    return replace(together(found) if found else no_rows(), dropped=odd)


def _rung(row: Any) -> Rows:
    limited = row.enforced_limit_w < row.tdp_w
    size, held = int(row.size), "fp32" if row.math == "tf32" else row.math
    return layer_rows(
        layers.matmul(size, size, size, held), {}, math=row.math, time_s=_one(row.window_s / row.iterations),
        energy_j=_one(row.energy_counter_j / row.iterations), group=np.array([row.math]),
        label="limited" if limited else "free", clock_hz=_one(1e6 * row.sm_clk_mhz if limited else 0.0),
    )  # fmt: skip


def _one(value: float) -> Array:
    return np.array([float(value)])
