"""The arithmetic of a layer case, 2 FLOP per multiply-add, from its columns alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Params = dict[str, Any]
GATES = {"lstm": 4, "gru": 3}


def conv_kernel(p: Params) -> list[int]:
    """Kernel sizes, outermost axis first."""
    return [p[name] for name in ("kernel_d", "kernel_h", "kernel_w") if name in p]


def gemm_flop(p: Params) -> float:
    return float(2.0 * p["m"] * p["n"] * p["k"] * p.get("batch_count", 1))


def conv_flop(p: Params) -> float:
    sizes = [p[name] for name in ("depth", "h", "w") if name in p]
    outs = [
        (size + 2 * p["pad"] - p["dilation"] * (kernel - 1) - 1) // p["stride"] + 1
        for size, kernel in zip(sizes, conv_kernel(p), strict=True)
    ]
    return float(
        2.0 * p["n_batch"] * p["c_out"] * p["c_in"] / p["groups"] * math.prod(conv_kernel(p)) * math.prod(outs)
    )


def conv_transpose_flop(p: Params) -> float:
    return float(2.0 * p["n_batch"] * p["c_in"] * p["c_out"] * p["h"] * p["w"] * math.prod(conv_kernel(p)))


def attention_flop(p: Params) -> float:
    pairs = p["s_q"] * (p["s_q"] + 1) / 2 if p["causal"] else p["s_q"] * p["s_kv"]
    return float(4.0 * p["b"] * p["heads"] * p["head_dim"] * pairs)


def recurrent_flop(p: Params) -> float:
    gates = GATES[p["function"]] * p["hidden"]
    inputs = [p["cols"]] + [p["hidden"]] * (p["layers"] - 1)
    return float(sum(2.0 * p["b"] * p["s_q"] * gates * (width + p["hidden"]) for width in inputs))


FLOPS: dict[str, Callable[[Params], float]] = {
    "gemm": gemm_flop,
    "gemm_fp8": gemm_flop,
    "gemm_int8": gemm_flop,
    "bmm": gemm_flop,
    "conv1d": conv_flop,
    "conv2d": conv_flop,
    "conv3d": conv_flop,
    "conv_transpose2d": conv_transpose_flop,
    "attention": attention_flop,
    "recurrent": recurrent_flop,
}


def flop(op: str, p: Params) -> float:
    """Multiply-accumulate work of a call, 2 flop each; 0 for layers that have none."""
    return FLOPS[op](p) if op in FLOPS else 0.0
