"""Diffusion transformers of images in which image and text attend jointly, beyond those of `image_transformers`.

Defaults are those of the classes. Source: huggingface/diffusers 0.42, src/diffusers/models/transformers.
"""

from __future__ import annotations

from wattir.dims import Size, ceildiv
from wattir.frontends.configs.diffusion.blocks import (
    Feed,
    Heads,
    Latent,
    attention,
    continuous_norm,
    feed_forward,
    joint_attention,
    patches,
    projected,
    timestep,
    turned,
    two_layers,
)
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_transformers import (
    double_stream,
    fed,
    heads_of,
    one_stream,
    single_stream,
)
from wattir.frontends.configs.keys import Keys


def rounded_up(size: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-size // step) * step


def _shared(w: Canvas, at: Latent, x: str, text: str) -> str:
    """Both streams as one, the text first."""
    return w.joined("cat", (text, x), at.batch, w.shape(x)[1] + w.shape(text)[1], w.width(x))


def auraflow(w: Canvas, k: Keys, at: Latent) -> str:
    """AuraFlowTransformer2DModel: a few blocks of two streams, then of one, without biases; norms in 32 bits."""
    a = heads_of(k, 12, 256, qkv_bias=False, out_bias=False, qk_norm="layer_norm", norm_weight=False)
    patch, width, channels = k.whole("patch_size", default=2), a.width, k.whole("in_channels", default=4)
    feed = Feed(rounded_up(2 * 4 * width // 3, 256), "silu", "apart", bias=False)
    x = patches(w, "pos_embed.proj", at, channels, width, (patch, patch), dense=True)
    w.parameter("pos_embed.pos_embed", k.whole("pos_embed_max_size", default=1024), width)
    emb = timestep(w, "time_step_proj", at.batch, width)
    words = w.given("text", at.batch, w.local_text(at.text), k.whole("joint_attention_dim", default=2048))
    text = w.linear("context_embedder", words, k.whole("caption_projection_dim", default=3072))
    w.parameter("register_tokens", REGISTERS, width)
    text = w.joined("registers", (text,), at.batch, w.shape(text)[1] + REGISTERS, width)
    whole = w.whole_text(at.text)
    with w.at("joint_transformer_blocks", k.whole("num_mmdit_layers", default=4)):
        by = (
            projected(w, "norm1", emb, 6 * width, bias=False),
            projected(w, "norm1_context", emb, 6 * width, bias=False),
        )
        x, text = double_stream(w, x, text, emb, a, feed=feed, by=by, whole=whole, wide=True)
    rows, both = w.shape(x)[1], _shared(w, at, x, text)
    with w.at("single_transformer_blocks", k.whole("num_single_dit_layers", default=32)):
        both = one_stream(w, both, projected(w, "norm1", emb, 6 * width, bias=False), a, feed, whole=whole, wide=True)
    x = w.seen("image", both, at.batch, rows, width)
    x = w.modulated("norm_out.modulate", x, projected(w, "norm_out", emb, 2 * width, bias=False))
    return w.linear("proj_out", x, patch * patch * k.whole("out_channels", default=4))


REGISTERS = 8
"""Tokens that AuraFlow puts before those of the text."""


def chroma(w: Canvas, k: Keys, at: Latent) -> str:
    """ChromaTransformer2DModel: FLUX without modulations of its own: a small network makes those of all blocks."""
    a = heads_of(k, 24, 128, qk_norm="rms_norm", rotary=True)
    width, double, single = a.width, k.whole("num_layers", default=19), k.whole("num_single_layers", default=38)
    by = _approximated(w, k, at, 3 * single + 2 * 6 * double + 2, width)
    x = w.linear("x_embedder", w.given("latent", at.batch, w.local(at.packed), k.whole("in_channels", default=64)),
                 width, bias=True)  # fmt: skip
    words = w.given("text", at.batch, w.local_text(at.text), k.whole("joint_attention_dim", default=4096))
    text, whole = w.linear("context_embedder", words, width, bias=True), w.whole_text(at.text)
    with w.at("transformer_blocks", double):
        x, text = double_stream(w, x, text, "", a, by=(by, by), whole=whole)
    rows, both = w.shape(x)[1], _shared(w, at, x, text)
    with w.at("single_transformer_blocks", single):
        both = single_stream(w, both, "", a, 4 * width, whole, by=by)
    x = w.modulated("norm_out.modulate", w.layer_norm("norm_out", w.seen("image", both, at.batch, rows, width)), by)
    out = k.whole("out_channels", default=k.whole("in_channels", default=64))
    return w.linear("proj_out", x, out * k.whole("patch_size", default=1) ** 2, bias=True)


def _approximated(w: Canvas, k: Keys, at: Latent, rows: int, width: int) -> str:
    """Shifts, scales and gates of all blocks [batch, rows, width] from the timestep."""
    wide = k.whole("approximator_hidden_dim", default=5120)
    with w.at("distilled_guidance_layer"):
        x = w.given("timestep", at.batch, rows, k.whole("approximator_num_channels", default=64))
        x = w.linear("in_proj", x, wide, bias=True)
        with w.at("layers", k.whole("approximator_layers", default=5)):
            x = w.add("sum", x, two_layers(w, "layer", w.norm("norms", x, "rms_norm"), wide))
        return w.linear("out_proj", x, width, bias=True)


def flux_2(w: Canvas, k: Keys, at: Latent) -> str:
    """Flux2Transformer2DModel: one modulation for all blocks of a kind, gated feed-forward parts, no biases; in blocks
    of one stream one product opens attention and feed-forward part together."""
    a = heads_of(k, 48, 128, qkv_bias=False, out_bias=False, qk_norm="rms_norm", rotary=True)
    width, ratio = a.width, k.number("mlp_ratio", 3.0)
    feed = Feed(int(width * ratio), "silu", "joined", bias=False)
    emb = _time_guidance(w, k, at, width)
    by = [projected(w, f"double_stream_modulation_{part}", emb, 6 * width, bias=False) for part in ("img", "txt")]
    single = projected(w, "single_stream_modulation", emb, 3 * width, bias=False)
    latent = w.given("latent", at.batch, w.local(at.packed), k.whole("in_channels", default=128))
    x = w.linear("x_embedder", latent, width)
    words = w.given("text", at.batch, w.local_text(at.text), k.whole("joint_attention_dim", default=15360))
    text, whole = w.linear("context_embedder", words, width), w.whole_text(at.text)
    with w.at("transformer_blocks", k.whole("num_layers", default=8)):
        x, text = double_stream(w, x, text, emb, a, feed=feed, by=(by[0], by[1]), whole=whole)
    rows, both = w.shape(x)[1], _shared(w, at, x, text)
    with w.at("single_transformer_blocks", k.whole("num_single_layers", default=48)):
        both = _parallel(w, both, single, a, feed, whole)
    x = continuous_norm(w, "norm_out", w.seen("image", both, at.batch, rows, width), emb, bias=False)
    out = k.whole("out_channels", default=k.whole("in_channels", default=128))
    return w.linear("proj_out", x, out * k.whole("patch_size", default=1) ** 2)


def _time_guidance(w: Canvas, k: Keys, at: Latent, width: int) -> str:
    channels = k.whole("timestep_guidance_channels", default=256)
    emb = ""
    for name in ("timestep", "guidance") if k.flag("guidance_embeds", True) else ("timestep",):
        with w.at(f"time_guidance_embed.{name}_embedder"):
            x = w.act("act", "silu", w.linear("linear_1", w.waves("proj", at.batch, channels), width))
            x = w.linear("linear_2", x, width)
            emb = w.add("sum", emb, x) if emb else x
    return emb


def _parallel(w: Canvas, x: str, by: str, a: Heads, feed: Feed, whole: Size) -> str:
    """Queries, keys, values and the gated feed-forward part by one product; another closes both."""
    batch, rows, width = w.shape(x)
    normed = w.modulated("norm.modulate", w.layer_norm("norm", x), by)
    with w.at("attn"):
        all_of = w.linear("to_qkv_mlp_proj", normed, 3 * a.width + 2 * feed.width)
        parts = [w.seen(part, all_of, batch, rows, a.width) for part in "qkv"]
        for place, part in enumerate("qk"):
            parts[place] = turned(w, part, w.norm(f"norm_{part}", parts[place], a.qk_norm, length=a.d), a)
        mixed = w.attend("attn", parts[0], parts[1], parts[2], a.heads, shared=True, whole=whole)
        up = w.act("mlp_act", feed.act, w.seen("mlp", all_of, batch, rows, 2 * feed.width), last=feed.width)
        both = w.joined("cat", (mixed, up), batch, rows, a.width + feed.width)
        return w.gated_residual("out", w.linear("to_out", both, int(str(width))), x, by)


def cogview(w: Canvas, k: Keys, at: Latent) -> str:
    """CogView3PlusTransformer2DModel: image and text by the same products, each with a modulation of its own."""
    return _cogview(w, k, at, joined=True)


def cogview_4(w: Canvas, k: Keys, at: Latent) -> str:
    """CogView4Transformer2DModel: as CogView3-Plus, with a rotary embedding and a feed-forward part for each stream."""
    return _cogview(w, k, at, joined=False)


def _cogview(w: Canvas, k: Keys, at: Latent, joined: bool) -> str:
    a = heads_of(k, 64, 40, qk_norm="layer_norm", norm_weight=False, rotary=not joined)
    patch, width, channels = k.whole("patch_size", default=2), a.width, k.whole("in_channels", default=16)
    time = k.whole("time_embed_dim", default=512)
    x = patches(w, "patch_embed.proj", at, channels, width, (patch, patch), dense=True)
    words = w.given("text", at.batch, w.local_text(at.text), k.whole("text_embed_dim", default=4096))
    text = w.linear("patch_embed.text_proj", words, width, bias=True)
    emb = timestep(w, "time_condition_embed.timestep", at.batch, time, width)
    sizes = w.waves("time_condition_embed.sizes", at.batch, 3 * 2 * k.whole("condition_dim", default=256))
    emb = w.add("temb", emb, two_layers(w, "time_condition_embed.condition", sizes, time))
    with w.at("transformer_blocks", k.whole("num_layers", default=30)):
        x, text = _cogview_block(w, x, text, projected(w, "norm1", emb, 12 * width), a, joined, w.whole_text(at.text))
    out = patch * patch * k.whole("out_channels", default=16)
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), out, bias=True)


def _cogview_block(w: Canvas, x: str, text: str, by: str, a: Heads, joined: bool, whole: Size) -> tuple[str, str]:
    batch, rows, width = w.shape(x)
    feed, both = Feed(4 * a.width), _normed(w, "norm1", x, text, by)
    mixed = attention(w, "attn1", both, a, whole=whole)
    words = w.seen("attn1.text", mixed, *w.shape(text))
    x = w.gated_residual("attn", w.seen("attn1.image", mixed, batch, rows, width), x, by)
    text = w.gated_residual("attn_context", words, text, by)
    if not joined:
        with w.again("image", 1, known=False):
            x = fed(w, "ff", x, by, feed)
        with w.again("text", 1, known=True):
            return x, fed(w, "ff", text, by, feed)
    out = feed_forward(w, "ff", _normed(w, "norm2", x, text, by), feed)
    image, words = w.seen("ff.image", out, batch, rows, width), w.seen("ff.text", out, *w.shape(text))
    return w.gated_residual("ff", image, x, by), w.gated_residual("ff_context", words, text, by)


def _normed(w: Canvas, name: str, x: str, text: str, by: str) -> str:
    """Both streams normed and modulated apart, then joined."""
    batch, rows, width = w.shape(x)
    parts = (("text", text), ("image", x))
    streams = [w.modulated(f"{name}.{part}.modulate", w.layer_norm(f"{name}.{part}", y), by) for part, y in parts]
    return w.joined(f"{name}.cat", tuple(streams), batch, rows + w.shape(text)[1], width)


def hidream(w: Canvas, k: Keys, at: Latent) -> str:
    """HiDreamImageTransformer2DModel: FLUX-like streams, which besides their own text tokens read in each block those
    of another layer of a language model; the image's feed-forward parts are mixtures of experts. Texts: T5's, the
    language model's."""
    a = heads_of(k, 20, 128, qk_norm="rms_norm", norm_over="all", rotary=True)
    patch, width = k.whole("patch_size", default=2), a.width
    double, single = k.whole("num_layers", default=16), k.whole("num_single_layers", default=32)
    t5, llama = at.tokens
    latent = w.given("latent", at.batch, w.local(at.points // patch**2), patch**2 * k.whole("in_channels", default=16))
    x = w.linear("x_embedder", latent, width, bias=True)
    pooled = w.given("pooled", at.batch, k.whole("text_emb_dim", default=2048))
    emb = timestep(w, "t_embedder", at.batch, width)
    emb = w.add("temb", emb, two_layers(w, "p_embedder", pooled, width))
    texts = _captions(w, k, at, double + single, width)
    text = w.joined("text.cat", texts, at.batch, w.local_text(t5 + llama), width)
    with w.at("double_stream_blocks", double):
        seen = w.joined("text", (text, texts[1]), at.batch, w.local_text(t5 + llama) + w.local_text(llama), width)
        by = projected(w, "adaLN_modulation", emb, 12 * width)
        x, seen = _hidream_double(w, k, x, seen, by, a)
    rows = w.shape(x)[1]
    both = w.joined("cat", (x, text), at.batch, rows + w.shape(text)[1], width)
    with w.at("single_stream_blocks", single):
        count = w.shape(both)[1]
        seen = w.joined("text", (both, texts[1]), at.batch, count + w.local_text(llama), width)
        by = projected(w, "adaLN_modulation", emb, 6 * width)
        normed = w.modulated("norm1.modulate", w.layer_norm("norm1_i", seen), by)
        seen = w.gated_residual("attn", attention(w, "attn1", normed, a), seen, by)
        seen = _hidream_fed(w, k, seen, by)
    x = w.seen("image", seen, at.batch, rows, width)
    out = patch * patch * k.whole("out_channels", default=k.whole("in_channels", default=16))
    return w.linear("final_layer.linear", continuous_norm(w, "final_layer", x, emb), out, bias=True)


def _captions(w: Canvas, k: Keys, at: Latent, blocks: int, width: int) -> tuple[str, str]:
    """T5's tokens, and for each block those of a layer of the language model, as wide as the image's."""
    channels = [int(each) for each in k.words("caption_channels")] or [4096, 4096]
    t5 = w.linear("caption_projection.t5", w.given("t5", at.batch, w.local_text(at.tokens[0]), channels[0]), width)
    with w.at("caption_projection", blocks):
        return t5, w.linear("llama", w.given("llama", at.batch, w.local_text(at.tokens[1]), channels[1]), width)


def _hidream_double(w: Canvas, k: Keys, x: str, text: str, by: str, a: Heads) -> tuple[str, str]:
    normed = w.modulated("norm1_i.modulate", w.layer_norm("norm1_i", x), by)
    words = w.modulated("norm1_t.modulate", w.layer_norm("norm1_t", text), by)
    mixed, words = joint_attention(w, "attn1", normed, words, a)
    x, text = w.gated_residual("attn", mixed, x, by), w.gated_residual("attn_text", words, text, by)
    return _hidream_fed(w, k, x, by), fed(w, "ff_t", text, by, _swiglu(w.width(x)))


def _swiglu(width: int, ratio: float = 4.0) -> Feed:
    """As wide as a gated part with the parameters of one of `ratio` times the width."""
    return Feed(rounded_up(int(2 * int(ratio * width) / 3), 256), "silu", "apart", bias=False)


def _hidream_fed(w: Canvas, k: Keys, x: str, by: str) -> str:
    normed = w.modulated("ff_i.modulate", w.layer_norm("norm3_i", x), by)
    return w.gated_residual("ff_i", _experts(w, k, normed), x, by)


def _experts(w: Canvas, k: Keys, x: str) -> str:
    """Every token goes to `num_activated_experts` of the experts and to one that all share."""
    width, count = w.width(x), k.whole("num_routed_experts", default=4, least=0)
    if not count:
        return feed_forward(w, "ff_i", x, _swiglu(width))
    chosen, batch, rows = k.whole("num_activated_experts", default=2), *w.shape(x)[:2]
    with w.at("ff_i"):
        scores = w.linear("gate", x, count)
        scores = w.op("softmax", "softmax", (scores,), (batch, rows, count), function="softmax", length=count)
        w.op("sort", "topk", (scores,), (batch, rows, chosen), "topk", function="topk", length=count)
        with w.at("experts", count):
            share = ceildiv(batch * rows * chosen, count)
            own = w.moved("tokens", x, share, width)
            own = feed_forward(w, "expert", own, _swiglu(width))
            w.kernels("weigh", own)
        shared = feed_forward(w, "shared_experts", x, _swiglu(width, 2.0))
        return w.add("sum", shared, x)
