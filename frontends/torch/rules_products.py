"""Matrix products in all spellings."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, product
from wattir.frontends.torch.node import Node, Value, rule


def emit_product(
    node: Node, a: Value, b: Value, sizes: tuple[Size, Size, Size, Size], *added: Value | None, **more: Any
) -> None:
    """`sizes`: groups, m, n, k; `added`: what is added to the result."""
    groups, m, n, k = sizes
    node.emit("matmul", ins=(a, b, *added), groups=groups, m=m, n=n, k=k, **more)


@rule("linear", "_linear", "mkldnn_linear", "fbgemm_linear_fp16_weight", "fbgemm_linear_fp16_weight_fp32_activation")
def linear(node: Node) -> None:
    """x [.., k] by weight [n, k]."""
    x, weight = node.tensor(0), node.tensor(1, "weight")
    n: Size = weight.shape[0] if weight.rank > 1 else 1
    emit_product(node, x, weight, (1, product(x.shape[:-1]), n, x.shape[-1]), node.value(2, "bias"))


@rule("_linear_pointwise", space="mkldnn")
def linear_pointwise(node: Node) -> None:
    linear(node)


@rule("addmm", "_addmm_activation", "sspaddmm", "_sparse_addmm")
def addmm(node: Node) -> None:
    a, b = node.tensor(1, "mat1"), node.tensor(2, "mat2")
    emit_product(node, a, b, (1, a.shape[0], b.shape[1], a.shape[1]), node.tensor(0))


@rule("addmv")
def addmv(node: Node) -> None:
    a = node.tensor(1, "mat")
    emit_product(node, a, node.tensor(2, "vec"), (1, a.shape[0], 1, a.shape[1]), node.tensor(0))


@rule("addr")
def addr(node: Node) -> None:
    node.pointwise("addr", 2)


@rule("baddbmm")
def baddbmm(node: Node) -> None:
    a, b = node.tensor(1, "batch1"), node.tensor(2, "batch2")
    added = node.tensor(0) if node.arg(3, "beta", node.call.kwargs.get("beta", 1)) != 0 else None
    emit_product(node, a, b, (a.shape[0], a.shape[1], b.shape[2], a.shape[2]), added)


@rule("addbmm")
def addbmm(node: Node) -> None:
    """Sums over the batch: one product that is as deep as all of them."""
    a, b = node.tensor(1, "batch1"), node.tensor(2, "batch2")
    emit_product(node, a, b, (1, a.shape[1], b.shape[2], a.shape[0] * a.shape[2]), node.tensor(0))


@rule("mm", "bmm", "matmul", "mv", "dot", "vdot", "linalg_matmul", "__matmul__", "smm", "_sparse_mm", "hspmm")
def matmul(node: Node) -> None:
    """Batches broadcast; one that only `a` has counts as rows where `b` is a single matrix."""
    a, b = node.tensor(0), node.tensor(1)
    emit_product(node, a, b, product_sizes(a.shape, b.shape, node.out.shape))


def product_sizes(a: tuple[Size, ...], b: tuple[Size, ...], out: tuple[Size, ...]) -> tuple[Size, Size, Size, Size]:
    """groups, m, n, k of ``a @ b`` with the shape of its result."""
    k = a[-1]
    m: Size = a[-2] if len(a) > 1 else 1
    n: Size = b[-1] if len(b) > 1 else 1
    if len(b) <= 2 or all(size == 1 for size in b[:-2]):
        return 1, product(a[:-1]), n, k
    batch = out[: len(out) - (len(a) > 1) - (len(b) > 1)]
    return product(batch), m, n, k


@rule("inner", "tensordot")
def tensordot(node: Node) -> None:
    a, b = node.tensor(0), node.tensor(1)
    axes = node.places(2, "dims_self", a.rank) if node.op == "tensordot" else [a.rank - 1]
    k = product(a.shape[axis] for axis in axes)
    emit_product(node, a, b, (1, a.elements // k, b.elements // k, k))


@rule("linalg_multi_dot", "chain_matmul")
def multi_dot(node: Node) -> None:
    """From left to right; the cheapest order may be less."""
    left, *others = node.tensors(0, "tensors")
    rows = left.shape[0] if left.rank > 1 else 1
    for place, right in enumerate(others):
        n = right.shape[1] if right.rank > 1 else 1
        last = place == len(others) - 1
        made = node.out if last else node.inner(f"product_{place}", (rows, n), left.dtype)
        node.emit("matmul", ins=(left, right), outs=(made,), groups=1, m=rows, n=n, k=right.shape[0])
        if not last:
            left = made  # type: ignore[assignment]


@rule("bilinear")
def bilinear(node: Node) -> None:
    """x1 [.., a], weight [n, a, b], x2 [.., b]: the product with the weight, then one with x2 for each row."""
    x1, x2, weight = node.tensor(0), node.tensor(1), node.tensor(2)
    rows = product(x1.shape[:-1])
    n, a, b = weight.shape
    made = node.inner("left", (rows, n, b), x1.dtype)
    node.emit("matmul", ins=(x1, weight), outs=(made,), groups=1, m=rows, n=n * b, k=a)
    node.emit("matmul", ins=(made, x2, node.value(3)), groups=rows, m=n, n=1, k=b)


@rule("_trilinear")
def trilinear(node: Node) -> None:
    """What `bilinear` becomes: the sum over two axes of the product of three."""
    x1, weight, x2 = node.tensor(0), node.tensor(1), node.tensor(2)
    n, a, b = weight.shape[-3:]
    rows = x1.elements // a
    made = node.inner("left", (rows, n, b), x1.dtype)
    node.emit("matmul", ins=(x1, weight), outs=(made,), groups=1, m=rows, n=n * b, k=a)
    node.emit("matmul", ins=(made, x2), groups=rows, m=n, n=1, k=b)


@rule("cdist", "_cdist_forward", "_euclidean_dist")
def cdist(node: Node) -> None:
    """p = 2 through a matrix product, as torch does for more than 25 rows; else pair by pair."""
    a, b = node.tensor(0), node.tensor(1)
    m, n, k = a.shape[-2], b.shape[-2], a.shape[-1]
    if node.arg(2, "p", 2.0) == 2.0:
        emit_product(node, a, b, (product(node.out.shape[:-2]), m, n, k + 2))
    else:
        node.pointwise("cdist", 3 * k)


@rule("matrix_power", "linalg_matrix_power")
def matrix_power(node: Node) -> None:
    x = node.tensor(0)
    times = max(int(node.arg(1, "n", 1)).bit_length(), 1)
    n = x.shape[-1]
    emit_product(node, x, x, (times * product(x.shape[:-2]), n, n, n))
