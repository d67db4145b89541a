"""The walker over an exported program's functions: each op by the rule of the JAX primitive that it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from wattir.dims import Size
from wattir.errors import UnsupportedError, WattirError
from wattir.frontends.jax.branches import one_branch
from wattir.frontends.jax.carry import Loop, counted, varying
from wattir.frontends.jax.node import RULES, Node, Shape, Value, unknown
from wattir.frontends.jax.program import Program
from wattir.frontends.jax.rules_math import as_whole
from wattir.frontends.jax.stablehlo_ops import composes, dtype_of, translate
from wattir.frontends.jax.stablehlo_shapes import infer

MAX_DEPTH = 200
SHORT = 64  # elements of a vector whose content is followed
Op = list[Any]
Env = dict[int, Value]


class Interpreter:
    """One program; `context` of the nodes it makes."""

    def __init__(self, program: Program, functions: dict[str, Any]) -> None:
        self.program, self.builder, self.functions = program, program.builder, functions
        self.depth = 0

    def unique(self, label: str) -> str:
        return self.program.unique(label)

    def free(self, shape: Shape, dtype: str, data: Any = None, ramp: int | None = None) -> Value:
        return self.program.free(shape, dtype, data, ramp)

    def derived(self, node: Node, used: list[Value], shape: Shape, dtype: str) -> Value:
        return self.program.derived(node, used, shape, dtype)

    # ---- the walk --------------------------------------------------------------------------------------------------

    def function(self, function: dict[str, Any], args: Sequence[Value], scope: str, times: Size) -> list[Value]:
        """Runs a function in place of its call."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnsupportedError(f"{self.builder.name}: over {MAX_DEPTH} functions within each other; expected fewer")
        results = self.body(function["body"], dict(enumerate(args)), scope, times)
        self.depth -= 1
        return results

    def region(self, region: dict[str, Any], args: Sequence[Value], env: Env, scope: str, times: Size) -> list[Value]:
        """Runs a region, which sees the values around it."""
        return self.body(region["body"], {**env, **dict(zip(region["args"], args, strict=False))}, scope, times)

    def body(self, ops: list[Op], env: Env, scope: str, times: Size) -> list[Value]:
        """Lowers ops in order; what the terminator gives back."""
        for op in ops:
            if op[0].endswith((".return", ".yield")):
                return [env[operand] for operand in op[1]]
            results = self._one(op, env, scope, times)
            env.update(zip(op[2], results, strict=False))
        return []

    def _one(self, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
        structure = STRUCTURES.get(op[0].partition(".")[2])
        try:
            return structure(self, op, env, scope, times) if structure else self.node(op, env, scope, times)
        except WattirError:
            raise
        except Exception as error:  # an op that is not as the specification has it
            where = f"{self.builder.name}: {op[6] or op[0]!r} ({op[0]})"
            found = f"cannot be lowered ({type(error).__name__}: {error})"
            raise UnsupportedError(f"{where}: {found}; expected StableHLO as its specification has it") from error

    def node(self, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
        name, operands, results, types, attrs, regions, label = op
        every = [env[operand] for operand in operands]
        primitive, params, order = translate(name, attrs, len(operands), regions, types)
        ins = every if order is None else [every[place] for place in order]
        if primitive == "dot":
            primitive, params = "dot_general", {"dimension_numbers": (((ins[0].rank - 1,), (0,)), ((), ()))}
        outs = [self._declared(op, place, primitive, params, every) for place in range(len(results))]
        path = path_of(label, scope)
        node = Node(self, primitive, f"{path}.{primitive}" if path else primitive, params, ins, outs, times, path, name)
        RULES.get(primitive, unknown)(node)
        return [value for value in node.results if value is not None]

    def _declared(
        self, op: Op, place: int, primitive: str, params: dict[str, Any], every: list[Value]
    ) -> tuple[Shape, str]:
        shape, element = op[3][place]
        if None not in shape:
            return tuple(shape), dtype_of(element)
        found = infer(op[0].partition(".")[2], primitive, every, params, op[4])
        if found is None or len(found) != len(shape):
            where = f"{self.builder.name}: {op[6] or op[0]!r} ({op[0]})"
            raise UnsupportedError(
                f"{where}: a result whose size is not known; expected one that follows from the inputs"
            )
        return tuple(size if size is not None else found[axis] for axis, size in enumerate(shape)), dtype_of(element)


def path_of(label: str, outer: str) -> str:
    """The module path in a location: ``jit(f)/Net/while/body/block/dot_general`` is ``Net.block``."""
    words = [word for word in NESTED.sub("/", f"/{label}").split("/")[:-1] if word and not re.search(r"\(|->", word)]
    inner = ".".join(words)
    if not inner or not outer or inner.startswith(outer):
        return inner or outer
    return f"{outer}.{inner}"


NESTED = re.compile(r"/(?:(?:while/(?:body|cond)|cond/branch_\d+_fun|closed_call|checkpoint)(?=/))+")
"""What JAX puts into a path where a program is within another."""


# ---- ops with programs inside, and those that are not a primitive --------------------------------------------------


def _constant(walk: Interpreter, op: Op, *_: Any) -> list[Value]:
    shape, element = op[3][0]
    data, dtype = op[4].get("value"), dtype_of(element)
    if isinstance(data, list):
        data = tuple(data)
    elif len(shape) == 1 and isinstance(data, int) and shape[0] <= SHORT:
        data = (data,) * shape[0]
    small = isinstance(data, (int, float, bool, tuple)) or _count(shape) <= 1
    if small:
        return [walk.program.free(tuple(shape), dtype, data)]
    is_weight = len(shape) > 1 and dtype in ("fp64", "fp32", "fp16", "bf16", "fp8", "fp4", "int8", "int4")
    return [walk.program.given("constant", tuple(shape), dtype, "weight" if is_weight else "constant")]


def _count(shape: list[Any]) -> int:
    count = 1
    for size in shape:
        count *= int(size or 1)
    return count


def _call(walk: Interpreter, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
    target = op[4].get("callee") or op[4].get("decomposition")
    function = walk.functions.get(str(target))
    if function is None:
        raise KeyError(f"function {target!r} is not in the module")
    args = [env[operand] for operand in op[1]]
    return walk.function(function, args, path_of(op[6], scope), times)


def _composite(walk: Interpreter, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
    """The operation that it is known as, else what it is composed of."""
    attrs, name = op[4], str(op[4].get("name"))
    if not composes(name):
        return _call(walk, op, env, scope, times)
    return walk.node([name, *op[1:4], attrs.get("composite_attributes") or {}, [], op[6]], env, scope, times)


def _function(walk: Interpreter, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
    """A call; of a function that JAX names after a primitive, as that primitive.

    Open sizes come before the operands of `WHOLE`.
    """
    name = re.sub(r"(_\d+)?$", "", str(op[4].get("callee")))
    if name in NAMED_AFTER:
        return walk.node([name, *op[1:]], env, scope, times)
    whole = as_whole(name, [dtype_of(element) for _, element in op[3]])
    if not whole:
        return _call(walk, op, env, scope, times)
    operands, results = op[1][-2:], zip(whole, op[2], op[3], strict=True)
    ones = ([primitive, operands, [result], [kind], {}, [], op[6]] for primitive, result, kind in results)
    return [walk.node(one, env, scope, times)[0] for one in ones]


NAMED_AFTER = frozenset({"threefry2x32"})
"""Functions that JAX writes out for a CPU and that other platforms have as one kernel."""


def _dimension_size(walk: Interpreter, op: Op, env: Env, *_: Any) -> list[Value]:
    size = env[op[1][0]].shape[int(op[4]["dimension"])]
    return [walk.program.free((), "int32", size)]


def _while(walk: Interpreter, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
    """The body as often as its counter says, else as often as the caller says."""
    test, body = op[5]
    first = [env[operand] for operand in op[1]]
    scope = path_of(op[6], scope)
    label = walk.unique(f"{scope}.while" if scope else "while")
    trips = walk.program.trip_count(label, *counted(_as_loop(test, body, first, env)))
    if trips == 0:
        return first
    inner = times * trips
    kept = body["body"][-1][1] if body["body"] else []
    carry = [
        value if kept[place : place + 1] == [body["args"][place]] else varying(walk.program, value, scope, times)
        for place, value in enumerate(first)
    ]
    start = len(walk.builder.ops)
    walk.region(test, carry, env, scope, inner)
    results = walk.region(body, carry, env, scope, inner)
    return walk.program.carry(start, carry, results)


RENAMES = (".convert", ".reshape", ".broadcast_in_dim")


def _as_loop(test: dict[str, Any], body: dict[str, Any], first: list[Value], env: Env) -> Loop:
    made = {result: op for op in (*test["body"], *body["body"]) for result in op[2]}

    def resolved(operand: int) -> int:
        while (op := made.get(operand)) is not None and op[0].endswith(RENAMES):
            operand = op[1][0]
        return operand

    def define(operand: int) -> tuple[str, list[int]] | None:
        op = made.get(resolved(operand))
        if op is None:
            return None
        name, _, _ = translate(op[0], op[4], len(op[1]), op[5], op[3])
        return name, [resolved(item) for item in op[1]]

    def known(operand: int) -> Any:
        op = made.get(operand)
        if op is not None:
            return op[4].get("value") if op[0].endswith(".constant") else None
        return env[operand].data if operand in env else None

    result, leaving = (part["body"][-1][1] if part["body"] else [] for part in (test, body))
    return Loop(first, test["args"], result[0], body["args"], list(map(resolved, leaving)), define, known)


def _case(walk: Interpreter, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
    """The branch that is known to run, else the dearest."""
    which = env[op[1][0]].data
    if op[0].endswith(".if") and isinstance(which, (int, bool)):
        which = not which
    scope = path_of(op[6], scope)
    runs = [partial(walk.region, region, [], env, scope, times) for region in op[5]]
    return one_branch(walk.program, which, runs, scope)


def _tuple(walk: Interpreter, op: Op, env: Env, *_: Any) -> list[Value]:
    """A tuple or one element of it: stands for its first element, which is all that tokens need."""
    return [env[op[1][0]]] if op[1] else [walk.program.free((), "bool")]


def _manual(walk: Interpreter, op: Op, env: Env, scope: str, times: Size) -> list[Value]:
    """`sdy.manual_computation`: the program of one device."""
    args = [env[operand] for operand in op[1]]
    types = op[5][0]["types"]
    shards = [
        walk.program.part(v, tuple(t[0]))
        if walk.program.role(v) != "value" and not v.free
        else replace(v, shape=tuple(t[0]))
        for v, t in zip(args, types, strict=True)
    ]
    results = walk.region(op[5][0], shards, env, scope, times)
    return [replace(value, shape=tuple(kind[0])) for value, kind in zip(results, op[3], strict=True)]


STRUCTURES: dict[str, Callable[..., list[Value]]] = {
    "constant": _constant, "call": _function, "composite": _composite, "get_dimension_size": _dimension_size,
    "while": _while, "case": _case, "if": _case, "tuple": _tuple, "get_tuple_element": _tuple,
    "manual_computation": _manual,
}  # fmt: skip
