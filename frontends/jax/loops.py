"""scan, while, cond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jax.extend import core

from wattir.dims import Size
from wattir.frontends.jax.carry import TRIPS, trips_of, varying
from wattir.frontends.jax.jaxpr import CONTROL, Walker
from wattir.frontends.jax.node import Value
from wattir.frontends.jax.program import rough_cost
from wattir.frontends.jax.sizes import size_of
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
    results = walker.closed(body, [*ins[:consts], *carry, *slices], scope, trips)
    ends = [replace(v, data=None) for v in results[: p["num_carry"]]]
    outs = eqn.outvars[p["num_carry"] :]
    return ends + [_stack(walker, v, var, scope, trips) for v, var in zip(results[p["num_carry"] :], outs, strict=True)]


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
    trips = counted(test.jaxpr, body.jaxpr, of_test, of_body, ins)
    if trips is None:
        trips = walker.program.trip_count(label)
    carry = enter(walker, body.jaxpr, of_body, first, scope, times)
    if trips == 0:
        return list(first)
    walker.closed(test, [*ins[:of_test], *carry], scope, times * trips)
    results = walker.closed(body, [*ins[of_test : of_test + of_body], *carry], scope, times * trips)
    return [replace(value, data=None) for value in results]


def counted(test: Any, body: Any, of_test: int, of_body: int, ins: Sequence[Value]) -> Size | None:
    """How often a loop runs that compares a counter; a condition that also looks at data may only end it earlier."""
    places = {variable: place for place, variable in enumerate(test.invars)}
    for eqn in _comparisons(test):
        counter, limit = eqn.invars
        step_of = _step(body, places.get(counter, -1) - of_test, of_body)
        if step_of is None:
            continue
        start = _known(counter, places, of_test, of_body, ins)
        end = _known(limit, places, of_test, of_body, ins)
        found = trips_of(eqn.primitive.name, start, end, step_of)
        if found is not None:
            return found
    return None


def _comparisons(test: Any) -> list[Any]:
    """The comparisons that the condition's result is, or that all hold in it (joined by `and`)."""
    made = {variable: eqn for eqn in test.eqns for variable in eqn.outvars}
    found, stack = [], [test.outvars[0]]
    while stack:
        eqn = None if isinstance(stack[-1], core.Literal) else made.get(stack[-1])
        stack.pop()
        if eqn is None:
            continue
        if eqn.primitive.name == "and":
            stack += eqn.invars
        elif eqn.primitive.name in TRIPS:
            found.append(eqn)
    return found


def _step(body: Any, place: int, of_body: int) -> int | None:
    """By how much the body moves carried value `place` each time, where that is a number."""
    if not 0 <= place < len(body.outvars):
        return None
    counter, out = body.invars[of_body + place], body.outvars[place]
    eqn = next((eqn for eqn in body.eqns if out in eqn.outvars), None)
    if eqn is None or eqn.primitive.name not in ("add", "sub") or len(eqn.invars) != 2:
        return None
    literals = [atom.val for atom in eqn.invars if isinstance(atom, core.Literal)]
    if len(literals) != 1 or not any(atom is counter for atom in eqn.invars):
        return None
    return int(literals[0]) * (-1 if eqn.primitive.name == "sub" else 1)


def _known(atom: Any, places: dict[Any, int], of_test: int, of_body: int, ins: Sequence[Value]) -> Any:
    if isinstance(atom, core.Literal):
        return int(atom.val)
    place = places.get(atom)
    if place is None:
        return None
    return ins[place if place < of_test else place + of_body].data


def cond(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """The branch that is known to run, else the dearest."""
    branches, args = eqn.params["branches"], ins[1:]
    picked = ins[0].data
    if isinstance(picked, (int, bool)):
        return walker.closed(branches[min(max(int(picked), 0), len(branches) - 1)], args, scope, times)
    ops = walker.builder.ops
    start, tried = len(ops), []
    for branch in branches:
        results = walker.closed(branch, args, scope, times)
        tried.append((results, ops[start:]))
        del ops[start:]
    costs = [rough_cost(made, walker.builder.tensors) for _, made in tried]
    dearest = costs.index(max(costs))
    label = walker.unique(f"{scope}.cond" if scope else "cond")
    if len(branches) > 1:
        why = "which branch runs depends on data"
        walker.builder.warn(f"{label}: {why}; the dearest, number {dearest} of {len(branches)}, is costed")
    results, made = tried[dearest]
    ops += made
    return [replace(v, data=None) for v in results]


CONTROL.update({"scan": scan, "while": while_loop, "cond": cond})
