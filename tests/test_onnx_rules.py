"""The ONNX rules of arithmetic, layers and quantization: shapes and FLOP worked out by hand."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from onnx import TensorProto
from onnx_single import attrs, floats, flop, kinds, lowered, numbers, only, outs, shape

from wattir.dims import symbol
from wattir.errors import UnsupportedError

B, S = symbol("b"), symbol("s")
U8 = np.uint8


def scale() -> np.ndarray:
    return np.array(0.1, np.float32)


def zero(dtype: type = U8) -> np.ndarray:
    return np.array(0, dtype)


# ---- pointwise ------------------------------------------------------------------------------------------------------


def test_pointwise_broadcasts_free_and_fixed_sizes() -> None:
    graph = lowered("Add", ["b", 1, "s"], [7, 1])
    assert shape(graph) == (B, 7, S)
    assert attrs(only(graph), "function", "ops") == ("add", 1)


def test_clashing_shapes_say_where_and_what() -> None:
    with pytest.raises(UnsupportedError, match=r"node 'node' \(Add\): shapes \[2, 3\] and \[4\] do not broadcast"):
        lowered("Add", [2, 3], [4])


@pytest.mark.parametrize(
    ("op", "ops", "special"),
    [("Sigmoid", 2, 1), ("Relu", 1, 0), ("Gelu", 4, 1), ("Tanh", 0, 1), ("HardSwish", 5, 0), ("Sqrt", 0, 1)],
)
def test_operations_of_activations(op: str, ops: int, special: int) -> None:
    found = only(lowered(op, [2, 3]))
    assert (found.attrs["ops"], found.attrs.get("special", 0)) == (ops, special)


def test_comparisons_give_bools_and_where_takes_its_second() -> None:
    assert outs(lowered("Less", ["b"], ["b"]))[0].dtype == "bool"
    assert outs(lowered("Where", (["b", 1], TensorProto.BOOL), ([4], TensorProto.INT64), ([], 7)))[0].dtype == "int64"


def test_square_is_one_product_but_power_is_a_series() -> None:
    assert attrs(only(lowered("Pow", [4], np.array(2.0, np.float32))), "function", "ops") == ("integer_pow", 1)
    assert only(lowered("Pow", [4], [4])).attrs["special"] == 2


def test_variadic_counts_one_less_than_inputs() -> None:
    assert only(lowered("Sum", ["b", 3], [3], [1])).attrs["ops"] == 2
    assert only(lowered("Mean", [3], [3], [3])).attrs["ops"] == 3  # 2 sums and a division


@pytest.mark.parametrize("opset", [6, 11])
def test_clip_limits_are_attributes_then_inputs(opset: int) -> None:
    old = {"min": 0.0, "max": 6.0} if opset == 6 else {}
    new = () if opset == 6 else (np.array(0, np.float32), np.array(6, np.float32))
    assert attrs(only(lowered("Clip", ["b", 4], *new, opset=max(opset, 7), **old)), "function", "ops") == ("clip", 2)


# ---- products -------------------------------------------------------------------------------------------------------


def test_matmul_by_a_weight_has_rows_of_all_leading_axes() -> None:
    op = only(lowered("MatMul", ["b", "s", 64], floats(64, 32)))
    assert attrs(op, "groups", "m", "n", "k") == (1, B * S, 32, 64)


def test_matmul_of_two_activations_has_groups() -> None:
    graph = lowered("MatMul", ["b", 8, "s", 64], ["b", 1, 64, "s"])
    assert attrs(only(graph), "groups", "m", "n", "k") == (8 * B, S, S, 64)
    assert shape(graph) == (B, 8, S, S)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [([4], [4], ()), ([4], [4, 5], (5,)), ([2, 3, 4], [4], (2, 3)), ([4], [2, 4, 5], (2, 5))]
)
def test_matmul_of_vectors(a: list[int], b: list[int], expected: tuple[int, ...]) -> None:
    graph = lowered("MatMul", a, b)
    assert shape(graph) == expected
    assert flop(graph) == 2 * prod(expected) * 4  # 4 multiply-adds for each result


def test_gemm_transposes() -> None:
    graph = lowered("Gemm", [64, "b"], floats(10, 64), floats(10), transA=1, transB=1)
    assert shape(graph) == (B, 10)
    assert flop(graph) == 2 * B * 10 * 64


@pytest.mark.parametrize(
    ("equation", "inputs", "expected", "work"),
    [
        ("bij,bjk->bik", [["b", 3, 4], ["b", 4, 5]], (B, 3, 5), 2 * B * 3 * 5 * 4),
        ("...ij,jk", [["b", 2, 3, 4], [4, 5]], (B, 2, 3, 5), 2 * B * 2 * 3 * 5 * 4),
        ("ij,jk,kl->il", [[2, 3], [3, 4], [4, 5]], (2, 5), 2 * (2 * 3 * 4 + 2 * 4 * 5)),  # left to right
        ("bhqd,bhkd->bhqk", [["b", 8, "s", 64], ["b", 8, "s", 64]], (B, 8, S, S), 2 * B * 8 * S * S * 64),
        ("i,j->ij", [[3], [4]], (3, 4), 0),  # a product of each pair: pointwise
        ("ij->ji", [[3, 4]], (4, 3), 0),
        ("ij->i", [[3, 4]], (3,), 0),
        ("ii->i", [[3, 3]], (3,), 0),
        ("ijk,jl->il", [[2, 3, 7], [3, 5]], (2, 5), 2 * 2 * 3 * 5),  # k is summed before the product
    ],
)
def test_einsum(equation: str, inputs: list[list[int | str]], expected: tuple[object, ...], work: object) -> None:
    graph = lowered("Einsum", *inputs, equation=equation)
    assert shape(graph) == expected
    assert flop(graph) == work


def test_einsum_kinds() -> None:
    assert kinds(lowered("Einsum", [3, 4], equation="ij->ji")) == ["copy transpose"]
    assert kinds(lowered("Einsum", [3, 3], equation="ii")) == ["copy diagonal", "reduction sum"]
    assert kinds(lowered("Einsum", [2, 3, 7], [3, 5], equation="ijk,jl->il")) == ["reduction sum", "matmul"]
    with pytest.raises(UnsupportedError, match="one letter for each axis"):
        lowered("Einsum", [2, 3, 4], equation="ij->ji")


# ---- reductions, softmax --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 18])
def test_reduction_axes_as_attribute_or_input(opset: int) -> None:
    more = ({"axes": [-1, 1]}, ()) if opset == 11 else ({}, (numbers(-1, 1),))
    graph = lowered("ReduceMean", ["b", 3, 4, 5], *more[1], opset=opset, keepdims=0, **more[0])
    assert shape(graph) == (B, 4)
    assert only(graph).attrs["length"] == 15  # 3 * 5


def test_reduction_of_everything_or_nothing() -> None:
    assert shape(lowered("ReduceSum", ["b", 3])) == (1, 1)
    graph = lowered("ReduceSum", ["b", 3], noop_with_empty_axes=1)
    assert shape(graph) == (B, 3)
    assert kinds(graph) == ["pointwise sum"]


def test_argmax_gives_indices() -> None:
    (tensor,) = outs(lowered("ArgMax", ["b", 10], axis=-1, keepdims=0))
    assert (tensor.shape, tensor.dtype) == ((B,), "int64")


def test_softmax_flattens_before_opset_13() -> None:
    assert only(lowered("Softmax", ["b", 3, 4], opset=11)).attrs["length"] == 12  # all axes from 1 on
    assert only(lowered("Softmax", ["b", 3, 4], opset=13)).attrs["length"] == 4  # the last axis


# ---- convolutions and pools -----------------------------------------------------------------------------------------


def test_conv_of_resnets_first_layer() -> None:
    graph = lowered("Conv", ["b", 3, 224, 224], floats(64, 3, 7, 7), strides=[2, 2], pads=[3, 3, 3, 3])
    assert shape(graph) == (B, 64, 112, 112)
    assert flop(graph) == 236_027_904 * B  # 2 * 64 * 112 * 112 * 3 * 7 * 7


def test_conv_with_groups_dilation_and_free_length() -> None:
    graph = lowered("Conv", [1, 8, "s"], floats(16, 2, 3), group=4, dilations=[2], auto_pad="SAME_UPPER", strides=[2])
    out = -(-S // 2)  # ceil(s / 2)
    assert shape(graph) == (1, 16, out)
    assert flop(graph) == 2 * 16 * out * 2 * 3


def test_conv_transpose_padding_and_given_shape() -> None:
    graph = lowered("ConvTranspose", ["b", 8, 10, 10], floats(8, 4, 3, 3), strides=[2, 2], output_padding=[1, 1])
    assert shape(graph) == (B, 4, 22, 22)  # 2 * 9 + 3 + 1
    assert flop(graph) == 2 * B * 8 * 100 * 4 * 9  # every input point meets every weight of its channel
    given = lowered("ConvTranspose", [1, 1, 3, 3], floats(1, 2, 3, 3), strides=[3, 2], output_shape=[10, 8])
    assert shape(given) == (1, 2, 10, 8)


@pytest.mark.parametrize(("ceil_mode", "expected"), [(0, 2), (1, 3)])
def test_pool_rounds_down_or_up(ceil_mode: int, expected: int) -> None:
    graph = lowered("MaxPool", [1, 1, 6], kernel_shape=[3], strides=[2], ceil_mode=ceil_mode)
    assert shape(graph) == (1, 1, expected)  # (6 - 3) / 2 + 1 = 2.5


def test_ceil_mode_starts_no_window_in_the_padding() -> None:
    graph = lowered("AveragePool", [1, 1, 2], kernel_shape=[1], strides=[2], ceil_mode=1, pads=[0, 1])
    assert shape(graph) == (1, 1, 1)  # a second window would start at 2, behind the last element


def test_global_pool_sees_the_whole_image() -> None:
    op = only(lowered("GlobalAveragePool", ["b", 512, 7, "s"]))
    assert op.attrs["window"] == 7 * S


def test_dropout_is_a_view_with_a_mask() -> None:
    assert kinds(lowered("Dropout", ["b", 3])) == ["view dropout"]
    mask = outs(lowered("Dropout", ["b", 3], outputs=2))[1]
    assert (mask.shape, mask.dtype) == ((B, 3), "bool")


def test_batch_norm_counts_scale_and_bias_only() -> None:
    graph = lowered("BatchNormalization", ["b", 8, 4, 4], *(floats(8) for _ in range(4)))
    assert graph.params == 16  # scale and bias; mean and variance are buffers
    assert only(graph).attrs["length"] == B * 16


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_norm_over_the_axes_from_axis_on(op: str) -> None:
    opset = 23 if op == "RMSNormalization" else 17
    assert only(lowered(op, ["b", 3, 4], floats(3, 4), axis=1, opset=opset)).attrs["length"] == 12


def test_layer_norm_gives_its_statistics() -> None:
    graph = lowered("LayerNormalization", ["b", 3, 4], floats(3, 4), axis=1, outputs=3, opset=17)
    assert [tensor.shape for tensor in outs(graph)] == [(B, 3, 4), (B, 1, 1), (B, 1, 1)]


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "more"),
    [
        ("Upsample", 7, (), {"scales": [1.0, 1.0, 2.0, 2.0]}),
        ("Upsample", 9, (np.array([1, 1, 2, 2], np.float32),), {}),
        ("Resize", 10, (np.array([1, 1, 2, 2], np.float32),), {}),
        ("Resize", 11, (floats(0), np.array([1, 1, 2, 2], np.float32)), {}),
        ("Resize", 13, (None, np.array([1, 1, 2, 2], np.float32)), {}),
        ("Resize", 18, (None, np.array([2, 2], np.float32)), {"axes": [2, 3]}),
    ],
)
def test_resize_of_every_opset(op: str, opset: int, inputs: tuple[object, ...], more: dict[str, object]) -> None:
    graph = lowered(op, ["b", 3, "h", 20], *inputs, opset=opset, mode="linear", **more)
    assert shape(graph) == (B, 3, 2 * symbol("h"), 40)
    assert only(graph).attrs["taps"] == 4  # 2 along each of the two resized axes


def test_resize_keeps_the_ratio_and_counts_cubic_taps() -> None:
    more = {"keep_aspect_ratio_policy": "not_larger", "axes": [2, 3], "mode": "cubic"}
    graph = lowered("Resize", [1, 1, 4, 8], None, None, numbers(12, 12), opset=18, **more)
    assert shape(graph) == (1, 1, 6, 12)  # both by 1.5, the smaller of 3 and 1.5
    assert only(graph).attrs["taps"] == 16


def test_resize_of_unknown_size_is_a_free_dim_that_says_so() -> None:
    graph = lowered("Resize", [1, 3, 8, 8], None, None, ([4], TensorProto.INT64), opset=13)
    assert shape(graph)[:2] == (1, 3)
    assert any("--set node.size_2=N" in line for line in graph.warnings)


# ---- recurrent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_by_its_steps(op: str, gates: int) -> None:
    graph = lowered(
        op, ["s", "b", 8], floats(2, gates * 16, 8), floats(2, gates * 16, 16), outputs=2,
        hidden_size=16, direction="bidirectional",
    )  # fmt: skip
    assert [tensor.shape for tensor in outs(graph)] == [(S, 2, B, 16), (2, B, 16)]
    assert flop(graph) == 2 * 2 * S * B * gates * 16 * (8 + 16)  # 2 directions


def test_recurrent_with_the_batch_first() -> None:
    weights = floats(1, 64, 8), floats(1, 64, 16)
    graph = lowered("LSTM", ["b", "s", 8], *weights, outputs=3, hidden_size=16, layout=1)
    assert [tensor.shape for tensor in outs(graph)] == [(B, S, 1, 16), (B, 1, 16), (B, 1, 16)]
    assert attrs(only(graph), "steps", "batch", "directions") == (S, B, 1)


# ---- quantized ------------------------------------------------------------------------------------------------------


def test_integer_products_are_int8() -> None:
    weight = np.ones((64, 32), np.int8)
    graph = lowered("MatMulInteger", (["b", 64], TensorProto.UINT8), weight)
    assert (outs(graph)[0].dtype, only(graph).attrs["math"], flop(graph)) == ("int32", "int8", 2 * B * 64 * 32)
    inputs = ((["b", 64], TensorProto.UINT8), scale(), zero(), weight, scale(), zero(np.int8), scale(), zero())
    graph = lowered("QLinearMatMul", *inputs)
    assert (outs(graph)[0].dtype, only(graph).attrs["math"], graph.params) == ("uint8", "int8", 64 * 32)


def test_quantized_conv() -> None:
    weight = np.ones((8, 3, 3, 3), np.int8)
    inputs = (([1, 3, 8, 8], TensorProto.UINT8), scale(), zero(), weight, scale(), zero(np.int8), scale(), zero())
    graph = lowered("QLinearConv", *inputs, pads=[1, 1, 1, 1])
    assert shape(graph) == (1, 8, 8, 8)
    assert attrs(only(graph), "math") == ("int8",)


def test_dequantized_weight_is_kept_as_an_op() -> None:
    graph = lowered("DequantizeLinear", np.ones((4, 4), np.int8), scale(), zero(np.int8))
    assert kinds(graph) == ["quantize dequantize"]
    assert graph.params == 16  # scale and zero point are no parameters
    assert outs(graph)[0].dtype == "fp32"


def test_quantize_types() -> None:
    assert outs(lowered("QuantizeLinear", ["b"], scale()))[0].dtype == "uint8"
    assert outs(lowered("QuantizeLinear", ["b"], scale(), zero(np.int8)))[0].dtype == "int8"
    assert outs(lowered("QuantizeLinear", ["b"], scale(), output_dtype=TensorProto.INT4))[0].dtype == "int4"
    three = outs(lowered("DynamicQuantizeLinear", ["b", 4], outputs=3))
    assert [(t.shape, t.dtype) for t in three] == [((B, 4), "uint8"), ((), "fp32"), ((), "uint8")]
