"""scan, while, cond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jax.extend import core

from wattir.dims import Size
from wattir.frontends.jax.branches import one_branch
from wattir.frontends.jax.carry import Loop, counted, varying
from wattir.frontends.jax.jaxpr import CONTROL, Walker, called_program
from wattir.frontends.jax.node import Value
from wattir.frontends.jax.sizes import size_of
from wattir.frontends.jax.stablehlo import call_exported
from wattir.ir import Op


def scan(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """The body, `length` times: carried values are made again each time, the others come and go slice by slice."""
    p = eqn.params
    consts, carried = p["num_consts"], p["num_consts"] + p["num_carry"]
    body, length = p["jaxpr"], size_of(p["length"])
    trips = times * length
    slices = [
        _slice(walker, v, var, scope, trips) for v, var in zip(ins[carried:], body.jaxpr.invars[carried:], strict=True)
    ]
    carry = enter(walker, body.jaxpr, consts, ins[consts:carried], scope, times)
    start = len(walker.builder.ops)
    results = walker.closed(body, [*ins[:consts], *carry, *slices], scope, trips)
    outs = eqn.outvars[p["num_carry"] :]
    stacked = [_stack(walker, v, var, scope, trips) for v, var in zip(results[p["num_carry"] :], outs, strict=True)]
    return walker.program.carry(start, carry, results[: p["num_carry"]]) + stacked


def enter(walker: Walker, body: Any, first: int, values: Sequence[Value], scope: str, times: Size) -> list[Value]:
    """The carried values as the body sees them: no constants, unless the body hands them on unchanged."""
    return [
        value if body.outvars[place] is body.invars[first + place] else varying(walker.program, value, scope, times)
        for place, value in enumerate(values)
    ]


def _slice(walker: Walker, value: Value, variable: Any, scope: str, trips: Size) -> Value:
    """One trip's part; of parameters and inputs it is read in place, of what was computed it is a view."""
    shape, dtype = walker.declared(variable.aval)
    if value.free:
        return replace(value, shape=shape, data=None, ramp=None)
    if walker.program.role(value) != "value":
        return walker.program.part(value, shape)
    label = f"{scope}.slice" if scope else "slice"
    name = walker.builder.tensor(label, shape, dtype)
    op = Op("view", (value.name,), (name,), walker.unique(label), "scan", {"function": "slice"}, trips)
    walker.builder.ops.append(op)
    return Value(name, shape, dtype)


def _stack(walker: Walker, value: Value, variable: Any, scope: str, trips: Size) -> Value:
    """What the trips gave, one after the other; nothing is written where nobody reads it."""
    shape, dtype = walker.declared(variable.aval)
    if value.free:
        return replace(value, shape=shape, data=None)
    if type(variable).__name__ == "DropVar":
        return replace(value, shape=shape)
    label = f"{scope}.stack" if scope else "stack"
    name = walker.builder.tensor(label, shape, dtype, "state" if walker.program.role(value) == "state" else "value")
    attrs = {"function": "stack", "updates": value.elements}
    walker.builder.ops.append(Op("scatter", (value.name,), (name,), walker.unique(label), "scan", attrs, trips))
    return Value(name, shape, dtype)


def while_loop(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """The body as often as a counter says that the condition compares; else as often as the caller says."""
    p = eqn.params
    test, body = p["cond_jaxpr"], p["body_jaxpr"]
    of_test, of_body = p["cond_nconsts"], p["body_nconsts"]
    first = ins[of_test + of_body :]
    label = walker.unique(f"{scope}.while" if scope else "while")
    loop = _as_loop(test.jaxpr, body.jaxpr, ins[: of_test + of_body], of_test, first)
    trips = walker.program.trip_count(label, *counted(loop))
    carry = enter(walker, body.jaxpr, of_body, first, scope, times)
    if trips == 0:
        return list(first)
    start = len(walker.builder.ops)
    walker.closed(test, [*ins[:of_test], *carry], scope, times * trips)
    results = walker.closed(body, [*ins[of_test : of_test + of_body], *carry], scope, times * trips)
    return walker.program.carry(start, carry, results)


class _Definitions:
    """Which equation makes a variable of a jaxpr, seen through calls and through what only renames."""

    def __init__(self, *jaxprs: Any) -> None:
        self.made: dict[Any, Any] = {}
        self.alias: dict[Any, Any] = {}
        self._seen: set[int] = set()
        for jaxpr in jaxprs:
            self._add(jaxpr)

    def _add(self, jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            inner = called_program(eqn.params)
            inner = getattr(inner, "jaxpr", inner)
            if inner is not None and id(inner) not in self._seen:  # a program called twice has its variables once
                self._seen.add(id(inner))
                self.alias.update(zip(inner.invars, eqn.invars, strict=True))
                self._add(inner)
                self.alias.update(zip(eqn.outvars, inner.outvars, strict=True))
            elif eqn.primitive.name in RENAMES:
                self.alias[eqn.outvars[0]] = eqn.invars[0]
            else:
                self.made.update(dict.fromkeys(eqn.outvars, eqn))

    def resolved(self, atom: Any) -> Any:
        while not isinstance(atom, core.Literal) and atom in self.alias:
            atom = self.alias[atom]
        return atom

    def define(self, atom: Any) -> tuple[str, list[Any]] | None:
        atom = self.resolved(atom)
        eqn = None if isinstance(atom, core.Literal) else self.made.get(atom)
        return None if eqn is None else (eqn.primitive.name, [self.resolved(operand) for operand in eqn.invars])


RENAMES = frozenset({"convert_element_type", "reshape", "squeeze", "broadcast_in_dim", "copy", "stop_gradient"})


def _as_loop(test: Any, body: Any, consts: Sequence[Value], of_test: int, first: Sequence[Value]) -> Loop:
    """`consts`: what the condition reads, then what the body reads."""
    definitions = _Definitions(test, body)
    of_body = len(consts) - of_test
    held = dict(zip((*test.invars[:of_test], *body.invars[:of_body]), consts, strict=True))

    def known(atom: Any) -> Any:
        if isinstance(atom, core.Literal):
            return _whole(atom.val)
        return held[atom].data if atom in held else None

    leaving = [definitions.resolved(atom) for atom in body.outvars]
    tested, entering = test.invars[of_test:], body.invars[of_body:]
    return Loop(first, tested, test.outvars[0], entering, leaving, definitions.define, known)


def _whole(value: Any) -> int | None:
    try:
        return int(value) if int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def cond(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """The branch that is known to run, else the dearest."""
    runs = [partial(walker.closed, branch, ins[1:], scope, times) for branch in eqn.params["branches"]]
    return one_branch(walker.program, ins[0].data, runs, scope)


def custom_linear_solve(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """The program that solves, on its own constants and the right-hand sides."""
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    before, constants = lengths.matvec + lengths.vecmat, lengths.solve
    given = [*ins[before : before + constants], *ins[before + constants + lengths.transpose_solve :]]
    return walker.closed(jaxprs.solve, given, scope, times)[: len(eqn.outvars)]


CONTROL.update({
    "scan": scan, "while": while_loop, "cond": cond, "custom_linear_solve": custom_linear_solve,
    "call_exported": call_exported,
})  # fmt: skip
