"""The attention op and its cache, as the plain, fused and quantized rules emit them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from wattir.dims import Size
from wattir.frontends.onnx.node import Node, Value


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of one attention: lengths q and kv, head sizes d (of k) and dv (of v); the attributes of the kind."""

    batch: Size
    heads: Size
    kv_heads: Size
    q: Size
    kv: Size
    d: Size
    dv: Size
    causal: bool = False
    window: Size = 0


def attend(
    node: Node, sizes: Heads, qkv: tuple[Value, ...], out: Value, masks: tuple[Value | None, ...] = (), **more: Any
) -> None:
    """Emits the op; `qkv` may be fewer than three values where a runtime reads them packed."""
    attrs = {name: getattr(sizes, name) for name in Heads.__slots__ if name != "window"}
    if sizes.window != 0:
        attrs["window"] = sizes.window
    node.emit("attention", ins=(*qkv, *masks), outs=(out,), **attrs, **more)


def append(node: Node, past: Value | None, new: Value, present: Value, updates: Size) -> None:
    """`present` is the cache `past` with `updates` elements of `new` behind it, or those alone without a cache."""
    if past is None:
        node.emit("copy", ins=(new,), outs=(present,), function="cache")
        return
    mark_state(node, past)
    tensors = node.builder.tensors
    if tensors[past.name].role == "state" and not present.fixed:
        tensors[present.name] = replace(tensors[present.name], role="state")
    node.emit("scatter", ins=(past, new), outs=(present,), function="cache_append", updates=updates)


def mark_state(node: Node, *values: Value | None) -> None:
    """Says of those that are inputs of the model that they are kept between calls: caches, recurrent states."""
    for value in values:
        if value is not None and node.builder.tensors[value.name].role == "input":
            node.builder.tensors[value.name] = replace(node.builder.tensors[value.name], role="state")


def optional(node: Node, index: int) -> Value | None:
    """Input `index`, or None where it is absent."""
    return node.ins[index] if node.given(index) else None


def rotary(node: Node, x: Value, out: Value, tables: tuple[Value | None, ...] = ()) -> None:
    """Rotates pairs by the angle of their position: 2 products and 1 sum for each element."""
    node.emit("pointwise", ins=(x, *tables), outs=(out,), function="rotary", ops=3)


def scores_shape(sizes: Heads) -> tuple[Size, ...]:
    """Shape of q k^T where a node also gives that out."""
    return (sizes.batch, sizes.heads, sizes.q, sizes.kv)
