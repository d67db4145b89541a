"""Biases in eager: one kernel with a product, one of its own after a convolution."""

from __future__ import annotations

from wattir.graph_check import check_graph
from wattir.ir import Graph, GraphBuilder
from wattir.passes import lower_to_kernels


def product(bias_role: str = "weight", keep: bool = False) -> Graph:
    """A product by a weight and the addition of a vector; the bare product is an output too if `keep`."""
    g = GraphBuilder("linear")
    g.tensor("x", (8, 64), "bf16", "input")
    g.tensor("w", (64, 32), "bf16", "weight")
    g.tensor("b", (32,), "bf16", bias_role)
    g.tensor("h", (8, 32), "bf16")
    g.tensor("y", (8, 32), "bf16")
    g.op("matmul", ("x", "w"), ("h",), name="fc", source="MatMul", groups=1, m=8, n=32, k=64)
    g.op("pointwise", ("h", "b"), ("y",), name="fc.bias", source="Add", function="add", ops=1)
    inputs = ("x", "b") if bias_role == "input" else ("x",)
    return g.finish(inputs, ("y", "h") if keep else ("y",))


def convolution(*, bias: bool) -> Graph:
    g = GraphBuilder("conv")
    g.tensor("x", (1, 3, 8, 8), "fp32", "input")
    g.tensor("w", (4, 3, 3, 3), "fp32", "weight")
    g.tensor("b", (4,), "fp32", "weight")
    g.tensor("y", (1, 4, 8, 8), "fp32")
    g.op(
        "conv", ("x", "w", "b") if bias else ("x", "w"), ("y",), name="c", source="Conv", batch=1, c_in=3, c_out=4,
        groups=1, kernel=(3, 3), in_spatial=(8, 8), out_spatial=(8, 8), transposed=False,
    )  # fmt: skip
    return g.finish(("x",), ("y",))


def eager(graph: Graph) -> list[tuple[str, tuple[str, ...]]]:
    return [(op.kind, op.ins) for op in check_graph(lower_to_kernels(graph, "eager")).ops]


def test_a_bias_joins_its_product():
    assert eager(product()) == [("matmul", ("x", "w", "b"))]


def test_what_is_no_bias_stays_an_op():
    assert [kind for kind, _ in eager(product("input"))] == ["matmul", "pointwise"]
    assert [kind for kind, _ in eager(product(keep=True))] == ["matmul", "pointwise"]


def test_a_convolution_adds_its_bias_afterwards():
    (conv, _), (add, reads) = eager(convolution(bias=True))
    assert (conv, add) == ("conv", "pointwise") and reads[1] == "b"
    assert [kind for kind, _ in eager(convolution(bias=False))] == ["conv"]
