"""Causal masks that a model computes itself: whose they are, and where they are laid over scores.

Positions count up along one axis (`Range`); compared with positions along the other axis, they make a triangle, and so
does `Trilu` of constants. Whatever is made of a triangle and other masks is one. The op that brings it together with
scores says so in its function (``triangle_add``), by which the pass for attention knows that it is causal; an attention
op that gets it as its mask is causal at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wattir.dims import Size
from wattir.frontends.onnx.node import Node, Value

_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_SAME_COUNT = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Cast", "CastLike", "Expand")
_SHIFTED = ("Add", "Sub")


@dataclass(slots=True)
class Triangles:
    """Tensors that count up along their only long axis, and causal masks."""

    counting: dict[str, None] = field(default_factory=dict)
    masks: dict[str, None] = field(default_factory=dict)

    def follow(self, node: Node) -> None:
        """What the result of a lowered node is, in these terms."""
        result = node.results[0] if node.results else None
        if result is None or node.domain != "" or result.items is not None:
            return
        ins = [value for value in node.ins if value is not None]
        if self._counts(node, ins):
            self.counting[result.name] = None
        elif self._begins(node, ins):
            self.masks[result.name] = None
        elif any(value.name in self.masks for value in ins):
            self._continue(node, ins, result)

    def _counts(self, node: Node, ins: list[Value]) -> bool:
        if node.op == "Range":
            return True
        if node.op in _SHIFTED:
            return sum(v.name in self.counting for v in ins) == 1 and all(
                v.name in self.counting or v.elements == 1 for v in ins
            )
        return node.op in _SAME_COUNT and bool(ins) and ins[0].name in self.counting

    def _begins(self, node: Node, ins: list[Value]) -> bool:
        if node.op == "Trilu":
            return bool(ins) and ins[0].fixed
        if node.op not in _COMPARISONS or len(ins) != 2 or any(v.name not in self.counting for v in ins):
            return False
        return {_long_axis(v.shape) for v in ins} == {-2, -1}

    def _continue(self, node: Node, ins: list[Value], result: Value) -> None:
        if all(value.name in self.masks or value.fixed or value.dtype == "bool" for value in ins):
            self.masks[result.name] = None
        elif node.builder.ops and result.name in node.builder.ops[-1].outs:
            _say_so(node)


def _long_axis(shape: tuple[Size, ...]) -> int | None:
    """-2 or -1 where only that one of all axes can be longer than 1 within the last two."""
    rows, columns = (1, 1, *shape)[-2:]
    if (rows == 1) == (columns == 1):
        return None
    return -1 if rows == 1 else -2


def _say_so(node: Node) -> None:
    op = node.builder.ops[-1]
    if op.kind == "pointwise":
        node.builder.ops[-1] = replace(op, attrs={**op.attrs, "function": f"triangle_{op.attrs['function']}"})
    elif op.kind == "attention":
        node.builder.ops[-1] = replace(op, attrs={**op.attrs, "causal": True})
