"""What goes round a loop, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from wattir.dims import Dim, Size, ceildiv, maximum
from wattir.frontends.jax.node import Value
from wattir.frontends.jax.program import Program
from wattir.ir import Op


def varying(program: Program, value: Value, scope: str, times: Size) -> Value:
    """A carried value as the body sees it: no constant, though its start may be one."""
    if not value.fixed:
        return replace(value, data=None, ramp=None, triangle=False)
    if value.shape == () and value.free:  # a counter: what is made of it costs nothing either
        return replace(value, data=None)
    label = f"{scope}.start" if scope else "start"
    name = program.builder.tensor(label, value.shape, value.dtype)
    ins = () if value.free else (value.name,)
    op = Op("copy", ins, (name,), program.unique(label), "copy", {"function": "fill"}, times)
    program.builder.ops.append(op)
    return Value(name, value.shape, value.dtype)


TRIPS: dict[str, Callable[[Any, Any, int], Size]] = {
    "lt": lambda start, end, step: ceildiv(end - start, step),
    "le": lambda start, end, step: (end - start) // step + 1,
    "gt": lambda start, end, step: ceildiv(start - end, -step),
    "ge": lambda start, end, step: (start - end) // -step + 1,
    "ne": lambda start, end, step: ceildiv(end - start, step),
}


def trips_of(test: str, start: Any, end: Any, step: int) -> Size | None:
    """How often a counter is moved before the comparison fails; None where start or end are not known."""
    if not isinstance(start, (int, Dim)) or not isinstance(end, (int, Dim)) or step == 0:
        return None
    if (step > 0) != (test in ("lt", "le", "ne")):
        return None
    return maximum(TRIPS[test](start, end, step), 0)
