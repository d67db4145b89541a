"""Kernels of eager forwards that the lists of ``whole_models_eager`` leave out, by the code that launches them.

Left out by model, energy's MAPE with the lists as they are and with these: A10 6.6 % and 5.2, A100 7.4 and 5.4, A100 at
11 clocks 8.4 and 5.7, H100 8.0 and 8.0 (its seconds 8.0 and 8.1; 300 rows of each table of kernels). GPT-2, whose lists
lack the most, was 16 % too low on the A100.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Kernels = list[tuple[dict[str, Any], list[str]]]
"""Sizes of every kernel, and what it is: the form of the set's lists."""


UNLISTED_OF_NORMS = ("typecast_to_fp32", "mean", "typecast_to_bf16")


def completed(kernels: Kernels) -> Kernels:
    """The list with what the code that launched it launches besides."""
    return [*kernels, *_scores(kernels), *_heads(kernels), *_root_means(kernels)]


def _scores(kernels: Kernels) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """GPT-2's scores are divided by a root, chosen by the causal mask, and a mask is added; one of these is listed.

    Source: `eager_attention_forward` of transformers 4.48 to 4.57, modeling_gpt2.py.
    """
    for size, _ in kernels:
        if size.get("op") == "unspecified_tensor":
            yield from (_elementwise("scalar_mul", size["dim"], size["prec"]),) * 2


def _heads(kernels: Kernels) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Queries, keys and values are split from rows of all heads, and the results put together again: four copies.

    `torch.matmul` folds batch and heads into one axis, which copies what does not lie so. Two of the three matrices of
    such a product are heads, narrow ones, and the third, nearest to a square, is the scores.
    """
    for size, kind in kernels:
        if kind[0] == "gemm" and size["batch"] > 1:
            m, n, k = size["dimM"], size["dimN"], size["dimK"]
            pair = sorted([(m, k), (k, n), (m, n)], key=lambda sides: max(sides) / min(sides))[1:]
            yield from (_elementwise("copy", size["batch"] * a * b, size["precM"]) for a, b in pair)


def _root_means(kernels: Kernels) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """A norm by the root of the mean square is computed in fp32: cast, mean and cast back are not listed.

    Source: `Qwen2RMSNorm` and its likes in transformers. Its square is known by the product of as many elements.
    """
    products = {size["dim"] for size, _ in kernels if size.get("op") == "pointwise_mul" and size["prec"] == "fp32"}
    for size, _ in kernels:
        if size.get("op") == "unspecified_scalar" and size["prec"] == "fp32" and size["dim"] in products:
            yield from (_elementwise(op, size["dim"], "fp32") for op in UNLISTED_OF_NORMS)


def _elementwise(op: str, elements: int, precision: str) -> tuple[dict[str, Any], list[str]]:
    return {"dim": elements, "op": op, "prec": precision}, ["elementwise"]
