"""Pooling and resampling."""

from __future__ import annotations

from wattir.dims import Size, ceildiv, maximum, product
from wattir.frontends.torch.node import Node, rule

POOLS = {
    "avg_pool1d": "average", "avg_pool2d": "average", "avg_pool3d": "average", "max_pool1d": "max", "max_pool2d": "max",
    "max_pool3d": "max", "max_pool1d_with_indices": "max", "max_pool2d_with_indices": "max",
    "max_pool3d_with_indices": "max", "mkldnn_max_pool2d": "max", "mkldnn_max_pool3d": "max",
    "quantized_max_pool1d": "max", "quantized_max_pool2d": "max", "fractional_max_pool2d": "max",
    "fractional_max_pool3d": "max", "lp_pool1d": "lp", "lp_pool2d": "lp",
    "_low_memory_max_pool_with_offsets": "max", "_low_memory_max_pool2d_with_offsets": "max",
}  # fmt: skip


@rule(*POOLS)
def pool(node: Node) -> None:
    rank = int(next(letter for letter in node.op if letter.isdigit()))
    window = product(node.ints(1, "kernel_size", rank))
    node.emit("pooling", function=POOLS[node.op], window=window)


@rule("_low_memory_max_pool_with_offsets", "_low_memory_max_pool2d_with_offsets", space="prims")
def low_memory_pool(node: Node) -> None:
    node.emit("pooling", function="max", window=product(node.ints(1, "kernel_size", 2)))


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
      "_adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
      "mkldnn_adaptive_avg_pool2d")  # fmt: skip
def adaptive_pool(node: Node) -> None:
    """Windows that cover the input: their size is the ratio of the shapes."""
    rank = int(next(letter for letter in node.op if letter.isdigit()))
    x = node.tensor(0)
    pairs = zip(x.shape[-rank:], node.out.shape[-rank:], strict=True)
    window = product(ceildiv(size, out) if out != 0 else 1 for size, out in pairs)
    if all(size == out for size, out in zip(x.shape, node.out.shape, strict=True)):
        node.same(x)
        return
    node.emit("pooling", function="max" if "max" in node.op else "average", window=window)


TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 4, "lanczos": 6}


def _resize(node: Node) -> None:
    """Taps along each axis that changes; an antialiased filter that shrinks is wider by the scale."""
    x = node.tensor(0)
    modes = ("nearest", "trilinear", "bilinear", "linear", "bicubic", "lanczos")
    mode = next(mode for mode in modes if mode in node.op)
    wide = node.op.endswith("_aa")
    taps: Size = 1
    for before, after in zip(x.shape, node.out.shape, strict=True):
        if before != after:
            taps = taps * TAPS[mode] * (maximum(1, ceildiv(before, after)) if wide and after != 0 else 1)
    node.emit("resize", ins=(x,), function=mode.removeprefix("bi").removeprefix("tri"), taps=taps)


for _op in (
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
    "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    "_upsample_lanczos2d_aa", "__upsample_bilinear", "__upsample_nearest",
):  # fmt: skip
    rule(_op)(_resize)


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "_grid_sampler_2d_cpu_fallback", "cudnn_grid_sampler")
def grid_sampler(node: Node) -> None:
    """interpolation_mode 0 linear, 1 nearest, 2 cubic."""
    x = node.tensor(0)
    taps = {0: 2, 1: 1, 2: 4}.get(node.arg(2, "interpolation_mode", 0), 2)
    node.emit("resize", function="grid_sample", taps=taps ** (x.rank - 2))


@rule("affine_grid_generator")
def affine_grid(node: Node) -> None:
    """theta [n, d, d + 1] times the homogeneous coordinates of every place."""
    theta = node.tensor(0)
    rank = theta.shape[1]
    places = product(node.out.shape[1:-1])
    node.emit("matmul", groups=theta.shape[0], m=places, n=rank, k=theta.shape[2])


@rule("col2im")
def col2im(node: Node) -> None:
    node.emit("reduction", function="col2im", length=maximum(node.tensor(0).elements // product(node.out.shape), 1))


@rule("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", space="torchvision")
def roi_align(node: Node) -> None:
    """sampling_ratio squared samples for each output, each of 4 taps; a ratio that depends on the region is 2."""
    ratio = node.arg(5, "sampling_ratio", 0) if node.op == "roi_align" else 1
    samples = ratio if isinstance(ratio, int) and ratio > 0 else 2
    node.emit("pooling", function=node.op, window=4 * samples * samples)
