"""Pooling of every kind, over [n, c, spatial ..]."""

from __future__ import annotations

from wattir.dims import Size, ceildiv, product
from wattir.frontends.onnx.broadcast import Shape, text, transposed_out, windows_out
from wattir.frontends.onnx.node import Node, rule

POOLS = {"AveragePool": "average", "MaxPool": "max", "LpPool": "lp"}
GLOBAL_POOLS = {"GlobalAveragePool": "average", "GlobalMaxPool": "max", "GlobalLpPool": "lp"}


def pooled_shape(node: Node, shape: Shape, *, last: bool = False) -> Shape:
    """The output of a pooling over `shape`; `last`: channels are the last axis."""
    spatial = shape[1:-1] if last else shape[2:]
    kernel = kernel_of(node, len(spatial))
    out = windows_out(node, spatial, kernel, bool(node.attr("ceil_mode", 0)))
    return (shape[0], *out, shape[-1]) if last else (*shape[:2], *out)


def kernel_of(node: Node, rank: int) -> Shape:
    """kernel_shape, which must have one number for each spatial axis."""
    kernel = tuple(node.attr("kernel_shape") or ())
    if len(kernel) != rank:
        node.fail(f"kernel_shape {kernel} on {rank} spatial axes", f"{rank} numbers")
    return kernel


@rule(*POOLS)
def pool(node: Node) -> None:
    x = node.value(0)
    shape = pooled_shape(node, x.shape)
    node.result(shape)
    if node.wanted(1):
        node.result(shape, "int64", index=1)
    node.emit("pooling", function=POOLS[node.op], window=product(kernel_of(node, x.rank - 2)))


@rule(*GLOBAL_POOLS)
def global_pool(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape[:2] + (1,) * (x.rank - 2))
    node.emit("pooling", function=GLOBAL_POOLS[node.op], window=product(x.shape[2:]))


@rule("MaxUnpool")
def max_unpool(node: Node) -> None:
    """Each input element goes to its index in an output of the pool's input size, or of the size in input 2."""
    x = node.value(0)
    given = node.known(2)
    if given is None and node.given(2):
        node.warn("the output shape is not known; taken as what the kernel gives")
    spatial = transposed_out(node, x.shape[2:], kernel_of(node, x.rank - 2))
    node.result(given or (*x.shape[:2], *spatial))
    node.emit("copy", ins=(x, node.value(1)), function="max_unpool")


@rule("MaxRoiPool")
def max_roi_pool(node: Node) -> None:
    """[rois, c, *pooled]; a region is at most the whole image, and its windows are taken as that large."""
    x, rois = node.value(0), node.value(1)
    pooled = tuple(node.attr("pooled_shape"))
    node.result((rois.shape[0], x.shape[1], *pooled))
    node.warn("the windows are bounded by their maximum, a region of the whole image")
    window = product(ceildiv(size, out) for size, out in zip(x.shape[2:], pooled, strict=True))
    node.emit("pooling", function="max_roi", window=window)


@rule("RoiAlign")
def roi_align(node: Node) -> None:
    """[rois, c, h, w]: sampling_ratio squared samples for each output, each of 4 taps."""
    x, rois = node.value(0), node.value(1)
    node.result((rois.shape[0], x.shape[1], node.attr("output_height", 1), node.attr("output_width", 1)))
    ratio: Size = node.attr("sampling_ratio", 0)
    if ratio == 0:
        node.warn("sampling_ratio 0 depends on each region's size; taken as 2")
        ratio = 2
    function = "roi_align_" + text(node.attr("mode", "avg"))
    node.emit("resize", function=function, taps=4 * ratio * ratio)
