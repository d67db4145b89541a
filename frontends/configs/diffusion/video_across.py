"""Diffusion transformers of video with attention across to the text: LTX-Video, Allegro, Cosmos, SANA-Video.

Defaults are those of the classes. Source: huggingface/diffusers 0.42, src/diffusers/models/transformers.
"""

from __future__ import annotations

from dataclasses import replace

from wattir.dims import Size
from wattir.frontends.configs.diffusion.blocks import (
    LOOSE,
    Feed,
    Heads,
    Latent,
    attention,
    feed_forward,
    patches,
    projected,
    queries,
    timestep,
    two_layers,
)
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_transformers import fed, heads_of, sana_blocks
from wattir.frontends.configs.keys import Keys


def ltx(w: Canvas, k: Keys, at: Latent) -> str:
    """LTXVideoTransformer3DModel: PixArt's blocks with RMS norms, over latents that are a token each."""
    norm = {"qk_norm": "rms_norm", "norm_over": "all", "rotary": True}
    a = heads_of(
        k, 32, 64, qkv_bias=k.flag("attention_bias", True), out_bias=k.flag("attention_out_bias", True), **norm
    )
    width, channels = a.width, k.whole("in_channels", default=128)
    latent = w.given("latent", at.batch, w.local(at.points), channels)
    x = w.linear("proj_in", latent, width, bias=True)
    emb, by, text = _conditions(w, k, at, width)
    with w.at("transformer_blocks", k.whole("num_layers", default=28)):
        w.parameter("scale_shift_table", 6, width)
        normed = w.modulated("norm1.modulate", w.loose_rms_norm("norm1", x, width, weight=False), by)
        x = w.gated_residual("attn1", attention(w, "attn1", normed, a), x, by)
        x = w.add("attn2.sum", attention(w, "attn2", x, a, text), x)
        normed = w.modulated("norm2.modulate", w.loose_rms_norm("norm2", x, width, weight=False), by)
        x = w.gated_residual("ff", feed_forward(w, "ff", normed, Feed(4 * width)), x, by)
    return _closed(w, x, emb, k.whole("out_channels", default=channels))


def _conditions(w: Canvas, k: Keys, at: Latent, width: int) -> tuple[str, str, str]:
    """The timestep, the modulation of all layers, and the text's tokens (PixArt's)."""
    emb = timestep(w, "time_embed.timestep", at.batch, width)
    by = projected(w, "time_embed", emb, 6 * width)
    words = w.given("text", at.batch, at.text, k.whole("caption_channels", default=4096))
    return emb, by, two_layers(w, "caption_projection", words, width, "gelu_tanh")


def _closed(w: Canvas, x: str, emb: str, out: int) -> str:
    """The last norm, shifted and scaled by a table and the timestep, and the pixels of a patch."""
    w.parameter("scale_shift_table", 2, w.width(x))
    x = w.modulated("norm_out.modulate", w.layer_norm("norm_out", x), emb)
    return w.linear("proj_out", x, out, bias=True)


def allegro(w: Canvas, k: Keys, at: Latent) -> str:
    """AllegroTransformer3DModel: PixArt's blocks with a rotary embedding of space and time."""
    a = heads_of(k, 24, 96, qkv_bias=k.flag("attention_bias", True), rotary=True)
    patch, width = k.whole("patch_size", default=2), a.width
    x = patches(w, "pos_embed.proj", at, k.whole("in_channels", default=4), width, (patch, patch))
    emb, by, text = _conditions(w, k, at, width)
    with w.at("transformer_blocks", k.whole("num_layers", default=32)):
        w.parameter("scale_shift_table", 6, width)
        normed = w.modulated("norm1.modulate", w.layer_norm("norm1", x), by)
        x = w.gated_residual("attn1", attention(w, "attn1", normed, a), x, by)
        x = w.add("attn2.sum", attention(w, "attn2", x, replace(a, rotary=False), text), x)
        x = fed(w, "ff", x, by, Feed(4 * width))
    return _closed(w, x, emb, patch * patch * k.whole("out_channels", default=4))


# ---- Cosmos ---------------------------------------------------------------------------------------------------------


def cosmos(w: Canvas, k: Keys, at: Latent) -> str:
    """CosmosTransformer3DModel: a modulation of low rank before each attention and before the feed-forward part."""
    a = heads_of(k, 32, 128, qkv_bias=False, out_bias=False, qk_norm=LOOSE, rotary=True)
    width, patch = a.width, tuple(k.words("patch_size")) or (1, 2, 2)
    channels = k.whole("in_channels", default=16) + k.flag("concat_padding_mask", True)
    x = patches(w, "patch_embed.proj", at, channels, width, patch, bias=False, dense=True)
    with w.at("time_embed"):
        waves = w.waves("time_proj", at.batch, width)
        temb = w.linear("linear_2", w.act("act", "silu", w.linear("linear_1", waves, width)), 3 * width)
        emb = w.loose_rms_norm("norm", waves, width)
    places = _places(w, k, patch, width)
    text, rank = w.given("text", at.batch, at.text, k.whole("text_embed_dim", default=1024)), _rank(k)
    feed = Feed(int(k.number("mlp_ratio", 4.0) * width), "gelu", bias=False)
    with w.at("transformer_blocks", k.whole("num_layers", default=28)):
        x = w.kernels("places", x) if places else x
        normed, by = _low_rank(w, "norm1", x, emb, temb, rank, 3)
        x = w.gated_residual("attn1", attention(w, "attn1", normed, a), x, by)
        normed, by = _low_rank(w, "norm2", x, emb, temb, rank, 3)
        x = w.gated_residual("attn2", attention(w, "attn2", normed, replace(a, rotary=False), text), x, by)
        normed, by = _low_rank(w, "norm3", x, emb, temb, rank, 3)
        x = w.gated_residual("ff", feed_forward(w, "ff", normed, feed), x, by)
    x, _ = _low_rank(w, "norm_out", x, emb, temb, rank, 2)
    return w.linear("proj_out", x, patch[0] * patch[1] * patch[2] * k.whole("out_channels", default=16))


def _rank(k: Keys) -> int:
    return k.whole("adaln_lora_dim", default=256)


def _places(w: Canvas, k: Keys, patch: tuple[int, ...], width: int) -> bool:
    """Whether each block adds learned places, which are parameters."""
    if not k.values.get("extra_pos_embed_type", "learnable"):
        return False
    sizes = [int(each) for each in k.words("max_size")] or [128, 240, 240]
    w.parameter("learnable_pos_embed", sum(size // step for size, step in zip(sizes, patch, strict=True)), width)
    return True


def _low_rank(w: Canvas, name: str, x: str, emb: str, temb: str, rank: int, parts: int) -> tuple[str, str]:
    """The norm of x modulated by two thin products of the timestep and by what is the same in all blocks."""
    with w.at(name):
        by = w.linear("linear_1", w.act("silu", "silu", emb), rank)
        by = w.add("sum", w.linear("linear_2", by, parts * w.width(x)), temb)
        return w.modulated("modulate", w.layer_norm("norm", x), by), by


# ---- SANA-Video -----------------------------------------------------------------------------------------------------


def sana_video(w: Canvas, k: Keys, at: Latent) -> str:
    """SanaVideoTransformer3DModel: SANA's linear attention, turned by places, and convolutions over the frames."""
    norm = {"qk_norm": LOOSE, "norm_over": "all"} if k.values.get("qk_norm", "rms") else {}
    a = heads_of(k, 20, 112, qkv_bias=k.flag("attention_bias"), **norm)
    cross = Heads(k.whole("num_cross_attention_heads", default=20), k.whole("cross_attention_head_dim", default=112),
                  **norm)  # type: ignore[arg-type]  # fmt: skip
    width, patch = a.width, tuple(k.words("patch_size")) or (1, 2, 2)
    x = patches(w, "patch_embedding", at, k.whole("in_channels", default=16), width, patch)
    emb = timestep(w, "time_embed.timestep", at.batch, width)
    if k.flag("guidance_embeds"):
        emb = w.add("temb", emb, timestep(w, "time_embed.guidance", at.batch, width))
    by = projected(w, "time_embed", emb, 6 * width)
    words = w.given("text", at.batch, at.text, k.whole("caption_channels", default=2304))
    text = two_layers(w, "caption_projection", words, width, "gelu_tanh")
    text = w.loose_rms_norm("caption_norm", text, width)
    grid = (at.frames // patch[0], at.height // patch[1], at.width // patch[2])
    hidden = int(k.number("mlp_ratio", 2.5) * width)
    x = sana_blocks(
        w, k, x, by, text, cross, lambda y: _linear_attention(w, y, a), lambda y: _mixed(w, y, grid, hidden)
    )
    return _closed(w, x, emb, patch[0] * patch[1] * patch[2] * k.whole("out_channels", default=16))


def _linear_attention(w: Canvas, x: str, a: Heads) -> str:
    """relu(q) turned (relu(k) turned^T v), over the sum of relu(k) by relu(q); products in 32 bits."""
    batch, rows, width = w.shape(x)
    heads, tokens = w.own_heads(a.heads), rows * w.ulysses
    inner = heads * a.d
    with w.at("attn1"):
        q, k, v = queries(w, "to", x, a, "q"), queries(w, "to", x, a, "k"), w.linear("to_v", x, a.width, a.qkv_bias)
        q, k, v = (w.exchanged(n, y, (batch, tokens, inner)) for n, y in (("q", q), ("k", k), ("v", v)))
        q, k = (w.kernels(f"{n}.relu", y) for n, y in (("q", q), ("k", k)))
        total = w.op("reduction", "k.sum", (k,), (batch, 1, inner), "sum", function="sum", length=tokens)
        share = w.op("matmul", "normalizer", (total, q), (batch, heads, tokens), "bmm", groups=batch * heads, m=1,
                     n=tokens, k=a.d)  # fmt: skip
        q, k = (w.kernels(f"{n}.turned", y, 4) for n, y in (("q", q), ("k", k)))
        q, k, v = (w.kernels(f"{n}.wide", y, dtype="fp32") for n, y in (("q", q), ("k", k), ("v", v)))
        scores = _product(w, "scores", (v, k), (batch, heads, a.d, a.d), batch * heads, a.d, a.d, tokens)
        scores = w.all_reduce("scores.sum", scores, w.ring)
        out = _product(w, "read", (scores, q), (batch, tokens, inner), batch * heads, a.d, tokens, a.d)
        out = w.kernels("back", w.kernels("normalize", out, dtype="fp32", by=share), 2, dtype=w.held.dtype)
        return w.linear("to_out", w.exchanged("out", out, (batch, rows, a.width)), int(str(width)), bias=True)


def _product(
    w: Canvas, name: str, ins: tuple[str, str], shape: tuple[Size, ...], groups: Size, m: Size, n: Size, k: Size
) -> str:
    return w.op("matmul", name, ins, shape, "bmm", "fp32", groups=groups, m=m, n=n, k=k)


def _mixed(w: Canvas, x: str, grid: tuple[int, int, int], hidden: int) -> str:
    """A gated convolution within each frame, and one over the frames added to it. What devices that share a video send
    each other for it is left out."""
    batch, rows, width = w.shape(x)
    wide, (frames, height, breadth) = int(str(width)), grid
    frames = int(str(w.local(frames)))
    with w.at("ff"):
        maps = w.moved("maps", x, batch * frames, wide, height, breadth)
        up = w.act("silu", "silu", w.conv("conv_inverted", maps, 2 * hidden, 1))
        up = w.conv("conv_depth", up, 2 * hidden, 3, groups=2 * hidden)
        half = w.moved("half", up, batch * frames, hidden, height, breadth)
        out = w.conv("conv_point", w.act("gate", "silu_mul", half), wide, 1, bias=False)
        video = w.moved("video", out, batch, wide, frames, height * breadth)
        video = w.add("sum", w.conv("conv_temp", video, wide, (3, 1), bias=False), video)
        return w.moved("tokens", video, batch, rows, wide)
