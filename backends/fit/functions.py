"""Functions of one element in the fits' rows."""

from __future__ import annotations

from wattir import layers
from wattir.ir import Graph
from wattir.kinds import FUNCTIONS


def function_graph(name: str, elements: int, dtype: str, operands: int = 1) -> Graph:
    """A function of the elements of `operands` arrays; one that is not known has one operation."""
    ops, special = FUNCTIONS.get(name, (1, 0))
    return layers.pointwise(elements, dtype, operands=operands, ops=ops, special=special)
