"""Ops that look at shapes or change only the shape, and constants. Nothing moves in any of them but in Cast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from wattir.dims import Dim, Size, bounds, exact_div, product
from wattir.frontends.onnx import ratio
from wattir.frontends.onnx.broadcast import axes_of, ints
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import MAX_KNOWN, Node, Value, rule
from wattir.frontends.onnx.unknown_sizes import free_size, rank_of
from wattir.frontends.onnx.values import WEIGHTS, content, role_of

Shape = tuple[Size, ...]


@rule("Shape")
def shape(node: Node) -> None:
    x = node.value(0)
    start, end = (_clamped(node.attr(name, default), x.rank) for name, default in (("start", 0), ("end", x.rank)))
    found = x.shape[start:end]
    node.result((len(found),), "int64", found)


def _clamped(axis: int, rank: int) -> int:
    return max(0, min(axis + rank if axis < 0 else axis, rank))


@rule("Size")
def size(node: Node) -> None:
    node.result((), "int64", (node.value(0).elements,))


def as_view(node: Node, shape: Shape, function: str) -> None:
    """The first input in another shape."""
    x = node.value(0)
    node.result(shape, x.dtype, x.data)
    node.emit("view", ins=(x,), function=function)


@rule("Identity")
def identity(node: Node) -> None:
    x = node.value(0)
    if x.items is not None:
        node.same(0, x)
        return
    as_view(node, x.shape, "identity")


@rule("Flatten")
def flatten(node: Node) -> None:
    x = node.value(0)
    axis = node.attr("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    as_view(node, (product(x.shape[:axis]), product(x.shape[axis:])), "flatten")


@rule("Squeeze")
def squeeze(node: Node) -> None:
    x, axes = node.value(0), ints(node, 1, "axes")
    if axes is None and node.given(1):
        node.fail("axes whose values are not known", "numbers")
    picked = axes_of(node, _numbers(node, axes), x.rank) if axes is not None else _ones(node, x)
    as_view(node, tuple(s for axis, s in enumerate(x.shape) if axis not in picked), "squeeze")


def _ones(node: Node, x: Value) -> tuple[int, ...]:
    """Axes of size 1, where the node does not name them."""
    open_axes = [s for s in x.shape if isinstance(s, Dim) and bounds(s)[0] <= 1]
    if open_axes:
        node.warn(f"squeezes every axis of size 1; {', '.join(map(str, open_axes))} taken as larger")
    return tuple(axis for axis, s in enumerate(x.shape) if isinstance(s, int) and s == 1)


def _numbers(node: Node, sizes: Sequence[Size]) -> list[int]:
    for one in sizes:
        if not isinstance(one, int):
            node.fail(f"axis {one}", "a number")
    return [int(one) for one in sizes]  # type: ignore[arg-type]


@rule("Unsqueeze")
def unsqueeze(node: Node) -> None:
    x, axes = node.value(0), ints(node, 1, "axes")
    if axes is None:
        node.fail("axes whose values are not known", "numbers")
    picked = axes_of(node, _numbers(node, axes), x.rank + len(axes))
    rest = iter(x.shape)
    as_view(node, tuple(1 if axis in picked else next(rest) for axis in range(x.rank + len(picked))), "unsqueeze")


# ---- Reshape ------------------------------------------------------------------------------------------------------


@rule("Reshape")
def reshape(node: Node) -> None:
    x = node.value(0)
    target = ints(node, 1, "shape")
    shape = _unknown_target(node, x) if target is None else reshaped(node, x, target)
    as_view(node, shape, "reshape")


def reshaped(node: Node, x: Value, target: Sequence[Size]) -> Shape:
    """0 copies (unless `allowzero`), -1 takes what is left, a baked-in batch is replaced by the caller's."""
    copied = [_copied(node, x, axis, size) for axis, size in enumerate(target)]
    rebatched = _rebatched(node, x, copied)
    open_axes = [axis for axis, size in enumerate(rebatched) if size == -1]
    if len(open_axes) > 1:
        node.fail(f"target [{_listed(target)}]", "at most one -1")
    rest = product(size for size in rebatched if size != -1)
    if open_axes:
        rebatched[open_axes[0]] = _left(node, x, rest, target)
    elif isinstance(rest, int) and isinstance(x.elements, int) and rest != x.elements:
        node.fail(f"target [{_listed(target)}] for shape [{_listed(x.shape)}]", f"{x.elements} elements")
    return tuple(rebatched)


def _copied(node: Node, x: Value, axis: int, size: Size) -> Size:
    if size != 0 or node.attr("allowzero", 0):
        return size
    if axis >= x.rank:
        node.fail(f"a target that copies axis {axis} of shape [{_listed(x.shape)}]", f"at most {x.rank} axes copied")
    return x.shape[axis]


def _left(node: Node, x: Value, rest: Size, target: Sequence[Size]) -> Size:
    """The size of the axis given as -1."""
    total = x.elements
    if rest == 0:
        return 0
    exact = exact_div(total, rest)
    if exact is None and isinstance(total, int) and isinstance(rest, int):
        node.fail(f"target [{_listed(target)}] for shape [{_listed(x.shape)}]", f"a divisor of {total} elements")
    return total // rest if exact is None else exact


def _rebatched(node: Node, x: Value, target: list[Size]) -> list[Size]:
    """A target that the exporter wrote for its own batch, for the caller's."""
    baked = node.context.lowering.baked
    if baked is None or baked[0] not in target:
        return target
    old, new = baked
    if -1 in target:
        fits = target[0] == old and x.rank > 0 and x.shape[0] == new and target[0] != new
        return [new, *target[1:]] if fits and _warned(node, target) else target
    if product(target) == x.elements:
        return target
    for axis, size in enumerate(target):
        others = product([*target[:axis], *target[axis + 1 :]])
        replaced = exact_div(x.elements, others) if size == old and others != 0 else None
        if replaced is not None and _warned(node, target):
            return [*target[:axis], replaced, *target[axis + 1 :]]
    return target


def _warned(node: Node, target: Sequence[Size]) -> bool:
    node.warn(f"the file fixes the batch in the target [{_listed(target)}]; the given batch is used instead")
    return True


def _unknown_target(node: Node, x: Value) -> Shape:
    """A target that depends on data: as declared in the file, else all elements along the last axis."""
    hint = node.context.hint(node.out_names[0])
    if hint is not None:
        return hint[0]  # type: ignore[no-any-return]
    length = node.value(1).elements
    rank = length if isinstance(length, int) else 1
    node.warn(f"the target depends on data; taken as {rank} axes of which the last holds all elements")
    return (1,) * (rank - 1) + (x.elements,)


def _listed(sizes: Sequence[Size]) -> str:
    return ", ".join(map(str, sizes))


# ---- types --------------------------------------------------------------------------------------------------------


@rule("Cast")
def cast(node: Node) -> None:
    _as_type(node, dtype_of(node.attr("to"), node.value(0).dtype))


@rule("CastLike")
def cast_like(node: Node) -> None:
    _as_type(node, node.value(1).dtype)


def _as_type(node: Node, dtype: str) -> None:
    x = node.value(0)
    node.result(x.shape, dtype, x.data if x.dtype == dtype else None)
    if x.dtype == dtype:
        node.emit("view", ins=(x,), function="cast")
    else:
        node.emit("copy", ins=(x,), function="cast")


@rule("BitCast")
def bit_cast(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape, dtype_of(node.attr("to"), x.dtype))
    node.emit("view", ins=(x,), function="bit_cast")


# ---- constants ----------------------------------------------------------------------------------------------------

_CONSTANTS = {
    "value_float": "fp32", "value_floats": "fp32", "value_int": "int64", "value_ints": "int64",
    "value_string": "string", "value_strings": "string",
}  # fmt: skip


@rule("Constant")
def constant(node: Node) -> None:
    lowering, name = node.context.lowering, node.out_names[0]
    tensor, sparse = node.attr("value"), node.attr("sparse_value")
    if sparse is not None:
        tensor = onnx.TensorProto(dims=sparse.dims, data_type=sparse.values.data_type)
    if tensor is not None:
        role = "constant" if product(tensor.dims) == 1 else None
        node.same(0, lowering.initializer(name, tensor, role))
        return
    kind = next((key for key in _CONSTANTS if key in node.attrs), None)
    if kind is None:
        node.fail("no value", "one of value, sparse_value, " + ", ".join(_CONSTANTS))
    data = node.attr(kind)
    data, shape = (tuple(data), (len(data),)) if kind.endswith("s") else ((data,), ())
    known = data if len(data) <= MAX_KNOWN else None
    node.same(0, lowering.constant(name, shape, _CONSTANTS[kind], known, role_of(_CONSTANTS[kind], shape)))


@rule("ConstantOfShape")
def constant_of_shape(node: Node) -> None:
    """Fills a shape. A float fill of a shape that the file fixes stands for a weight that was taken out of it."""
    target, fill = node.known(0), node.attr("value")
    dtype = "fp32" if fill is None else dtype_of(fill.data_type, "fp32")
    element = (0.0,) if fill is None else content(fill)
    if target is None:
        target = _unknown_fill(node)
    count = product(target)
    known = element is not None and isinstance(count, int) and 0 <= count <= MAX_KNOWN
    data = (element or ()) * int(count) if known and isinstance(count, int) else None
    value = node.result(tuple(target), dtype, data)
    if dtype in WEIGHTS and _is_weight(node, element, target):
        node.context.lowering.make_weight(value)
    if not value.fixed:
        node.emit("copy", ins=(), function="fill")


def _is_weight(node: Node, element: tuple[Any, ...] | None, target: Sequence[Size]) -> bool:
    static = node.value(0).name in node.context.lowering.static
    return static and element is not None and element[0] != 0 and len(target) > 0


def _unknown_fill(node: Node) -> Shape:
    hint = node.context.hint(node.out_names[0])
    if hint is not None:
        return hint[0]  # type: ignore[no-any-return]
    node.warn("the shape depends on data; taken as 1 along each axis")
    return (1,) * rank_of(node, node.value(0), 1)


@rule("EyeLike")
def eye_like(node: Node) -> None:
    node.result(node.value(0).shape, dtype_of(node.attr("dtype"), node.value(0).dtype), fixed=True)


@rule("Range")
def range_(node: Node) -> None:
    """``max(ceil((limit - start) / delta), 0)`` elements."""
    dtype, ends = node.value(0).dtype, [node.known(index) for index in range(3)]
    if any(end is None for end in ends):
        node.result((_unknown_length(node),), dtype)
        node.emit("copy", ins=(), function="range")
        return
    start, limit, delta = (end[0] for end in ends if end is not None)
    node.result((range_length(node, start, limit, delta),), dtype)


def _unknown_length(node: Node) -> Size:
    """Of a range whose ends depend on data."""
    hint = node.context.hint(node.out_names[0])
    return free_size(node, "length") if hint is None else hint[0][0]


def range_length(node: Node, start: Any, limit: Any, delta: Any) -> Size:
    """Elements of a range; each of the three a Size, a float or a Ratio."""
    try:
        count = ratio.truncated(ratio.ceil(ratio.divide(ratio.subtract(limit, start), delta)))
        return ratio.truncated(ratio.largest(count, 0))
    except ratio.Undecided:
        node.fail(f"a range from {start} to {limit} by {delta}", "a step that is a number other than 0")
