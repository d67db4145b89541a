"""Arithmetic on shapes that rules share: broadcasting, axes, and the sizes of sliding windows. All on Sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wattir.dims import Dim, Size, ceildiv, maximum, minimum
from wattir.errors import SizeError
from wattir.frontends.onnx.node import Node, Value

Shape = tuple[Size, ...]


def broadcast(*shapes: Shape) -> Shape:
    """The shape that all `shapes` broadcast to (numpy's rule); SizeError where two numbers clash.

    A number over 1 wins over a formula, which must then be that number or 1. Of two formulas the larger is taken:
    valid models have them equal, or one of them 1.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_one_axis(sizes, shapes) for sizes in zip(*padded, strict=True))


def broadcast_of(node: Node, *values: Value) -> Shape:
    """`broadcast` of some values; a clash is reported with the node it is in."""
    try:
        return broadcast(*(value.shape for value in values))
    except SizeError as error:
        node.fail(str(error), "shapes that broadcast", "check the model with onnx.checker, or fix its free dims")


def _one_axis(sizes: Sequence[Size], shapes: Sequence[Shape]) -> Size:
    wide = [size for size in dict.fromkeys(sizes) if size != 1]
    numbers = [size for size in wide if isinstance(size, int)]
    if len(numbers) > 1:
        listed = " and ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
        raise SizeError(f"shapes {listed} do not broadcast")
    if numbers:
        return numbers[0]
    largest: Size = 1
    for size in wide:
        largest = maximum(largest, size)
    return largest


def axis_of(node: Node, axis: int, rank: int) -> int:
    """`axis` counted from the front; a node with an axis out of range is refused."""
    if not -rank <= axis < max(rank, 1):
        node.fail(f"axis {axis} of a tensor with {rank} axes", f"-{rank} to {rank - 1}")
    return axis % rank if rank else 0


def axes_of(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """`axis_of` for several, in rising order and each once."""
    return tuple(sorted({axis_of(node, int(axis), rank) for axis in axes}))


def ints(node: Node, index: int, name: str) -> tuple[Size, ...] | None:
    """Numbers that are an attribute in old opsets and input `index` in new ones; None where absent or not known."""
    found = node.attr(name)
    if found is None:
        found = node.known(index)
    if found is None:
        return None
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def effective(kernel: Shape, dilations: Shape) -> Shape:
    """The extent of a dilated kernel: ``(k - 1) * d + 1``."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def window_attrs(node: Node, rank: int) -> tuple[Shape, Shape, Shape, str]:
    """strides, dilations, pads (all begins, then all ends) and auto_pad of a node with `rank` spatial axes."""
    auto_pad = text(node.attr("auto_pad", "NOTSET"))
    pads = tuple(node.attr("pads") or (0,) * (2 * rank))
    if auto_pad != "NOTSET":
        pads = (0,) * (2 * rank)
    strides = tuple(node.attr("strides") or (1,) * rank)
    dilations = tuple(node.attr("dilations") or (1,) * rank)
    if not len(pads) == 2 * len(strides) == 2 * len(dilations) == 2 * rank:
        node.fail(f"strides {strides}, dilations {dilations}, pads {pads}", f"{rank}, {rank} and {2 * rank} numbers")
    return strides, dilations, pads, auto_pad


def windows_out(node: Node, sizes: Shape, kernel: Shape, ceil_mode: bool = False) -> Shape:
    """Spatial output of a convolution or pooling over `sizes`, from the node's attributes.

    NOTSET: ``(in + pads - extent) // stride + 1``. With `ceil_mode` the division is rounded up, but no window starts
    in the padding at the end. VALID: no pads. SAME_*: ``ceil(in / stride)``.
    """
    strides, dilations, pads, auto_pad = window_attrs(node, len(sizes))
    extents = effective(kernel, dilations)
    if auto_pad.startswith("SAME"):
        return tuple(ceildiv(size, stride) for size, stride in zip(sizes, strides, strict=True))
    begins, ends = pads[: len(sizes)], pads[len(sizes) :]
    axes = zip(sizes, extents, strides, begins, ends, strict=True)
    return tuple(_windows(*axis, ceil_mode and auto_pad == "NOTSET") for axis in axes)


def _windows(size: Size, extent: Size, stride: Size, begin: Size, end: Size, ceil_mode: bool) -> Size:
    free = size + begin + end - extent
    if not ceil_mode:
        return free // stride + 1
    return minimum(ceildiv(free, stride) + 1, (size + begin - 1) // stride + 1)


def transposed_out(node: Node, sizes: Shape, kernel: Shape) -> Shape:
    """Spatial output of a transposed convolution: output_shape, or ``stride * (in - 1) + extent - pads + extra``."""
    strides, dilations, pads, auto_pad = window_attrs(node, len(sizes))
    given = node.attr("output_shape")
    if given:
        return tuple(given[-len(sizes) :])
    extra = tuple(node.attr("output_padding") or (0,) * len(sizes))
    if auto_pad.startswith("SAME"):
        return tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    extents = effective(kernel, dilations)
    sums = [pads[axis] + pads[axis + len(sizes)] for axis in range(len(sizes))]
    axes = zip(sizes, strides, extents, sums, extra, strict=True)
    return tuple((size - 1) * stride + extent - pad + add for size, stride, extent, pad, add in axes)


def text(value: Any) -> str:
    """A text attribute, which files hold as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def is_number(value: Any) -> bool:
    """Whether a known element is a size (a Dim or an int), rather than a float, a bool or a text."""
    return isinstance(value, (int, Dim)) and not isinstance(value, bool)
