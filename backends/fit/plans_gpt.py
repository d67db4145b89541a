"""Which GPU is fitted to the decoders of HW-GPT-Bench: eager PyTorch under autocast, the kernels' own seconds.

A GPU that has a file of other kernels, or is lent them, has a second one, ``ID_autocast``: attention takes some four
times the seconds of inference servers' kernels here, and a profiler's seconds have no gaps between kernels in them.
"""

from __future__ import annotations

from functools import partial

from . import datasets_gpt as gpt
from .plan import Plan, Source
from .solve import Prior

FOLDER = "hw_gpt_bench_latency"
FAMILIES = ("matmul", "attention", "norm", "pointwise", "copy", "gather")
TILES = ((256.0, 128.0, 64.0, 64.0, 0.7), (128.0, 128.0, 64.0, 64.0, 0.7))
MOST = 300
PRIORS = {
    **{f"{family} fixed_s": Prior(2.2e-6, 0.3, 1e-8, 1.0) for family in FAMILIES},  # without gaps, as a profiler has it
    "matmul compute_efficiency": Prior(0.6, 0.3, 1e-5, 1.0),
    "matmul memory_efficiency": Prior(0.75, 0.15, 1e-3, 1.0),
    "attention compute_efficiency": Prior(0.35, 1.0, 1e-5, 1.0),
    "norm memory_efficiency": Prior(0.75, 0.3, 1e-3, 1.0),
    "pointwise memory_efficiency": Prior(0.75, 0.15, 1e-3, 1.0),
    "copy memory_efficiency": Prior(0.4, 1.0, 1e-3, 1.0),  # permuted, and joined from short pieces
    "small_rate": Prior(0.5, 0.1, 0.1, 1.0),
}
"""`small_rate`: a tile of half the side uses each operand half as often. Batches that fill the GPU say nothing of it,
and batch 1 is all small tiles: fitted to all scales, A40, P100 and RTX 2080 Ti had 0.50 to 0.58. With 0.7 (spread 0.3)
and only scales s and m fitted to, the seconds of l came out 9.0 to 10.9 % off, with this 2.5 to 7.8 %."""
RAGGED = {"matmul ragged_rate": Prior(0.3, 0.7, 0.02, 1.0)}
"""The logits' 50,254 columns are no multiple of what tensor cores are fed with; the P100 has none."""


def _plan(device: str, key: str, lender: str, cache_bytes_per_s: float) -> Plan:
    """`lender`: near, and not at its power limit already by running, or the seconds would be those of throttling.
    `cache_bytes_per_s`: 2.5 times the memory's, as of any machine, but held: only small batches tell it."""
    held = {"cache_bytes_per_s": Prior(cache_bytes_per_s, 0.15, 1e8, 1e15)}
    source = Source(
        f"{FOLDER}: {key}", FOLDER, partial(gpt.hw_gpt_bench, device=key), FAMILIES, "scale, width and depth",
        most=MOST, network=True,
        note="Eager PyTorch under autocast; seconds of the kernels, as a profiler has them.",
    )  # fmt: skip
    return Plan(
        device, (source,), FAMILIES, ("fp32", "bf16", "fp16"), TILES, PRIORS | held | (RAGGED if key != "P100" else {}),
        energies_from=lender, note=f"Time only: powers and energies are those of {lender} in proportion to the limits.",
    )  # fmt: skip


GPT = (
    _plan("a40", "a40", "rtx_2080_ti", 1.74e12),
    _plan("p100", "P100", "gtx_1080_ti", 1.83e12),
    _plan("v100_autocast", "v100", "rtx_2080_ti", 2.25e12),
    _plan("a100_sxm_autocast", "a100", "a100_sxm", 5.1e12),
    _plan("h100_sxm_autocast", "h100", "h100_sxm", 8.4e12),
    _plan("rtx_2080_ti_autocast", "rtx2080", "rtx_2080_ti", 1.54e12),
)
