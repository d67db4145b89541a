"""Decoders of video autoencoders that decode all frames at once: Mochi's and LTX-Video's.

Defaults are those of the classes of diffusers 0.42, src/diffusers/models/autoencoders.
"""

from __future__ import annotations

from wattir.dims import product
from wattir.frontends.configs.diffusion.blocks import Latent, timestep
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_decoders import widths
from wattir.frontends.configs.keys import Keys

# ---- Mochi ----------------------------------------------------------------------------------------------------------


def mochi(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLMochi: residual blocks, and products that unfold each point into a box of frames and pixels."""
    stages = widths(k, (128, 256, 512, 768), "decoder_block_out_channels")
    layers = widths(k, (3, 3, 4, 6, 3), "layers_per_block")
    longer, larger = widths(k, (1, 2, 3), "temporal_expansions"), widths(k, (2, 2, 2), "spatial_expansions")
    x = w.given("latent", at.batch, k.whole("latent_channels", default=12), at.frames, at.height, at.width)
    with w.at("decoder"):
        x = _mochi_residuals(w, "block_in", w.conv("conv_in", x, stages[-1], 1), layers[-1])
        for place in range(len(stages) - 1):
            back = len(stages) - 2 - place
            x = _mochi_residuals(w, f"up_blocks.{place}", x, layers[back + 1])
            x = _unfolded(w, f"up_blocks.{place}", x, stages[back], longer[back], larger[back])
        x = w.act("act", "silu", _mochi_residuals(w, "block_out", x, layers[0]))
        batch, width, *axes = w.shape(x)
        out = k.whole("out_channels", default=3)
        tokens = w.linear("proj_out", w.moved("tokens", x, batch, product(axes), width), out, bias=True)
        return w.moved("video", tokens, batch, out, *axes)


def _mochi_residuals(w: Canvas, name: str, x: str, times: int) -> str:
    """Residual blocks whose group norms go frame by frame."""
    batch, width, frames, *axes = w.shape(x)
    channels = int(str(width))
    with w.at(name), w.at("resnets", times):
        h = x
        for part in ("1", "2"):
            planes = w.group_norm(f"norm{part}", w.moved(f"planes{part}", h, batch * frames, channels, *axes))
            h = w.act(f"silu{part}", "silu", w.moved(f"video{part}", planes, *w.shape(x)))
            h = w.conv(f"conv{part}", w.moved(f"pad{part}", h, *w.shape(x)), channels, 3)
        return w.add("sum", h, x)


def _unfolded(w: Canvas, name: str, x: str, out: int, longer: int, larger: int) -> str:
    batch, width, frames, height, breadth = w.shape(x)
    tokens = w.moved(f"{name}.tokens", x, batch, frames * height * breadth, width)
    wide = w.linear(f"{name}.proj", tokens, out * longer * larger**2, bias=True)
    return w.moved(f"{name}.unfold", wide, batch, out, frames * longer, height * larger, breadth * larger)


# ---- LTX-Video ------------------------------------------------------------------------------------------------------


def ltx(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLLTXVideo: RMS norms over channels, convolutions whose channels become frames and pixels, and 4 by 4
    pixels of the last map's points; from 0.9.1 on it also denoises, told the timestep."""
    stages = widths(k, (128, 256, 512, 512), "decoder_block_out_channels")[::-1]
    layers = widths(k, (4, 3, 3, 3, 4), "decoder_layers_per_block")[::-1]
    grows = [bool(each) for each in k.words("decoder_spatio_temporal_scaling")] or [True, True, True, False]
    factors = widths(k, (1,) * len(stages), "upsample_factor")[::-1]
    adds = ([bool(each) for each in k.words("upsample_residual")] or [False] * len(stages))[::-1]
    noisy = ([bool(each) for each in k.words("decoder_inject_noise")] or [False] * len(layers))[::-1]
    timed = k.flag("timestep_conditioning")
    x = w.given("latent", at.batch, k.whole("latent_channels", default=128), at.frames, at.height, at.width)
    with w.at("decoder"):
        if timed:
            w.parameter("timestep_scale_multiplier", 1)
        x = _ltx_conv(w, "conv_in", x, stages[0])
        x = _ltx_residuals(w, "mid_block", x, layers[0], timed, noisy[0])
        for place, (stage, factor, grown) in enumerate(zip(stages, factors, grows[::-1], strict=True)):
            with w.at(f"up_blocks.{place}"):
                width = stage // factor
                if w.shape(x)[1] // factor != width:
                    x = _ltx_residual(w, "conv_in", x, width, timed, noisy[place + 1])
                x = _ltx_up(w, x, factor, adds[place]) if grown else x
                x = _ltx_residuals(w, "resnets", x, layers[place + 1], timed, noisy[place + 1])
        x = _ltx_norm(w, "norm_out", x)
        x = _timed(w, "last", x, 2) if timed else x
        out, patch = k.whole("out_channels", default=3), k.whole("patch_size", default=4)
        x = _ltx_conv(w, "conv_out", w.act("conv_act", "silu", x), out * patch**2)
        batch, _, frames, height, breadth = w.shape(x)
        return w.moved("pixels", x, batch, out, frames, height * patch, breadth * patch)


def _ltx_conv(w: Canvas, name: str, x: str, out: int, kernel: int = 3) -> str:
    x = w.moved(f"{name}.pad", x, *w.shape(x)) if kernel > 1 else x
    return w.conv(name, x, out, kernel)


def _ltx_norm(w: Canvas, name: str, x: str) -> str:
    """Over the channels of each point, for which they are moved last and back."""
    return w.moved(f"{name}.back", w.loose_rms_norm(name, x, int(str(w.shape(x)[1])), weight=False), *w.shape(x))


def _ltx_residuals(w: Canvas, name: str, x: str, times: int, timed: bool, noisy: bool) -> str:
    with w.at(name):
        if timed:
            timestep(w, "time_embedder", w.shape(x)[0], 4 * int(str(w.shape(x)[1])))
        with w.at("layers", times):
            return _ltx_residual(w, "layer", x, int(str(w.shape(x)[1])), timed, noisy)


def _ltx_residual(w: Canvas, name: str, x: str, out: int, timed: bool, noisy: bool) -> str:
    width = int(str(w.shape(x)[1]))
    with w.at(name):
        h = x
        if timed:
            w.parameter("scale_shift_table", 4, width)
        for part in ("1", "2"):
            h = _ltx_norm(w, f"norm{part}", h)
            h = w.kernels(f"scale_shift{part}", h, 2) if timed else h
            h = _ltx_conv(w, f"conv{part}", w.act(f"silu{part}", "silu", h), out)
            if noisy:
                w.parameter(f"per_channel_scale{part}", width)
                h = w.kernels(f"noise{part}", h, 2)
        if width != out:
            x = w.layer_norm("norm3", x, affine=False)
            w.parameter("norm3.weight", 2, width)
            x = _ltx_conv(w, "conv_shortcut", x, out, 1)
        return w.add("sum", h, x)


def _ltx_up(w: Canvas, x: str, factor: int, adds: bool) -> str:
    batch, width, frames, height, breadth = w.shape(x)
    out = int(str(width)) // factor
    y = _ltx_conv(w, "upsamplers.0.conv", x, 8 * out)
    shape = (batch, out, 2 * frames - 1, 2 * height, 2 * breadth)
    y = w.moved("upsamplers.0.unfold", y, *shape)
    return w.add("upsamplers.0.sum", y, w.moved("upsamplers.0.repeat", x, *shape)) if adds else y


def _timed(w: Canvas, name: str, x: str, parts: int) -> str:
    """Shifted and scaled by the timestep."""
    width = int(str(w.shape(x)[1]))
    timestep(w, f"{name}.time_embedder", w.shape(x)[0], parts * width)
    w.parameter(f"{name}.scale_shift_table", parts, width)
    return w.kernels(f"{name}.scale_shift", x, 2)
