"""What a legal graph is, as code that runs: `check_graph` raises GraphError at the first rule that does not hold.

Tests run it after every pass; a frontend's result is checked before anything is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wattir.dims import Dim, evaluate
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
MAX_ATTR = 2**80
"""No other size of an op is larger, such as a product of its axes."""


def check_graph(graph: Graph) -> Graph:
    """The graph itself, if it is legal.

    Every tensor has a known dtype and role and dims from 0 to 2^40. Every op is of a known kind with that kind's
    attributes and no others; its inputs are given or made by an earlier op; no tensor is made twice; a tensor made by
    an op is no weight and no input. Outputs exist. Every free name has an entry in `sizes`; the batch dim is free.
    """
    for name, tensor in graph.tensors.items():
        if tensor.dtype not in DTYPE_BYTES:
            raise _illegal(graph, f"tensor {name!r}", f"dtype {tensor.dtype!r}", "a known dtype")
        if tensor.role not in ROLES:
            raise _illegal(graph, f"tensor {name!r}", f"role {tensor.role!r}", "one of " + ", ".join(ROLES))
        for size in tensor.shape:
            if not _is_size(size, MAX_DIM):
                raise _no_size(graph, f"tensor {name!r}", size, MAX_DIM)
    made = {name for name, tensor in graph.tensors.items() if tensor.role != "value"}
    made -= {name for op in graph.ops for name in op.outs}
    made |= set(graph.inputs)
    for op in graph.ops:
        _check_op(graph, op, made)
        made.update(op.outs)
    for name in graph.outputs:
        if name not in graph.tensors:
            raise _illegal(graph, f"output {name!r}", "no such tensor", "a tensor of the graph")
    missing = free_names(graph) - graph.sizes.keys()
    if missing:
        raise _illegal(graph, "sizes", f"no entry for {sorted(missing)}", "an entry for every free name")
    if graph.batch is not None and graph.batch not in graph.sizes:
        raise _illegal(graph, "batch", repr(graph.batch), "a free name")
    return graph


def _check_op(graph: Graph, op: Op, made: set[str]) -> None:
    where = f"op {op.name!r}"
    if op.kind not in KINDS:
        raise _illegal(graph, where, f"kind {op.kind!r}", "one of wattir.kinds.KINDS")
    for name in op.ins:
        if name not in made:
            raise _illegal(graph, where, f"input {name!r} before it is made", "ops in runnable order")
    for name in op.outs:
        if name not in graph.tensors or name in made:
            raise _illegal(graph, where, f"output {name!r} made twice or not declared", "one producer for each tensor")
        role = graph.tensors[name].role
        if role not in ("value", "state"):
            raise _illegal(graph, where, f"output {name!r} of role {role!r}", "value or state")
    if not op.outs:
        raise _illegal(graph, where, "no output", "at least one")
    _check_attrs(graph, op, KINDS[op.kind], where)
    if not _is_size(op.times, MAX_DIM):
        raise _no_size(graph, f"{where}, times", op.times, MAX_DIM)


def _check_attrs(graph: Graph, op: Op, kind: Kind, where: str) -> None:
    for name in kind.required:
        if name not in op.attrs:
            raise _illegal(graph, where, f"no attribute {name!r}", f"those of {op.kind}: {kind.required}")
    for name, value in op.attrs.items():
        if name not in kind.required and name not in kind.optional and name not in SHARED_ATTRS:
            legal = f"those of {op.kind}: {kind.required + kind.optional}"
            raise _illegal(graph, where, f"attribute {name!r}", legal)
        _check_attr(graph, where, name, value)
    if kind.functions and op.attrs["function"] not in kind.functions:
        raise _illegal(graph, where, f"function {op.attrs['function']!r}", str(sorted(kind.functions)))


def _check_attr(graph: Graph, where: str, name: str, value: Any) -> None:
    for wanted, names, what in ((str, TEXT_ATTRS, "a text"), (bool, FLAG_ATTRS, "True or False")):
        if name in names:
            if not isinstance(value, wanted):
                raise _illegal(graph, where, f"{name} = {value!r}", what)
            return
    if isinstance(value, tuple) != (name in TUPLE_ATTRS):
        one_for_each = "one size for each axis" if name in TUPLE_ATTRS else "one value"
        raise _illegal(graph, where, f"{name} = {value!r}", one_for_each)
    for size in value if isinstance(value, tuple) else (value,):
        if not _is_size(size, MAX_ATTR):
            raise _no_size(graph, f"{where}, {name}", size, MAX_ATTR)
    if name in DIVISOR_ATTRS and value == 0:
        raise _illegal(graph, where, f"{name} = 0", "at least 1")


def _is_size(size: Any, most: int) -> bool:
    return 0 <= size <= most if isinstance(size, int) else isinstance(size, Dim)


def _no_size(graph: Graph, where: str, size: Any, most: int) -> GraphError:
    found = f"size of {size.bit_length()} bits" if isinstance(size, int) and size > 2**99 else f"size {size!r}"
    return _illegal(graph, where, found, f"a whole number from 0 to {most}, or a formula")


def _illegal(graph: Graph, where: str, found: str, expected: str) -> GraphError:
    return GraphError(f"{graph.name}: {where}: {' '.join(found.split())[:160]}; expected {expected}")


def check_sizes(graph: Graph, sizes: Mapping[str, Any]) -> None:
    """SizeError where a shape or a count becomes negative or absurd at these sizes, ints or arrays."""
    for size, where in formula_dims(graph).items():
        value = evaluate(size, sizes)
        low, high = (value, value) if isinstance(value, int) else (value.min(), value.max())
        if low < 0 or high > MAX_DIM:
            found = f"{where} {str(size)[:100]} = {low if low < 0 else high}"
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
