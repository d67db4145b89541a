"""UNets of video: those of images, whose blocks also mix over the frames; one function a class of diffusers.

Defaults are those of the classes. Source: huggingface/diffusers 0.35, src/diffusers/models/unets.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

from wattir.dims import Size, product
from wattir.frontends.configs.diffusion.blocks import Feed, Heads, Latent, attention, feed_forward, two_layers
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_decoders import widths
from wattir.frontends.configs.diffusion.maps import residual_block
from wattir.frontends.configs.diffusion.unets import STAGES, Mix, Stage, basic_block, transformer, unet
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
    """I2VGenXLUNet: as UNet3DConditionModel, which also reads tokens of the image it starts from, and beside the noise
    its latents."""
    channels, width = k.whole("in_channels", default=4), k.whole("cross_attention_dim", default=1024)
    wide = 4 * widths(k, STAGES)[0]
    fps = w.waves("fps_proj", at.batch, wide // 4)
    two_layers(w, "fps_embedding", fps, wide)
    two_layers(w, "context_embedding", w.given("image", at.batch, width), wide, out=width * channels)
    _image_tokens(w, at, channels, width)
    _image_latents(w, at, channels)
    seen = replace(at, tokens=(at.text + IMAGE_TOKENS + channels,))
    return unet_3d(w, Keys({"cross_attention_dim": width, **k.values, "in_channels": 2 * channels}, k.where), seen)


def _image_tokens(w: Canvas, at: Latent, channels: int, width: int) -> str:
    """The first frame's latents, pooled to 32 by 32 points and halved twice."""
    with w.at("image_latents_context_embedding"):
        x = w.given("latent", at.batch, 4, at.height, at.width)
        x = w.act("silu", "silu", w.conv("conv_in", x, 8 * channels, 3))
        side = 4 * isqrt(IMAGE_TOKENS)
        window = max(at.height * at.width // side**2, 1)
        x = w.op("pooling", "pool", (x,), (at.batch, 8 * channels, side, side), function="average", window=window)
        x = w.act("silu2", "silu", w.conv("conv", x, 16 * channels, 3, 2))
        return w.conv("conv_out", x, width, 3, 2)


def _image_latents(w: Canvas, at: Latent, channels: int) -> str:
    """The image's latents in each frame, which then look at each other over the frames."""
    with w.at("image_latents_proj_in"):
        x = w.given("latents", at.batch * at.frames, 4, at.height, at.width)
        x = w.act("silu", "silu", w.conv("conv_in", x, 4 * channels, 3))
        x = w.act("silu2", "silu", w.conv("conv", x, 4 * channels, 3))
        x = w.conv("conv_out", x, channels, 3)
    with w.at("image_latents_temporal_encoder"):
        x = w.moved("tokens", x, at.batch * at.height * at.width, at.frames, channels)
        a = Heads(2, channels, qkv_bias=False)
        x = w.add("attn1.sum", attention(w, "attn1", w.layer_norm("norm1", x, affine=True), a), x)
        x = w.add("ff.sum", feed_forward(w, "ff", x, Feed(4 * channels, "gelu")), x)
        return w.moved("video", x, at.batch * at.frames, channels, at.height, at.width)


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

    return unet(w, k, at, block, once=True)


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
        fed = feed_forward(w, "ff_in", w.layer_norm("norm_in", x, affine=True), Feed(4 * width, "gelu", "joined"))
        x = w.add("ff_in.sum", fed, x)
        x = w.add("attn1.sum", attention(w, "attn1", w.layer_norm("norm1", x, affine=True), a), x)
        x = w.add("attn2.sum", attention(w, "attn2", w.layer_norm("norm2", x, affine=True), a, seen), x)
        fed = feed_forward(w, "ff", w.layer_norm("norm3", x, affine=True), Feed(4 * width, "gelu", "joined"))
        return w.add("ff.sum", fed, x)
