"""Sizes that depend on data: what bounds them."""

from __future__ import annotations

from wattir.dims import Size, product

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


def bound_warning(target: str) -> str:
    """The line that says so in a report."""
    return f"how much {target.split('.')[1]} gives depends on data; bounded by its maximum"
