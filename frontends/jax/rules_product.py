"""Contractions: dot_general, ragged_dot, conv_general_dilated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from wattir.dims import Size, exact_div, product
from wattir.frontends.jax.node import Node, Value, rule
from wattir.ir import Op
from wattir.kinds import FLOATS

PARAMETER = frozenset({"kernel", "weight", "w", "embedding", "scale"})
"""Last words of a parameter's path that name it within its layer."""


@rule("dot_general", "scaled_dot")
def dot_general(node: Node) -> None:
    """`groups` are the batch axes, k the contracted ones, m and n what is left of either side."""
    (left_k, right_k), (left_batch, right_batch) = node.params["dimension_numbers"]
    a, b = node.ins[:2]
    groups, k = _sizes(a, left_batch), _sizes(a, left_k)
    m, n = _rest(a, (*left_k, *left_batch)), _rest(b, (*right_k, *right_batch))
    if a.dealt or b.dealt:
        _emit_dealt(node, a, b, groups, m, n, k)
        return
    if a.fixed and not b.fixed:  # the parameter is the second operand, as everywhere
        a, b, m, n = b, a, n, m
    emit_product(node, a, b, node.ins[2:], groups=groups, m=m, n=n, k=k)


def _emit_dealt(node: Node, a: Value, b: Value, groups: Size, m: Size, n: Size, k: Size) -> None:
    """`jax.lax.ragged_dot` as JAX writes it out for a CPU: of a row's products those of its own group count.

    With the weights' groups among the contracted axes, or (for their gradient) as a batch axis.
    """
    count = next(value.dealt[1] for value in (a, b) if value.dealt)
    rest = exact_div(k, count)
    groups, k = (groups // count, k) if rest is None else (groups, rest)
    if a.dealt and not b.dealt and (each := exact_div(m, count)) is not None:
        groups, m = groups * count, each
    a, b = (replace(v, **_whole(node, v.dealt[0])) if v.dealt else v for v in (a, b))
    emit_product(node, a, b, groups=groups, m=m, n=n, k=k)


def _whole(node: Node, name: str) -> dict[str, Any]:
    return {"name": name, "shape": node.builder.tensors[name].shape}


@rule("scaled_matmul", "scaled_matmul_wrapper")
def scaled_matmul(node: Node) -> None:
    """[b, m, k] by [b, n, k], with a scale for each block of k of either."""
    (batch, m, k), n = node.ins[0].shape, node.ins[1].shape[1]
    emit_product(node, node.ins[0], node.ins[1], node.ins[2:], groups=batch, m=m, n=n, k=k)


def emit_product(node: Node, a: Value, b: Value, more: Iterable[Value] = (), **sizes: Any) -> None:
    """The op, named after the module its parameter is in; repeated operands are written out for it."""
    ins = (_written_out(node, a), _written_out(node, b), *more)
    attrs: dict[str, Any] = {} if a.dtype in FLOATS or b.dtype in FLOATS or a.dtype[:3] == "com" else {"math": "int8"}
    node.emit("matmul", ins=ins, name=title(node, b), **sizes, **attrs)


def title(node: Node, weight: Value) -> str:
    """The path of the layer: its scope, with the name of its parameter where the scope does not end in it."""
    words = _words(node, weight)
    if node.scope:
        last = words[-1:] if words and node.scope.rpartition(".")[2] not in words else []
        return str(node.context.unique(".".join([node.scope, *last])))
    return str(node.context.unique(".".join(words))) if words else node.unique_label()


def _words(node: Node, weight: Value) -> list[str]:
    """The path of a parameter's layer."""
    roots = node.context.program.roots.get(weight.name, ()) if weight.fixed and not weight.free else ()
    words = roots[0].removesuffix("[]").split(".") if roots else []
    if words and words[-1] in PARAMETER:
        words.pop()
    return words[1:] if len(words) > 1 and words[0] in ("params", "weights", "variables") else words


def _sizes(value: Value, axes: Iterable[int]) -> Size:
    return product(value.shape[int(axis)] for axis in axes)


def _rest(value: Value, axes: Iterable[int]) -> Size:
    gone = {int(axis) for axis in axes}
    return product(size for axis, size in enumerate(value.shape) if axis not in gone)


def _written_out(node: Node, value: Value) -> Value:
    """A product reads whole operands: what was only repeated for it (grouped keys) is copied first."""
    if value.fixed:
        return value
    held = node.builder.tensors[value.name].elements
    if held == value.elements:
        return value
    ratio = exact_div(value.elements, held)
    if ratio is None or (isinstance(ratio, int) and ratio <= 1):
        return value
    name = node.builder.tensor(f"{value.name}.repeated", value.shape, value.dtype)
    op = Op("copy", (value.name,), (name,), node.unique_label(), "broadcast_in_dim", {"function": "expand"}, node.times)
    node.builder.ops.append(op)
    return replace(value, name=name)


@rule("ragged_dot", "ragged_dot_general")
def ragged_dot(node: Node) -> None:
    """Rows [m, k] in groups of unequal lengths, each with its own [k, n]: every row is multiplied once.

    The row counts of the groups are data; their sum is the rows there are, so that m n k holds whatever they are.
    """
    a, b = node.ins[:2]
    numbers = node.params.get("ragged_dot_dimension_numbers")
    if numbers is None:
        left_k, right_k, batch, experts = (1,), (1,), (), (0,)
    else:
        (left_k, right_k), (batch, _) = numbers.dot_dimension_numbers
        experts = numbers.rhs_group_dimensions
    k, groups = _sizes(a, left_k), _sizes(a, batch)
    m = _rest(a, (*left_k, *batch))
    n = _rest(b, (*right_k, *experts, *(numbers.dot_dimension_numbers[1][1] if numbers is not None else ())))
    each = exact_div(m, _sizes(b, experts))
    if each is not None:
        groups, m = groups * _sizes(b, experts), each
    emit_product(node, a, b, node.ins[2:], groups=groups, m=m, n=n, k=k)


@rule("conv_general_dilated")
def conv(node: Node) -> None:
    """Any layout: `dimension_numbers` say where batch, features and space are. Dilated inputs: a transposed one."""
    p = node.params
    left, right, out = p["dimension_numbers"]
    x, weight = node.ins[:2]
    shape = node.outs[0][0]
    groups = int(p.get("feature_group_count", 1))
    emit_conv(
        node, x, weight,
        batch=shape[out[0]], c_in=weight.shape[right[1]] * groups, c_out=weight.shape[right[0]], groups=groups,
        kernel=tuple(weight.shape[axis] for axis in right[2:]),
        in_spatial=tuple(x.shape[axis] for axis in left[2:]),
        out_spatial=tuple(shape[axis] for axis in out[2:]),
    )  # fmt: skip


def emit_conv(node: Node, x: Value, weight: Value, **sizes: Any) -> None:
    dilation, strides = node.params.get("lhs_dilation") or (), node.params.get("window_strides") or ()
    transposed = any(step != 1 for step in dilation) and all(step == 1 for step in strides)
    if transposed:
        sizes["transposed"] = True
    if not sizes["kernel"]:  # no axis to slide over: a product
        m, n, k = sizes["batch"], sizes["c_out"] // sizes["groups"], sizes["c_in"] // sizes["groups"]
        emit_product(node, x, weight, groups=sizes["groups"], m=m, n=n, k=k)
        return
    node.emit("conv", ins=(_written_out(node, x), weight), name=title(node, weight), **sizes)
