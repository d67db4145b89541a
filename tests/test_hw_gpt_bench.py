"""Decoders of HW-GPT-Bench as kernels: multiply-adds by hand and as the set counts them; every row is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from wattir.backends.fit.datasets_gpt import HEAD, VOCABULARY, decoder, hw_gpt_bench  # noqa: E402

FOLDER = Path(os.environ.get("WATTIR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FOLDER /= "hw_gpt_bench_latency"


def macs_of(works, kind):
    return sum(work.macs * work.times for work in works if work.kind == kind)


def test_multiply_adds_by_hand():
    works = decoder(2, 1024, 192, (4, 12), (2, 3), "bf16")
    tokens = 2 * 1024
    projections = 4 * 192 * HEAD * (4 + 12)  # queries, keys, values and the way back
    mlps = 3 * 192 * 192 * (2 + 3)  # two in, one out
    assert macs_of(works, "matmul") == tokens * (projections + mlps + 192 * VOCABULARY)
    assert macs_of(works, "attention") == 2 * tokens * 1024 * HEAD * (4 + 12)  # scores, then values; causal or not


def test_autocast_casts_every_weight_in_every_forward():
    half, full = (decoder(1, 1024, 256, (8,), (2,), dtype) for dtype in ("fp16", "fp32"))
    elements = 4 * 256 * 8 * HEAD + 3 * 256 * 512 + 256 * VOCABULARY + 3 * 1024 * 256 + 2 * 1024 * 8 * 16
    cast = sum((work.in_bytes + work.out_bytes) * work.times for work in half if work.math == "fp16" and
               work.kind == "pointwise")  # fmt: skip
    gates = 1024 * 512 * 2 * (2 + 3)  # silu reads one and writes one; the product reads two
    assert cast - gates == elements * 6  # 4 bytes read, 2 written
    assert not any(work.math == "fp16" for work in full)


def test_multiply_adds_are_those_of_the_set():
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is not there")
    table = pd.read_parquet(FOLDER / "data.parquet")
    device = "a40" if "a40" in set(table.device) else str(table.device.iloc[0])
    part = table[table.device.eq(device) & table.scale.eq("s")]
    rows = hw_gpt_bench(str(FOLDER), device, ("s",))
    matmul = np.isin(rows.kind_index, [i for i, (family, _) in enumerate(rows.kinds) if family == "matmul"])
    found = np.bincount(rows.sample, rows.work[:, 0] * rows.times * matmul, rows.samples)
    tokens = part.batch_latency.to_numpy(float) * part.seq_len.to_numpy(float)
    np.testing.assert_allclose(found, part.macs_linear_per_token * tokens, rtol=1e-6)
