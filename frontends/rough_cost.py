"""What ops cost, roughly: enough to tell which of two branches is the dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wattir.dims import Size, evaluate, product
from wattir.ir import Op, Tensor

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
    return sum(_cost(op, tensors, sizes) for op in ops)


def _cost(op: Op, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> float:
    if op.kind == "view":
        return 0.0
    try:
        moved = sum(float(evaluate(tensors[name].bytes, sizes)) for name in (*op.ins, *op.outs))
        return float(evaluate(op.times, sizes)) * (moved + float(evaluate(_flop(op), sizes)))
    except ArithmeticError:  # a formula that divides by zero at the typical size
        return 0.0


def _flop(op: Op) -> Size:
    found: Size = 0
    a = op.attrs
    if op.kind == "matmul":
        found = 2 * product((a["groups"], a["m"], a["n"], a["k"]))
    if op.kind == "conv":
        sides = a["in_spatial"] if a.get("transposed") else a["out_spatial"]
        found = 2 * product((a["batch"], *sides, *a["kernel"], a["c_out"], a["c_in"])) // a["groups"]
    if op.kind == "attention":
        found = 2 * product((a["batch"], a["heads"], a["q"], a["kv"], a["d"] + a["dv"]))
    if op.kind == "recurrent":
        gates = {"lstm": 4, "gru": 3}.get(a["function"], 1)
        steps = product((a["steps"], a["batch"], a["directions"]))
        found = 2 * gates * steps * a["hidden"] * (a["input"] + a["hidden"])
    return found
