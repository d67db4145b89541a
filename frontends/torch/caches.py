"""Which inputs are KV caches: those that attention reads behind new rows."""

from __future__ import annotations

from dataclasses import replace

from wattir.ir import GraphBuilder, Op

_THROUGH = ("view", "copy", "scatter")


def mark_states(builder: GraphBuilder) -> None:
    """Gives the role ``state`` to inputs that are joined with new rows and then read as keys or values, and to the
    joined tensors."""
    producers = {name: op for op in builder.ops for name in op.outs}
    for op in builder.ops:
        operands = op.ins[1:3] if op.kind == "attention" else op.ins[1:2] if _is_batched(op) else ()
        for name in operands:
            for found in _cache_behind(builder, producers, name):
                builder.tensors[found] = replace(builder.tensors[found], role="state")


def _is_batched(op: Op) -> bool:
    return op.kind == "matmul" and op.attrs["groups"] != 1


def _cache_behind(builder: GraphBuilder, producers: dict[str, Op], name: str) -> tuple[str, ...]:
    """The joined tensor and the input that it starts with, or nothing."""
    made = producers.get(name)
    while made is not None and made.kind in _THROUGH and made.ins:
        first = made.ins[0]
        joins = made.kind == "scatter" or (made.attrs["function"] == "concat" and len(made.ins) == 2)
        if joins and builder.tensors[first].role in ("input", "state"):
            return (made.outs[0], first)
        made = producers.get(first)
    return ()
