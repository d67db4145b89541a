"""UNets of images: UNet2DConditionModel of diffusers, from its configuration's keys to a graph.

Stages halve the map and widen it, a middle part looks at all of it, and as many stages come back, each reading what its
counterpart wrote. Defaults are those of the class. Source: huggingface/diffusers 0.35, src/diffusers/models/unets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wattir.dims import Size, product
from wattir.errors import UnsupportedError
from wattir.frontends.configs.diffusion.blocks import Feed, Heads, Latent, attention, feed_forward, two_layers
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_decoders import widths
from wattir.frontends.configs.diffusion.maps import doubled, residual_block, upsampled
from wattir.frontends.configs.keys import Keys

STAGES = (320, 640, 1280, 1280)
DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
Mix = Callable[[Canvas, str, str, str, "Stage", int], str]


@dataclass(frozen=True)
class Stage:
    """One resolution: its channels, heads of attention, transformer layers of each of its blocks; `frames` of a
    video."""

    width: int
    heads: int
    depths: tuple[int, ...]
    frames: int = 1


def per_stage(k: Keys, key: str, count: int, default: Any) -> list[Any]:
    """A value for each stage: a list, or one for all."""
    found = k.values.get(key)
    found = default if found is None else found
    if isinstance(found, (list, tuple)):
        if len(found) != count:
            raise k.wrong(key, f"{count} values, one a stage")
        return list(found)
    return [found] * count


def stages_of(k: Keys, blocks: int, reverse: bool = False, frames: int = 1) -> list[Stage]:
    """The stages on the way down, or back up; from the finest on."""
    channels = widths(k, STAGES)
    count = len(channels)
    heads = per_stage(k, "num_attention_heads" if "num_attention_heads" in k else "attention_head_dim", count, 8)
    depths = per_stage(k, "transformer_layers_per_block", count, 1)
    if reverse and "reverse_transformer_layers_per_block" in k:
        depths = per_stage(k, "reverse_transformer_layers_per_block", count, 1)[::-1]
    return [
        Stage(width, int(each), tuple(depth) if isinstance(depth, list) else (int(depth),) * blocks, frames)
        for width, each, depth in zip(channels, heads, depths, strict=True)
    ]


def conditioned(w: Canvas, k: Keys, at: Latent) -> str:
    """UNet2DConditionModel with the blocks of Stable Diffusion; UnsupportedError for others."""
    kinds = {str(each) for key in ("down_block_types", "up_block_types") for each in k.words(key)} - {*DOWN, *UP}
    if kinds:
        raise UnsupportedError(
            f"{k.where}: blocks {', '.join(sorted(kinds))}; expected {', '.join(sorted({*DOWN, *UP}))}"
        )
    return unet(w, k, at)


def unet(
    w: Canvas, k: Keys, at: Latent, mix: Mix | None = None, opened: Callable[[Canvas, str], str] | None = None,
    once: bool = False,
) -> str:  # fmt: skip
    """UNet2DConditionModel; `mix`: what stands in a block for its residual block and transformer, if not these;
    `opened`: what comes behind the first convolution; `once`: the timestep is embedded once for all frames."""
    channels, layers = widths(k, STAGES), k.whole("layers_per_block", default=2)
    down_kinds = [str(each) for each in k.words("down_block_types")] or list(DOWN)
    up_kinds = [str(each) for each in k.words("up_block_types")] or list(UP)
    batch = at.batch * at.frames
    text = _words(w, k, batch, at.text)
    emb = _conditioned(w, k, at.batch if once else batch, channels[0])
    emb = w.moved("emb.frames", emb, batch, 4 * channels[0]) if once else emb
    x = w.given("latent", batch, k.whole("in_channels", default=4), at.height, at.width)
    x = w.conv("conv_in", x, channels[0], k.whole("conv_in_kernel", default=3))
    x = opened(w, x) if opened else x
    kept, body = [x], mix or _block
    downs = stages_of(k, layers, frames=at.frames)
    for place, stage in enumerate(downs):
        with w.at(f"down_blocks.{place}"):
            for layer in range(layers):
                depth = stage.depths[layer] if "CrossAttn" in down_kinds[place] else 0
                x = body(w, f"{layer}", x, f"{emb} {text}", stage, depth)
                kept.append(x)
            if place < len(channels) - 1:
                x = w.conv("downsamplers.0.conv", x, stage.width, 3, 2)
                kept.append(x)
    x = _middle(w, k, x, f"{emb} {text}", downs[-1], body)
    ups = stages_of(k, layers + 1, reverse=True, frames=at.frames)[::-1]
    for place, stage in enumerate(ups):
        with w.at(f"up_blocks.{place}"):
            for layer in range(layers + 1):
                skip = kept.pop()
                wide = w.shape(x)[1] + w.shape(skip)[1]
                x = w.joined(f"{layer}.cat", (x, skip), batch, wide, *w.shape(x)[2:])
                depth = stage.depths[layer] if "CrossAttn" in up_kinds[place] else 0
                x = body(w, f"{layer}", x, f"{emb} {text}", stage, depth)
            if place < len(ups) - 1:
                x = upsampled(w, "upsamplers.0", x, stage.width, *_like(w, x, kept[-1]))
    x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x, k.whole("norm_num_groups", default=32)))
    return w.conv("conv_out", x, k.whole("out_channels", default=4), k.whole("conv_out_kernel", default=3))


def _words(w: Canvas, k: Keys, batch: Size, tokens: int) -> str:
    """The text's tokens, through a product where they are of another width than the UNet reads (Kolors)."""
    width = k.whole("cross_attention_dim", default=1280)
    if k.text("encoder_hid_dim_type", "") != "text_proj":
        return w.given("text", batch, tokens, width)
    words = w.given("text", batch, tokens, k.whole("encoder_hid_dim"))
    return w.linear("encoder_hid_proj", words, width, bias=True)


def _like(w: Canvas, x: str, skip: str) -> tuple[Size, ...]:
    """Twice the size, or that of what it is joined with, where an odd one was halved."""
    axes = w.shape(skip)[2:]
    return axes if axes != w.shape(x)[2:] else doubled(w, x)


def _conditioned(w: Canvas, k: Keys, batch: Size, narrow: int) -> str:
    """The timestep, and with SDXL the pooled text and the sizes of the image."""
    wide = 4 * narrow
    emb = two_layers(w, "time_embedding", w.waves("time_proj", batch, narrow), wide)
    if "projection_class_embeddings_input_dim" not in k:
        return emb
    more = w.given("added", batch, k.whole("projection_class_embeddings_input_dim"))
    return w.add("emb", emb, two_layers(w, "add_embedding", more, wide))


def _middle(w: Canvas, k: Keys, x: str, given: str, stage: Stage, body: Mix) -> str:
    kind = k.values.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    if kind is None:
        return x
    with w.at("mid_block"):
        x = body(w, "0", x, given, stage, max(stage.depths) if "CrossAttn" in str(kind) else 0)
        return x if kind == "UNetMidBlock2D" else body(w, "1", x, given, stage, 0)


def _block(w: Canvas, name: str, x: str, given: str, stage: Stage, depth: int) -> str:
    """A residual block and, if `depth` is not 0, a transformer of so many layers over its map."""
    emb, text = given.split(" ")
    x = residual_block(w, f"resnets.{name}", x, stage.width, emb)
    return transformer(w, f"attentions.{name}", x, text, stage.heads, depth) if depth else x


def transformer(w: Canvas, name: str, x: str, text: str, heads: int, depth: int) -> str:
    """Transformer2DModel: the points of a map as tokens that look at each other and at the text."""
    batch, channels, *axes = w.shape(x)
    width, points = int(str(channels)), product(axes)
    with w.at(name):
        tokens = w.moved("tokens", w.group_norm("norm", x), batch, points, width)
        tokens = w.linear("proj_in", tokens, width, bias=True)
        with w.at("transformer_blocks", depth):
            tokens = basic_block(w, tokens, text, heads)
        out = w.moved("map", w.linear("proj_out", tokens, width, bias=True), batch, width, *axes)
        return w.add("sum", out, x)


def basic_block(w: Canvas, x: str, text: str, heads: int) -> str:
    """BasicTransformerBlock: self-attention, attention to the text (or, without one, to itself again), a gated
    feed-forward part."""
    width = w.width(x)
    a = Heads(heads, width // heads, qkv_bias=False)
    x = w.add("attn1.sum", attention(w, "attn1", w.layer_norm("norm1", x, affine=True), a), x)
    x = w.add("attn2.sum", attention(w, "attn2", w.layer_norm("norm2", x, affine=True), a, text), x)
    fed = feed_forward(w, "ff", w.layer_norm("norm3", x, affine=True), Feed(4 * width, "gelu", "joined"))
    return w.add("ff.sum", fed, x)
