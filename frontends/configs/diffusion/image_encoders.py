"""Encoders of autoencoders: an image to edit, or the one that a video starts from, as latents.

One function a class of diffusers, from keys and the latents that come out to the graph. Defaults are those of the
classes. Source: huggingface/diffusers 0.42, src/diffusers/models/autoencoders.
"""

from __future__ import annotations

from wattir.frontends.configs.diffusion.blocks import Latent
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_decoders import middle, widths
from wattir.frontends.configs.diffusion.maps import channel_norm, residual_block
from wattir.frontends.configs.diffusion.video_decoders import frame_attention, padded, wan_residual
from wattir.frontends.configs.keys import Keys


def kl(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKL (and those of FLUX.2 and of Stable Video Diffusion): one image."""
    channels, stages = k.whole("latent_channels", default=4), widths(k)
    layers, groups = k.whole("layers_per_block", default=1), k.whole("norm_num_groups", default=32)
    side = 2 ** (len(stages) - 1)
    x = w.given("image", at.batch, k.whole("in_channels", default=3), at.height * side, at.width * side)
    with w.at("encoder"):
        x = w.conv("conv_in", x, stages[0], 3)
        for place, width in enumerate(stages):
            with w.at(f"down_blocks.{place}"):
                for layer in range(layers):
                    x = residual_block(w, f"resnets.{layer}", x, width, groups=groups)
                if place < len(stages) - 1:
                    x = w.conv("downsamplers.0.conv", padded(w, "pad", x), width, 3, 2)
        x = middle(w, x, k, stages[-1], groups)
        x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x, groups))
        x = w.conv("conv_out", x, 2 * channels, 3)
    return w.conv("quant_conv", x, 2 * channels, 1) if k.flag("use_quant_conv", True) else x


def wan(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLWan (and Qwen-Image's): a video's first frame alone, then as many at a time as a latent covers."""
    times = [bool(each) for each in k.words("temperal_downsample")] or [False, True, True]
    out = ""
    for frames, count in ((1, 1), (2 ** sum(times), at.frames - 1)):
        if count:
            with w.again("encoder.first" if frames == 1 else "encoder.later", count, known=frames > 1):
                out = _wan_frames(w, k, at, frames, times)
    latents = 2 * k.whole("z_dim", default=16)
    w.conv("quant_conv", w.given("latents", at.batch, latents, at.frames, at.height, at.width), latents, 1)
    return out


def _wan_frames(w: Canvas, k: Keys, at: Latent, frames: int, times: list[bool]) -> str:
    stages = [k.whole("base_dim", default=96) * each for each in widths(k, (1, 2, 4, 4), "dim_mult")]
    side, residual = 2 ** (len(stages) - 1), k.flag("is_residual")
    x = w.given("frames", at.batch, k.whole("in_channels", default=3), frames, at.height * side, at.width * side)
    x = w.conv("conv_in", padded(w, "pad", x), k.whole("base_dim", default=96), 3)
    for place, width in enumerate(stages):
        with w.at(f"down_blocks.{place}"):
            whole = x
            for layer in range(k.whole("num_res_blocks", default=2)):
                x = wan_residual(w, f"resnets.{layer}", x, width)
            if place < len(stages) - 1:
                x = _wan_down(w, x, width, times[place], frames == 1)
            x = w.add("shortcut", x, w.moved("avg_shortcut", whole, *w.shape(x))) if residual else x
    x = wan_residual(w, "mid_block.resnets.0", x, stages[-1])
    x = wan_residual(w, "mid_block.resnets.1", frame_attention(w, "mid_block.attentions.0", x), stages[-1])
    x = w.act("silu", "silu", channel_norm(w, "norm_out", x))
    return w.conv("conv_out", padded(w, "pad_out", x), 2 * k.whole("z_dim", default=16), 3)


def _wan_down(w: Canvas, x: str, width: int, shorter: bool, first: bool) -> str:
    """Half as high and wide and, if `shorter` and not the first, half as many frames."""
    batch, _, frames, *axes = w.shape(x)
    plane = w.conv("resample", w.moved("planes", x, batch * frames, width, *axes), width, 3, 2)
    x = w.moved("video", plane, batch, width, frames, *w.shape(plane)[2:])
    if shorter and first:
        w.parameter("time_conv.weight", width, width, 3)
        w.parameter("time_conv.bias", width)
    return w.conv("time_conv", padded(w, "earlier", x), width, (3, 1, 1), (2, 1, 1)) if shorter and not first else x


def cogvideox(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLCogVideoX: one image."""
    channels, stages = k.whole("latent_channels", default=16), widths(k, (128, 256, 256, 512))
    groups, side = k.whole("norm_num_groups", default=32), 2 ** (len(stages) - 1)
    x = w.given("image", at.batch, k.whole("in_channels", default=3), 1, at.height * side, at.width * side)
    with w.at("encoder"):
        x = w.conv("conv_in", padded(w, "pad", x), stages[0], 3)
        for place, width in enumerate(stages):
            with w.at(f"down_blocks.{place}"):
                for layer in range(k.whole("layers_per_block", default=3)):
                    x = residual_block(w, f"resnets.{layer}", x, width, groups=groups)
                if place < len(stages) - 1:
                    plane = w.moved("planes", x, at.batch, width, *w.shape(x)[3:])
                    plane = w.conv("downsamplers.0.conv", plane, width, 3, 2)
                    x = w.moved("video", plane, at.batch, width, 1, *w.shape(plane)[2:])
        for layer in range(2):
            x = residual_block(w, f"mid_block.resnets.{layer}", x, stages[-1], groups=groups)
        x = w.act("conv_act", "silu", w.group_norm("norm_out", x, groups))
        return w.conv("conv_out", padded(w, "pad_out", x), 2 * channels, 3)
