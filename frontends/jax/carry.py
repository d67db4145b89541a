"""What goes round a loop, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wattir.dims import Dim, Size, ceildiv, maximum
from wattir.frontends.jax.node import Value
from wattir.frontends.jax.program import Program
from wattir.ir import Op


def varying(program: Program, value: Value, scope: str, times: Size) -> Value:
    """A carried value as the body sees it: no constant, though its start may be one."""
    if not value.fixed:
        return replace(value, data=None, ramp=None, triangle=False, dealt=None)
    if value.shape == () and value.free:  # a counter: what is made of it costs nothing either
        return replace(value, data=None)
    label = f"{scope}.start" if scope else "start"
    name = program.builder.tensor(label, value.shape, value.dtype)
    ins = () if value.free else (value.name,)
    op = Op("copy", ins, (name,), program.unique(label), "copy", {"function": "fill"}, times)
    program.builder.ops.append(op)
    return Value(name, value.shape, value.dtype)


@dataclass(frozen=True, slots=True)
class Loop:
    """A `while` of either text. An atom is what stands for a value there: a variable, a literal, a number.

    first       the carried values before the loop
    tested      their atoms in the condition, whose result is `result`
    entering    their atoms in the body, which hands on `leaving`
    define      atom -> the primitive that makes it and its operands, or None
    known       atom that is not carried -> its number, or None
    """

    first: Sequence[Value]
    tested: Sequence[Any]
    result: Any
    entering: Sequence[Any]
    leaving: Sequence[Any]
    define: Callable[[Any], tuple[str, Sequence[Any]] | None]
    known: Callable[[Any], Any]


TRIPS: dict[str, Callable[[Any, Any, int], Size]] = {
    "lt": lambda start, end, step: ceildiv(end - start, step),
    "le": lambda start, end, step: (end - start) // step + 1,
    "gt": lambda start, end, step: ceildiv(start - end, -step),
    "ge": lambda start, end, step: (start - end) // -step + 1,
    "ne": lambda start, end, step: ceildiv(end - start, step),
}
MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "ne": "ne"}
NEGATED = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne"}


def trips_of(test: str, start: Any, end: Any, step: int) -> Size | None:
    """How often a counter is moved before the comparison fails; None where start or end are not known."""
    if not isinstance(start, (int, Dim)) or not isinstance(end, (int, Dim)) or step == 0:
        return None
    if (step > 0) != (test in ("lt", "le", "ne")):
        return None
    return maximum(TRIPS[test](start, end, step), 0)


MOST = 1 << 30
"""A limit beyond this only says that there is none."""


def counted(loop: Loop) -> tuple[Size | None, bool]:
    """How often a loop runs that compares a counter, and whether data may end it earlier."""
    for test, a, b, joined in _comparisons(loop):
        for name, counter, limit in ((test, a, b), (MIRRORED[test], b, a)):
            place = _place(loop.tested, counter)
            step = None if place is None else _step(loop, place)
            found = (
                trips_of(name, loop.first[place].data, _limit(loop, limit), step)
                if place is not None and step
                else None
            )
            if found is not None and not (isinstance(found, int) and found > MOST):
                return found, joined
    return None, False


def _comparisons(loop: Loop) -> Iterator[tuple[str, Any, Any, bool]]:
    """The comparisons that hold as long as the loop runs: the condition's own, or (last item) all that it joins."""
    stack = [(loop.result, False, False)]
    while stack:
        atom, negated, joined = stack.pop()
        name, operands = loop.define(atom) or ("", ())
        if name == ("or" if negated else "and"):
            stack += [(operand, negated, True) for operand in reversed(operands)]
        elif name == "not":
            stack.append((operands[0], not negated, joined))
        elif name in ("ne", "eq") and (inner := _compared_with_no(loop, operands)) is not None:
            stack.append((inner, negated != (name == "eq"), joined))
        elif (test := NEGATED.get(name) if negated else name) in TRIPS and len(operands) == 2:
            yield str(test), operands[0], operands[1], joined


def _compared_with_no(loop: Loop, operands: Sequence[Any]) -> Any:
    """``x`` of ``x != false``, by which truth values are converted."""
    no = [loop.known(operand) is False for operand in operands]
    return operands[no.index(False)] if no.count(True) == 1 else None


def _place(atoms: Sequence[Any], wanted: Any) -> int | None:
    return next((place for place, atom in enumerate(atoms) if atom == wanted), None)


def _step(loop: Loop, place: int) -> int | None:
    """By how much the body moves a carried value each time, where that is a number."""
    name, operands = loop.define(loop.leaving[place]) or ("", ())
    if name not in ("add", "sub") or len(operands) != 2:
        return None
    sides = [_place(loop.entering, operand) == place for operand in operands]
    if sides[0] == sides[1] or (name == "sub" and sides[1]):
        return None
    step = loop.known(operands[sides.index(False)])
    return (-step if name == "sub" else step) if isinstance(step, int) else None


def _limit(loop: Loop, atom: Any) -> Any:
    """What a counter is compared with, if the loop does not change it."""
    place = _place(loop.tested, atom)
    if place is None:
        return loop.known(atom)
    return loop.first[place].data if loop.leaving[place] == loop.entering[place] else None
