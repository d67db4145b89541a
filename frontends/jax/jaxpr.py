"""The walker: a jaxpr's equations in order, nested ones in place, each answered by the rule of its primitive."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend import core

from wattir.dims import Size
from wattir.errors import UnsupportedError, WattirError
from wattir.frontends.jax.held import Identity, identity
from wattir.frontends.jax.node import RULES, Node, Shape, Value, unknown
from wattir.frontends.jax.program import Program
from wattir.frontends.jax.roles import parameter_role
from wattir.frontends.jax.rules_math import as_whole
from wattir.frontends.jax.sizes import dtype_of, shape_of
from wattir.kinds import FLOATS

MAX_DEPTH = 200  # programs within each other
CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "fwd_jaxpr", "call", "callee")
"""Parameters that hold the program that a call-like primitive runs."""


class Walker:
    """One program and the programs inside it; `walker.run` may be called for any of them."""

    def __init__(self, program: Program, held: Mapping[Identity, str] | None = None) -> None:
        self.program, self.builder, self.held = program, program.builder, held or {}
        self.depth = 0
        self._constants: dict[Identity, Value] = {}
        self._scopes: dict[Any, str] = {}
        self._shapes: dict[Any, tuple[Shape, str]] = {}

    # ---- what nodes ask for (their `context`) ----------------------------------------------------------------------

    def unique(self, label: str) -> str:
        return self.program.unique(label)

    def free(self, shape: Shape, dtype: str, data: Any = None, ramp: int | None = None) -> Value:
        return self.program.free(shape, dtype, data, ramp)

    def derived(self, node: Node, used: list[Value], shape: Shape, dtype: str) -> Value:
        return self.program.derived(node, used, shape, dtype)

    # ---- the walk --------------------------------------------------------------------------------------------------

    def closed(self, closed: Any, args: Sequence[Value], scope: str, times: Size) -> list[Value]:
        """Runs a ClosedJaxpr, whose constants become tensors; or a Jaxpr that has none."""
        if not hasattr(closed, "consts"):
            return self.run(closed, (), args, scope, times)
        consts = [self.constant(value, scope) for value in closed.consts]
        return self.run(closed.jaxpr, consts, args, scope, times)

    def run(self, jaxpr: Any, consts: Sequence[Value], args: Sequence[Value], scope: str, times: Size) -> list[Value]:
        """Lowers the equations with the jaxpr's variables bound; what its outputs are."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnsupportedError(f"{self.builder.name}: over {MAX_DEPTH} programs within each other; expected fewer")
        env: dict[Any, Value] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
        for eqn in jaxpr.eqns:
            self._one(eqn, env, scope, times)
        self.depth -= 1
        return [self.read(atom, env) for atom in jaxpr.outvars]

    def read(self, atom: Any, env: dict[Any, Value]) -> Value:
        """The value of a variable, or of a literal."""
        if isinstance(atom, core.Literal):
            shape, dtype = self.declared(atom.aval)
            return self.program.free(shape, dtype, _number(atom.val))
        return env[atom]

    def _one(self, eqn: Any, env: dict[Any, Value], scope: str, times: Size) -> None:
        name = eqn.primitive.name
        ins = [self.read(atom, env) for atom in eqn.invars]
        scope = self.scope(eqn, scope)
        control = CONTROL.get(name)
        if control is None and name not in RULES and called_program(eqn.params) is not None:
            control = call
        if control is not None:
            results = control(self, eqn, ins, scope, times)
        else:
            results = self.node(eqn, name, ins, scope, times)
        for variable, value in zip(eqn.outvars, results, strict=True):
            env[variable] = value

    def node(self, eqn: Any, name: str, ins: list[Value], scope: str, times: Size) -> list[Value]:
        """What the rule of a primitive answers."""
        outs = [self.declared(variable.aval) for variable in eqn.outvars]
        label = f"{scope or self._module(ins)}.{name}".lstrip(".")
        node = Node(self, name, label, eqn.params, ins, outs, times, scope)
        try:
            RULES.get(name, unknown)(node)
        except WattirError:
            raise
        except Exception as error:  # a primitive that is not as this version of JAX has it
            node.fail(f"cannot be lowered ({type(error).__name__}: {error})", "the parameters that JAX 0.10 gives it")
        return [value for value in node.results if value is not None]

    def _module(self, ins: list[Value]) -> str:
        """The path of the first parameter that is read, for modules that name no scope (NNX)."""
        roots = next((self.program.roots.get(v.name) for v in ins if v.fixed and not v.free), None)
        return roots[0].removesuffix("[]").rpartition(".")[0] if roots else ""

    def declared(self, aval: Any) -> tuple[Shape, str]:
        """Shape and dtype of an abstract value; (), bool for tokens and references without one."""
        found = self._shapes.get(aval) if aval.__hash__ else None
        if found is None:
            inner = getattr(aval, "inner_aval", aval)
            if not hasattr(inner, "shape"):
                return (), "bool"
            found = self._shapes[aval] = (shape_of(inner.shape), dtype_of(inner.dtype))
        return found

    def scope(self, eqn: Any, outer: str) -> str:
        """The path of an equation: `jax.named_scope`s and modules, without the specs that einsum adds."""
        stack = eqn.source_info.name_stack
        path = self._scopes.get(stack)
        if path is None:
            named = (part.name for part in stack.stack if type(part).__name__ == "Scope")
            words = [word for name in named if "->" not in name for word in name.split("/") if word]
            path = self._scopes[stack] = ".".join(words)
        if not path or not outer:
            return path or outer
        return f"{outer}.{path}"

    def constant(self, value: Any, scope: str) -> Value:
        """An array that the program has inside: a parameter by its name, or as a float of two axes and more."""
        key = identity(value)
        if key not in self._constants:
            self._constants[key] = self._constant(value, self.held.get(key, ""), scope)
        return self._constants[key]

    def _constant(self, value: Any, held: str, scope: str) -> Value:
        shape, dtype = shape_of(jax.numpy.shape(value)), dtype_of(getattr(value, "dtype", type(value).__name__))
        if shape == ():
            return self.program.free(shape, dtype, _number(value))
        may_be = dtype in FLOATS if "." in held else len(shape) > 1 and dtype in (*FLOATS, "int8", "int4")
        triangle = _is_triangle(value)
        role = parameter_role(held) if may_be and not triangle else "constant"
        given = self.program.given(held or (f"{scope}.constant" if scope else "constant"), shape, dtype, role)
        return replace(given, triangle=triangle)


def _is_triangle(value: Any) -> bool:
    """Whether the last two axes hold one number up to the diagonal and another one beyond it: a causal mask."""
    shape: Any = getattr(value, "shape", ())
    if len(shape) < 2 or shape[-1] < 2 or math.prod(shape) != shape[-1] * shape[-2] or math.prod(shape) > MOST_MASK:
        return False
    rows, columns = shape[-2:]
    mask: Any = np.asarray(value).reshape(rows, columns)
    past, later = mask[-1, 0], mask[0, -1]
    if past == later or (mask[-1] != past).any():  # the last row alone tells most weights from masks
        return False
    return np.array_equal(mask, np.where(np.tri(rows, columns, columns - rows, dtype=bool), past, later))


MOST_MASK = 1 << 24  # elements of a constant that is looked into


def _number(value: Any) -> Any:
    try:
        number = value.item() if hasattr(value, "item") and getattr(value, "shape", ()) == () else value
    except Exception:  # a random key, or an array that is abstract
        return None
    return number if isinstance(number, (int, float, bool)) else None


def called_program(params: dict[str, Any]) -> Any:
    """The one program that a call-like primitive runs, or None."""
    return next((params[key] for key in CALLED if hasattr(params.get(key), "eqns")), None)


def call(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """jit, closed_call, custom_jvp_call, custom_vjp_call, remat, composite and their like: the program in place."""
    whole = as_whole(str(eqn.params.get("name")), [walker.declared(variable.aval)[1] for variable in eqn.outvars])
    if len(whole) == 1:
        return walker.node(eqn, whole[0], ins, scope, times)
    return walker.closed(called_program(eqn.params), ins, scope, times)


def shard_map(walker: Walker, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """The program of one device: its shapes are those of a shard."""
    jaxpr, axes = eqn.params["jaxpr"], walker.program.axes
    outer = dict(axes)
    axes.update({str(name): int(size) for name, size in dict(eqn.params["mesh"].shape).items()})
    inside = getattr(jaxpr, "jaxpr", jaxpr).invars
    shards = [_shard(walker, value, variable) for value, variable in zip(ins, inside, strict=True)]
    results = walker.closed(jaxpr, shards, scope, times)
    axes.clear()
    axes.update(outer)
    return [replace(v, shape=walker.declared(o.aval)[0]) for v, o in zip(results, eqn.outvars, strict=True)]


def _shard(walker: Walker, value: Value, variable: Any) -> Value:
    shape, _ = walker.declared(variable.aval)
    if shape == value.shape or value.free:
        return replace(value, shape=shape)
    if walker.program.role(value) != "value":
        return walker.program.part(value, shape)
    return replace(value, shape=shape)


Control = Callable[[Walker, Any, list[Value], str, Size], list[Value]]
CONTROL: dict[str, Control] = {"shard_map": shard_map}
"""Primitives with programs inside that are more than a call; `loops` adds its own."""
