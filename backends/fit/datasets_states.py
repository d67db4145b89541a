"""State-space layers, gated delta nets and quantization: ``gdn``, ``mamba2``, ``computescale``, ``scale_matrix``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wattir.dims import symbol
from wattir.layers import scan

from .library import SCALE_LAUNCHES, libraries, made_rows, seconds_and_joules
from .rows import Rows, joined, layer_rows

STEPS_OF_THREAD = 8.0
"""16 bytes; with 128 threads a block takes as long for 8 steps as for 512 and twice that for 1024, as measured."""
HOST_LAUNCHES = 65.0
"""Of vLLM's ``causal_conv1d_fn``, which looks at the lengths of its sequences on the host: 210 to 230 us on either GPU
at least."""


def gated_delta(table: Any, dtype: str) -> Rows:
    """Short convolutions or the recurrence of a gated delta net, grouped by batch and length."""
    if _source(table).startswith("causal_conv1d"):  # those of all widths of values take the same
        return _convolution(table, table.num_k_heads * table.head_k_dim)
    columns = {"heads": "num_v_heads", "key_heads": "num_k_heads", "key_dim": "head_k_dim", "value_dim": "head_v_dim"}
    return _recurrence(table, columns, function="gated_delta", ops=8, chunk=64)


def mamba2(table: Any, dtype: str) -> Rows:
    """Short convolutions or the recurrence of Mamba-2, grouped by batch and length."""
    if _source(table).startswith("causal_conv1d"):
        return _convolution(table, table.nheads * table.head_dim + 2 * table.n_groups * table.d_state)
    columns = {"heads": "nheads", "key_heads": "n_groups", "key_dim": "d_state", "value_dim": "head_dim",
               "chunk": "chunk_size"}  # fmt: skip
    return _recurrence(table, columns, function="ssd", ops=6)


def _source(table: Any) -> str:
    """The kernel of all rows."""
    return str(libraries(table).iloc[0])


def _recurrence(table: Any, columns: Mapping[str, str], **rule: Any) -> Rows:
    """Rows of `wattir.layers.scan`. Kernels for prompts take one step as they take two, and begin with no state."""
    step = _source(table).startswith("fused_recurrent")
    names = {"batch": "batch_size", "steps": "seq_len", **columns}
    sizes = {name: table[column].to_numpy(float) for name, column in names.items()}
    sizes["steps"] = np.maximum(sizes["steps"], 1.0 if step else 2.0)
    free: dict[str, Any] = {name: symbol(name) for name in sizes}
    graph = scan(**free, **rule, cached=step)
    return layer_rows(graph, sizes, group=joined(table, "batch_size", "seq_len"), **seconds_and_joules(table))


def _convolution(table: Any, channels: Any) -> Rows:
    """A block walks over one channel of one sequence, each of its threads over `STEPS_OF_THREAD`.

    `d_conv` multiply-adds and a SiLU a token and channel; of each channel as many numbers are kept.
    """
    batch, steps, width, wide = (
        column.to_numpy(float) for column in (table.batch_size, table.seq_len, table.d_conv, channels)
    )
    elements, prompt = batch * steps * wide, _source(table).endswith("_fn")
    wrapped = prompt and table.framework.astype(str).iloc[0] == "vLLM"
    cells = {
        "m": np.ceil(steps / STEPS_OF_THREAD) if prompt else 0.0, "groups": batch * wide,
        "ops": 2.0 * width * elements, "special": elements, "activation_bytes": 4.0 * elements,
        "state_bytes": 4.0 * width * batch * wide, "launches": HOST_LAUNCHES if wrapped else 1.0,
    }  # fmt: skip
    return made_rows("conv1d", "bf16", cells, table, joined(table, "batch_size", "seq_len"))


def compute_scale(table: Any, dtype: str) -> Rows:
    """The largest absolute value of a 16 bit matrix [m, k], grouped by columns.

    vLLM's are what finding it adds to narrowing: from 0.4 us on, less than any launch.
    """
    return _matrix(table, 2.0, np.where(table.framework.eq("TRTLLM"), SCALE_LAUNCHES, 1.0))


def scale_matrix(table: Any, dtype: str) -> Rows:
    """A 16 bit matrix [m, k] scaled and narrowed to a byte, grouped by columns."""
    return _matrix(table, 3.0, 1.0)


def _matrix(table: Any, bytes_per_element: float, launches: Any) -> Rows:
    m, k = table.m.to_numpy(float), table.k.to_numpy(float)
    cells = {"m": m, "k": k, "ops": 3.0 * m * k, "activation_bytes": bytes_per_element * m * k,
             "launches": launches}  # fmt: skip
    return made_rows("quantize", "bf16", cells, table, joined(table, "k"))
