"""Fourier transforms, windows, mel filters."""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.dims import Size, ceildiv, product
from wattir.frontends.onnx.broadcast import axis_of, is_number
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import Node, rule
from wattir.frontends.onnx.unknown_sizes import free_size


def scalar(node: Node, index: int, what: str) -> Size:
    """The known content of a scalar input, or a free dim of the node."""
    known = node.known(index)
    if not known:
        return free_size(node, what)
    return known[0] if is_number(known[0]) else int(known[0])


@rule("DFT")
def dft(node: Node) -> None:
    """x [.., n, .., 1 or 2]; the axis is an attribute (1) before opset 20, then input 2 (-2)."""
    x = node.value(0)
    axis = node.attr("axis", 1)
    if node.opset >= 20:
        known = node.known(2)
        axis = int(known[0]) if known else -2
    axis = axis_of(node, axis, x.rank)
    one_sided, inverse = bool(node.attr("onesided", 0)), bool(node.attr("inverse", 0))
    whole = 2 * (x.shape[axis] - 1) if one_sided and inverse else x.shape[axis]
    length = scalar(node, 1, "dft_length") if node.given(1) else whole
    kept = length // 2 + 1 if one_sided and not inverse else length
    parts = 1 if one_sided and inverse else 2
    node.result((*x.shape[:axis], kept, *x.shape[axis + 1 : -1], parts))
    node.emit("fft", ins=(x,), function="inverse" if inverse else "forward", length=length)


@rule("STFT")
def stft(node: Node) -> None:
    """signal [b, n, 1 or 2] gives [b, frames, bins, 2]; the frame is as long as input 3 or the window."""
    signal = node.value(0)
    step = scalar(node, 1, "frame_step")
    length = scalar(node, 3, "frame_length") if node.given(3) else node.value(2).shape[0]
    frames = (signal.shape[1] - length) // step + 1
    bins = length // 2 + 1 if node.attr("onesided", 1) else length
    node.result((signal.shape[0], frames, bins, 2))
    node.emit("fft", function="stft", length=length)


def _window(node: Node, function: str) -> None:
    dtype = dtype_of(node.attr("output_datatype", 1), "fp32")
    node.result((scalar(node, 0, "size"),), dtype)
    node.emit("pointwise", function=function, ops=3, special=1)


for _op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
    rule(_op)(partial(_window, function=_op.removesuffix("Window").lower()))


@rule("MelWeightMatrix")
def mel_weights(node: Node) -> None:
    """[dft_length // 2 + 1, mel bins]."""
    bins, length = scalar(node, 0, "num_mel_bins"), scalar(node, 1, "dft_length")
    node.result((length // 2 + 1, bins), dtype_of(node.attr("output_datatype", 1), "fp32"))
    node.emit("pointwise", function="mel", ops=4, special=0)


def _real_transform(node: Node, inverse: bool) -> None:
    """com.microsoft: the last signal_ndim axes; complex numbers are pairs on one more axis at the end."""
    x, rank = node.value(0), int(node.attr("signal_ndim", 1))
    one_sided = bool(node.attr("onesided", 1))
    real = x.shape[:-1] if inverse else x.shape
    last: Any = real[-1]
    if one_sided:
        last = (last - 1) * 2 if inverse else last // 2 + 1
    shape = (*real[:-1], last) if inverse else (*real[:-1], last, 2)
    node.result(shape)
    axes = shape if inverse else real
    length = product(axes[len(axes) - rank :])
    node.emit("fft", function="inverse_real" if inverse else "real", length=length)


rule("Rfft", domain="com.microsoft")(partial(_real_transform, inverse=False))
rule("Irfft", domain="com.microsoft")(partial(_real_transform, inverse=True))


@rule("UnfoldTensor", domain="com.microsoft")
def unfold(node: Node) -> None:
    """Overlapping windows of `size` every `step` along one axis, on a new last axis."""
    x, size = node.value(0), int(node.attr("size", 1))
    axis = axis_of(node, node.attr("dim", -1), x.rank)
    count = ceildiv(x.shape[axis] - size + 1, int(node.attr("step", 1)))
    node.result((*x.shape[:axis], count, *x.shape[axis + 1 :], size))
    node.emit("copy", function="unfold")
