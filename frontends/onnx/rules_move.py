"""Ops that move elements and compute nothing: transpose, concat, split, slice, gather, expand, tile, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wattir.dims import Size, bounds, ceildiv, maximum, minimum
from wattir.errors import SizeError
from wattir.frontends.onnx.broadcast import axis_of, broadcast, ints
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.unknown_sizes import rank_of

Shape = tuple[Size, ...]
FAR = 1 << 30  # an end past this is "to the end", whatever the dim


@rule("Transpose")
def transpose(node: Node) -> None:
    x = node.value(0)
    perm = tuple(axis_of(node, axis, x.rank) for axis in node.attr("perm") or range(x.rank)[::-1])
    if sorted(perm) != list(range(x.rank)):
        node.fail(f"perm {list(perm)} of a tensor with {x.rank} axes", "each axis once")
    shape = tuple(x.shape[axis] for axis in perm)
    node.result(shape)
    wide = [axis for axis in perm if x.shape[axis] != 1]
    if wide == sorted(wide):  # only axes of size 1 change places
        node.emit("view", ins=(x,), function="transpose")
    else:
        node.emit("copy", ins=(x,), function="transpose")


@rule("Concat")
def concat(node: Node) -> None:
    values = [v for v in node.ins if v is not None]
    if not values:
        node.fail("no inputs", "at least one")
    axis = axis_of(node, node.attr("axis", 1 if node.opset < 4 else 0), values[0].rank)
    node.result(joined(node, [v.shape for v in values], axis))
    node.emit("copy", function="concat")


def joined(node: Node, shapes: Sequence[Shape], axis: int) -> Shape:
    """Shapes one after the other along `axis`; along the others a number wins over a formula."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        listed = " and ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
        node.fail(f"shapes {listed}", "as many axes in each")
    total: Size = sum((shape[axis] for shape in shapes), start=0)
    return tuple(total if i == axis else _agreed(node, sizes) for i, sizes in enumerate(zip(*shapes, strict=True)))


def _agreed(node: Node, sizes: Sequence[Size]) -> Size:
    numbers = sorted({size for size in sizes if isinstance(size, int)})
    if len(numbers) > 1:
        node.fail(f"sizes {numbers[0]} and {numbers[1]} on another axis", "the same")
    return numbers[0] if numbers else sizes[0]


# ---- Split --------------------------------------------------------------------------------------------------------


@rule("Split")
def split(node: Node) -> None:
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", 0), x.rank)
    for index, size in enumerate(_split_sizes(node, x.shape[axis])):
        node.result((*x.shape[:axis], size, *x.shape[axis + 1 :]), index=index)
    node.emit("copy", ins=(x,), function="split")


def _split_sizes(node: Node, size: Size) -> list[Size]:
    count = len(node.out_names)
    given = ints(node, 1, "split")
    if given is not None:
        if len(given) != count:
            node.fail(f"{len(given)} sizes for {count} outputs", "one for each")
        return list(given)
    if node.given(1):
        node.warn("the sizes depend on data; taken as equal")
    part = ceildiv(size, node.attr("num_outputs") or count)
    return [*[part] * (count - 1), size - part * (count - 1)]


# ---- Slice --------------------------------------------------------------------------------------------------------


@rule("Slice")
def slice_(node: Node) -> None:
    x = node.value(0)
    starts, ends = ints(node, 1, "starts"), ints(node, 2, "ends")
    count = len(starts or ends or ()) or _length(node, x)
    axes = ints(node, 3, "axes") or range(count)
    steps = ints(node, 4, "steps") or (1,) * count
    shape = list(x.shape)
    unknown: Sequence[Any] = (None,) * count
    for axis, start, end, step in zip(axes, starts or unknown, ends or unknown, steps, strict=True):
        at = axis_of(node, int(axis), x.rank)  # type: ignore[arg-type]
        shape[at] = _kept(node, shape[at], start, end, step)
    node.result(tuple(shape))
    same = tuple(shape) == x.shape and all(step == 1 for step in steps)
    node.emit("view" if same else "copy", ins=(x,), function="slice")


def _length(node: Node, x: Value) -> int:
    """How many axes are cut, where neither starts nor ends are known."""
    return rank_of(node, node.value(1), x.rank) if node.given(1) else 0


def _kept(node: Node, size: Size, start: Any, end: Any, step: Any) -> Size:
    """Elements left of an axis of `size`; unknown ends cut nothing off."""
    if not isinstance(step, int) or step == 0:
        node.fail(f"step {step}", "a number other than 0")
    if start is None or end is None:
        apart = _apart(node) if start is None and end is None else None
        if apart is not None:
            return ceildiv(minimum(apart, size), abs(step))
        node.warn("what it cuts off depends on data; bounded by its maximum")
        if start is None and end is None:
            return ceildiv(size, abs(step))
    if step < 0:
        start, end = (size - 1 if start is None else start), (-FAR * 2 if end is None else end)
        first = _clamped(start, size, 0, size - 1)
        last: Size = -1 if isinstance(end, int) and end <= -FAR else _clamped(end, size, -1, size - 1)
        return maximum(ceildiv(first - last, -step), 0)
    first = _clamped(0 if start is None else start, size, 0, size)
    last = size if end is None else _clamped(end, size, 0, size)
    return maximum(ceildiv(last - first, step), 0)


def _apart(node: Node) -> int | None:
    """By how much the end exceeds the start, where both are made from one number (``x[i : i + 1]`` in a loop)."""
    offsets = node.context.lowering.offsets
    (start, first), (end, last) = (offsets.get(v.name, (v.name, 0)) for v in (node.value(1), node.value(2)))
    return last - first if start == end and last > first else None


def _clamped(position: Size, size: Size, low: Size, high: Size) -> Size:
    """A position counted from the front, within `low` and `high`; negative ones count from the end."""
    if isinstance(position, int) and position >= FAR and not isinstance(size, int):
        return high
    if _is_negative(position):
        position = position + size
    return minimum(maximum(position, low), high)


def _is_negative(position: Size) -> bool:
    return bounds(position)[1] < 0


# ---- Gather, Expand, Tile, Pad ------------------------------------------------------------------------------------


@rule("Gather")
def gather(node: Node) -> None:
    """Slices of the first input along one axis, one for each index."""
    x, indices = node.value(0), node.value(1)
    axis = axis_of(node, node.attr("axis", 0), x.rank)
    node.result((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    embedding = x.fixed and axis == 0 and x.rank == 2
    node.emit("gather", function="embedding" if embedding else "gather")


@rule("Expand")
def expand(node: Node) -> None:
    x, target = node.value(0), node.known(1)
    try:
        shape = broadcast(x.shape, tuple(target)) if target is not None else _hinted(node, x, node.value(1))
    except SizeError as error:
        node.fail(str(error), "a shape that the input's broadcasts to")
    node.result(shape)
    node.emit("view" if shape == x.shape else "copy", ins=(x,), function="expand")


def _hinted(node: Node, x: Value, numbers: Value) -> Shape:
    """A shape that depends on data: as the file declares it, else like the input's."""
    hint = node.context.hint(node.out_names[0])
    if hint is not None:
        return hint[0]  # type: ignore[no-any-return]
    rank = rank_of(node, numbers, x.rank)
    node.warn("the shape depends on data; taken like the input's")
    return (1,) * (rank - x.rank) + x.shape


@rule("Tile")
def tile(node: Node) -> None:
    x, repeats = node.value(0), node.known(1)
    if repeats is None:
        shape = _hinted(node, x, node.value(1))
    elif len(repeats) != x.rank:
        node.fail(f"{len(repeats)} repeats for {x.rank} axes", "one for each")
    else:
        shape = tuple(size * times for size, times in zip(x.shape, repeats, strict=True))
    node.result(shape)
    node.emit("view" if shape == x.shape else "copy", ins=(x,), function="tile")


@rule("Pad")
def pad(node: Node) -> None:
    x, pads = node.value(0), ints(node, 1, "pads")
    if pads is None:
        shape = _hinted(node, x, x)
    else:
        axes = [axis_of(node, int(axis), x.rank) for axis in node.known(3) or range(x.rank)]
        if len(pads) != 2 * len(axes):
            node.fail(f"{len(pads)} pads for {len(axes)} axes", f"{2 * len(axes)}")
        added = dict(zip(axes, (a + b for a, b in zip(pads, pads[len(axes) :], strict=False)), strict=True))
        shape = tuple(size + added.get(axis, 0) for axis, size in enumerate(x.shape))
    node.result(shape)
    node.emit("view" if shape == x.shape else "copy", ins=(x,), function="pad")
