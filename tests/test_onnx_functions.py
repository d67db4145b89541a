"""The ONNX driver: functions, and what a body sees of the graph around it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper, parser
from onnx_models import model_of

from wattir.dims import evaluate, symbol
from wattir.errors import UnsupportedError
from wattir.frontends.onnx import lower
from wattir.graph_check import check_graph


def test_functions_are_written_out() -> None:
    """With their own opset, their own names, attributes by reference, and inputs that may be absent."""
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17, "my" : 1]>
        f (float[N, 6] x) => (float[a, b] y)
        {
            h = my.soft <axis = 1> (x)
            y = my.twice (h)
        }
        <domain: "my", opset_import: ["" : 12, "my" : 1]>
        twice (a) => (c) { b = my.soft (a)  c = my.soft <axis = 0> (b) }
        <domain: "my", opset_import: ["" : 12]>
        soft <axis: int = 1> (p, q) => (r) {
            s = ReduceMax <axes = [1], keepdims = 1> (p)
            t = Softmax <axis: int = @axis> (p)
            r = Clip (t, q)
        }""")
    graph = lower(model)
    check_graph(graph)
    assert [op.name for op in graph.ops if op.source == "Softmax"] == [
        "my.soft:h/Softmax:t".replace("my.", ""),
        "twice:y/soft:b/Softmax:t",
        "twice:y/soft:c/Softmax:t",
    ]
    lengths = [str(op.attrs["length"]) for op in graph.ops if op.source == "Softmax"]
    assert lengths == ["6", "6", "6*N"]  # opset 12: over all axes from the given one on


def test_an_op_that_the_standard_defines_by_others_needs_no_rule() -> None:
    """Where a rule is missing, the body in the installed onnx is lowered."""
    from wattir.frontends.onnx import node as node_module
    from wattir.frontends.rules import load_rules

    load_rules("wattir.frontends.onnx")
    model = model_of("f (float[N, 6] x) => (float[a, b] y) { y = Celu <alpha = 2.0> (x) }")
    rule = node_module.RULES.pop(("", "Celu"))
    try:
        graph = lower(model)
    finally:
        node_module.RULES[("", "Celu")] = rule
    assert graph.tensors[graph.outputs[0]].shape == (symbol("N"), 6)
    assert {op.source for op in graph.ops} >= {"Div", "Elu", "Mul"}


def test_functions_that_call_themselves_without_end_are_refused() -> None:
    calls = [f'<domain: "my", opset_import: ["my" : 1]> f{i} (a) => (b) {{ b = my.f{i + 1} (a) }}' for i in range(60)]
    last = '<domain: "my", opset_import: ["" : 17]> f60 (a) => (b) { b = Exp (a) }'
    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17, "my" : 1]> f (float[N] x) => (float[M] y) { y = my.f0 (x) }'
        + "".join([*calls, last])
    )
    with pytest.raises(UnsupportedError, match="over 48 functions within each other; expected fewer"):
        lower(model)


def test_bodies_see_outer_names_and_hide_them() -> None:
    model = model_of("""
        f (float[N, 8] x, bool c) => (float[a, b] y)
        {
            h = Relu (x)
            y = If (c) <
                then_branch = g () => (float[a, b] t) { u = Exp (h)  t = Exp (u) },
                else_branch = g () => (float[a, b] e) { e = Relu (x) }
            >
        }""")
    graph = lower(model)
    assert [op.ins for op in graph.ops] == [("x",), ("h",), ("u",)]


def test_the_same_initializer_in_a_body_is_one_parameter() -> None:
    """A weight that a loop's body reads is counted once, its product each trip."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["ci"], ["co"]), helper.make_node("MatMul", ["s", "w"], ["t"])],
        "g",
        [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("ci", 9, []),
            helper.make_tensor_value_info("s", 1, ["N", 8]),
        ],
        [helper.make_tensor_value_info("co", 9, []), helper.make_tensor_value_info("t", 1, ["N", 8])],
        [numpy_helper.from_array(np.ones((8, 8), np.float32), "w")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["m", "", "x"], ["y"], "loop", body=body)],
        "f",
        [helper.make_tensor_value_info("x", 1, ["N", 8])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.array(10), "m")],
    )
    found = lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    assert found.params == 64
    matmul = next(op for op in found.ops if op.kind == "matmul")
    assert evaluate(matmul.times, {}) == 10
