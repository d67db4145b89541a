"""State-space layers, gated delta nets and quantization: ``gdn``, ``mamba2``, ``computescale``, ``scale_matrix``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .library import SCALE_LAUNCHES, libraries, made_rows
from .rows import Array, Rows, joined

CHUNK = 64.0
"""Steps that a gated delta rule treats at once."""
STEPS_OF_THREAD = 8.0
"""16 bytes; with 128 threads a block takes as long for 8 steps as for 512 and twice that for 1024, as measured."""


def gated_delta(table: Any, dtype: str) -> Rows:
    """Short convolutions and the recurrence of a gated delta net, grouped by batch and length."""
    t = {name: table[name].to_numpy(float) for name in
         ("batch_size", "seq_len", "num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim", "d_conv")}  # fmt: skip
    keys, values = t["num_k_heads"] * t["head_k_dim"], t["num_v_heads"] * t["head_v_dim"]
    state = t["num_v_heads"] * t["head_k_dim"] * t["head_v_dim"]
    per_step = 2.0 * state + t["num_v_heads"] * _chunk(t["seq_len"]) * (t["head_k_dim"] + t["head_v_dim"])
    channels = np.where(_convolution(table), keys, 2.0 * keys + values)  # convolutions of all widths take the same
    return _layer(table, t, channels, t["num_v_heads"], t["head_v_dim"], state, per_step)


def mamba2(table: Any, dtype: str) -> Rows:
    """Short convolutions and the recurrence of Mamba-2, grouped by batch and length."""
    t = {name: table[name].to_numpy(float) for name in
         ("batch_size", "seq_len", "nheads", "head_dim", "n_groups", "d_state", "d_conv", "chunk_size")}  # fmt: skip
    inner = t["nheads"] * t["head_dim"]
    state = inner * t["d_state"]
    chunk = np.minimum(t["chunk_size"], t["seq_len"])
    per_step = 2.0 * state + t["nheads"] * chunk * (t["head_dim"] + t["d_state"])
    return _layer(table, t, inner + 2.0 * t["n_groups"] * t["d_state"], t["nheads"], t["head_dim"], state, per_step)


def _chunk(length: Array) -> Array:
    return np.minimum(length, CHUNK)


def _convolution(table: Any) -> Array:
    found: Array = libraries(table).str.startswith("causal_conv1d").to_numpy()
    return found


def _layer(
    table: Any, t: dict[str, Array], channels: Array, heads: Array, width: Array, state: Array, per_step: Array
) -> Rows:
    """`state` numbers a sequence, `per_step` multiply-adds a token; a convolution has `d_conv` a channel.

    A block of a convolution walks over one channel of one sequence, each of its threads over `STEPS_OF_THREAD`.
    """
    tokens = t["batch_size"] * t["seq_len"]
    conv, blocks = _convolution(table), libraries(table).eq("causal_conv1d_fn").to_numpy()
    group = joined(table, "batch_size", "seq_len")
    macs = np.where(conv, 0.0, tokens * per_step)
    lanes = t["batch_size"] * heads
    cells = {
        "macs_causal": macs, "m": np.where(blocks, np.ceil(t["seq_len"] / STEPS_OF_THREAD), t["seq_len"]),
        "n": np.where(conv, 0.0, width), "k": np.where(conv, channels, per_step / (heads * width)),
        "groups": np.where(conv, t["batch_size"] * np.where(blocks, channels, 1.0), lanes),
        "ops": np.where(conv, 2.0 * t["d_conv"] * tokens * channels, 0.0), "special": tokens * channels,
        "activation_bytes": 2.0 * tokens * (2.0 * channels + np.where(conv, 0.0, heads * width)),
        "state_bytes": np.where(conv, 4.0 * t["d_conv"] * t["batch_size"] * channels, 8.0 * t["batch_size"] * state),
        "launches": np.where(conv | (t["seq_len"] == 1.0), 1.0, 5.0),
    }  # fmt: skip
    return made_rows("scan", "bf16", cells, table, group)


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
