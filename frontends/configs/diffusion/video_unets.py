"""UNets of video: those of images, whose blocks also mix over the frames; one function a class of diffusers.

Defaults are those of the classes. Source: huggingface/diffusers 0.35, src/diffusers/models/unets.
"""

from __future__ import annotations

from dataclasses import replace

from wattir.dims import Size, product
from wattir.frontends.configs.diffusion.blocks import Heads, Latent, attention, feed_forward, two_layers
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.maps import residual_block
from wattir.frontends.configs.diffusion.unets import Mix, Stage, basic_block, transformer, unet
from wattir.frontends.configs.keys import Keys

IMAGE_TOKENS = 64
"""Of the image's latents in I2VGenXLUNet: pooled to 32 by 32, then halved twice."""
MIXING_LAYERS = 4
"""Convolutions over the frames in one of UNet3DConditionModel's layers."""


def over_frames(w: Canvas, name: str, x: str, frames: int, heads: int, d: int = 0) -> str:
    """TransformerTemporalModel: every point of a map looks at itself in all frames, twice."""
    batch, channels, *axes = w.shape(x)
    width, points = int(str(channels)), product(axes)
    inner = heads * d if d else width
    with w.at(name):
        tokens = w.moved("tokens", w.group_norm("norm", x), batch // frames * points, frames, width)
        tokens = w.linear("proj_in", tokens, inner, bias=True)
        with w.at("transformer_blocks"):
            tokens = basic_block(w, tokens, "", heads)
        out = w.moved("map", w.linear("proj_out", tokens, width, bias=True), batch, width, *axes)
        return w.add("sum", out, x)


def _conv_over_frames(w: Canvas, name: str, x: str, frames: int) -> str:
    """TemporalConvLayer: four convolutions over neighbouring frames, and a residual."""
    batch, channels, *axes = w.shape(x)
    width = int(str(channels))
    with w.at(name):
        video = w.moved("video", x, batch // frames, width, frames, *axes)
        with w.at("conv", MIXING_LAYERS):
            out = w.act("silu", "silu", w.group_norm("norm", video))
            out = w.conv("conv", out, width, (3, 1, 1))
        return w.moved("planes", w.add("sum", out, video), *w.shape(x))


def unet_3d(w: Canvas, k: Keys, at: Latent) -> str:
    """UNet3DConditionModel (ModelScope, zeroscope): each block mixes over frames by convolutions and by attention."""
    d = k.whole("attention_head_dim", default=64)

    def opened(w: Canvas, x: str) -> str:
        return over_frames(w, "transformer_in", x, at.frames, 8, d)

    return unet(w, k, at, _block_3d(d), opened=opened, once=True)


def _block_3d(d: int) -> Mix:
    def block(w: Canvas, name: str, x: str, given: str, stage: Stage, depth: int) -> str:
        emb, text = given.split(" ")
        x = residual_block(w, f"resnets.{name}", x, stage.width, emb)
        x = _conv_over_frames(w, f"temp_convs.{name}", x, stage.frames)
        if not depth:
            return x
        x = transformer(w, f"attentions.{name}", x, text, stage.width // d, depth)
        return over_frames(w, f"temp_attentions.{name}", x, stage.frames, stage.width // d)

    return block


def i2vgen(w: Canvas, k: Keys, at: Latent) -> str:
    """I2VGenXLUNet: as UNet3DConditionModel, which also reads tokens of the image it starts from; the few layers that
    make these are left out."""
    channels = k.whole("in_channels", default=4)
    seen = replace(at, tokens=(at.text + IMAGE_TOKENS + channels,))
    joined = Keys({"cross_attention_dim": 1024, **k.values, "in_channels": 2 * channels}, k.where)
    return unet_3d(w, joined, seen)


def motion(w: Canvas, k: Keys, at: Latent) -> str:
    """UNetMotionModel (AnimateDiff): a UNet of images with a module over the frames behind each of its blocks."""
    heads = k.whole("motion_num_attention_heads", default=8)

    def block(w: Canvas, name: str, x: str, given: str, stage: Stage, depth: int) -> str:
        emb, text = given.split(" ")
        x = residual_block(w, f"resnets.{name}", x, stage.width, emb)
        if depth:
            x = transformer(w, f"attentions.{name}", x, text, stage.heads, depth)
        if "mid_block" in w.scope:
            return x
        return over_frames(w, f"motion_modules.{name}", x, stage.frames, heads)

    return unet(w, k, at, block, once=True)


def spatio_temporal(w: Canvas, k: Keys, at: Latent) -> str:
    """UNetSpatioTemporalConditionModel (Stable Video Diffusion): blocks mix in a frame, then over frames, and blend."""

    def block(w: Canvas, name: str, x: str, given: str, stage: Stage, depth: int) -> str:
        emb, context = given.split(" ")
        x = _mixed_residual(w, f"resnets.{name}", x, stage, emb)
        return _mixed_transformer(w, f"attentions.{name}", x, context, stage, depth) if depth else x

    return unet(w, k, at, block)


def _mixed_residual(w: Canvas, name: str, x: str, stage: Stage, emb: str) -> str:
    with w.at(name):
        x = residual_block(w, "spatial_res_block", x, stage.width, emb)
        batch, channels, *axes = w.shape(x)
        video = w.moved("video", x, batch // stage.frames, channels, stage.frames, *axes)
        mixed = residual_block(w, "temporal_res_block", video, stage.width, emb, kernel=(3, 1, 1))
        w.parameter("time_mixer.mix_factor", 1)
        return w.moved("planes", w.kernels("time_mixer", mixed, 3), *w.shape(x))


def _mixed_transformer(w: Canvas, name: str, x: str, context: str, stage: Stage, depth: int) -> str:
    """TransformerSpatioTemporalModel: layers within a frame, each followed by one over the frames."""
    batch, channels, *axes = w.shape(x)
    width, points = int(str(channels)), product(axes)
    with w.at(name):
        tokens = w.moved("tokens", w.group_norm("norm", x), batch, points, width)
        tokens = w.linear("proj_in", tokens, width, bias=True)
        place = two_layers(w, "time_pos_embed", w.waves("time_proj", batch, width), 4 * width, out=width)
        w.parameter("time_mixer.mix_factor", 1)
        with w.at("transformer_blocks", depth):
            tokens = basic_block(w, tokens, context, stage.heads)
            mixed = w.kernels("place", tokens, by=place)
            mixed = _temporal_block(w, mixed, context, stage, (batch // stage.frames * points, stage.frames, width))
            tokens = w.kernels("blend", w.moved("back", mixed, batch, points, width), 3)
        out = w.moved("map", w.linear("proj_out", tokens, width, bias=True), batch, width, *axes)
        return w.add("sum", out, x)


def _temporal_block(w: Canvas, x: str, context: str, stage: Stage, shape: tuple[Size, ...]) -> str:
    """TemporalBasicTransformerBlock: a feed-forward part, attention over frames, attention to the context, another."""
    width = stage.width
    a = Heads(stage.heads, width // stage.heads, qkv_bias=False)
    with w.at("temporal"):
        seen = w.moved("context", context, shape[0], *w.shape(context)[1:])
        x = w.moved("tokens", x, *shape)
        fed = feed_forward(w, "ff_in", w.layer_norm("norm_in", x, affine=True), 4 * width, "gelu", gated=True)
        x = w.add("ff_in.sum", fed, x)
        x = w.add("attn1.sum", attention(w, "attn1", w.layer_norm("norm1", x, affine=True), a), x)
        x = w.add("attn2.sum", attention(w, "attn2", w.layer_norm("norm2", x, affine=True), a, seen), x)
        fed = feed_forward(w, "ff", w.layer_norm("norm3", x, affine=True), 4 * width, "gelu", gated=True)
        return w.add("ff.sum", fed, x)
