"""What kernel lists of eager forwards leave out, against the code that launches it and against what was measured."""

from __future__ import annotations

import os

import pytest

import wattir
from wattir.backends.fit.datasets_models import _elementwise, whole_models
from wattir.backends.fit.unlisted import completed
from wattir.costs import tabulate

SET = os.path.join(os.environ.get("WATTIR_DATA", ""), "whole_models_eager")


def elementwise(op, elements, precision="bf16"):
    return {"dim": elements, "op": op, "prec": precision}, ["elementwise"]


def product(batch, m, n, k):
    size = {"batch": batch, "dimM": m, "dimN": n, "dimK": k, "precA": "bf16", "precM": "bf16"}
    return size, ["gemm", "tc", "bf16_bf16"]


def more(kernels):
    """What is added to a list: (operation, elements)."""
    return [(size["op"], size["dim"]) for size, _ in completed(kernels)[len(kernels) :]]


def test_a_list_without_attention_and_norms_stays_as_it_is():
    kernels = [product(1, 1024, 768, 768), elementwise("gelu", 1024), (dict(batch=8, dim=64, prec="bf16"), ["softmax"])]
    assert completed(kernels) == kernels


def test_gpt2_scores_pass_memory_three_times_before_their_softmax():
    """Divided by the root of the head size, chosen by the causal mask, and a mask added: the list has one of these."""
    assert more([elementwise("unspecified_tensor", 25165824)]) == [("scalar_mul", 25165824)] * 2


def test_heads_are_copied_for_both_products_of_attention():
    """8 texts of 12 heads, 512 tokens, 64 numbers a head: queries and keys for the scores; values, and the results."""
    heads = 8 * 12 * 512 * 64
    assert more([product(96, 512, 512, 64)]) == [("copy", heads)] * 2
    assert more([product(96, 512, 64, 512)]) == [("copy", heads)] * 2


def test_the_order_of_a_products_sides_does_not_matter():
    """A vision transformer's list names the sides of its values the other way round: 197 tokens, 64 numbers."""
    assert sorted(more([product(16, 197, 64, 197)])) == sorted(more([product(16, 64, 197, 197)]))


def test_a_root_mean_square_has_the_kernels_of_the_module():
    """As many kernels and bytes as PyTorch's frontend finds in the module itself, run eagerly, but that lists read a
    root for every element where there is one for each row."""
    torch = pytest.importorskip("torch")

    class RootMeanSquare(torch.nn.Module):  # as the language models of transformers write it
        def __init__(self, hidden):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(hidden, dtype=torch.bfloat16, device="meta"))

        def forward(self, x):
            wide = x.to(torch.float32)
            wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
            return self.weight * wide.to(x.dtype)

    rows, hidden = 1024, 1536
    example = torch.empty(rows, hidden, dtype=torch.bfloat16, device="meta")
    module = wattir.compile(RootMeanSquare(hidden), example, device="a100_pcie_40gb", runtime="eager").kernels
    listed = [
        elementwise("unspecified_scalar", rows * hidden, "fp32"), elementwise("scalar_add", rows, "fp32"),
        elementwise("unspecified_scalar", rows, "fp32"), elementwise("pointwise_mul", rows * hidden, "fp32"),
        elementwise("scalar_mul", rows * hidden),
    ]  # fmt: skip
    works = [work for size, _ in completed(listed) for work in tabulate(_graph(size))]
    assert len(works) == len(module) == 8
    moved = [sum(work.bytes for work in table) for table in (works, module)]
    assert moved[0] - 4 * rows * hidden == pytest.approx(moved[1], rel=0.01)


def _graph(size):
    return _elementwise(size["op"], size["dim"], "fp32" if size["prec"] == "fp32" else "bf16", "bf16")


@pytest.mark.skipif(not os.path.isdir(SET), reason="needs the measured set (WATTIR_DATA)")
def test_every_forward_of_gpt2_passes_its_scores_and_heads():
    """Batch 32 of 512 tokens: two more passes over 12 layers' scores, and four copies of heads of 768 numbers, each
    read and written in 2 bytes."""
    rows = whole_models(SET, "a10", 125e12)
    fast = (rows.group == "gpt2") & (rows.time_s > 0.15)
    kernels = rows.take(fast)
    assert kernels.samples == 1
    assert kernels.host_ops[0] == 242 + 12 * (2 + 4)
