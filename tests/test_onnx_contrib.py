"""Attention, onnxruntime's own ops, selection, signals and ai.onnx.ml: by hand, and against onnxruntime's shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx_single import attrs, floats, flop, kinds, lowered, numbers, only, outs, run_shapes, shape, single

from wattir.costs import tabulate
from wattir.dims import evaluate, symbol
from wattir.frontends.onnx import lower
from wattir.graph_check import check_graph
from wattir.graph_text import graph_text

B, S, P = symbol("b"), symbol("s"), symbol("past")
MS, ML = "com.microsoft", "ai.onnx.ml"
I32, I64, U8 = TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8
ATTENTION = ("heads", "kv_heads", "q", "kv", "d", "dv", "causal")


# ---- attention ------------------------------------------------------------------------------------------------------


def test_attention_in_four_and_three_axes() -> None:
    four = lowered("Attention", ["b", 8, "s", 64], ["b", 2, "t", 64], ["b", 2, "t", 32], opset=23, is_causal=1)
    assert shape(four) == (B, 8, S, 32)
    assert attrs(only(four), *ATTENTION) == (8, 2, S, symbol("t"), 64, 32, True)
    heads = {"q_num_heads": 8, "kv_num_heads": 2, "opset": 23}
    three = lowered("Attention", ["b", "s", 512], ["b", "t", 128], ["b", "t", 64], **heads)
    assert shape(three) == (B, S, 256)
    assert flop(three) == flop(four) == 2 * B * 8 * S * symbol("t") * (64 + 32)


def test_attention_appends_to_its_cache() -> None:
    new, past = ["b", 2, "s", 64], ["b", 2, "past", 64]
    graph = lowered("Attention", ["b", 8, "s", 64], new, new, None, past, past, opset=23, outputs=3)
    assert kinds(graph) == ["scatter cache_append", "scatter cache_append", "attention"]
    assert graph.ops[2].attrs["kv"] == P + S
    assert shape(graph, 1) == (B, 2, P + S, 64)
    assert [graph.tensors[f"x{index}"].role for index in (1, 4, 5)] == ["input", "state", "state"]


def test_packed_attention_is_a_product_and_an_attention() -> None:
    graph = lowered("Attention", ["b", "s", 64], floats(64, 192), floats(192), domain=MS, num_heads=4)
    assert kinds(graph) == ["matmul", "attention"]
    assert attrs(graph.ops[0], "m", "n", "k") == (B * S, 192, 64)
    assert attrs(graph.ops[1], *ATTENTION) == (4, 4, S, S, 16, 16, False)
    assert graph.params == 64 * 192 + 192


def test_grouped_query_attention_with_rotary_and_cache() -> None:
    cache: Any = ["b", 2, "past", 16]
    inputs = (["b", "s", 128], ["b", "s", 32], ["b", "s", 32], cache, cache, (["b"], I32), ([], I32))
    tables = (floats(64, 8), floats(64, 8))
    more = {"num_heads": 8, "kv_num_heads": 2, "do_rotary": 1, "local_window_size": 5}
    graph = lowered("GroupQueryAttention", *inputs, *tables, domain=MS, outputs=3, **more)
    expected = ["pointwise rotary"] * 2 + ["scatter cache_append"] * 2 + ["attention"]
    assert kinds(graph) == expected
    assert attrs(graph.ops[-1], *ATTENTION, "window") == (8, 2, S, P + S, 16, 16, True, 5)
    assert [tensor.shape for tensor in outs(graph)] == [(B, S, 128), (B, 2, P + S, 16), (B, 2, P + S, 16)]


def test_a_decoder_layers_attention_as_text(golden: Callable[[str, str], None]) -> None:
    cache: Any = ["b", 2, "past", 16]
    inputs = (["b", 1, 192], None, None, cache, cache, (["b"], I32), ([], I32))
    graph = lowered("GroupQueryAttention", *inputs, domain=MS, outputs=3, num_heads=8, kv_num_heads=2)
    golden("onnx_grouped_query_attention.txt", graph_text(graph))


def test_multi_head_attention_packed_and_cross() -> None:
    packed = lowered("MultiHeadAttention", ["b", "s", 4, 3, 16], domain=MS, num_heads=4)
    assert attrs(only(packed), *ATTENTION) == (4, 4, S, S, 16, 16, False)
    past = ["b", 4, "t", 16]
    cross = lowered("MultiHeadAttention", ["b", "s", 64], past, past, domain=MS, num_heads=4)
    assert attrs(only(cross), "q", "kv", "d") == (S, symbol("t"), 16)


# ---- against onnxruntime --------------------------------------------------------------------------------------------


def _quantized(*shape_: int, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.ones(shape_, dtype), np.array(0.1, np.float32), np.array(0, dtype)


def _scale() -> tuple[np.ndarray, np.ndarray]:
    return np.array(0.1, np.float32), np.array(0, np.uint8)


_X, _PAST = [2, 5, 64], [2, 4, 3, 16]
_Q = (([2, 5, 64], U8), *_scale())
_IMAGE = (([2, 8, 9, 9], U8), *_scale())
_EMBED = (([2, 7], I32), ([2, 7], I32), floats(30, 16), floats(12, 16), floats(2, 16), floats(16), floats(16))
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Attention", (_X, floats(64, 192), floats(192)), {"num_heads": 4, "outputs": 2}),
    ("Attention", (_X, floats(64, 112), floats(112)), {"num_heads": 4, "qkv_hidden_sizes": [32, 32, 48]}),
    ("Attention", (_X, floats(64, 192), floats(192), None, [2, 2, 4, 3, 16]), {"num_heads": 4, "outputs": 2}),
    ("MultiHeadAttention", (_X, [2, 7, 64], [2, 7, 128]), {"num_heads": 4}),
    ("MultiHeadAttention", (_X, _X, _X, None, None, None, _PAST, _PAST), {"num_heads": 4, "outputs": 3}),
    (
        "GroupQueryAttention",
        ([2, 1, 64], *[[2, 1, 32]] * 2, *[[2, 2, 6, 16]] * 2, np.full(2, 6, np.int32), np.array(7, np.int32)),
        {"num_heads": 4, "kv_num_heads": 2, "outputs": 3},
    ),
    (
        "QAttention",
        (
            *_Q[:1],
            np.ones((64, 192), np.uint8),
            floats(192),
            np.array(0.1, np.float32),
            np.array(0.1, np.float32),
            None,
            np.array(0, np.uint8),
            np.array(0, np.uint8),
        ),
        {"num_heads": 4},
    ),
    ("SkipLayerNormalization", (_X, _X, floats(64), floats(64)), {"outputs": ["y0", "", "", "y3"]}),
    ("SkipSimplifiedLayerNormalization", (_X, _X, floats(64)), {"outputs": ["y0", "", "", "y3"]}),
    ("EmbedLayerNormalization", _EMBED, {"outputs": 3}),
    ("BiasGelu", (_X, [64]), {}),
    ("FastGelu", (_X, [64]), {}),
    ("QuickGelu", (_X,), {}),
    ("FusedMatMul", ([2, 3, 5], [2, 3, 7]), {"transA": 1}),
    ("FusedMatMul", ([2, 3, 5], [2, 7, 5]), {"transB": 1}),
    ("FusedGemm", ([3, 5], [5, 7], [7]), {"activation": "Relu"}),
    ("FusedConv", ([1, 3, 9, 9], floats(4, 3, 3, 3), floats(4)), {"activation": "Relu", "strides": [2, 2]}),
    ("RotaryEmbedding", ([2, 5, 64], np.array([0], np.int64), floats(9, 8), floats(9, 8)), {}),
    ("MatMulNBits", (_X, np.ones((32, 2, 16), np.uint8), floats(64)), {"K": 64, "N": 32, "block_size": 32, "bits": 4}),
    ("DynamicQuantizeMatMul", (_X, np.ones((64, 8), np.int8), floats(1)), {}),
    (
        "MatMulIntegerToFloat",
        (([2, 5, 64], U8), np.ones((64, 8), np.uint8), np.array(0.1, np.float32), np.array(0.1, np.float32)),
        {},
    ),
    ("QLinearAdd", (*_Q, ([64], U8), *_scale(), *_scale()), {}),
    ("QLinearMul", (*_Q, ([5, 1], U8), *_scale(), *_scale()), {}),
    ("QLinearSigmoid", (*_Q, *_scale()), {}),
    ("QLinearLeakyRelu", (*_Q, *_scale()), {}),
    ("QLinearSoftmax", (*_Q, *_scale()), {"opset_": 13}),
    ("QLinearConcat", (*_scale(), *_Q, *_Q), {"axis": 1}),
    ("QLinearGlobalAveragePool", (*_IMAGE, *_scale()), {}),
    ("QLinearAveragePool", (*_IMAGE, *_scale()), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("QGemm", (([3, 64], U8), *_scale(), *_quantized(64, 8)), {}),
    ("ConvTransposeWithDynamicPads", ([1, 4, 5, 5], floats(4, 2, 3, 3), numbers(1, 1, 1, 1)), {"strides": [2, 2]}),
    ("CDist", ([5, 3], [7, 3]), {"metric": "euclidean"}),
    ("Trilu", ([3, 4, 4],), {}),
    ("ExpandDims", ([3, 4], np.array(1, np.int32)), {}),
    ("Inverse", ([2, 4, 4],), {}),
    ("GridSample", ([1, 2, 5, 5], [1, 3, 4, 2]), {}),
    ("NhwcMaxPool", (([1, 9, 9, 8], U8),), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("MoE", ([6, 16], [6, 4], floats(4, 16, 24), None, floats(4, 24, 16)), {"k": 2, "activation_type": "relu"}),
    ("NGramRepeatBlock", (np.ones((2, 5), np.int64), [2, 9]), {"ngram_size": 2}),
]


@pytest.mark.parametrize(("op", "inputs", "more"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_shapes_are_those_of_onnxruntime(op: str, inputs: tuple[Any, ...], more: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    model = single(op, *inputs, domain=MS, **more)
    try:
        truth = run_shapes(model)
    except Exception as error:
        pytest.skip(f"onnxruntime does not run this here: {type(error).__name__}: {error}"[:200])
    graph = check_graph(lower(model))
    assert [tensor.shape for tensor in outs(graph)] == truth


# ---- fused layers ---------------------------------------------------------------------------------------------------


def test_packed_weights_have_their_true_shape_and_width() -> None:
    sizes = {"K": 64, "N": 32, "block_size": 32, "bits": 4}
    graph = lowered("MatMulNBits", ["b", 64], np.ones((32, 2, 16), np.uint8), floats(64), domain=MS, **sizes)
    weight = graph.tensors["x1"]
    assert (weight.shape, weight.dtype, weight.bytes) == ((32, 64), "uint4", 32 * 64 // 2)
    assert (graph.params, flop(graph)) == (32 * 64, 2 * B * 64 * 32)


def test_experts_count_those_that_are_active() -> None:
    graph = lowered("MoE", ["b", 16], ["b", 4], floats(4, 16, 24), None, floats(4, 24, 16), domain=MS, k=2)
    assert flop(graph) == 2 * B * 2 * (16 * 24 + 24 * 16)  # 2 of 4 experts, 2 products
    assert graph.params == 2 * 4 * 16 * 24
    read = sum((w.weight_bytes for w in tabulate(graph) if w.kind == "matmul"), start=0)
    assert evaluate(read, {"b": 1}) == 2 * 2 * 16 * 24 * 4  # one token reads 2 experts of 2 products
    assert evaluate(read, {"b": 64}) == 2 * 4 * 16 * 24 * 4  # many tokens read all 4


def test_a_generation_loop_is_unknown_and_says_why() -> None:
    ids = (["b", "s"], I32)
    graph = lowered("GreedySearch", ids, numbers(20).astype(np.int32), domain=MS)
    assert kinds(graph) == ["unknown"]
    assert shape(graph) == (B, 20)
    assert "the decoder inside is not counted" in graph.warnings[0]


def test_quantized_lstm() -> None:
    weights = np.ones((1, 8, 64), np.int8), np.ones((1, 16, 64), np.int8)
    one, none = floats(1), np.zeros(1, np.int8)
    inputs = (["s", "b", 8], *weights, None, None, None, None, None, one, none, one, none)
    graph = lowered("DynamicQuantizeLSTM", *inputs, domain=MS, hidden_size=16)
    assert attrs(only(graph), "hidden", "math") == (16, "int8")
    assert flop(graph) == 2 * S * B * 64 * 24  # 4 gates of 16, from 8 inputs and 16 states


# ---- selection ------------------------------------------------------------------------------------------------------


def test_sizes_that_data_decides_are_bounded_and_say_so() -> None:
    for graph, expected in (
        (lowered("NonZero", ["b", 4]), (2, 4 * B)),
        (lowered("Unique", ["b", 4]), (4 * B,)),
        (lowered("TopK", ["b", 100], ([1], I64), axis=1), (B, 100)),
        (lowered("NonMaxSuppression", [1, "n", 4], [1, 3, "n"], numbers(10)), None),
    ):
        assert "bounded by its maximum" in graph.warnings[0]
        assert expected is None or shape(graph) == expected


def test_boxes_kept_are_at_most_those_asked_for() -> None:
    graph = lowered("NonMaxSuppression", [1, 80, 4], [1, 3, 80], numbers(10))
    assert shape(graph) == (30, 3)  # 3 classes of 10
    assert shape(lowered("NonMaxSuppression", [1, 5, 4], [1, 3, 5], numbers(10))) == (15, 3)  # only 5 boxes


def test_known_contents_are_counted() -> None:
    assert shape(lowered("Compress", ["b", 4], np.array([True, False, True]), axis=1)) == (B, 2)
    graph = lowered("NonZero", np.array([[1, 0], [1, 1]], np.int64))
    assert shape(graph) == (2, 3)
    assert graph.ops == ()


def test_gather_and_one_hot() -> None:
    assert shape(lowered("GatherND", ["b", 3, 4], (["b", 5, 1], I64), batch_dims=1)) == (B, 5, 4)
    graph = lowered("OneHot", (["b", 3], I64), numbers(10), floats(2), axis=1)
    assert shape(graph) == (B, 10, 3)


# ---- signals --------------------------------------------------------------------------------------------------------


def test_stft_frames_and_bins() -> None:
    graph = lowered("STFT", ["b", "n", 1], np.array(160), floats(400), opset=17)
    assert shape(graph) == (B, (symbol("n") - 400) // 160 + 1, 201, 2)  # 400 / 2 + 1 bins of 2 numbers


@pytest.mark.parametrize("opset", [17, 20])
def test_dft_axis_as_attribute_or_input(opset: int) -> None:
    more = ({"axis": 1}, ()) if opset == 17 else ({}, (None, np.array(1)))
    assert shape(lowered("DFT", ["b", 10, 1], *more[1], opset=opset, onesided=1, **more[0])) == (B, 6, 2)


NCHWC = "com.microsoft.nchwc"


def test_blocked_layouts_cost_what_the_plain_ones_do() -> None:
    """What onnxruntime saves at its highest level on x86: names alone differ where channels fill whole blocks."""
    weights = (np.ones((32, 16, 3, 3), np.float32),)
    plain = lowered("Conv", ["b", 16, 8, 8], *weights, pads=[1, 1, 1, 1], strides=[2, 2])
    blocked = lowered("Conv", ["b", 16, 8, 8], *weights, pads=[1, 1, 1, 1], strides=[2, 2], domain=NCHWC)
    assert (shape(blocked), flop(blocked), blocked.params) == (shape(plain), flop(plain), plain.params)
    fused = only(lowered("Conv", ["b", 16, 8, 8], *weights, domain=NCHWC, activation="Relu"))
    assert fused.attrs["fused_ops"] == B * 32 * 6 * 6
    padded = lowered("Conv", ["b", 12, 8, 8], *weights, domain=NCHWC)  # 12 channels lie in a block of 16
    assert flop(padded) == 2 * B * 32 * 6 * 6 * 16 * 9


@pytest.mark.parametrize(
    ("op", "more", "out"),
    [
        ("ReorderInput", {}, (B, 8, 8, 16)),
        ("ReorderInput", {"channels_last": 1}, (B, 16, 8, 8)),
        ("ReorderOutput", {"channels": 5}, (B, 5, 8, 16)),
        ("ReorderOutput", {"channels": 5, "channels_last": 1}, (B, 8, 16, 5)),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, (B, 8, 4, 8)),
        ("GlobalAveragePool", {}, (B, 8, 1, 1)),
        ("Upsample", {"scales": [1, 1, 2, 2]}, (B, 8, 16, 32)),
    ],
)
def test_other_ops_in_blocked_layouts(op: str, more: dict[str, Any], out: tuple[Any, ...]) -> None:
    graph = lowered(op, ["b", 8, 8, 16], domain=NCHWC, **more)
    assert (shape(graph), [o.kind for o in graph.ops if o.kind == "unknown"]) == (out, [])


# ---- ai.onnx.ml -----------------------------------------------------------------------------------------------------


def test_linear_classifier_is_a_product() -> None:
    more = {"coefficients": [0.1] * 12, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}
    graph = lowered("LinearClassifier", ["b", 4], domain=ML, outputs=2, **more)
    assert [(t.shape, t.dtype) for t in outs(graph)] == [((B,), "int64"), ((B, 3), "fp32")]
    assert (flop(graph), graph.params) == (2 * B * 4 * 3, 15)


def test_linear_classes_are_counted_by_their_intercepts() -> None:
    """The input may declare fewer features than have coefficients, as in onnxruntime's logreg_iris.onnx."""
    more = {"coefficients": [0.1] * 12, "classlabels_ints": [0, 1, 2]}
    graph = lowered("LinearClassifier", [3, 2], domain=ML, outputs=2, intercepts=[0.0] * 3, **more)
    assert [t.shape for t in outs(graph)] == [(3,), (3, 3)]
    assert flop(graph) == 2 * 3 * 2 * 3
    without = lowered("LinearClassifier", [5, 4], domain=ML, outputs=2, **more)
    assert (shape(without, 1), flop(without)) == ((5, 3), 2 * 5 * 4 * 3)  # 12 coefficients of 4 features


def test_trees_cost_their_depth() -> None:
    trees = {"nodes_treeids": [0] * 7 + [1] * 7, "nodes_featureids": [0] * 14, "n_targets": 1}
    op = only(lowered("TreeEnsembleRegressor", ["b", 4], domain=ML, **trees))
    assert (op.kind, op.attrs["ops"]) == ("host", 2 * B * 2 * 3)  # 2 operations, 2 trees of 7 nodes: 3 levels


def test_support_vectors() -> None:
    more = {"support_vectors": [0.0] * 20, "coefficients": [0.0] * 5, "n_supports": 5, "kernel_type": "RBF"}
    graph = lowered("SVMRegressor", ["b", 4], domain=ML, **more)
    assert flop(graph) == 2 * B * (4 * 5 + 5)  # 5 kernels of 4 features, then their sum


def test_label_types() -> None:
    graph = lowered("LabelEncoder", (["b"], TensorProto.STRING), domain=ML, keys_strings=["a"], values_int64s=[1])
    assert outs(graph)[0].dtype == "int64"
    assert kinds(graph) == ["host label_encoder"]
