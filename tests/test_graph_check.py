"""The rules of a legal graph: each one is broken once."""

from dataclasses import replace

import numpy as np
import pytest

from wattir import layers
from wattir.dims import symbol
from wattir.errors import GraphError, SizeError
from wattir.graph_check import check_graph, check_sizes
from wattir.ir import Op, Tensor, replace_graph

LEGAL = layers.matmul(symbol("m"), 3, 5)
OP = LEGAL.ops[0]


def with_op(**changes):
    return replace_graph(LEGAL, ops=(replace(OP, **changes),))


def with_tensor(name, tensor):
    return replace_graph(LEGAL, tensors={**LEGAL.tensors, name: tensor})


ILLEGAL = [
    (with_op(kind="matmull"), "kind 'matmull'"),
    (with_op(attrs={"groups": 1, "m": 1, "n": 1}), "no attribute 'k'"),
    (with_op(attrs={**OP.attrs, "q": 1}), "attribute 'q'"),
    (with_op(attrs={**OP.attrs, "m": 1.5}), "size 1.5"),
    (with_op(attrs={**OP.attrs, "m": (1, 2)}), r"m = .*one value"),
    (with_op(times=-1), "times: size -1"),
    (with_op(ins=("a", "nothing")), "input 'nothing' before it is made"),
    (with_op(outs=()), "no output"),
    (with_op(outs=("a",), ins=()), "output 'a' made twice or not declared"),
    (replace_graph(LEGAL, ops=(OP, OP)), "output 'out' made twice"),
    (with_tensor("a", Tensor((2,), "fp33", "input")), "dtype 'fp33'"),
    (with_tensor("a", Tensor((2,), "fp32", "inputs")), "role 'inputs'"),
    (with_tensor("a", Tensor((-1,), "fp32", "input")), "size -1"),
    (with_tensor("a", Tensor((2**62,), "fp32", "input")), "size 4611686018427387904"),
    (with_tensor("a", Tensor((10**5000,), "fp32", "input")), "size of 16610 bits"),
    (replace_graph(LEGAL, outputs=("nothing",)), "no such tensor"),
    (replace_graph(LEGAL, sizes={}), r"no entry for \['m'\]"),
    (replace_graph(LEGAL, batch="n"), "batch"),
    (
        replace_graph(layers.recurrent("lstm", 1, 1, 1, 1), ops=(
            replace(layers.recurrent("lstm", 1, 1, 1, 1).ops[0],
                    attrs={**layers.recurrent("lstm", 1, 1, 1, 1).ops[0].attrs, "function": "mlp"}),
        )),
        "function 'mlp'",
    ),
]  # fmt: skip


def test_a_legal_graph_is_given_back():
    assert check_graph(LEGAL) is LEGAL


@pytest.mark.parametrize("graph, message", ILLEGAL, ids=[message for _, message in ILLEGAL])
def test_a_broken_rule_is_named(graph, message):
    with pytest.raises(GraphError, match=message):
        check_graph(graph)


def test_a_shape_that_turns_negative_is_named_with_its_formula():
    graph = replace_graph(LEGAL, tensors={**LEGAL.tensors, "a": Tensor((symbol("m") - 10,), "bf16", "input")})

    check_sizes(graph, {"m": 10})
    with pytest.raises(SizeError, match="tensor 'a' has an axis of m - 10 = -1"):
        check_sizes(graph, {"m": 9})
    with pytest.raises(SizeError, match="tensor 'a' has an axis of m - 10 = -1"):
        check_sizes(graph, {"m": np.array([10, 9])})


def test_an_op_may_write_state_but_no_weight():
    state = with_tensor("out", Tensor((symbol("m"), 3), "bf16", "state"))
    assert check_graph(state) is state

    weight = with_tensor("out", Tensor((symbol("m"), 3), "bf16", "weight"))
    with pytest.raises(GraphError, match="role 'weight'"):
        check_graph(weight)


def test_ops_out_of_order_are_refused():
    first = Op("copy", ("out2",), ("out3",), "late", "Copy", {"function": "copy"})
    second = Op("copy", ("out",), ("out2",), "early", "Copy", {"function": "copy"})
    more = {name: LEGAL.tensors["out"] for name in ("out2", "out3")}
    graph = replace_graph(LEGAL, ops=(OP, first, second), tensors={**LEGAL.tensors, **more})

    with pytest.raises(GraphError, match="before it is made"):
        check_graph(graph)
