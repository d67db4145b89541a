"""Single layers from their description alone, as graphs of one op: ``wattir.estimate(layers.matmul(...), device=...)``.

Every size may be an int or a formula (`wattir.dims`), so one layer with free names stands for a whole family of shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wattir.dims import Size
from wattir.errors import InputError
from wattir.ir import Graph, GraphBuilder

Shape = tuple[Size, ...]


def matmul(m: Size, n: Size, k: Size, dtype: str = "bf16", *, groups: Size = 1, weight: bool = True) -> Graph:
    """`groups` products of activations [m, k] by [k, n]; the second is a parameter unless `weight` is False."""
    lead = () if groups == 1 else (groups,)
    role = "weight" if weight else "input"
    tensors = {"a": ((*lead, m, k), "input"), "b": ((*lead, k, n), role)}
    return _layer("matmul", dtype, tensors, (*lead, m, n), groups=groups, m=m, n=n, k=k)


def conv(
    batch: Size,
    c_in: Size,
    c_out: Size,
    in_spatial: Shape,
    kernel: Shape,
    dtype: str = "fp16",
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | None = None,
    dilation: int | tuple[int, ...] = 1,
    groups: Size = 1,
    transposed: bool = False,
) -> Graph:
    """A convolution of any rank over [batch, c_in, *in_spatial]; `padding` None keeps the size at stride 1."""
    rank = len(in_spatial)
    if len(kernel) != rank:
        raise InputError(f"conv: kernel {kernel} has {len(kernel)} axes; expected {rank} as in_spatial {in_spatial}")
    strides, dilations = _each(stride, rank), _each(dilation, rank)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [(r - 1) // 2 for r in reach] if padding is None else _each(padding, rank)
    axes = list(zip(in_spatial, reach, strides, pads, strict=True))
    out_spatial = tuple(
        (size - 1) * s - 2 * p + r if transposed else (size + 2 * p - r) // s + 1 for size, r, s, p in axes
    )
    weight = (c_in, c_out // groups, *kernel) if transposed else (c_out, c_in // groups, *kernel)
    tensors = {"x": ((batch, c_in, *in_spatial), "input"), "w": (weight, "weight")}
    return _layer(
        "conv", dtype, tensors, (batch, c_out, *out_spatial), batch=batch, c_in=c_in, c_out=c_out, groups=groups,
        kernel=tuple(kernel), in_spatial=tuple(in_spatial), out_spatial=out_spatial, transposed=transposed,
    )  # fmt: skip


def attention(
    batch: Size,
    heads: Size,
    q: Size,
    kv: Size,
    head_dim: Size,
    dtype: str = "bf16",
    *,
    kv_heads: Size | None = None,
    causal: bool = False,
    window: Size = 0,
    v_dim: Size | None = None,
    cached: bool | None = None,
) -> Graph:
    """softmax(q k^T) v; keys and values come from the KV cache if `cached` (default: where q is 1)."""
    kv_heads = heads if kv_heads is None else kv_heads
    dv = head_dim if v_dim is None else v_dim
    role = "state" if cached or (cached is None and q == 1) else "input"
    tensors = {
        "q": ((batch, heads, q, head_dim), "input"),
        "k": ((batch, kv_heads, kv, head_dim), role),
        "v": ((batch, kv_heads, kv, dv), role),
    }
    return _layer(
        "attention", dtype, tensors, (batch, heads, q, dv), batch=batch, heads=heads, kv_heads=kv_heads, q=q, kv=kv,
        d=head_dim, dv=dv, causal=causal, window=window,
    )  # fmt: skip


def recurrent(
    function: str, steps: Size, batch: Size, input: Size, hidden: Size, dtype: str = "fp32", *, directions: int = 1
) -> Graph:
    """An LSTM, GRU or RNN layer over [steps, batch, input]."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}.get(function)
    if gates is None:
        raise InputError(f"recurrent: function {function!r}; expected lstm, gru or rnn")
    tensors = {
        "x": ((steps, batch, input), "input"),
        "w": ((directions, gates * hidden, input), "weight"),
        "r": ((directions, gates * hidden, hidden), "weight"),
    }
    out = (steps, directions, batch, hidden)
    return _layer(
        "recurrent", dtype, tensors, out, function=function, steps=steps, batch=batch, input=input, hidden=hidden,
        directions=directions,
    )  # fmt: skip


def scan(
    function: str,
    batch: Size,
    steps: Size,
    heads: Size,
    key_dim: Size,
    value_dim: Size,
    ops: Size,
    dtype: str = "bf16",
    *,
    key_heads: Size | None = None,
    chunk: Size | None = None,
    cached: bool | None = None,
) -> Graph:
    """A recurrence over keys, queries [batch, steps, key_heads, key_dim] and values [batch, steps, heads, value_dim].

    Its state of fp32 [batch, heads, key_dim, value_dim] is updated with `ops` operations a number at every step, in
    chunks of so many steps, or step by step. It is read and written if `cached` (default: where there is one step),
    otherwise only written.
    """
    keys = (batch, steps, heads if key_heads is None else key_heads, key_dim)
    passes = 2 if cached or (cached is None and steps == 1) else 1
    tensors = {
        "q": (keys, "input"),
        "k": (keys, "input"),
        "v": ((batch, steps, heads, value_dim), "input"),
        "state": ((passes, batch, heads, key_dim, value_dim), "state"),
    }
    chunked = {} if chunk is None else {"chunk": chunk}
    return _layer(
        "scan", dtype, tensors, (batch, steps, heads, value_dim), function=function, steps=steps,
        elements=batch * heads * key_dim * value_dim, ops=ops, **chunked,
    )  # fmt: skip


def norm(rows: Size, length: Size, dtype: str = "bf16", *, function: str = "layer_norm") -> Graph:
    """A normalization of `rows` rows of `length` elements."""
    tensors = {"x": ((rows, length), "input"), "scale": ((length,), "weight")}
    return _layer("norm", dtype, tensors, (rows, length), function=function, length=length)


def softmax(rows: Size, length: Size, dtype: str = "bf16") -> Graph:
    """A softmax over each of `rows` rows."""
    return _layer("softmax", dtype, {"x": ((rows, length), "input")}, (rows, length), function="softmax", length=length)


def pointwise(
    elements: Size, dtype: str = "bf16", *, function: str = "add", operands: int = 1, ops: int = 1, special: int = 0
) -> Graph:
    """An elementwise function of `operands` arrays."""
    tensors = {f"x{i}": ((elements,), "input") for i in range(operands)}
    return _layer("pointwise", dtype, tensors, (elements,), function=function, ops=ops, special=special)


def reduction(rows: Size, length: Size, dtype: str = "bf16", *, function: str = "sum") -> Graph:
    """Each of `rows` rows of `length` elements becomes one element."""
    return _layer("reduction", dtype, {"x": ((rows, length), "input")}, (rows,), function=function, length=length)


def pooling(in_shape: Shape, out_shape: Shape, window: Size, dtype: str = "fp16", *, function: str = "max") -> Graph:
    """Pooling from one shape to another, `window` inputs to an output."""
    return _layer("pooling", dtype, {"x": (in_shape, "input")}, out_shape, function=function, window=window)


def copy(shape: Shape, dtype: str = "bf16", *, function: str = "transpose") -> Graph:
    """Bytes that move: a transpose, concatenation, slice or cast."""
    return _layer("copy", dtype, {"x": (shape, "input")}, shape, function=function)


def gather(rows: Size, length: Size, indices: Size, dtype: str = "bf16") -> Graph:
    """`indices` rows looked up in a table of `rows` rows of `length` elements (an embedding)."""
    tensors = {"table": ((rows, length), "weight"), "ids": ((indices,), "input")}
    return _layer("gather", dtype, tensors, (indices, length), function="embedding")


def _layer(kind: str, dtype: str, tensors: Mapping[str, tuple[Shape, str]], out: Shape, **attrs: Any) -> Graph:
    builder = GraphBuilder(kind)
    for name, (shape, role) in tensors.items():
        builder.tensor(name, shape, _DTYPE_OF.get(name, dtype), role)
    builder.tensor("out", out, dtype)
    builder.op(kind, tuple(tensors), ("out",), name=kind, source=kind, **attrs)
    inputs = tuple(name for name, (_, role) in tensors.items() if role in ("input", "state"))
    return builder.finish(inputs, ("out",))


_DTYPE_OF = {"ids": "int64", "state": "fp32"}
"""Tensors that are not of the layer's type."""


def _each(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


__all__ = [
    "attention", "conv", "copy", "gather", "matmul", "norm", "pointwise", "pooling", "recurrent", "reduction",
    "scan", "softmax",
]  # fmt: skip
