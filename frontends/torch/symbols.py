"""Symbolic sizes of torch -> Dims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from wattir.dims import Size, symbol
from wattir.frontends.torch.formulas import Unreadable
from wattir.frontends.torch.formulas import size_of as size_of_text

Names: TypeAlias = Mapping[str, str | Size]
"""Symbol of torch -> name of the free dim, or the size that bounds it."""

_read: dict[tuple[str, tuple[tuple[str, str | Size], ...]], Size] = {}


def size_of(size: Any, names: Names) -> Size:
    """A number stays; a `torch.SymInt` becomes a formula in which symbols have their `names`."""
    if isinstance(size, int):
        return size
    key = (str(size.node.expr), tuple(sorted(names.items())))
    if key not in _read:
        _read[key] = _formula(size, key[0], names)
    return _read[key]


def _formula(size: Any, text: str, names: Names) -> Size:
    try:
        return size_of_text(text, {old: symbol(new) if isinstance(new, str) else new for old, new in names.items()})
    except Unreadable:
        if size.node.hint is None:
            raise
        return int(size.node.hint)
