"""Decoders of image autoencoders: one function a class of diffusers, from keys and a latent to the graph of an image.

Defaults are those of the class. Source: huggingface/diffusers 0.35, src/diffusers/models/autoencoders.
"""

from __future__ import annotations

from wattir.frontends.configs.diffusion.blocks import Latent
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.maps import channel_norm, doubled, map_attention, residual_block, upsampled
from wattir.frontends.configs.keys import Keys

STAGES = (128, 256, 512, 512)


def widths(k: Keys, default: tuple[int, ...] = STAGES, key: str = "block_out_channels") -> tuple[int, ...]:
    """Channels of the stages, from the finest on."""
    found = k.words(key)
    if found and not all(isinstance(each, int) and 0 < each < 2**20 for each in found):
        raise k.wrong(key, "whole numbers")
    return tuple(found) or default


def kl(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKL (and VQModel): frame by frame."""
    channels, stages = k.whole("latent_channels", default=4), widths(k)
    layers, groups = k.whole("layers_per_block", default=1), k.whole("norm_num_groups", default=32)
    x = w.given("latent", at.batch * at.frames, channels, at.height, at.width)
    if k.flag("use_post_quant_conv", True):
        x = w.conv("post_quant_conv", x, channels, 1)
    with w.at("decoder"):
        x = middle(w, w.conv("conv_in", x, stages[-1], 3), k, stages[-1], groups)
        for place, width in enumerate(reversed(stages)):
            with w.at(f"up_blocks.{place}"):
                for layer in range(layers + 1):
                    x = residual_block(w, f"resnets.{layer}", x, width, groups=groups)
                if place < len(stages) - 1:
                    x = upsampled(w, "upsamplers.0", x, width, *doubled(w, x))
        x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x, groups))
        return w.conv("conv_out", x, k.whole("out_channels", default=3), 3)


def middle(w: Canvas, x: str, k: Keys, width: int, groups: int) -> str:
    """The coarsest part of an encoder or a decoder: two residual blocks with attention between them."""
    x = residual_block(w, "mid_block.resnets.0", x, width, groups=groups)
    if k.flag("mid_block_add_attention", True):
        x = map_attention(w, "mid_block.attentions.0", x, groups=groups)
    return residual_block(w, "mid_block.resnets.1", x, width, groups=groups)


def deep_compression(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderDC: residual blocks at the fine stages, linear attention at the coarse ones."""
    channels, stages = k.whole("latent_channels", default=32), widths(k, DC_STAGES, "decoder_block_out_channels")
    layers = widths(k, (3,) * 6, "decoder_layers_per_block")
    kinds = [str(each) for each in k.words("decoder_block_types")] or ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
    scales = k.words("decoder_qkv_multiscales") or [[], [], [], [5], [5], [5]]
    d, shuffle = k.whole("attention_head_dim", default=32), k.text("upsample_block_type", "pixel_shuffle")
    x = w.given("latent", at.batch * at.frames, channels, at.height, at.width)
    with w.at("decoder"):
        x = w.conv("conv_in", x, stages[-1], 3)
        for place in range(len(stages) - 1, -1, -1):
            if place < len(stages) - 1 and layers[place]:
                x = _dc_up(w, f"up_blocks.{place}.0", x, stages[place], shuffle == "interpolate")
            with w.at(f"up_blocks.{place}", layers[place]):
                if kinds[place] == "ResBlock":
                    x = _dc_residual(w, x)
                else:
                    x = _glu(w, _multiscale_attention(w, x, d, tuple(scales[place])))
        x = w.act("conv_act", "relu", channel_norm(w, "norm_out", x, bias=True))
        return w.conv("conv_out", x, k.whole("in_channels", default=3), 3)


DC_STAGES = (128, 256, 512, 512, 1024, 1024)


def _dc_up(w: Canvas, name: str, x: str, out: int, interpolate: bool) -> str:
    axes = doubled(w, x)
    if interpolate:
        y = upsampled(w, name, x, out, *axes)
    else:
        y = w.moved(f"{name}.shuffle", w.conv(f"{name}.conv", x, 4 * out, 3), w.shape(x)[0], out, *axes)
    return w.add(f"{name}.sum", y, w.moved(f"{name}.shortcut", x, w.shape(x)[0], out, *axes))


def _dc_residual(w: Canvas, x: str) -> str:
    width = int(str(w.shape(x)[1]))
    y = w.conv("conv2", w.act("silu", "silu", w.conv("conv1", x, width, 3)), width, 3, bias=False)
    return w.add("sum", channel_norm(w, "norm", y, bias=True), x)


def _glu(w: Canvas, x: str) -> str:
    """GLUMBConv: widened, mixed in place, halved by a gate, narrowed."""
    batch, channels, *axes = w.shape(x)
    width = int(str(channels))
    with w.at("conv_out"):
        up = w.act("silu", "silu", w.conv("conv_inverted", x, 8 * width, 1))
        up = w.conv("conv_depth", up, 8 * width, 3, groups=8 * width)
        gated = w.act("gate", "silu_mul", w.moved("half", up, batch, 4 * width, *axes))
        return w.add("sum", channel_norm(w, "norm", w.conv("conv_point", gated, width, 1, bias=False), bias=True), x)


def _multiscale_attention(w: Canvas, x: str, d: int, scales: tuple[int, ...]) -> str:
    """Linear attention in 32 bits of the points and of their mixtures at other scales."""
    batch, channels, height, breadth = w.shape(x)
    width, points = int(str(channels)), height * breadth
    with w.at("attn"):
        tokens = w.moved("tokens", x, batch, points, width)
        parts = tuple(w.linear(f"to_{part}", tokens, width) for part in "qkv")
        maps = [w.joined("qkv", parts, batch, 3 * width, height, breadth)]
        for scale in scales:
            mixed = w.conv("multiscale.proj_in", maps[0], 3 * width, scale, groups=3 * width, bias=False)
            maps.append(w.conv("multiscale.proj_out", mixed, 3 * width, 1, groups=3 * width // d, bias=False))
        heads = len(maps) * width // d
        every = w.joined("scales", tuple(maps), batch, points, 3 * heads * d)
        every = w.kernels("relu", w.kernels("wide", every, dtype="fp32"), dtype="fp32")
        scores = w.op("matmul", "scores", (every, every), (batch, heads, d + 1, d), "bmm", "fp32",
                      groups=batch * heads, m=d + 1, n=d, k=points)  # fmt: skip
        out = w.op("matmul", "read", (scores, every), (batch, points, heads * (d + 1)), "bmm", "fp32",
                   groups=batch * heads, m=d + 1, n=points, k=d)  # fmt: skip
        out = w.kernels("normalize", w.seen("heads", out, batch, points, heads * d), 2, dtype="fp32")
        out = w.linear("to_out", w.kernels("back", out, dtype=w.held.dtype), width)
        out = channel_norm(w, "norm_out", w.moved("map", out, batch, width, height, breadth), bias=True)
        return w.add("sum", out, x)


def movq(w: Canvas, k: Keys, at: Latent) -> str:
    """VQModel with spatial norms (Kandinsky's MoVQ): each norm is scaled and shifted by products of the latent."""
    channels, stages = k.whole("latent_channels", default=4), widths(k, (128, 256, 256, 512))
    layers, groups = k.whole("layers_per_block", default=2), k.whole("norm_num_groups", default=32)
    kinds = [str(each) for each in k.words("up_block_types")] or ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 3
    z = w.given("latent", at.batch, channels, at.height, at.width)
    x = w.conv("decoder.conv_in", w.conv("post_quant_conv", z, channels, 1), stages[-1], 3)
    with w.at("decoder"):
        x = _spatial_residual(w, "mid_block.resnets.0", x, z, stages[-1], groups)
        x = _spatial_attention(w, "mid_block.attentions.0", x, z, groups)
        x = _spatial_residual(w, "mid_block.resnets.1", x, z, stages[-1], groups)
        for place, width in enumerate(reversed(stages)):
            with w.at(f"up_blocks.{place}"):
                for layer in range(layers + 1):
                    x = _spatial_residual(w, f"resnets.{layer}", x, z, width, groups)
                    if kinds[place].startswith("Attn"):
                        x = _spatial_attention(w, f"attentions.{layer}", x, z, groups)
                if place < len(stages) - 1:
                    x = upsampled(w, "upsamplers.0", x, width, *doubled(w, x))
        x = w.act("conv_act", "silu", spatial_norm(w, "conv_norm_out", x, z, groups))
        return w.conv("conv_out", x, k.whole("out_channels", default=3), 3)


def spatial_norm(w: Canvas, name: str, x: str, z: str, groups: int) -> str:
    """A group norm scaled and shifted by two convolutions of the latent at the map's size."""
    width = int(str(w.shape(x)[1]))
    with w.at(name):
        near = w.resized("interpolate", z, *w.shape(x)[2:])
        by = (w.conv("conv_y", near, width, 1), w.conv("conv_b", near, width, 1))
        scaled = w.pointwise("scale", "mul", w.group_norm("norm_layer", x, groups), by[0])
        return w.add("shift", scaled, by[1])


def _spatial_residual(w: Canvas, name: str, x: str, z: str, out: int, groups: int) -> str:
    with w.at(name):
        h = w.conv("conv1", w.act("silu1", "silu", spatial_norm(w, "norm1", x, z, groups)), out, 3)
        h = w.conv("conv2", w.act("silu2", "silu", spatial_norm(w, "norm2", h, z, groups)), out, 3)
        return w.add("sum", w.conv("conv_shortcut", x, out, 1) if w.shape(x)[1] != out else x, h)


def _spatial_attention(w: Canvas, name: str, x: str, z: str, groups: int) -> str:
    batch, channels, *axes = w.shape(x)
    width, points = int(str(channels)), axes[0] * axes[1]
    with w.at(name):
        tokens = w.moved("tokens", spatial_norm(w, "spatial_norm", x, z, groups), batch, points, width)
        q, k, v = (w.linear(f"to_{part}", tokens, width, bias=True) for part in "qkv")
        out = w.linear("to_out", w.attend("attn", q, k, v, 1), width, bias=True)
        return w.add("sum", w.moved("map", out, batch, width, *axes), x)
