"""Sizes that depend on data: what bounds them, and what they are on average."""

from __future__ import annotations

import re

from wattir.dims import Dim, Size, ceildiv, product
from wattir.frontends.torch.program import Argument, TensorRef

BOUNDED = frozenset({
    "aten.nonzero", "aten.nonzero_numpy", "aten.argwhere", "aten.where", "aten.masked_select", "aten._unique",
    "aten._unique2", "aten.unique_consecutive", "aten.unique_dim", "torchvision.nms",
})  # fmt: skip
"""Operators whose first input bounds how much they give."""


def most_of(target: str, shape: tuple[Size, ...]) -> Size | None:
    """The most that an operator gives of an input of this shape; None where nothing bounds it."""
    if target.rpartition(".")[0] not in BOUNDED or not shape:
        return None
    return shape[0] if target.startswith("torchvision") else product(shape)


_SPLITS = ("aten.split_with_sizes", "aten.split.sizes")
_OPEN = re.compile(r"u\d+")


def equal_parts(target: str, args: tuple[Argument, ...]) -> dict[str, Size]:
    """Symbol -> size, of the parts of a split whose lengths depend on data (tokens by expert): equal shares."""
    if not target.startswith(_SPLITS) or len(args) < 2 or not isinstance(args[0], TensorRef):
        return {}
    parts, axis = args[1], args[2] if len(args) > 2 else 0
    free = [str(part) for part in parts if isinstance(part, Dim) and _OPEN.fullmatch(str(part))]
    if not free or not isinstance(axis, int) or not -len(args[0].shape) <= axis < len(args[0].shape):
        return {}
    rest = args[0].shape[axis] - sum((part for part in parts if str(part) not in free), start=0)
    return dict.fromkeys(free, ceildiv(rest, len(free)))


def parts_warning(target: str) -> str:
    """The line that says so in a report."""
    return f"how long the parts of {target.split('.')[1]} are depends on data; taken as equal"


def bound_warning(target: str) -> str:
    """The line that says so in a report."""
    return f"how much {target.split('.')[1]} gives depends on data; bounded by its maximum"
