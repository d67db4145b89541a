"""Sizes that depend on the data: as the file declares them, else a free dim of the node that the caller gives."""

from __future__ import annotations

from wattir.dims import Size, symbol
from wattir.frontends.onnx.broadcast import Shape
from wattir.frontends.onnx.node import Node, Value

MAX_RANK = 64


def declared(node: Node, index: int = 0) -> Shape | None:
    """The shape that the file itself gives for output `index`; None where it gives none."""
    hint = getattr(node.context, "hint", None)
    found = hint(node.out_names[index]) if hint is not None and node.wanted(index) else None
    return None if found is None else tuple(found[0])


def rank_of(node: Node, numbers: Value, otherwise: int) -> int:
    """How many axes there are where `numbers` holds one number for each; `otherwise` where even that is open."""
    count = numbers.elements
    if not isinstance(count, int):
        return otherwise
    if count > MAX_RANK:
        node.fail(f"{count} numbers for as many axes", f"at most {MAX_RANK}")
    return count


def free_size(node: Node, what: str) -> Size:
    """A free dim for a size that nothing in the file fixes; a warning says how to give it."""
    size = symbol(f"{node.label}.{what}")
    node.warn(f"{what} depends on data; give it with --set {size}=N")
    return size
