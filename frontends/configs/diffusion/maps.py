"""Parts of feature maps that UNets and the decoders of autoencoders share."""

from __future__ import annotations

from wattir.dims import Size, product
from wattir.frontends.configs.diffusion.canvas import Canvas


def residual_block(
    w: Canvas, name: str, x: str, out: int, emb: str = "", *, groups: int = 32, kernel: int | tuple[int, ...] = 3,
    shift_scale: bool = False,
) -> str:  # fmt: skip
    """ResnetBlock2D and its kin of more axes: norm, silu, convolution, twice, and a shortcut of the input; `emb` adds a
    shift (`shift_scale`: and a scale) for each channel."""
    with w.at(name):
        c_in = int(str(w.shape(x)[1]))
        h = w.conv("conv1", w.act("silu1", "silu", w.group_norm("norm1", x, groups)), out, kernel)
        if emb:
            by = w.linear("time_emb_proj", w.act("time_silu", "silu", emb), (2 if shift_scale else 1) * out, bias=True)
            h = h if shift_scale else w.kernels("shift", h, by=by)
        h = w.group_norm("norm2", h, groups)
        if emb and shift_scale:
            h = w.kernels("scale_shift", h, 2, by=by)
        h = w.conv("conv2", w.act("silu2", "silu", h), out, kernel)
        if c_in != out:
            x = w.conv("conv_shortcut", x, out, 1)
        return w.add("sum", x, h)


def map_attention(w: Canvas, name: str, x: str, groups: int = 32) -> str:
    """Every point of a feature map looks at all others by one head: norm, products, and a residual."""
    batch, channels, *axes = w.shape(x)
    width, points = int(str(channels)), product(axes)
    with w.at(name):
        tokens = w.moved("tokens", w.group_norm("group_norm", x, groups), batch, points, width)
        q, k, v = (w.linear(f"to_{part}", tokens, width, bias=True) for part in "qkv")
        out = w.linear("to_out", w.attend("attn", q, k, v, 1), width, bias=True)
        return w.add("sum", w.moved("map", out, batch, width, *axes), x)


def channel_norm(w: Canvas, name: str, x: str, bias: bool = False) -> str:
    """An RMS norm over the channels of each point, written kernel by kernel."""
    channels = int(str(w.shape(x)[1]))
    ins = (x, w.weight(f"{name}.gamma", (channels,)), *((w.weight(f"{name}.bias", (channels,)),) if bias else ()))
    out = w.op("norm", name, ins, w.shape(x), "rms_norm", function="rms_norm", length=channels)
    return w.kernels(f"{name}.scale", out)


def upsampled(w: Canvas, name: str, x: str, out: int, *axes: Size, kernel: int | tuple[int, ...] = 3) -> str:
    """Nearest neighbours on `axes`, then a convolution."""
    with w.at(name):
        return w.conv("conv", w.resized("interpolate", x, *axes), out, kernel)


def doubled(w: Canvas, x: str) -> tuple[Size, ...]:
    """The axes of a map twice as wide and high."""
    *before, height, width = w.shape(x)[2:]
    return (*before, height * 2, width * 2)
