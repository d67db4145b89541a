"""Quantized and other narrow products, and the steps to narrower types and back."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, product
from wattir.frontends.torch.node import Node, rule


def narrow_product(node: Node, k: Size, *, math: str | None = None) -> None:
    """[.., k] by packed weights gives the output [.., n]; the weights' own bytes count."""
    out = node.out.shape
    more: dict[str, Any] = {} if math is None else {"math": math}
    node.emit("matmul", groups=1, m=product(out[:-1]), n=out[-1], k=k, **more)


@rule("_weight_int8pack_mm", "_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu",
      "_weight_int4pack_mm_with_scales_and_zeros", "_mixed_dtypes_linear", "_wrapped_linear_prepack")  # fmt: skip
def weight_only(node: Node) -> None:
    """Only the weight is narrow: the products are floating."""
    narrow_product(node, node.tensor(0).shape[-1])


@rule("_int_mm", "fbgemm_linear_int8_weight", "fbgemm_linear_int8_weight_fp32_activation", "_dyn_quant_matmul_4bit",
      "_wrapped_quantized_linear_prepacked")  # fmt: skip
def int_product(node: Node) -> None:
    narrow_product(node, node.tensor(0).shape[-1], math="int8")


@rule("_scaled_mm", "_scaled_mm_v2")
def scaled_mm(node: Node) -> None:
    """8-bit (or packed 4-bit, two in a byte) floats by a scale."""
    narrow_product(node, node.tensor(0).shape[-1], math=node.tensor(0).dtype)


@rule("_sparse_semi_structured_linear", "_sparse_semi_structured_mm", "_sparse_semi_structured_addmm",
      "_cslt_sparse_mm")  # fmt: skip
def semi_structured(node: Node) -> None:
    """2:4 sparse: half of the products are left out; the weight that is held is half as deep."""
    x = node.tensor(1 if node.op == "_sparse_semi_structured_addmm" else 0)
    k = node.tensor(1).shape[-2] if node.op == "_cslt_sparse_mm" else x.shape[-1]
    narrow_product(node, k // 2 if node.op == "_sparse_semi_structured_linear" else k)


@rule("quantize_per_tensor", "quantize_per_channel", "quantize_per_tensor_dynamic", "int_repr",
      "_make_per_tensor_quantized_tensor", "_make_per_channel_quantized_tensor")  # fmt: skip
def quantize(node: Node) -> None:
    node.emit("quantize", function="quantize")


@rule("dequantize")
def dequantize(node: Node) -> None:
    node.emit("quantize", function="dequantize")


DECOMPOSED = (
    "quantize_per_tensor", "quantize_per_channel", "quantize_per_token", "quantize_per_channel_group",
    "dequantize_per_tensor", "dequantize_per_channel", "dequantize_per_token", "dequantize_per_channel_group",
    "fake_quant_per_channel",
)  # fmt: skip


@rule(*DECOMPOSED, space="quantized_decomposed")
def decomposed(node: Node) -> None:
    """PT2E's own steps, and torchao's."""
    node.emit("quantize", function="dequantize" if node.op.startswith("dequantize") else "quantize")


for _op in ("quantize_affine", "dequantize_affine", "quantize_affine_float8", "dequantize_affine_float8",
            "_quantize_affine_float8", "_dequantize_affine_float8", "dequantize_affine_no_dtype_cast"):  # fmt: skip
    rule(_op, space="torchao")(lambda node: node.emit(
        "quantize", function="dequantize" if "dequantize" in node.op else "quantize"))  # fmt: skip


def _choose(node: Node) -> None:
    """Minimum and maximum of each group become its scale and zero point."""
    x = node.tensor(0)
    node.emit("reduction", function="max", length=2 * x.elements // product(node.out.shape))


rule("choose_qparams_optimized", "_choose_qparams_per_tensor")(_choose)
rule("choose_qparams", "choose_qparams_symmetric", "choose_qparams_per_token", "choose_qparams_per_token_asymmetric",
     "_choose_qparams_per_token_asymmetric_impl", space="quantized_decomposed")(_choose)  # fmt: skip
rule("choose_qparams_affine", "choose_scale_float8", "_choose_scale_float8", space="torchao")(_choose)
