"""StableHLO of other producers: their dialects, types and ops that `jax.export` never writes."""

# ruff: noqa: E501  # MLIR has long lines

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jax")
pytest.importorskip("flax")

from test_jax import flop, kinds

from wattir.frontends import lower_any
from wattir.ir import Graph

DOT = 2 * 4 * 8 * 16
"""FLOP of [4, 8] by [8, 16]."""
W8 = "tensor<8x16x!quant.uniform<i8<-127:127>:f32:1, {0.1:3,0.2}>>"


def module(
    folder: Path, body: str, args: str = "%x: tensor<4x8xf32>, %w: tensor<8x16xf32>", out: str = "4x16xf32"
) -> Graph:
    text = f"module @net attributes {{mhlo.is_dynamic = false}} {{\n func.func @main({args}) -> tensor<{out}> {{\n{body}\n }}\n}}"
    (folder / "net.mlir").write_text(text)
    return lower_any(str(folder / "net.mlir"))


@pytest.mark.parametrize(
    "body",
    [
        # torch-xla
        """%0 = stablehlo.dot %x, %w, precision = [DEFAULT, DEFAULT] {xla_shape = "f32[4,16]{1,0}"} : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
        return %0 : tensor<4x16xf32>""",
        """%0 = "mhlo.dot"(%x, %w) : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
        %1 = mhlo.tanh %0 : tensor<4x16xf32>
        return %1 : tensor<4x16xf32>""",
        """%0 = "stablehlo.einsum"(%x, %w) {einsum_config = "ab,bc->ac"} : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
        %1 = "stablehlo.map"(%0) ({
        ^bb0(%a: tensor<f32>):
          %2 = stablehlo.multiply %a, %a : tensor<f32>
          stablehlo.return %2 : tensor<f32>
        }) {dimensions = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16xf32>
        return %1 : tensor<4x16xf32>""",
        """%0 = chlo.broadcast_add %x, %x : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
        %1 = sdy.propagation_barrier %0 allowed_direction=NONE : tensor<4x8xf32>
        %2 = stablehlo.dot %1, %w : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
        return %2 : tensor<4x16xf32>""",
    ],
)  # fmt: skip
def test_products_in_other_words(body: str, tmp_path: Path) -> None:
    graph = module(tmp_path, body)

    assert flop(graph) == DOT
    assert "unknown" not in kinds(graph)


def test_quantized_types_are_the_integers_that_are_stored(tmp_path: Path) -> None:
    q, r = "tensor<4x8x!quant.uniform<i8:f32, 0.5:3>>", "tensor<4x16x!quant.uniform<i32:f32, 0.05:0>>"
    body = f"""%0 = stablehlo.uniform_quantize %x : (tensor<4x8xf32>) -> {q}
    %1 = "stablehlo.dot_general"(%0, %w) {{dot_dimension_numbers = #stablehlo.dot<lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [0]>}} : ({q}, {W8}) -> {r}
    %2 = "stablehlo.uniform_dequantize"(%1) : ({r}) -> tensor<4x16xf32>
    return %2 : tensor<4x16xf32>"""
    graph = module(tmp_path, body, f"%x: tensor<4x8xf32>, %w: {W8}")
    (product,) = (op for op in graph.ops if op.kind == "matmul")

    assert (flop(graph), product.attrs["math"]) == (DOT, "int8")
    assert graph.tensors["arg1"].dtype == "int8"
    assert [op.attrs["function"] for op in graph.ops if op.kind == "quantize"] == ["quantize", "dequantize"]


def test_batch_norm_is_one(tmp_path: Path) -> None:
    vectors = ", ".join(f"%{name}: tensor<8xf32>" for name in "somv")
    body = """%0 = "stablehlo.batch_norm_inference"(%x, %s, %o, %m, %v) {epsilon = 0.001 : f32, feature_index = 1 : i64} : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
    return %0 : tensor<4x8xf32>"""
    (op,) = module(tmp_path, body, f"%x: tensor<4x8xf32>, {vectors}", "4x8xf32").ops

    assert (op.kind, op.attrs["function"], op.attrs["length"]) == ("norm", "batch_norm", 4)


@pytest.mark.parametrize(
    ("padding", "size"), [("dense<1> : tensor<2x2xi32>", 8), ("dense<[[0, 1], [0, 1]]> : tensor<2x2xi32>", 7)]
)
def test_dynamic_convolution_is_padded_by_an_operand(padding: str, size: int, tmp_path: Path) -> None:
    out: Any = "?x?x?x16xf32"
    body = f"""%p = stablehlo.constant {padding}
    %0 = "stablehlo.dynamic_conv"(%x, %w, %p) {{dimension_numbers = #stablehlo.conv<[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]>, batch_group_count = 1 : i64, feature_group_count = 1 : i64, window_strides = array<i64: 1, 1>}} : (tensor<?x8x8x3xf32>, tensor<3x3x3x16xf32>, tensor<2x2xi32>) -> tensor<{out}>
    return %0 : tensor<{out}>"""
    graph = module(tmp_path, body, "%x: tensor<?x8x8x3xf32>, %w: tensor<3x3x3x16xf32>", out)

    assert flop(graph) == 2 * size * size * 27 * 16  # the batch's default is 1
