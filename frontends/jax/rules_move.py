"""Primitives that move elements or only rename them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wattir.dims import Dim, Size, product
from wattir.frontends.jax.node import Node, Value, rule
from wattir.frontends.jax.sizes import size_of
from wattir.kinds import DTYPE_BYTES


@rule(
    "stop_gradient", "copy", "copy_p", "optimization_barrier", "sharding_constraint", "device_put", "pvary",
    "pbroadcast", "mesh_cast", "reshard", "name", "layout_constraint", "random_wrap", "random_unwrap", "create_token",
    "after_all", "annotate", "clone", "pcast", "copy_start", "copy_done", "shard_alike", "add_dependency", "preduced",
    "with_memory_space_constraint", "reduced_vary_cast_p", "vary_unreduced_cast_p",
)  # fmt: skip
def same(node: Node) -> None:
    """Each output is an input."""
    for index in range(len(node.outs)):
        if index < len(node.ins):
            node.same(node.ins[index], index)
        else:
            node.results[index] = node.context.free(*node.outs[index])


@rule("reshape", "squeeze", "expand_dims")
def reshape(node: Node) -> None:
    x = node.ins[0]
    node.same(x, ramp=_ramp_after(x, node.outs[0][0]), data=_vector_or_fill(x, node.outs[0][0]))


def _vector_or_fill(x: Value, shape: tuple[Size, ...]) -> Any:
    if not isinstance(x.data, tuple):
        return (x.data,) if x.data is not None and shape == (1,) and x.shape == () else x.data
    if shape == () and len(x.data) == 1:
        return x.data[0]
    return x.data if len(shape) == 1 else None


def _ramp_after(x: Value, shape: tuple[Size, ...]) -> int | None:
    """Where the axis that counts is after axes of size 1 have come or gone."""
    if x.ramp is None:
        return None
    wide = [axis for axis, size in enumerate(x.shape) if size != 1]
    kept = [axis for axis, size in enumerate(shape) if size != 1]
    same_axes = [x.shape[a] for a in wide] == [shape[a] for a in kept]
    return kept[wide.index(x.ramp)] if same_axes and x.ramp in wide else None


@rule("broadcast_in_dim")
def broadcast_in_dim(node: Node) -> None:
    """Read where it is small: every fused reader repeats it, and products that cannot ask for a copy."""
    x, places = node.ins[0], node.params["broadcast_dimensions"]
    ramp = None if x.ramp is None else int(places[x.ramp])
    data = x.data if not isinstance(x.data, tuple) or node.outs[0][0] == x.shape else None
    node.same(x, ramp=ramp, data=data)


NARROW = frozenset(dtype for dtype, width in DTYPE_BYTES.items() if width <= 1)
"""What weights may be quantized to: whoever reads these reads their own bytes."""


@rule("bitcast_convert_type")
def bitcast(node: Node) -> None:
    node.same(node.ins[0], dtype=node.outs[0][1], data=None)


@rule("convert_element_type")
def convert(node: Node) -> None:
    """Nothing where the type stays the same."""
    x, dtype = node.ins[0], node.outs[0][1]
    if dtype == x.dtype:
        node.same(x)
        return
    if x.free:
        data = x.data if not isinstance(x.data, float) or dtype[:2] in ("fp", "bf") else None
        node.results[0] = replace(node.context.free(x.shape, dtype, data, x.ramp), triangle=x.triangle)
        return
    node.emit("copy", fold=x.dtype not in NARROW, function="cast")
    if x.triangle and node.results[0] is not None:
        node.results[0] = replace(node.results[0], triangle=True)


@rule("transpose")
def transpose(node: Node) -> None:
    """Nothing where only axes of size 1 change places; parameters are held as their readers want them."""
    x, order = node.ins[0], [int(axis) for axis in node.params["permutation"]]
    wide = [axis for axis in order if x.shape[axis] != 1]
    ramp = None if x.ramp is None else order.index(x.ramp)
    if x.fixed or wide == sorted(wide) or _is_expanded(node, x):
        node.same(x, ramp=ramp)
        return
    node.emit("copy", function="transpose")
    if x.dealt is not None and node.results[0] is not None:
        node.results[0] = replace(node.results[0], dealt=x.dealt)


def _is_expanded(node: Node, value: Value) -> bool:
    return bool(value.elements != node.builder.tensors[value.name].elements)


@rule("iota")
def iota(node: Node) -> None:
    shape, dtype = node.outs[0]
    axis = int(node.params.get("dimension", 0))
    data = None
    if len(shape) == 1 and isinstance(shape[0], int) and shape[0] <= 64:
        data = tuple(range(shape[0]))
    node.results[0] = node.context.free(shape, dtype, data, axis)


@rule("empty", "empty2", "zeros_like")
def empty(node: Node) -> None:
    """Room that is not written yet."""
    node.results[0] = node.context.free(*node.outs[0])


@rule("dim_as_value")
def dim_as_value(node: Node) -> None:
    shape, dtype = node.outs[0]
    node.results[0] = node.context.free(shape, dtype, size_of(node.params["dim"]))


@rule("slice", "dynamic_slice", "real_dynamic_slice")
def part(node: Node) -> None:
    """XLA reads the part where it is used; one of a parameter is a parameter."""
    x = node.ins[0]
    if x.shape == node.outs[0][0]:
        node.same(x)
    elif x.free:
        node.results[0] = node.context.free(*node.outs[0], _part(node, x), x.ramp)
    elif x.fixed:
        node.slice_of(x)
    else:
        node.emit("view", ins=(x,), function="slice")


def _part(node: Node, x: Value) -> Any:
    if not isinstance(x.data, tuple):
        return x.data
    starts, ends = node.params.get("start_indices"), node.params.get("limit_indices")
    if starts is None or ends is None:
        return None
    return x.data[int(starts[0]) : int(ends[0]) : int((node.params.get("strides") or (1,))[0])]


@rule("split")
def split(node: Node) -> None:
    _parts(node, "split")


def _parts(node: Node, function: str) -> None:
    """Each output is a part of the input, read in place."""
    x = node.ins[0]
    for index in range(len(node.outs)):
        if x.fixed and not x.free:
            node.slice_of(x, index)
        else:
            node.emit("view", outs=(index,), function=function)


@rule("concatenate")
def concatenate(node: Node) -> None:
    if len(node.ins) == 1:
        node.same(node.ins[0])
        return
    node.emit("copy", function="concat")
    result = node.results[0]
    parts = [value.data for value in node.ins]
    if result is not None and result.free and result.rank == 1 and all(isinstance(p, tuple) for p in parts):
        node.results[0] = replace(result, data=tuple(item for part in parts for item in part))


@rule("stack")
def stack(node: Node) -> None:
    node.emit("copy", function="stack")


@rule("unstack")
def unstack(node: Node) -> None:
    _parts(node, "unstack")


@rule("pad")
def pad(node: Node) -> None:
    if node.outs[0][0] == node.ins[0].shape:
        node.same(node.ins[0])
        return
    node.emit("copy", ins=node.ins[:1], function="pad")


@rule("rev")
def reverse(node: Node) -> None:
    node.emit("copy", function="reverse")


@rule("tile")
def tile(node: Node) -> None:
    node.emit("copy", function="tile")


# ---- reading and writing by index ----------------------------------------------------------------------------------


@rule("gather")
def gather(node: Node) -> None:
    """Rows of a table by indices; a slice of a parameter where the indices are fixed as well."""
    table, indices = node.ins[0], node.ins[1]
    if indices.free and (table.fixed or product(indices.shape[:-1]) == 1):  # one place only: a slice
        part(node)
        return
    node.emit("gather", ins=(table, indices), function="gather")


@rule("scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter_min", "scatter_max", "scatter-mul",
      "scatter-min",       "scatter-max", "scatter_sub", "scatter-sub", "scatter_apply")  # fmt: skip
def scatter(node: Node) -> None:
    """Operand, indices, updates."""
    _write(node, node.ins[2], (node.ins[0], *node.ins[1:]), "scatter")


@rule("dynamic_update_slice")
def dynamic_update_slice(node: Node) -> None:
    """Operand, update, starts: a cache that grows in place."""
    _write(node, node.ins[1], node.ins[:2], "update_slice")


def _write(node: Node, updates: Value, ins: Any, function: str) -> None:
    into = node.ins[0]
    role = "state" if node.context.program.role(into) == "state" else "value"
    written = updates.elements if isinstance(updates.elements, (int, Dim)) else product(updates.shape)
    used = [v for v in ins if not v.free] or [updates]
    node.emit("scatter", ins=used, role=role, function=function, updates=written)


@rule("select_and_gather_add", "select_and_scatter_add", "select_and_scatter")
def select_and_scatter(node: Node) -> None:
    node.emit("scatter", function="max_unpool", updates=node.ins[0].elements)
