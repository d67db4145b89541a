"""Layers as ``wattir measure`` writes them, and as ``benchmarks/measurements/ID/layers.csv`` has them of our own.

A row is one layer, called again and again. `cold` rows rotate all operands through more memory than the
last-level cache holds, so that activations too come from memory; the others find everything in the cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from wattir import layers
from wattir.costs import tabulate
from wattir.errors import InputError
from wattir.ir import Graph
from wattir.kinds import DTYPE_BYTES, FUNCTIONS
from wattir.work import Work

from .functions import function_graph
from .rows import ACTIVATION_BYTES, NO_JOULES, STATE_BYTES, Rows, joined, network_rows
from .tables import read_file, with_joules

Row = Any
SIZES = (
    "m", "n", "k", "batch_count", "n_batch", "c_in", "c_out", "depth", "h", "w", "kernel_d", "kernel_h", "kernel_w",
    "stride", "pad", "dilation", "groups", "b", "s_q", "s_kv", "heads", "kv_heads", "head_dim", "causal", "rows",
    "cols", "elements", "operands", "fused", "table_rows", "indices", "hidden", "layers", "cold",
)  # fmt: skip
GROUPED_BY = {
    "gemm": ("kind", "n", "k"),
    "conv": ("kind", "c_in", "c_out", "kernel_w"),
    "attention": ("kind", "heads", "kv_heads", "head_dim"),
    "pointwise": ("kind", "function"),
    "recurrent": ("kind", "hidden"),
    "gather": ("kind", "table_rows", "cols"),
}
OTHERS_GROUPED_BY = ("kind", "rows", "cols", "c_in", "h")

NEEDED = ("kind", "op", "function", "dtype", "math", "layout", "time_s")
MOST = 2**40
"""The largest size that is believed."""


def own_layers(folder: str, file: str = "layers.csv") -> Rows:
    """All layers whose kind has a rule here, grouped by the sizes that make a layer's type, labelled by kind."""
    return rows_of(own_table(folder, file))


def rows_of(table: Any) -> Rows:
    """The layers of a table with these columns."""
    table, dropped = _usable(table)
    works = [_work(row) for row in table.itertuples()]
    known = np.array([work is not None for work in works], bool)
    sized = np.array([work is not None and _is_sized(work) for work in works], bool)
    typed = table.dtype.isin(list(DTYPE_BYTES)).to_numpy(bool)
    kept = table[sized]
    rows = network_rows(
        [[work] for work, kept in zip(works, sized, strict=True) if kept], time_s=kept.time_s, energy_j=kept.energy_j,
        group=_groups(kept), label=kept.kind, hot=1.0 - kept.cold.to_numpy(float),
    )  # fmt: skip
    reasons = {
        "of a number type without a rule": int((~known & ~typed).sum()),
        "of a kind, op or function without a single rule (scan, fused)": int((~known & typed).sum()),
        "a size is missing": int((known & ~sized).sum()),
        NO_JOULES: int(kept[WRONG_JOULES].sum()) if WRONG_JOULES in kept else 0,
    }  # fmt: skip
    return replace(rows, work=_cold(rows, kept.cold.to_numpy(bool)), dropped={**dropped, **reasons})


def _is_sized(work: Work) -> bool:
    """Whether a layer has all its sizes: one that is missing counts as 0."""
    return bool(work.out_bytes) and bool(work.macs or work.kind not in CONTRACTIONS)


CONTRACTIONS = ("matmul", "conv", "attention", "recurrent")
WRONG_JOULES = "wrong_joules"
"""The column that says where a file has joules that are no positive number."""


def own_table(folder: str, file: str) -> Any:
    """The rows as they lie in the file; InputError where it is none of ours.

    Seconds and joules that are no positive numbers are NaN.
    """
    path = os.path.join(folder, file)
    table = with_joules(read_file(path))
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; expected the columns that `wattir measure` writes")
    measured = {name: _numbers(table[name]) for name in ("time_s", "energy_j")}
    positive = {name: found.where(np.isfinite(found) & found.gt(0.0)) for name, found in measured.items()}
    wrong = table.energy_j.notna() & positive["energy_j"].isna()
    return table.assign(**positive, **{WRONG_JOULES: wrong})


def _usable(table: Any) -> tuple[Any, dict[str, int]]:
    """The layers whose sizes and results are numbers, and how many rows are not, by reason."""
    table, odd = _with_sizes(table[table.kind.ne("model")])
    idle = table.kind.eq("idle")
    failed = table.time_s.isna() & ~idle
    planar = table.op.eq("conv2d") & table.layout.eq("nchw") & table.dtype.isin(("bf16", "fp16"))
    gone = idle | failed
    reasons = {
        "of an idle device": idle,
        "no seconds measured": failed,
        "a size is no whole number": odd & ~gone,
        "16 bit convolution, channels first: transposed on the way": planar & ~odd & ~gone,
    }
    return table[~(gone | odd | planar)], {reason: int(mask.sum()) for reason, mask in reasons.items()}


def _with_sizes(table: Any) -> tuple[Any, Any]:
    """Sizes as integers, 0 where there is none, and where one is no whole number."""
    import pandas as pd

    odd = pd.Series(False, table.index)
    columns: dict[str, Any] = dict.fromkeys(SIZES, 0)
    for name in (name for name in SIZES if name in table):
        number = _numbers(table[name])
        wrong = table[name].notna() & ~(number.between(0, MOST) & (number % 1 == 0))
        odd |= wrong
        columns[name] = number.where(~wrong, 0).fillna(0).astype(int)
    return table.assign(**columns), odd


def _numbers(column: Any) -> Any:
    """The column as numbers, NaN where there is none; by its texts: a whole number may be too large for a float."""
    import pandas as pd

    return pd.to_numeric(column.astype(str), errors="coerce")


def _groups(table: Any) -> list[str]:
    groups = [""] * len(table)
    for kind in sorted(set(table.kind)):
        same = np.flatnonzero(table.kind == kind)
        for at, name in zip(same, joined(table.iloc[same], *GROUPED_BY.get(kind, OTHERS_GROUPED_BY)), strict=True):
            groups[at] = str(name)
    return groups


def _cold(rows: Rows, cold: Any) -> Any:
    """Activations of cold rows among the bytes that always come from memory."""
    work = rows.work.copy()
    work[:, STATE_BYTES] += np.where(cold, work[:, ACTIVATION_BYTES], 0.0)
    work[:, ACTIVATION_BYTES] = np.where(cold, 0.0, work[:, ACTIVATION_BYTES])
    return work


def _work(row: Row) -> Work | None:
    maker = MAKERS.get(row.kind)
    known = maker and row.op in OPS.get(row.kind, (row.op,)) and row.dtype in DTYPE_BYTES
    try:
        graph = maker(row) if maker and known else None
    except (ArithmeticError, LookupError, InputError):  # sizes that no such layer has
        return None
    if graph is None:
        return None
    math = row.math if isinstance(row.math, str) and row.kind in ("gemm", "conv", "recurrent") else row.dtype
    return replace(tabulate(graph)[0], math=math)


def _gemm(row: Row) -> Graph:
    groups = max(row.batch_count, 1)
    return layers.matmul(row.m, row.n, row.k, row.dtype, groups=groups, weight=groups == 1)


def _conv(row: Row) -> Graph:
    axes = [(size, taps) for size, taps in (
        (row.depth, row.kernel_d), (row.h, row.kernel_h), (row.w, row.kernel_w)) if taps]  # fmt: skip
    return layers.conv(
        row.n_batch, row.c_in, row.c_out, tuple(size for size, _ in axes), tuple(taps for _, taps in axes), row.dtype,
        stride=max(row.stride, 1), padding=row.pad, dilation=max(row.dilation, 1), groups=max(row.groups, 1),
        transposed=row.op == "conv_transpose2d",
    )  # fmt: skip


def _attention(row: Row) -> Graph:
    return layers.attention(
        row.b, row.heads, row.s_q, row.s_kv, row.head_dim, row.dtype, kv_heads=row.kv_heads, causal=bool(row.causal)
    )


def _norm(row: Row) -> Graph:
    if row.rows:
        return layers.norm(row.rows, row.cols, row.dtype, function=row.op)
    if row.op == "group_norm":
        return layers.norm(
            row.n_batch * row.groups, row.h * row.w * row.c_in // max(row.groups, 1), row.dtype, function="group_norm"
        )
    return layers.norm(row.n_batch * row.h * row.w, row.c_in, row.dtype, function="batch_norm")


def _softmax(row: Row) -> Graph:
    return layers.softmax(row.rows, row.cols, row.dtype)


def _reduce(row: Row) -> Graph:
    if row.function == "sum_all":
        return layers.reduction(1, row.rows * row.cols, row.dtype)
    first = row.function.endswith("first")
    return layers.reduction(*((row.cols, row.rows) if first else (row.rows, row.cols)), row.dtype)


def _pointwise(row: Row) -> Graph | None:
    if row.fused or row.function not in (*FUNCTIONS, *OF_ONE_OPERATION):
        return None
    operands = 1 if row.function.endswith("bias") else max(row.operands, 1)
    return function_graph(row.function, row.elements, row.dtype, operands)


def _pool(row: Row) -> Graph:
    lead = (row.n_batch, row.c_in)
    if row.function == "adaptive_avg":
        out = max(row.kernel_h, 1)
        return layers.pooling((*lead, row.h, row.w), (*lead, out, out), (row.h // out) ** 2, row.dtype)
    out = (row.h + 2 * row.pad - row.kernel_h) // row.stride + 1
    return layers.pooling((*lead, row.h, row.w), (*lead, out, out), row.kernel_h**2, row.dtype)


def _move(row: Row) -> Graph | None:
    if row.function.startswith(("to_fp", "to_bf")):
        return None
    shape = (row.rows, row.cols) if row.rows else (row.n_batch, row.c_in, row.h, row.w)
    return layers.copy(shape, row.dtype)


def _gather(row: Row) -> Graph | None:
    if row.function == "embedding_bag":
        return None
    return layers.gather(row.table_rows, row.cols, row.indices, row.dtype)


def _recurrent(row: Row) -> Graph | None:
    if row.layers != 1:
        return None
    return layers.recurrent(row.function, row.s_q, row.b, row.cols, row.hidden, row.dtype)


OF_ONE_OPERATION = ("add", "mul", "div", "scale", "add_bias", "mul_bias")

OPS = {
    "gemm": ("gemm", "gemm_fp8", "gemm_int8", "bmm"),
    "conv": ("conv1d", "conv2d", "conv3d", "conv_transpose2d"),
    "norm": ("layer_norm", "rms_norm", "batch_norm", "group_norm"),
}
"""The values of `op` that have a rule, of the kinds that it tells apart."""

MAKERS: dict[str, Callable[[Row], Graph | None]] = {
    "gemm": _gemm,
    "conv": _conv,
    "attention": _attention,
    "norm": _norm,
    "softmax": _softmax,
    "reduce": _reduce,
    "pointwise": _pointwise,
    "pool": _pool,
    "move": _move,
    "gather": _gather,
    "recurrent": _recurrent,
}
"""From a row's sizes to a graph of one op; None where the row has no single rule."""
