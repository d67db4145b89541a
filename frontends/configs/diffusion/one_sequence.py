"""Diffusion transformers of images over one sequence of text and image: Lumina 2, Z-Image, OmniGen.

Defaults are those of the classes. Source: huggingface/diffusers 0.42, src/diffusers/models/transformers.
"""

from __future__ import annotations

from wattir.frontends.configs.diffusion.blocks import (
    LOOSE,
    Feed,
    Heads,
    Latent,
    attention,
    feed_forward,
    patches,
    projected,
    timestep,
)
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.joint_transformers import rounded_up
from wattir.frontends.configs.keys import Keys


def lumina_2(w: Canvas, k: Keys, at: Latent) -> str:
    """Lumina2Transformer2DModel: text and image are refined apart, then go through all layers as one sequence."""
    width, heads = k.whole("hidden_size", default=2304), k.whole("num_attention_heads", default=24)
    kv = k.whole("num_kv_heads", default=8)
    inner = int(k.number("ffn_dim_multiplier", 1.0) * 4 * width)
    a = Heads(heads, width // heads, qkv_bias=False, out_bias=False, qk_norm=LOOSE, rotary=True, kv_heads=kv)
    feed = Feed(rounded_up(inner, k.whole("multiple_of", default=256)), "silu", "apart", bias=False)
    emb = timestep(w, "time_caption_embed.timestep", at.batch, min(width, TIME))
    x, text = _embedded(w, k, at, width, k.whole("cap_feat_dim", default=1024), k.whole("patch_size", default=2))
    both = _refined(w, k, at, x, text, emb, a, feed)
    with w.at("layers", k.whole("num_layers", default=26)):
        both = sandwich(w, both, a, feed, projected(w, "norm1", emb, 4 * width))
    return _out(w, k, both, emb, k.whole("patch_size", default=2))


TIME = 1024
"""Channels of Lumina's embedding of the timestep, at most."""
Z_TIME, Z_WIDE = 256, 1024
"""Channels of Z-Image's embedding of the timestep, at most, and in the middle of it."""


def z_image(w: Canvas, k: Keys, at: Latent) -> str:
    """ZImageTransformer2DModel: as Lumina 2, with a modulation by a short embedding of the timestep."""
    width, heads = k.whole("dim", default=3840), k.whole("n_heads", default=30)
    patch = int((k.words("all_patch_size") or [2])[0])
    norm = LOOSE if k.flag("qk_norm", True) else ""
    a = Heads(heads, width // heads, qkv_bias=False, out_bias=False, qk_norm=norm, rotary=True)
    feed = Feed(int(width / 3 * 8), "silu", "apart", bias=False)
    with w.at("t_embedder"):
        emb = w.linear("linear_1", w.waves("proj", at.batch, 256), Z_WIDE, bias=True)
        emb = w.linear("linear_2", w.act("act", "silu", emb), min(width, Z_TIME), bias=True)
    x, text = _embedded(w, k, at, width, k.whole("cap_feat_dim", default=2560), patch)
    w.parameter("pad_tokens", 2, width)
    both = _refined(w, k, at, x, text, emb, a, feed, silu=False, key="n_refiner_layers")
    with w.at("layers", k.whole("n_layers", default=30)):
        both = sandwich(w, both, a, feed, w.linear("adaLN_modulation", emb, 4 * width, bias=True))
    return _out(w, k, both, emb, patch)


def _embedded(w: Canvas, k: Keys, at: Latent, width: int, seen: int, patch: int) -> tuple[str, str]:
    """The tokens of the image, and those of the text."""
    x = patches(w, "x_embedder", at, k.whole("in_channels", default=16), width, (patch, patch), dense=True)
    words = w.loose_rms_norm("cap_norm", w.given("text", at.batch, w.local_text(at.text), seen), seen)
    return x, w.linear("cap_embedder", words, width, bias=True)


def _refined(
    w: Canvas, k: Keys, at: Latent, x: str, text: str, emb: str, a: Heads, feed: Feed, *, silu: bool = True,
    key: str = "num_refiner_layers",
) -> str:  # fmt: skip
    """Text and image through a few layers of their own, then as one sequence."""
    width, times = a.width, k.whole(key, default=2, least=0)
    with w.at("noise_refiner", times):
        by = projected(w, "norm1", emb, 4 * width) if silu else w.linear("adaLN", emb, 4 * width, bias=True)
        x = sandwich(w, x, a, feed, by)
    with w.at("context_refiner", times):
        text = sandwich(w, text, a, feed)
    return w.joined("cat", (text, x), at.batch, w.shape(x)[1] + w.shape(text)[1], width)


def sandwich(w: Canvas, x: str, a: Heads, feed: Feed, by: str = "") -> str:
    """Attention and a feed-forward part, each between two RMS norms; `by`: scales before and gates behind them."""
    width = w.width(x)
    for name in ("attention", "ff"):
        normed = w.loose_rms_norm(f"{name}_norm1", x, width)
        normed = w.kernels(f"{name}.scale", normed, by=by) if by else normed
        out = attention(w, "attention", normed, a) if name == "attention" else feed_forward(w, "ff", normed, feed)
        out = w.loose_rms_norm(f"{name}_norm2", out, width)
        x = w.gated_residual(name, out, x, by) if by else w.add(f"{name}.sum", out, x)
    return x


def _out(w: Canvas, k: Keys, x: str, emb: str, patch: int) -> str:
    """All tokens normed, scaled by the timestep, and as patches, of which those of the text are dropped."""
    x = w.kernels("norm_out.scale", w.layer_norm("norm_out", x), by=projected(w, "norm_out", emb, w.width(x)))
    out = k.whole("out_channels", default=k.whole("in_channels", default=16))
    return w.linear("proj_out", x, patch * patch * out, bias=True)


def omnigen(w: Canvas, k: Keys, at: Latent) -> str:
    """OmniGenTransformer2DModel: a language model whose sequence ends in a token of the time and those of the image."""
    width, patch = k.whole("hidden_size", default=3072), k.whole("patch_size", default=2)
    heads, kv = k.whole("num_attention_heads", default=32), k.whole("num_key_value_heads", default=32)
    channels, time = k.whole("in_channels", default=4), k.whole("time_step_dim", default=256)
    a = Heads(heads, width // heads, qkv_bias=False, out_bias=False, rotary=True, kv_heads=kv)
    feed = Feed(k.whole("intermediate_size", default=8192), "silu", "joined", bias=False)
    x = patches(w, "patch_embedding.output_image_proj", at, channels, width, (patch, patch))
    w.parameter("patch_embedding.input_image_proj", width, channels * patch * patch + 1)
    token, emb = (timestep(w, name, at.batch, width, time) for name in ("time_token", "t_embedder"))
    ids = w.builder.tensor(w.path("input_ids"), (at.batch, w.local_text(at.text)), "int64", "input")
    table = w.weight("embed_tokens.weight", (k.whole("vocab_size", default=32064), width))
    shape = (at.batch, w.local_text(at.text), width)
    text = w.op("gather", "embed_tokens", (table, ids), shape, "embedding", function="embedding")
    rows = w.shape(x)[1]
    both = w.joined("cat", (text, token, x), at.batch, rows + w.local_text(at.text) + 1, width)
    with w.at("layers", k.whole("num_layers", default=32)):
        normed = w.loose_rms_norm("input_layernorm", both, width)
        both = w.add("self_attn.sum", attention(w, "self_attn", normed, a), both)
        normed = w.loose_rms_norm("post_attention_layernorm", both, width)
        both = w.add("mlp.sum", feed_forward(w, "mlp", normed, feed), both)
    x = w.seen("image", w.loose_rms_norm("norm", both, width), at.batch, rows, width)
    by = projected(w, "norm_out", emb, 2 * width)
    x = w.modulated("norm_out.modulate", w.layer_norm("norm_out.norm", x), by)
    return w.linear("proj_out", x, patch * patch * channels, bias=True)
