"""MobileNets and EfficientNet-Lites as kernels, from the names that MLPerf's open division gives them.

    v1  Howard et al. 2017, arXiv:1704.04861        v2  Sandler et al. 2018, arXiv:1801.04381
    v3  Howard et al. 2019, arXiv:1905.02244; `minimalistic`: kernels of 3, no squeeze-and-excitation
    Lite  EfficientNet (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation, stem and head unscaled

Each ends in a pooling and a classifier of 1,001 classes. Activations and residual sums are epilogues of convolutions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

CLASSES = 1001
Block = tuple[int, int, int, int, bool]
"""Kernel, channels inside, channels out, stride, squeeze-and-excitation."""

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
V2 = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3), (6, 160, 3, 2, 3),
      (6, 320, 1, 1, 3))  # fmt: skip
LITE = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3))  # fmt: skip
"""Expansion, channels, repeats, stride, kernel of each stage."""
SCALES = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))
"""Width, depth and image of EfficientNet-Lite 0 to 4."""
V3_LARGE: tuple[Block, ...] = (
    (3, 16, 16, 1, False), (3, 64, 24, 2, False), (3, 72, 24, 1, False), (5, 72, 40, 2, True), (5, 120, 40, 1, True),
    (5, 120, 40, 1, True), (3, 240, 80, 2, False), (3, 200, 80, 1, False), (3, 184, 80, 1, False),
    (3, 184, 80, 1, False), (3, 480, 112, 1, True), (3, 672, 112, 1, True), (5, 672, 160, 2, True),
    (5, 960, 160, 1, True), (5, 960, 160, 1, True),
)  # fmt: skip
V3_SMALL: tuple[Block, ...] = (
    (3, 16, 16, 2, True), (3, 72, 24, 2, False), (3, 88, 24, 1, False), (5, 96, 40, 2, True), (5, 240, 40, 1, True),
    (5, 240, 40, 1, True), (5, 120, 48, 1, True), (5, 144, 48, 1, True), (5, 288, 96, 2, True), (5, 576, 96, 1, True),
    (5, 576, 96, 1, True),
)  # fmt: skip
NAMES = (
    (re.compile(r"mobilenet-v1-(?P<width>[\d.]+)-(?P<side>\d+)-(?:non-)?quantized"), "v1"),
    (re.compile(r"mobilenet-v2-(?P<width>[\d.]+)-(?P<side>\d+)-(?:non-)?quantized"), "v2"),
    (re.compile(r"efficientnet-lite(?P<size>[0-4])-(?:non-)?quantized"), "lite"),
    (re.compile(r"mobilenet-v3-(?P<kind>large|small)(?P<minimal>-minimalistic)?_(?P<side>\d+)_(?P<width>[\d.]+)_\w+"),
     "v3"),
)  # fmt: skip


@lru_cache
def network(name: str, dtype: str) -> tuple[Work, ...] | None:
    """The Work of one image; None where the name is of no such network."""
    for pattern, kind in NAMES:
        found = pattern.fullmatch(name)
        if found:
            return tuple(tabulate(graph)[0] for graph in MAKERS[kind](found.groupdict(), dtype))
    return None


class _Image:
    """Makes layers one after the other, keeping channels and side of what they pass on."""

    def __init__(self, side: int, dtype: str) -> None:
        self.channels, self.side, self.dtype = 3, side, dtype

    def conv(self, out: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> Graph:
        groups = self.channels if depthwise else 1
        side, self.side = self.side, math.ceil(self.side / stride)
        channels, self.channels = self.channels, out
        return layers.conv(1, channels, out, (side, side), (kernel, kernel), self.dtype, stride=stride, groups=groups)

    def inverted(self, kernel: int, inside: int, out: int, stride: int, squeeze: bool = False) -> Iterator[Graph]:
        """Expand, filter, project; a squeeze is a pooling and two products of a quarter of the width."""
        if inside != self.channels:
            yield self.conv(inside, 1)
        yield self.conv(inside, kernel, stride, depthwise=True)
        if squeeze:
            narrow = rounded(inside / 4)
            yield self.pooled()
            yield layers.matmul(1, narrow, inside, self.dtype)
            yield layers.matmul(1, inside, narrow, self.dtype)
            yield layers.pointwise(inside * self.side**2, self.dtype, operands=2)
        yield self.conv(out, 1)

    def pooled(self) -> Graph:
        shape = (1, self.channels, self.side, self.side)
        return layers.pooling(shape, (1, self.channels, 1, 1), self.side**2, self.dtype)

    def classified(self, hidden: int = 0) -> Iterator[Graph]:
        yield self.pooled()
        if hidden:
            yield layers.matmul(1, hidden, self.channels, self.dtype)
        yield layers.matmul(1, CLASSES, hidden or self.channels, self.dtype)


def rounded(width: float) -> int:
    """To a multiple of 8, at least 8, and no more than a tenth less than asked for."""
    found = max(8, int(width + 4) // 8 * 8)
    return found + 8 if found < 0.9 * width else found


def _v1(sizes: dict[str, str], dtype: str) -> Iterator[Graph]:
    image, width = _Image(int(sizes["side"]), dtype), float(sizes["width"])
    yield image.conv(max(int(32 * width), 8), 3, 2)
    for channels, stride in V1:
        yield image.conv(image.channels, 3, stride, depthwise=True)
        yield image.conv(max(int(channels * width), 8), 1)
    yield from image.classified()


def _v2(sizes: dict[str, str], dtype: str) -> Iterator[Graph]:
    image, width = _Image(int(sizes["side"]), dtype), float(sizes["width"])
    yield image.conv(rounded(32 * width), 3, 2)
    yield from _stages(image, V2, width, 1.0)
    yield image.conv(rounded(1280 * max(width, 1.0)), 1)
    yield from image.classified()


def _lite(sizes: dict[str, str], dtype: str) -> Iterator[Graph]:
    width, depth, side = SCALES[int(sizes["size"])]
    image = _Image(side, dtype)
    yield image.conv(32, 3, 2)
    yield from _stages(image, LITE, width, depth)
    yield image.conv(1280, 1)
    yield from image.classified()


def _stages(image: _Image, stages: tuple[tuple[int, ...], ...], width: float, depth: float) -> Iterator[Graph]:
    """Stages of inverted residuals; the first and the last keep their depth."""
    for place, (expansion, channels, repeats, stride, kernel) in enumerate(stages):
        inner = 0 < place < len(stages) - 1
        for i in range(math.ceil(repeats * depth) if inner else repeats):
            inside = expansion * image.channels
            yield from image.inverted(kernel, inside, rounded(channels * width), stride if i == 0 else 1)


def _v3(sizes: dict[str, str], dtype: str) -> Iterator[Graph]:
    image, width, minimal = _Image(int(sizes["side"]), dtype), float(sizes["width"]), bool(sizes["minimal"])
    large = sizes["kind"] == "large"
    yield image.conv(16, 3, 2)
    for kernel, inside, out, stride, squeeze in V3_LARGE if large else V3_SMALL:
        widths = rounded(inside * width), rounded(out * width)
        yield from image.inverted(3 if minimal else kernel, *widths, stride, squeeze and not minimal)
    yield image.conv(rounded((960 if large else 576) * width), 1)
    yield from image.classified(1280 if large else 1024)


MAKERS = {"v1": _v1, "v2": _v2, "v3": _v3, "lite": _lite}
