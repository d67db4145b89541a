"""What ops cost on no machine in particular: enough for a frontend to tell which of two branches is the dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wattir.costs import tabulate
from wattir.dims import evaluate
from wattir.ir import Graph, Op, Tensor
from wattir.work import Work

TYPICAL = 128
"""What a free size without a default counts as."""


class _Typical(dict[str, int]):
    """Free sizes, each at its default or else at `TYPICAL`."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> int:
        return TYPICAL


def rough_cost(
    ops: Iterable[Op], tensors: Mapping[str, Tensor], defaults: Mapping[str, int | None] | None = None
) -> float:
    """FLOP of contractions plus bytes, with every free size at its default or else at `TYPICAL`."""
    sizes = _Typical({name: size for name, size in (defaults or {}).items() if size})
    return sum(_cost(work, sizes) for work in tabulate(Graph("", tensors, tuple(ops), (), ())))


def _cost(work: Work, sizes: Mapping[str, int]) -> float:
    try:
        return float(evaluate(work.times * (2 * work.macs + work.bytes), sizes))
    except ArithmeticError:  # a formula that divides by zero at the typical size
        return 0.0
