"""Resampling: Resize of all opsets, pixel shuffles, sampling at grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from wattir.dims import Size, ceildiv, maximum, product
from wattir.frontends.onnx import ratio
from wattir.frontends.onnx.broadcast import Shape, axis_of, text
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.unknown_sizes import declared, free_size

TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}  # along one axis


@rule("Upsample")
def upsample(node: Node) -> None:
    """Scales are an attribute (opset 7; in opset 1 one for height and one for width), then input 1."""
    x = node.value(0)
    scales = node.attr("scales") or node.known(1)
    if node.attr("height_scale") is not None:
        scales = (1.0, 1.0, node.attr("height_scale"), node.attr("width_scale"))
    _resized(node, x, scales, None, tuple(range(x.rank)))


@rule("Resize")
def resize(node: Node) -> None:
    """Opset 10: X, scales. Since 11: X, roi, scales, sizes, of which one of the last two; since 18 on some axes."""
    x = node.value(0)
    axes = tuple(axis_of(node, axis, x.rank) for axis in node.attr("axes") or range(x.rank))
    if node.opset < 11:
        _resized(node, x, node.known(1), None, axes)
        return
    sizes = node.known(3) or None
    scales = node.known(2) or None
    _resized(node, x, scales if sizes is None else None, sizes, axes)


def _resized(
    node: Node, x: Value, scales: Sequence[float] | None, sizes: Sequence[Size] | None, axes: tuple[int, ...]
) -> None:
    shape = list(x.shape)
    targets = _targets(node, x, scales, sizes, axes)
    for axis, target in zip(axes, targets, strict=True):
        shape[axis] = target
    node.result(tuple(shape))
    mode = text(node.attr("mode", "nearest"))
    if mode not in TAPS:
        node.fail(f"mode {mode!r}", f"one of {', '.join(TAPS)}")
    taps: Size = 1
    for before, after in zip(x.shape, shape, strict=True):
        if before != after:
            taps = taps * TAPS[mode] * _antialias(node, before, after)
    node.emit("resize", ins=(x,), function=mode.removeprefix("bi"), taps=taps)


def _targets(
    node: Node, x: Value, scales: Sequence[float] | None, sizes: Sequence[Size] | None, axes: tuple[int, ...]
) -> Sequence[Size]:
    """The new size of each of `axes`."""
    before = [x.shape[axis] for axis in axes]
    if sizes is not None and len(sizes) == len(axes):
        return _kept_ratio(node, before, sizes)
    if scales is not None and len(scales) == len(axes):
        if text(node.attr("coordinate_transformation_mode", "")) == "tf_crop_and_resize":
            scales = _cropped(node, scales, axes, x.rank)
        return [ratio.truncated(ratio.floor(ratio.multiply(*pair))) for pair in zip(before, scales, strict=True)]
    hint = declared(node)
    if hint is not None:
        return [hint[axis] for axis in axes]
    return [x.shape[axis] if axis < 2 < x.rank else free_size(node, f"size_{axis}") for axis in axes]


def _cropped(node: Node, scales: Sequence[float], axes: tuple[int, ...], rank: int) -> list[float]:
    """Scales of the part of each axis that the region of interest (starts, then ends, in 0..1) keeps."""
    roi = node.known(1)
    if not roi or len(roi) != 2 * len(axes):
        return list(scales)
    return [scale * (roi[at + len(axes)] - roi[at]) for at, scale in enumerate(scales)]


def _kept_ratio(node: Node, before: Sequence[Size], sizes: Sequence[Size]) -> Sequence[Size]:
    """keep_aspect_ratio_policy: the same scale for all axes, the least (not_larger) or greatest (not_smaller)."""
    policy = text(node.attr("keep_aspect_ratio_policy", "stretch"))
    if policy == "stretch":
        return sizes
    if not all(isinstance(size, int) for size in (*before, *sizes)):
        node.warn(f"{policy} of sizes that are free; taken as stretch")
        return sizes
    ratios = [int(size) / int(old) for size, old in zip(sizes, before, strict=True)]  # type: ignore[arg-type]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(int(old) * scale + 0.5) for old in before]  # type: ignore[arg-type]


def _antialias(node: Node, before: Size, after: Size) -> Size:
    """A shrinking filter with antialiasing is wider by the scale."""
    if not node.attr("antialias", 0) or not isinstance(before, int) or not isinstance(after, int) or not after:
        return 1
    return maximum(1, ceildiv(before, after))


def _shuffle(node: Node, function: str) -> None:
    x = node.value(0)
    block = int(node.attr("blocksize", 1))
    batch, channels, height, width = x.shape
    if function == "depth_to_space":
        shape: Shape = (batch, channels // (block * block), height * block, width * block)
    else:
        shape = (batch, channels * (block * block), height // block, width // block)
    node.result(shape)
    node.emit("copy", function=function)


rule("DepthToSpace")(partial(_shuffle, function="depth_to_space"))
rule("SpaceToDepth")(partial(_shuffle, function="space_to_depth"))


@rule("GridSample")
def grid_sample(node: Node) -> None:
    """x [n, c, ..] at grid [n, *out, d] gives [n, c, *out]."""
    x, grid = node.value(0), node.value(1)
    node.result((*x.shape[:2], *grid.shape[1:-1]))
    mode = text(node.attr("mode", "linear"))
    node.emit("resize", function="grid_sample", taps=TAPS.get(mode, 2) ** (x.rank - 2))


@rule("AffineGrid")
def affine_grid(node: Node) -> None:
    """theta [n, d, d + 1] times the homogeneous coordinates of every place of an output [n, c, *spatial]."""
    theta = node.value(0)
    size = node.known(1)
    if size is None:
        hint = declared(node)
        spatial_rank = int(theta.shape[1]) if isinstance(theta.shape[1], int) else 2
        places = hint[1:-1] if hint else tuple(free_size(node, f"size_{axis}") for axis in range(spatial_rank))
        size = (theta.shape[0], 1, *places)
    spatial = tuple(size[2:])
    node.result((size[0], *spatial, len(spatial)), theta.dtype)
    rank = len(spatial)
    node.emit("matmul", ins=(theta,), groups=size[0], m=product(spatial), n=rank, k=rank + 1)


@rule("Col2Im")
def col2im(node: Node) -> None:
    """[n, c * block, l] columns are summed into [n, c, *image]."""
    x = node.value(0)
    image, block = node.known(1), node.known(2)
    if image is None or block is None:
        node.fail("image_shape or block_shape is not known", "constants")
    node.result((x.shape[0], x.shape[1] // product(block), *image))
    node.emit("reduction", ins=(x,), function="col2im", length=product(block))  # at most, where blocks overlap most


@rule("CenterCropPad")
def center_crop_pad(node: Node) -> None:
    """Some axes are cut or padded to the sizes of input 1."""
    x, target, hint = node.value(0), node.known(1), declared(node)
    axes = [axis_of(node, axis, x.rank) for axis in node.attr("axes") or range(x.rank)]
    if target is None:
        target = tuple(hint[axis] if hint else free_size(node, f"size_{axis}") for axis in axes)
    sizes = dict(zip(axes, target, strict=True))
    node.result(tuple(sizes.get(axis, size) for axis, size in enumerate(x.shape)))
    node.emit("copy", ins=(x,), function="crop_pad")


@rule("ImageDecoder")
def image_decoder(node: Node) -> None:
    """Height and width are in the encoded bytes; they become free dims of the node."""
    channels = 1 if text(node.attr("pixel_format", "RGB")) == "Grayscale" else 3
    node.result((free_size(node, "height"), free_size(node, "width"), channels), "uint8")
    node.emit("host", function="image_decoder")
