"""Diffusion transformers of video: one function a class of diffusers, from its configuration's keys to a graph.

Defaults are those of the class. Source: huggingface/diffusers 0.35, src/diffusers/models/transformers.
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
    continuous_norm,
    feed_forward,
    joint_attention,
    patches,
    projected,
    queries,
    timestep,
    two_layers,
)
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_transformers import double_stream, heads_of, single_stream
from wattir.frontends.configs.keys import Keys


def cogvideox(w: Canvas, k: Keys, at: Latent) -> str:
    """CogVideoXTransformer3DModel: video and text side by side in every layer, modulated apart."""
    a = heads_of(k, 30, 64, qkv_bias=k.flag("attention_bias", True), qk_norm="layer_norm", norm_bias=True)
    patch, patch_t = k.whole("patch_size", default=2), k.whole("patch_size_t", default=0, least=0)
    channels, width, time = k.whole("in_channels", default=16), a.width, k.whole("time_embed_dim", default=512)
    if patch_t:
        x = patches(w, "patch_embed.proj", at, channels, width, (patch_t, patch, patch), dense=True)
    else:
        x = patches(w, "patch_embed.proj", at, channels, width, (patch, patch), bias=k.flag("patch_bias", True))
    words = w.given("text", at.batch, w.local_text(at.text), k.whole("text_embed_dim", default=4096))
    text = w.linear("patch_embed.text_proj", words, width, bias=True)
    emb = timestep(w, "time_embedding", at.batch, time, width)
    if k.whole("ofs_embed_dim", default=0, least=0):
        emb = w.add("temb", emb, timestep(w, "ofs_embedding", at.batch, time, k.whole("ofs_embed_dim")))
    rows = w.shape(x)[1]
    a = replace(a, rotary=k.flag("use_rotary_positional_embeddings"))
    with w.at("transformer_blocks", k.whole("num_layers", default=30)):
        both, by = _norm_zero(w, "norm1", x, text, emb)
        mixed = attention(w, "attn1", both, a, whole=w.whole_text(at.text))
        x, text = _residuals(w, "attn", mixed, x, text, by)
        both, by = _norm_zero(w, "norm2", x, text, emb)
        x, text = _residuals(w, "ff", feed_forward(w, "ff", both, Feed(4 * width)), x, text, by)
    both = w.layer_norm("norm_final", w.joined("cat", (text, x), at.batch, rows + w.shape(text)[1], width), affine=True)
    x = w.moved("video", both, at.batch, rows, width)
    by = projected(w, "norm_out", emb, 2 * width)
    x = w.modulated("norm_out.modulate", w.layer_norm("norm_out.norm", x, affine=True), by)
    out = k.whole("out_channels", default=16) * patch * patch * (patch_t or 1)
    return w.linear("proj_out", x, out, bias=True)


def _norm_zero(w: Canvas, name: str, x: str, text: str, emb: str) -> tuple[str, str]:
    """Both streams by one norm, each modulated, one after the other; and the modulation, which holds the gates."""
    batch, rows, width = w.shape(x)
    by = projected(w, name, emb, 6 * int(str(width)))
    weights = (w.weight(f"{name}.norm.weight", (width,)), w.weight(f"{name}.norm.bias", (width,)))
    streams = []
    for stream, source in (("text", text), ("video", x)):
        normed = w.op("norm", f"{name}.{stream}", (source, *weights), w.shape(source), "layer_norm",
                      function="layer_norm", length=width)  # fmt: skip
        streams.append(w.modulated(f"{name}.{stream}.modulate", normed, by))
    return w.joined(f"{name}.cat", tuple(streams), batch, rows + w.shape(text)[1], width), by


def _residuals(w: Canvas, name: str, both: str, x: str, text: str, by: str) -> tuple[str, str]:
    video, words = w.seen(f"{name}.video", both, *w.shape(x)), w.seen(f"{name}.text", both, *w.shape(text))
    return w.gated_residual(name, video, x, by), w.gated_residual(f"{name}.text", words, text, by)


def wan(w: Canvas, k: Keys, at: Latent) -> str:
    """WanTransformer3DModel: self-attention, attention to the text (and to an image), feed-forward; norms and residuals
    in 32 bits."""
    a = heads_of(k, 40, 128, qk_norm="rms_norm", norm_over="all", rotary=True)
    patch = tuple(k.words("patch_size")) or (1, 2, 2)
    width, depth = a.width, k.whole("num_layers", default=40)
    x = patches(w, "patch_embedding", at, k.whole("in_channels", default=16), width, patch)
    emb = timestep(w, "condition_embedder.time", at.batch, width, k.whole("freq_dim", default=256))
    by = projected(w, "condition_embedder.time_proj", emb, 6 * width)
    words = w.given("text", at.batch, at.text, k.whole("text_dim", default=4096))
    text = two_layers(w, "condition_embedder.text_embedder", words, width, "gelu_tanh")
    image = _wan_image(w, k, at, width) if "image_dim" in k else ""
    with w.at("blocks", depth):
        w.parameter("scale_shift_table", 6, width)
        normed = _wide_modulated(w, "norm1", x, by)
        x = _wide_residual(w, "attn1", attention(w, "attn1", normed, a), x, by)
        normed = w.layer_norm("norm2", x, affine=True, wide=True) if k.flag("cross_attn_norm", True) else x
        x = w.add("attn2.sum", _wan_across(w, normed, a, text, image), x)
        normed = _wide_modulated(w, "norm3", x, by)
        x = _wide_residual(w, "ffn", feed_forward(w, "ffn", normed, Feed(k.whole("ffn_dim", default=13824))), x, by)
    w.parameter("scale_shift_table", 2, width)
    x = _wide_modulated(w, "norm_out", x, emb)
    return w.linear("proj_out", x, k.whole("out_channels", default=16) * patch[0] * patch[1] * patch[2], bias=True)


IMAGE_TOKENS = 257
"""Of the image that Wan's videos start from: 16 by 16 patches of CLIP's vision tower, and one for all of it."""


def _wan_image(w: Canvas, k: Keys, at: Latent, width: int) -> str:
    """The image's tokens, as wide as the video's."""
    channels = k.whole("image_dim")
    with w.at("condition_embedder.image_embedder"):
        x = w.given("image", at.batch, IMAGE_TOKENS, channels)
        x = two_layers(w, "ff", w.layer_norm("norm1", x, affine=True, wide=True), channels, "gelu", width)
        return w.layer_norm("norm2", x, affine=True, wide=True)


def _wan_across(w: Canvas, x: str, a: Heads, text: str, image: str) -> str:
    """Attention to the text and, with keys and values of its own, to an image."""
    if not image:
        return attention(w, "attn2", x, a, text)
    with w.at("attn2"):
        q = queries(w, "to", x, a, "q")
        seen = []
        for name, source, prefix, suffix in (("text", text, "to", ""), ("image", image, "add", "_proj")):
            key = queries(w, prefix, source, a, "k", suffix)
            value = w.linear(f"{prefix}_v{suffix}", source, a.width, bias=True)
            seen.append(w.attend(name, q, key, value, a.heads))
        return w.linear("to_out", w.add("both", *seen), w.width(x), bias=True)


def _wide_modulated(w: Canvas, name: str, x: str, by: str) -> str:
    wide = w.norm(f"{name}.norm", w.kernels(f"{name}.cast", x, dtype="fp32"), "layer_norm", weight=False)
    wide = w.kernels(f"{name}.modulate", wide, 2, dtype="fp32", by=by)
    return w.kernels(f"{name}.back", wide, dtype=w.held.dtype)


def _wide_residual(w: Canvas, name: str, x: str, onto: str, by: str) -> str:
    gated = w.kernels(f"{name}.gate", w.kernels(f"{name}.cast", x, dtype="fp32"), dtype="fp32", by=by)
    total = w.add(f"{name}.sum", w.kernels(f"{name}.wide", onto, dtype="fp32"), gated)
    return w.kernels(f"{name}.back", total, dtype=w.held.dtype)


def hunyuan_video(w: Canvas, k: Keys, at: Latent) -> str:
    """HunyuanVideoTransformer3DModel: a refiner of the text, then blocks of two streams and of one, as FLUX has."""
    a = heads_of(k, 24, 128, qk_norm=LOOSE, rotary=True)
    width, patch, patch_t = a.width, k.whole("patch_size", default=2), k.whole("patch_size_t", default=1)
    grid, ratio = (patch_t, patch, patch), k.number("mlp_ratio", 4.0)
    x = patches(w, "x_embedder.proj", at, k.whole("in_channels", default=16), width, grid)
    emb = timestep(w, "time_text_embed.timestep", at.batch, width)
    pooled = w.given("pooled", at.batch, k.whole("pooled_projection_dim", default=768))
    emb = w.add("temb", emb, two_layers(w, "time_text_embed.text", pooled, width))
    if k.flag("guidance_embeds", True):
        emb = w.add("temb.guided", emb, timestep(w, "time_text_embed.guidance", at.batch, width))
    text = _refined(w, k, at, replace(a, qk_norm="", rotary=False))
    text, whole = w.moved("text.share", text, at.batch, w.local_text(at.text), width), w.whole_text(at.text)
    with w.at("transformer_blocks", k.whole("num_layers", default=20)):
        x, text = double_stream(w, x, text, emb, a, feed=Feed(int(ratio * width)), whole=whole)
    rows = w.shape(x)[1]
    both = w.joined("cat", (x, text), at.batch, rows + w.shape(text)[1], width)
    with w.at("single_transformer_blocks", k.whole("num_single_layers", default=40)):
        both = single_stream(w, both, emb, a, int(ratio * width), whole)
    x = w.moved("video", both, at.batch, rows, width)
    out = k.whole("out_channels", default=16) * patch_t * patch * patch
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), out, bias=True)


def _refined(w: Canvas, k: Keys, at: Latent, a: Heads) -> str:
    """The text's tokens through a few layers of their own, which every device computes whole."""
    channels, ulysses, ring = k.whole("text_embed_dim", default=4096), w.ulysses, w.ring
    w.ulysses, w.ring = 1, 1
    with w.at("context_embedder"):
        words = w.given("text", at.batch, at.text, channels)
        pooled = w.op("reduction", "mean", (words,), (at.batch, channels), "mean", function="mean", length=at.text)
        emb = w.add("temb", timestep(w, "time_text_embed.timestep", at.batch, a.width),
                    two_layers(w, "time_text_embed.text", pooled, a.width))  # fmt: skip
        x = w.linear("proj_in", words, a.width, bias=True)
        with w.at("refiner_blocks", k.whole("num_refiner_layers", default=2)):
            by = projected(w, "norm_out", emb, 2 * a.width)
            mixed = attention(w, "attn", w.layer_norm("norm1", x, affine=True), a)
            x = w.gated_residual("attn", mixed, x, by)
            normed = w.layer_norm("norm2", x, affine=True)
            x = w.gated_residual("ff", feed_forward(w, "ff", normed, Feed(4 * a.width, "silu")), x, by)
    w.ulysses, w.ring = ulysses, ring
    return x


def mochi(w: Canvas, k: Keys, at: Latent) -> str:
    """MochiTransformer3DModel: two streams of different widths, modulated RMS norms before and behind each part."""
    a = heads_of(k, 24, 128, qkv_bias=False, qk_norm=LOOSE, rotary=True)
    patch, channels, width = k.whole("patch_size", default=2), k.whole("in_channels", default=12), a.width
    narrow, depth = k.whole("pooled_projection_dim", default=1536), k.whole("num_layers", default=48)
    x = patches(w, "patch_embed.proj", at, channels, width, (patch, patch))
    words = w.given("text", at.batch, at.text, k.whole("text_embed_dim", default=4096))
    emb = timestep(w, "time_embed.timestep", at.batch, width, k.whole("time_embed_dim", default=256))
    emb = w.add("temb", emb, _pooled(w, at, words, width))
    text = w.linear("time_embed.caption_proj", words, narrow, bias=True)
    text, whole = w.moved("text.share", text, at.batch, w.local_text(at.text), narrow), w.whole_text(at.text)
    w.parameter("pos_frequencies", 3 * a.heads, a.d // 2)
    for name, times in (("blocks", depth - 1), ("last", 1)):
        if times:
            with w.at(f"transformer_{name}", times):
                x, text = _mochi_block(w, x, text, emb, a, name == "last", whole)
    out = patch * patch * k.whole("out_channels", default=channels)
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), out, bias=True)


def _pooled(w: Canvas, at: Latent, words: str, out: int) -> str:
    """The mean of the text's tokens looks at all of them."""
    wide, rows = w.width(words), at.text + 1
    with w.at("time_embed.pooler"):
        mean = w.op("reduction", "mean", (words,), (at.batch, 1, wide), "mean", function="mean", length=at.text)
        longer = w.joined("cat", (mean, words), at.batch, rows, wide)
        both = w.linear("to_kv", longer, 2 * wide, bias=True)
        key, value = (w.moved(part, both, at.batch, rows, wide) for part in ("k", "v"))
        mixed = w.attend("attn", w.linear("to_q", mean, wide, bias=True), key, value, 8)
        return w.linear("to_out", w.seen("pooled", mixed, at.batch, wide), out, bias=True)


def _mochi_block(
    w: Canvas, x: str, text: str, emb: str, a: Heads, last: bool, whole: Size
) -> tuple[str, str]:  # fmt: skip
    by = projected(w, "norm1", emb, 4 * a.width)
    by_text = projected(w, "norm1_context", emb, (1 if last else 4) * w.width(text))
    normed = _scaled(w, "norm1", x, by)
    mixed, words = joint_attention(w, "attn1", normed, _scaled(w, "norm1_context", text, by_text), a,
                                   text_out=not last, whole=whole)  # fmt: skip
    x = _mochi_fed(w, "ff", w.add("attn.sum", _scaled(w, "norm2", mixed, by), x), by)
    if last:
        return x, ""
    text = w.add("attn_context.sum", _scaled(w, "norm2_context", words, by_text), text)
    return x, _mochi_fed(w, "ff_context", text, by_text)


def _mochi_fed(w: Canvas, name: str, x: str, by: str) -> str:
    feed = Feed(4 * w.width(x) * 2 // 3, "silu", "joined", bias=False)
    out = feed_forward(w, name, _scaled(w, f"{name}.norm3", x, by), feed)
    return w.add(f"{name}.sum", _scaled(w, f"{name}.norm4", out, by), x)


def _scaled(w: Canvas, name: str, x: str, by: str) -> str:
    """An RMS norm without weights in 32 bits, times a scale or a gate."""
    wide = w.loose_rms_norm(name, w.kernels(f"{name}.cast", x, dtype="fp32"), w.width(x), weight=False)
    return w.kernels(f"{name}.back", w.kernels(f"{name}.modulate", wide, dtype="fp32", by=by), dtype=w.held.dtype)
