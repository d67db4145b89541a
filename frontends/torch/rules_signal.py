"""Fourier transforms."""

from __future__ import annotations

from wattir.dims import Size
from wattir.frontends.torch.node import Node, rule

ONE = ("fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_hfft", "fft_ihfft")
MANY = ("fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2", "fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn",
        "fft_hfft2", "fft_ihfft2", "fft_hfftn", "fft_ihfftn")  # fmt: skip


def _transform(node: Node, axes: list[int], inverse: bool) -> None:
    """Points of a transform: the longer of input and output along its axes (one-sided ones keep half)."""
    x, out = node.tensor(0), node.out
    length: Size = 1
    for axis in axes:
        a, b = x.shape[axis], out.shape[axis]
        longer = max(a, b) if isinstance(a, int) and isinstance(b, int) else a
        length = length * longer
    node.emit("fft", ins=(x,), function="inverse" if inverse else "forward", length=length)


@rule(*ONE)
def fft(node: Node) -> None:
    _transform(node, [int(node.arg(2, "dim", -1)) % node.tensor(0).rank], "_i" in node.op)


@rule(*MANY)
def fft_many(node: Node) -> None:
    rank = node.tensor(0).rank
    axes = node.places(2, "dim", rank)
    if not axes:
        axes = list(range(rank)) if node.op.endswith("n") else [rank - 2, rank - 1]
    _transform(node, axes, "_i" in node.op)


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fft_plain(node: Node) -> None:
    rank = node.tensor(0).rank
    inverse = node.op == "_fft_c2r" or (node.op == "_fft_c2c" and not node.arg(3, "forward", True))
    _transform(node, node.places(1, "dim", rank), inverse)


@rule("stft", "istft")
def stft(node: Node) -> None:
    node.emit("fft", function=node.op, length=node.arg(1, "n_fft"))
