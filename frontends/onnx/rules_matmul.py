"""MatMul, Gemm and Einsum."""

from __future__ import annotations

from wattir.dims import product
from wattir.einsum import plan
from wattir.frontends.onnx.broadcast import text
from wattir.frontends.onnx.node import Node, rule
from wattir.frontends.onnx.products import matmul_sizes, swapped


@rule("MatMul")
def matmul(node: Node) -> None:
    a, b = node.value(0), node.value(1)
    shape, sizes = matmul_sizes(node, a.shape, b.shape)
    node.result(shape)
    node.emit("matmul", **sizes)


@rule("Gemm")
def gemm(node: Node) -> None:
    """Old files give `a` more than two axes; the first then counts the rows."""
    a, b = node.value(0), node.value(1)
    rows, depth = swapped((a.shape[0], product(a.shape[1:])), node.attr("transA", 0))
    columns = swapped(b.shape, node.attr("transB", 0))[-1]
    node.result((rows, columns))
    node.emit("matmul", groups=1, m=rows, n=columns, k=depth)


@rule("Einsum")
def einsum(node: Node) -> None:
    """As `wattir.einsum.plan` says; the last of its steps makes the output."""
    values = [node.value(index) for index in range(len(node.ins))]
    steps = plan(text(node.attr("equation", "")), [value.shape for value in values])
    result = node.result(steps[-1].shape)
    for step in steps:
        made = result if step is steps[-1] else node.inner(f"{step.kind}_{step.letters}", step.shape, result.dtype)
        node.emit(step.kind, ins=tuple(values[place] for place in step.operands), outs=(made,), **step.attrs)
        values.append(made)
