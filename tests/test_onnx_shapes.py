"""The ONNX driver: sizes as formulas, inputs, weights, names, limits."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import LIGHT, lowered, model_of, shape_text

from wattir.dims import evaluate
from wattir.errors import ModelFileError, SizeError, UnsupportedError
from wattir.frontends.onnx import lower
from wattir.frontends.onnx.naming import readable

# ---- shape arithmetic ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("{0, -1}", "batch, 12*seq"),
        ("{0, 0, 4, 3}", "batch, seq, 4, 3"),
        ("{-1, 12}", "batch*seq, 12"),
        ("{-1, 24}", "((12*batch*seq)//(24)), 24"),  # whole only for some sizes
        ("{2, -1, 6}", "2, batch*seq, 6"),
    ],
)
def test_reshape(target: str, expected: str) -> None:
    rank = target.count(",") + 1
    _, values = lowered(model_of(f"""
        f (float[batch, seq, 12] x) => (float[{", ".join("abcd"[:rank])}] y) <int64[{rank}] t = {target}>
        {{ y = Reshape (x, t) }}"""))  # fmt: skip
    assert shape_text(values["y"]) == expected


def test_the_shape_arithmetic_of_exporters() -> None:
    """Shape, Gather, arithmetic, Concat, Reshape, Slice, Range, ConstantOfShape, Expand: all on formulas."""
    graph, values = lowered(model_of("""
        f (float[batch, seq, 64] x) => (float[a, b, c, d] y, float[e, f] z, int64[g] r)
        <int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 heads = {4},
         int64[1] width = {16}, int64[1] at = {0}>
        {
            shape = Shape (x)
            b = Gather <axis = 0> (shape, zero)
            s = Gather <axis = 0> (shape, one)
            b1 = Unsqueeze (b, at)
            s1 = Unsqueeze (s, at)
            h1 = Unsqueeze (heads, at)
            split = Concat <axis = 0> (b1, s1, h1, width)
            heads_last = Reshape (x, split)
            y = Transpose <perm = [0, 2, 1, 3]> (heads_last)
            r = Range (zero, s, one)
            half = Div (s, two)
            more = Mul (half, two)
            more1 = Unsqueeze (more, at)
            square = Concat <axis = 0> (s1, more1)
            z = ConstantOfShape (square)
        }"""))  # fmt: skip
    assert shape_text(values["y"]) == "batch, 4, seq, 16"
    assert shape_text(values["r"]) == "seq"
    assert shape_text(values["z"]) == "seq, 2*((seq)//(2))"
    assert [op.source for op in graph.ops] == ["Reshape", "Transpose"]  # the rest is folded


@given(
    size=st.integers(1, 12),
    start=st.integers(-15, 15),
    end=st.integers(-15, 15) | st.sampled_from([2**31 - 1, 2**63 - 1, -(2**63)]),
    step=st.sampled_from([1, 1, 2, 3, -1, -2]),
)
@settings(max_examples=300)
def test_slice_is_as_the_standard_says(size: int, start: int, end: int, step: int) -> None:
    """Start and end are clamped to the axis, which is not numpy's rule for a start before it and a negative step."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first = min(max(start + size if start < 0 else start, 0), high)
    last = min(max(end + size if end < 0 else end, low), high)
    expected = len(range(first, last, step))
    for given_size in ("n", size):
        model = helper.make_model(
            helper.make_graph(
                [helper.make_node("Slice", ["x", "s", "e", "a", "p"], ["y"])],
                "f",
                [helper.make_tensor_value_info("x", 1, [given_size])],
                [helper.make_tensor_value_info("y", 1, None)],
                [numpy_helper.from_array(np.array([v]), n) for n, v in zip("seap", (start, end, 0, step), strict=True)],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=9,
        )
        _, values = lowered(model)
        assert evaluate(values["y"].shape[0], {"n": size}) == expected


def test_float_arithmetic_on_sizes_for_resize() -> None:
    _, values = lowered(model_of("""
        f (float[1, 3, h, w] x) => (float[1, 3, a, b] y)
        <float[1] scale = {1.5}, int64[1] two = {2}, int64[1] four = {4}, float[0] roi = {}, float[0] none = {}>
        {
            shape = Shape (x)
            hw = Slice (shape, two, four)
            real = Cast <to = 1> (hw)
            scaled = Mul (real, scale)
            floor = Floor (scaled)
            whole = Cast <to = 7> (floor)
            lead = Shape <start = 0, end = 2> (x)
            sizes = Concat <axis = 0> (lead, whole)
            y = Resize <mode = "nearest"> (x, roi, none, sizes)
        }"""))  # fmt: skip
    assert shape_text(values["y"]) == "1, 3, ((3*h)//(2)), ((3*w)//(2))"


def test_a_condition_on_sizes_is_not_guessed() -> None:
    _, values = lowered(model_of("""
        f (float[n] x) => (bool[1] small, bool[1] negative) <int64[1] limit = {8}, int64[1] minus = {-1}>
        { shape = Shape (x)   small = Less (shape, limit)   negative = Equal (shape, minus) }"""))  # fmt: skip
    assert values["small"].data is None
    assert values["negative"].data == (False,)


# ---- inputs -------------------------------------------------------------------------------------------------------


def dense(first: Any = "N", rank: int = 2) -> onnx.ModelProto:
    dims = [first, *([8] * (rank - 1))]
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["z"], "/encoder/encoder.0/proj/MatMul")],
            "f",
            [helper.make_tensor_value_info("x", 1, dims)],
            [helper.make_tensor_value_info("z", 1, None)],
            [numpy_helper.from_array(np.ones((8, 4), np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def test_free_dims_keep_their_names_and_the_batch_is_one() -> None:
    graph = lower(dense())
    assert (graph.sizes, graph.batch, graph.params) == ({"N": 1}, "N", 32)
    assert graph.ops[0].name == "encoder.0/proj/MatMul"
    assert [str(s) for s in graph.tensors["z"].shape] == ["N", "4"]


@pytest.mark.parametrize("unnamed", ["?", "", None, "-1"])
def test_dims_without_a_name_get_one(unnamed: Any) -> None:
    assert lower(dense(unnamed)).sizes == {"x_0": 1}


def test_a_dim_param_may_be_a_formula() -> None:
    graph = lower(dense("past + seq"))
    assert graph.sizes == {"past": None, "seq": None}


def test_inputs_override_shapes() -> None:
    assert lower(dense(), {"x": (5, 8)}).tensors["z"].shape == (5, 4)
    assert lower(dense(1), {"x": ("images", 8)}).batch == "images"


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"xs": (1, 8)}, r"a shape for input 'xs'; expected x; did you mean x\?"),
        ({"x": (1, 8, 8)}, r"3 sizes for input 'x'; expected 2: \[N, 8\]"),
        ({"x": (-1, 8)}, r"a size of -1 for input 'x'"),
        ({"x": (2.5, 8)}, r"a size of 2.5 for input 'x'"),
    ],
)
def test_bad_inputs_are_named(inputs: Any, found: str) -> None:
    with pytest.raises(SizeError, match=found):
        lower(dense(), inputs)


def test_other_sources_are_refused() -> None:
    with pytest.raises(ModelFileError, match="an object of type int; expected a path"):
        lower(3)


def test_bytes_and_models_are_taken() -> None:
    assert lower(dense().SerializeToString()).params == lower(dense()).params == 32


def test_a_batch_that_the_file_fixes_can_be_changed() -> None:
    model = model_of("""
        f (float[1, 3, 4] x) => (float[a, b] y, float[c, d, e] z) <int64[2] flat = {1, 12}, int64[3] open = {1, -1, 2}>
        { y = Reshape (x, flat)   z = Reshape (x, open) }""")
    graph, values = lowered(model, {"x": ("batch", 3, 4)})
    assert shape_text(values["y"]) == "batch, 12"
    assert shape_text(values["z"]) == "batch, 6, 2"
    assert sum("the file fixes the batch" in line for line in graph.warnings) == 2
    assert lowered(model, {"x": (8, 3, 4)})[1]["y"].shape == (8, 12)


# ---- weights ------------------------------------------------------------------------------------------------------


def test_params_are_weights_that_reach_an_op_each_once() -> None:
    graph = lower(model_of("""
        f (float[N, 4] x) => (float[N, 4] y)
        <float[4, 4] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, float[4] unused = {1, 1, 1, 1},
         float half = {0.5}>
        {
            t = Transpose (w)
            h = Mul (t, half)
            a = MatMul (x, h)
            y = MatMul (a, w)
        }"""))  # fmt: skip
    assert graph.params == 16  # w is used twice, once folded; a scalar is no parameter
    assert [op.source for op in graph.ops] == ["MatMul", "MatMul"]


def test_running_statistics_are_constants() -> None:
    graph = lower(LIGHT / "light_resnet50.onnx")
    norm = next(op for op in graph.ops if op.kind == "norm")
    assert [graph.tensors[name].role for name in norm.ins[1:]] == ["weight", "weight", "constant", "constant"]


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0/conv1/Conv"),
        ("Conv_12", "Conv_12"),
        ("model/block/add", "model/block/add"),
        ("", ""),
    ],
)
def test_readable_names(name: str, expected: str) -> None:
    assert readable(name) == expected


def test_labels_are_unique() -> None:
    model = dense()
    model.graph.node[0].name = ""
    for i in range(3):
        model.graph.node.append(helper.make_node("Relu", ["z"], [f"r{i}"], "act" if i else ""))
    names_found = [op.name for op in lower(model).ops]
    assert names_found == ["MatMul:z", "Relu:r0", "act", "act~2"]


# ---- limits -------------------------------------------------------------------------------------------------------


def test_absurd_sizes_are_refused() -> None:
    model = model_of("f (float[N, 4] x) => (float[a, b] y) <int64[2] r = {1, 1099511627776}> { y = Tile (x, r) }")
    with pytest.raises(UnsupportedError, match=r"node 'Tile:y' \(Tile\): an output of shape \[N, 4398046511104\]"):
        lower(model)
    model = model_of("""f (float[1] x) => (float[a, b] y) <int64[2] r = {1099511627776, 1099511627776}>
                     { y = Expand (x, r) }""")
    with pytest.raises(UnsupportedError, match="expected at most 9,007,199,254,740,992 elements"):
        lower(model)


def test_formulas_that_explode_are_refused() -> None:
    consts = {"flat": -1, "from": 1, "to": 2**62, "zero": 0, "three": 3}
    model = helper.make_model(
        helper.make_graph(
            chain(),
            "f",
            [helper.make_tensor_value_info("x", 1, ["n"])],
            [helper.make_tensor_value_info("v40", 1, None)],
            [numpy_helper.from_array(np.array([v]), n) for n, v in consts.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    start = time.process_time()
    with pytest.raises(UnsupportedError, match="an output of shape"):
        lower(model)
    assert time.process_time() - start < 20


def chain() -> list[onnx.NodeProto]:
    """v -> every third element of the outer product of v with itself, 40 times: the formula squares each time."""
    nodes = [helper.make_node("Identity", ["x"], ["v0"])]
    for i in range(40):
        nodes.append(helper.make_node("Einsum", [f"v{i}", f"v{i}"], [f"o{i}"], equation="i,j->ij"))
        nodes.append(helper.make_node("Reshape", [f"o{i}", "flat"], [f"f{i}"]))
        nodes.append(helper.make_node("Slice", [f"f{i}", "from", "to", "zero", "three"], [f"v{i + 1}"]))
    return nodes


def test_many_nodes_lower_in_seconds() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r0"], "relu")]
    nodes += [helper.make_node("Add", [f"r{i}", "x"], [f"r{i + 1}"], "add") for i in range(20_000)]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "f",
            [helper.make_tensor_value_info("x", 1, ["n", 8])],
            [helper.make_tensor_value_info("r20000", 1, None)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    start = time.process_time()
    assert len(lower(model).ops) == 20_001
    assert time.process_time() - start < 10  # 1 s


def test_an_op_without_a_rule_is_unknown_not_zero() -> None:
    model = dense()
    model.graph.node.append(helper.make_node("Frobnicate", ["z"], ["q"], "frob", domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    graph = lower(model)
    assert [(op.kind, op.source, op.outs) for op in graph.ops][-1] == ("unknown", "acme.Frobnicate", ("q",))
    assert any("acme.Frobnicate has no mapping (1 nodes)" in line for line in graph.warnings)
    assert any("frob (Frobnicate): the shape of output 0 is not known" in line for line in graph.warnings)


def test_a_node_that_breaks_the_standard_is_an_error_with_its_place() -> None:
    model = dense()
    model.graph.node.append(helper.make_node("Transpose", ["z"], ["q"], "turn", perm=[0, 0]))
    with pytest.raises(UnsupportedError, match=r"node 'turn' \(Transpose\): perm \[0, 0\]"):
        lower(model)
    model.graph.node[-1].CopyFrom(helper.make_node("Transpose", [], ["q"], "turn"))
    with pytest.raises(UnsupportedError, match=r"node 'turn' \(Transpose\): input 0 is missing"):
        lower(model)
