"""Sizes of matrix products from the shapes of their operands, shared by the plain, quantized and fused rules."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, product
from wattir.errors import SizeError
from wattir.frontends.onnx.broadcast import Shape, broadcast
from wattir.frontends.onnx.node import Node, Value


def matmul_sizes(node: Node, a: Shape, b: Shape) -> tuple[Shape, dict[str, Any]]:
    """The shape of numpy's ``a @ b`` and its groups, m, n, k.

    The leading axes of `a` are rows where `b` is one matrix (a weight); else they are groups.
    """
    if not a or not b:
        node.fail(f"operands with {len(a)} and {len(b)} axes", "at least one axis each")
    rows, columns = (a[-2:-1] or (1,))[0], b[-1] if len(b) > 1 else 1
    depth = a[-1] if isinstance(a[-1], int) else (b[-2] if len(b) > 1 else b[0])
    try:
        lead = broadcast(a[:-2], b[:-2])
    except SizeError as error:
        node.fail(str(error), "leading axes that broadcast")
    shape = lead + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ())
    if product(b[:-2]) == 1:
        return shape, {"groups": 1, "m": product(lead) * rows, "n": columns, "k": depth}
    return shape, {"groups": product(lead), "m": rows, "n": columns, "k": depth}


def swapped(shape: Shape, transposed: Any) -> Shape:
    """`shape` with its last two axes exchanged where `transposed` is true."""
    return (*shape[:-2], shape[-1], shape[-2]) if transposed and len(shape) > 1 else shape


def linear(
    node: Node,
    x: Value,
    weight: Value,
    columns: Size,
    *,
    added: tuple[Value | None, ...] = (),
    out: Value | None = None,
    tag: str = "linear",
    **more: Any,
) -> Value:
    """Emits ``x [.., k] @ weight [k, columns] + added``; gives `out`, or an inner value for the result."""
    made = out or node.inner(tag, (*x.shape[:-1], columns), x.dtype)
    rows = product(x.shape[:-1])
    sizes = {"groups": 1, "m": rows, "n": columns, "k": x.shape[-1]}
    node.emit("matmul", ins=(x, weight, *added), outs=(made,), **sizes, **more)
    return made


def output(node: Node, index: int, shape: Shape, dtype: str, tag: str) -> Value:
    """Output `index` where it is wanted, else an inner value in its place."""
    return node.result(shape, dtype, index=index) if node.wanted(index) else node.inner(tag, shape, dtype)
