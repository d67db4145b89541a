"""What an attention mask that the model computes itself says: causal, and how many keys a query sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from wattir.ir import GraphBuilder, Op

if TYPE_CHECKING:
    from wattir.frontends.torch.lowering import Lowering

_ORDER = ("less", "less_equal", "greater", "greater_equal")
_THROUGH = ("pointwise", "copy", "view", "gather", "scatter", "reduction")


@dataclass(frozen=True, slots=True)
class Pattern:
    """`window`: keys that one query sees at most, 0 for all."""

    causal: bool = False
    window: int = 0


def mask_pattern(lowering: Lowering, name: str) -> Pattern:
    """Follows a mask back to the comparison of positions, or the triangle, that makes it."""
    known = _KNOWN.setdefault(lowering, {})
    if name not in known:
        known[name] = _pattern(lowering, name)
    return known[name]


_KNOWN: WeakKeyDictionary[Lowering, dict[str, Pattern]] = WeakKeyDictionary()


def _pattern(lowering: Lowering, name: str) -> Pattern:
    builder = lowering.builder
    producers = {out: op for op in builder.ops for out in op.outs}
    ancestors = _ancestors(producers, name)
    compared = [op for op in ancestors if _compares_positions(builder, producers, op)]
    windows = [w for op in compared for side in op.ins if (w := _window(lowering, producers, side)) > 1]
    causal = bool(compared) or any(_is_triangle(op) for op in ancestors)
    return Pattern(causal, min(windows, default=0))


def _window(lowering: Lowering, producers: dict[str, Op], name: str) -> int:
    """w where one side of a comparison is positions less w, directly or through views and gathers; else 0."""
    while name not in lowering.offsets:
        made = producers.get(name)
        if made is None or made.kind not in ("view", "copy", "gather") or not made.ins:
            return 0
        name = made.ins[0]
    return lowering.offsets[name]


def _ancestors(producers: dict[str, Op], name: str) -> list[Op]:
    found: dict[int, Op] = {}
    stack = [name]
    while stack:
        op = producers.get(stack.pop())
        if op is None or id(op) in found or op.kind not in _THROUGH:
            continue
        found[id(op)] = op
        stack += op.ins
    return list(found.values())


def _is_triangle(op: Op) -> bool:
    return str(op.attrs.get("function", "")) in ("tril", "triu")


def _compares_positions(builder: GraphBuilder, producers: dict[str, Op], op: Op) -> bool:
    """Whether integers that count up along rows are compared with such along columns."""
    if op.attrs.get("function") not in _ORDER or len(op.ins) != 2:
        return False
    tensors = [builder.tensors[name] for name in op.ins]
    if any(not t.dtype.startswith("int") or not t.shape for t in tensors):
        return False
    across = {tuple(axis for axis, size in enumerate(t.shape[-2:]) if size != 1) for t in tensors}
    return len(across) == 2 and all(_counts(producers, name) for name in op.ins)


def _counts(producers: dict[str, Op], name: str) -> bool:
    return any(op.attrs.get("function") == "arange" for op in _ancestors(producers, name))
