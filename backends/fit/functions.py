"""Functions of one element in the fits' rows: their operations and special functions, as the frontends count them.

A learned correction tells functions apart by these, so that they must be the same where a model is read.
"""

from __future__ import annotations

from wattir import layers
from wattir.ir import Graph

FUNCTIONS = {
    "relu": (1, 0), "sigmoid": (2, 1), "tanh": (0, 1), "silu": (3, 1), "gelu": (4, 1), "hardswish": (5, 0),
    "exp": (0, 1), "rsqrt": (0, 1), "lerp": (3, 0), "addcmul": (3, 0),
}  # fmt: skip
"""(operations, special functions) of one element; all others have one operation."""


def function_graph(name: str, elements: int, dtype: str, operands: int = 1) -> Graph:
    """A function of the elements of `operands` arrays."""
    ops, special = FUNCTIONS.get(name.removesuffix("_tanh"), (1, 0))
    return layers.pointwise(elements, dtype, operands=operands, ops=ops, special=special)
