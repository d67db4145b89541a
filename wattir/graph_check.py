"""What a legal graph is, as code that runs: `check_graph` raises GraphError at the first rule that does not hold.

Tests run it after every pass; a frontend's result is checked before anything is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wattir.dims import Dim, Size, evaluate
from wattir.errors import GraphError, SizeError
from wattir.ir import Graph, Op, free_names
from wattir.kinds import (
    DIVISOR_ATTRS,
    DTYPE_BYTES,
    FLAG_ATTRS,
    KINDS,
    ROLES,
    SHARED_ATTRS,
    TEXT_ATTRS,
    TUPLE_ATTRS,
    Kind,
)

MAX_DIM = 2**40
"""No axis is longer: a petabyte of bytes. What claims to be comes from a damaged file."""


def check_graph(graph: Graph) -> Graph:
    """The graph itself, if it is legal.

    Every tensor has a known dtype and role and dims from 0 to 2^40. Every op is of a known kind with that kind's
    attributes and no others; its inputs are given or made by an earlier op; no tensor is made twice; a tensor made by
    an op is no weight and no input. Outputs exist. Every free name has an entry in `sizes`; the batch dim is free.
    """
    for name, tensor in graph.tensors.items():
        _require(tensor.dtype in DTYPE_BYTES, graph, f"tensor {name!r}", f"dtype {tensor.dtype!r}", "a known dtype")
        _require(tensor.role in ROLES, graph, f"tensor {name!r}", f"role {tensor.role!r}", "one of " + ", ".join(ROLES))
        _check_shape(graph, f"tensor {name!r}", tensor.shape)
    made = {name for name, tensor in graph.tensors.items() if tensor.role != "value"}
    made -= {name for op in graph.ops for name in op.outs}
    made |= set(graph.inputs)
    for op in graph.ops:
        _check_op(graph, op, made)
        made.update(op.outs)
    for name in graph.outputs:
        _require(name in graph.tensors, graph, f"output {name!r}", "no such tensor", "a tensor of the graph")
    missing = free_names(graph) - graph.sizes.keys()
    _require(not missing, graph, "sizes", f"no entry for {sorted(missing)}", "an entry for every free name")
    _require(graph.batch is None or graph.batch in graph.sizes, graph, "batch", repr(graph.batch), "a free name")
    return graph


def _check_op(graph: Graph, op: Op, made: set[str]) -> None:
    where = f"op {op.name!r}"
    _require(op.kind in KINDS, graph, where, f"kind {op.kind!r}", "one of wattir.kinds.KINDS")
    for name in op.ins:
        _require(name in made, graph, where, f"input {name!r} before it is made", "ops in runnable order")
    for name in op.outs:
        known = name in graph.tensors and name not in made
        _require(known, graph, where, f"output {name!r} made twice or not declared", "one producer for each tensor")
        role = graph.tensors[name].role
        _require(role in ("value", "state"), graph, where, f"output {name!r} of role {role!r}", "value or state")
    _require(bool(op.outs), graph, where, "no output", "at least one")
    _check_attrs(graph, op, KINDS[op.kind], where)
    _check_size(graph, f"{where}, times", op.times)


def _check_attrs(graph: Graph, op: Op, kind: Kind, where: str) -> None:
    for name in kind.required:
        _require(name in op.attrs, graph, where, f"no attribute {name!r}", f"those of {op.kind}: {kind.required}")
    for name, value in op.attrs.items():
        known = name in kind.required or name in kind.optional or name in SHARED_ATTRS
        _require(known, graph, where, f"attribute {name!r}", f"those of {op.kind}: {kind.required + kind.optional}")
        _check_attr(graph, where, name, value)
    if kind.functions:
        function = op.attrs["function"]
        _require(function in kind.functions, graph, where, f"function {function!r}", str(sorted(kind.functions)))


def _check_attr(graph: Graph, where: str, name: str, value: Any) -> None:
    for wanted, names, what in ((str, TEXT_ATTRS, "a text"), (bool, FLAG_ATTRS, "True or False")):
        if name in names:
            return _require(isinstance(value, wanted), graph, where, f"{name} = {value!r}", what)
    one_for_each = "one size for each axis" if name in TUPLE_ATTRS else "one value"
    _require(isinstance(value, tuple) == (name in TUPLE_ATTRS), graph, where, f"{name} = {value!r}", one_for_each)
    for size in value if isinstance(value, tuple) else (value,):
        _check_size(graph, f"{where}, {name}", size, limit=2**80)
    _require(name not in DIVISOR_ATTRS or value != 0, graph, where, f"{name} = 0", "at least 1")


def _check_shape(graph: Graph, where: str, shape: tuple[Size, ...]) -> None:
    for size in shape:
        _check_size(graph, where, size)


def _check_size(graph: Graph, where: str, size: Any, limit: int = MAX_DIM) -> None:
    _require(isinstance(size, (int, Dim)), graph, where, f"size {size!r}", "an int or a Dim")
    legal = not isinstance(size, int) or 0 <= size <= limit
    _require(legal, graph, where, f"size {size}", f"from 0 to {limit}")


def _require(holds: bool, graph: Graph, where: str, found: str, expected: str) -> None:
    if not holds:
        raise GraphError(f"{graph.name}: {where}: {' '.join(found.split())[:160]}; expected {expected}")


def check_sizes(graph: Graph, sizes: Mapping[str, Any]) -> None:
    """SizeError where a shape or a count becomes negative or absurd at these sizes, ints or arrays."""
    for size, where in formula_dims(graph).items():
        value = evaluate(size, sizes)
        low, high = (value, value) if isinstance(value, int) else (value.min(), value.max())
        if low < 0 or high > MAX_DIM:
            found = f"{where} {size} = {low if low < 0 else high}"
            raise SizeError(f"{graph.name}: {found}; expected from 0 to {MAX_DIM}; give other sizes")


def formula_dims(graph: Graph) -> dict[Dim, str]:
    """The distinct formulas among the dims of a graph's tensors, and among how often its ops run where that may be
    negative; and where one has each."""
    found: dict[Dim, str] = {}
    for name, tensor in graph.tensors.items():
        for size in tensor.shape:
            if isinstance(size, Dim):
                found.setdefault(size, f"tensor {name!r} has an axis of")
    for op in graph.ops:
        if isinstance(op.times, Dim) and any(factor < 0 for _, factor in op.times.terms):
            found.setdefault(op.times, f"op {op.name!r} runs as often as")
    return found
