"""Diffusion transformers of images: one function a class of diffusers, from its configuration's keys to a graph.

Defaults are those of the class. Source: huggingface/diffusers 0.35, src/diffusers/models/transformers.
"""

from __future__ import annotations

from collections.abc import Callable

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
    turned,
    two_layers,
)
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.keys import Keys


def heads_of(k: Keys, heads: int, d: int, **changes: object) -> Heads:
    """Heads and their width, with the defaults of a class."""
    return Heads(k.whole("num_attention_heads", default=heads), k.whole("attention_head_dim", default=d), **changes)  # type: ignore[arg-type]


# ---- multimodal transformers ----------------------------------------------------------------------------------------


def flux(w: Canvas, k: Keys, at: Latent) -> str:
    """FluxTransformer2DModel: blocks of two streams, then blocks of one with attention beside the feed-forward part."""
    a = heads_of(k, 24, 128, qk_norm="rms_norm", rotary=True)
    width, patch = a.width, k.whole("patch_size", default=1)
    emb = timestep(w, "time_text_embed.timestep", at.batch, width)
    if k.flag("guidance_embeds"):
        emb = w.add("time_text_embed.sum", emb, timestep(w, "time_text_embed.guidance", at.batch, width))
    pooled = w.given("pooled", at.batch, k.whole("pooled_projection_dim", default=768))
    emb = w.add("temb", emb, two_layers(w, "time_text_embed.text", pooled, width))
    x = w.linear("x_embedder", w.given("latent", at.batch, w.local(at.packed), k.whole("in_channels", default=64)),
                 width, bias=True)  # fmt: skip
    text = w.given("text", at.batch, w.local_text(at.text), k.whole("joint_attention_dim", default=4096))
    text, whole = w.linear("context_embedder", text, width, bias=True), w.whole_text(at.text)
    with w.at("transformer_blocks", k.whole("num_layers", default=19)):
        x, text = double_stream(w, x, text, emb, a, whole=whole)
    rows = w.shape(x)[1] + w.shape(text)[1]
    x = w.joined("cat", (text, x), at.batch, rows, width)
    with w.at("single_transformer_blocks", k.whole("num_single_layers", default=38)):
        x = single_stream(w, x, emb, a, 4 * width, whole)
    x = w.seen("image", x, at.batch, w.local(at.packed), width)
    out = k.whole("out_channels", default=k.whole("in_channels", default=64))
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), patch * patch * out, bias=True)


def double_stream(
    w: Canvas, x: str, text: str, emb: str, a: Heads, *, feed: Feed | None = None, by: tuple[str, str] | None = None,
    last: bool = False, dual: bool = False, whole: int = 0, wide: bool = False,
) -> tuple[str, str]:  # fmt: skip
    """A block of MM-DiT: image and text each with norms, modulation and feed-forward of their own, and one attention.

    `by`: the modulations of both, where they do not come from `emb` by products of the block's own; `last`: nothing
    reads its text; `dual`: the image has a second attention to itself; `wide`: norms in 32 bits.
    """
    width = w.width(x)
    own, other = by or (projected(w, "norm1", emb, (9 if dual else 6) * width),
                        projected(w, "norm1_context", emb, (2 if last else 6) * width))  # fmt: skip
    normed = w.modulated("norm1.modulate", w.layer_norm("norm1.norm", x, wide=wide), own)
    second = w.modulated("norm1.modulate2", normed, own) if dual else ""
    words = w.layer_norm("norm1_context.norm", text, wide=wide)
    words = w.modulated("norm1_context.modulate", words, other)
    mixed, words = joint_attention(w, "attn", normed, words, a, text_out=not last, whole=whole)
    x = w.gated_residual("attn", mixed, x, own)
    if dual:
        x = w.gated_residual("attn2", attention(w, "attn2", second, a), x, own)
    x = fed(w, "ff", x, own, feed or Feed(4 * width), wide)
    if last:
        return x, ""
    text = w.gated_residual("attn_context", words, text, other)
    return x, fed(w, "ff_context", text, other, feed or Feed(4 * w.width(text)), wide)


def fed(w: Canvas, name: str, x: str, by: str, feed: Feed, wide: bool = False) -> str:
    """x + gate * feed-forward of the modulated norm of x."""
    normed = w.modulated(f"{name}.modulate", w.layer_norm(f"{name}.norm", x, wide=wide), by)
    return w.gated_residual(name, feed_forward(w, name, normed, feed), x, by)


def one_stream(w: Canvas, x: str, by: str, a: Heads, feed: Feed, *, whole: int = 0, wide: bool = False) -> str:
    """A block of one stream: attention of all tokens to each other, then a feed-forward part, each modulated."""
    normed = w.modulated("norm1.modulate", w.layer_norm("norm1.norm", x, wide=wide), by)
    x = w.gated_residual("attn", attention(w, "attn", normed, a, whole=whole), x, by)
    return fed(w, "ff", x, by, feed, wide)


def single_stream(w: Canvas, x: str, emb: str, a: Heads, mlp: int, whole: int = 0, by: str = "") -> str:
    """A block of FLUX in which one product closes attention and feed-forward part together; `by`: its modulation, where
    that does not come from `emb`."""
    width = w.width(x)
    by = by or projected(w, "norm", emb, 3 * width)
    normed = w.modulated("norm.modulate", w.layer_norm("norm.norm", x), by)
    up = w.act("act_mlp", "gelu_tanh", w.linear("proj_mlp", normed, mlp, bias=True))
    mixed = mixed_tokens(w, normed, a, whole)
    *lead, _ = w.shape(x)
    both = w.joined("cat", (mixed, up), *lead, width + mlp)
    return w.gated_residual("out", w.linear("proj_out", both, width, bias=True), x, by)


def mixed_tokens(w: Canvas, x: str, a: Heads, whole: int = 0) -> str:
    """Attention of tokens to each other without the product after it."""
    with w.at("attn"):
        q, k = (turned(w, part, queries(w, "to", x, a, part), a) for part in ("q", "k"))
        return w.attend("attn", q, k, w.linear("to_v", x, a.width, a.qkv_bias), a.heads, shared=True,
                        whole=whole)  # fmt: skip


def sd3(w: Canvas, k: Keys, at: Latent) -> str:
    """SD3Transformer2DModel: two streams; the first layers of 3.5 medium attend twice."""
    patch = k.whole("patch_size", default=2)
    a = heads_of(k, 18, 64, qk_norm=LOOSE if "qk_norm" in k else "")
    channels, depth = k.whole("in_channels", default=16), k.whole("num_layers", default=18)
    x = patches(w, "pos_embed.proj", at, channels, a.width, (patch, patch))
    emb = timestep(w, "time_text_embed.timestep", at.batch, a.width)
    pooled = w.given("pooled", at.batch, k.whole("pooled_projection_dim", default=2048))
    emb = w.add("temb", emb, two_layers(w, "time_text_embed.text", pooled, a.width))
    text = w.given("text", at.batch, w.local_text(at.text), k.whole("joint_attention_dim", default=4096))
    text = w.linear("context_embedder", text, k.whole("caption_projection_dim", default=1152), bias=True)
    dual = len(k.words("dual_attention_layers"))
    for name, times, doubled, last in (
        ("dual", dual, True, False), ("blocks", depth - 1 - dual, False, False), ("last", 1, False, True),
    ):  # fmt: skip
        if times > 0:
            with w.at(f"transformer_blocks.{name}", times):
                x, text = double_stream(w, x, text, emb, a, last=last, dual=doubled, whole=w.whole_text(at.text))
    out = k.whole("out_channels", default=16)
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), patch * patch * out, bias=True)


def qwen_image(w: Canvas, k: Keys, at: Latent) -> str:
    """QwenImageTransformer2DModel: two streams throughout, of which that of the text is as wide as the image's."""
    a = heads_of(k, 24, 128, qk_norm=LOOSE, rotary=True)
    patch, width = k.whole("patch_size", default=2), a.width
    emb = timestep(w, "time_text_embed.timestep", at.batch, width)
    latent = w.given("latent", at.batch, w.local(at.packed), k.whole("in_channels", default=64))
    x = w.linear("img_in", latent, width, bias=True)
    words = w.given("text", at.batch, w.local_text(at.text), k.whole("joint_attention_dim", default=3584))
    text = w.linear("txt_in", w.norm("txt_norm", words, "rms_norm"), width, bias=True)
    with w.at("transformer_blocks", k.whole("num_layers", default=60)):
        x, text = double_stream(w, x, text, emb, a, whole=w.whole_text(at.text))
    out = patch * patch * k.whole("out_channels", default=16)
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), out, bias=True)


# ---- transformers with attention across to the text -----------------------------------------------------------------


def pixart(w: Canvas, k: Keys, at: Latent) -> str:
    """PixArtTransformer2DModel: self-attention, attention to the text, feed-forward; one modulation for all layers."""
    patch = k.whole("patch_size", default=2)
    a = heads_of(k, 16, 72, qkv_bias=k.flag("attention_bias", True))
    x = patches(w, "pos_embed.proj", at, k.whole("in_channels", default=4), a.width, (patch, patch))
    emb = timestep(w, "adaln_single.timestep", at.batch, a.width)
    if k.flag("use_additional_conditions", k.whole("sample_size", default=128) == 128):
        for name, count in (("resolution", 2), ("aspect_ratio", 1)):
            size = timestep(w, f"adaln_single.{name}", at.batch * count, a.width // 3)
            emb = w.kernels(f"adaln_single.{name}_sum", emb, by=size)
    by = projected(w, "adaln_single", emb, 6 * a.width)
    text = w.given("text", at.batch, at.text, k.whole("caption_channels", default=4096))
    text = two_layers(w, "caption_projection", text, a.width, "gelu_tanh")
    with w.at("transformer_blocks", k.whole("num_layers", default=28)):
        w.parameter("scale_shift_table", 6, a.width)
        normed = w.modulated("norm1.modulate", w.layer_norm("norm1", x), by)
        x = w.gated_residual("attn1", attention(w, "attn1", normed, a), x, by)
        x = w.add("attn2.sum", attention(w, "attn2", x, a, text), x)
        x = fed(w, "ff", x, by, Feed(4 * a.width))
    w.parameter("scale_shift_table", 2, a.width)
    x = w.modulated("norm_out.modulate", w.layer_norm("norm_out", x), emb)
    return w.linear("proj_out", x, patch * patch * k.whole("out_channels", default=8), bias=True)


def hunyuan_dit(w: Canvas, k: Keys, at: Latent) -> str:
    """HunyuanDiT2DModel: the second half of the layers also reads what the first half wrote."""
    a = heads_of(k, 16, 88, qk_norm="layer_norm", norm_bias=True, rotary=True)
    patch, width = k.whole("patch_size", default=2), k.whole("hidden_size", default=1152)
    channels, depth = k.whole("in_channels", default=4), k.whole("num_layers", default=28)
    t5, cross = k.whole("cross_attention_dim_t5", default=2048), k.whole("cross_attention_dim", default=1024)
    x = patches(w, "pos_embed.proj", at, channels, width, (patch, patch))
    words = w.given("text_t5", at.batch, at.tokens[1], t5)
    emb = _hunyuan_time(w, k, at, words, width)
    context = two_layers(w, "text_embedder", words, 4 * t5, out=cross)
    clip = w.given("text", at.batch, at.text, cross)
    context = w.joined("text.cat", (clip, context), at.batch, sum(at.tokens), cross)
    w.parameter("text_embedding_padding", k.whole("text_len", default=77) + k.whole("text_len_t5", default=256), cross)
    skipping = depth - 1 - depth // 2
    for name, times in (("first", depth - skipping), ("skipping", skipping)):
        with w.at(f"blocks.{name}", times):
            if name == "skipping":
                both = w.joined("cat", (x, x), *w.shape(x)[:2], 2 * width)
                x = w.linear("skip_linear", w.layer_norm("skip_norm", both, affine=True, wide=True), width, bias=True)
            by = projected(w, "norm1", emb, a.width)
            normed = w.kernels("norm1.shift", w.layer_norm("norm1.norm", x, affine=True, wide=True), by=by)
            x = w.add("attn1.sum", attention(w, "attn1", normed, a), x)
            normed = w.layer_norm("norm2", x, affine=True, wide=True)
            x = w.add("attn2.sum", attention(w, "attn2", normed, a, context, turn_queries=True), x)
            normed = w.layer_norm("norm3", x, affine=True, wide=True)
            x = w.add("ff.sum", feed_forward(w, "ff", normed, Feed(int(k.number("mlp_ratio", 4.0) * a.width))), x)
    out = patch * patch * channels * (2 if k.flag("learn_sigma", True) else 1)
    return w.linear("proj_out", continuous_norm(w, "norm_out", x, emb), out, bias=True)


def _hunyuan_time(w: Canvas, k: Keys, at: Latent, words: str, width: int) -> str:
    """The timestep, the pooled text and, up to version 1.1, the size and style of the image."""
    t5, pooled = k.whole("cross_attention_dim_t5", default=2048), k.whole("pooled_projection_dim", default=1024)
    rows = at.tokens[1] + 1
    emb = timestep(w, "time_extra_emb.timestep", at.batch, width)
    with w.at("time_extra_emb.pooler"):
        w.parameter("positional_embedding", k.whole("text_len_t5", default=256) + 1, t5)
        longer = w.moved("cat", words, at.batch, rows, t5)
        q = w.linear("q_proj", w.op("reduction", "mean", (words,), (at.batch, 1, t5), "mean", function="mean",
                                    length=at.tokens[1]), t5, bias=True)  # fmt: skip
        key, value = (w.linear(name, longer, t5, bias=True) for name in ("k_proj", "v_proj"))
        mean = w.linear("c_proj", w.attend("attn", q, key, value, 8), pooled, bias=True)
    more = 256 * 6 + width if k.flag("use_style_cond_and_image_meta_size", True) else 0
    if more:
        w.parameter("time_extra_emb.style_embedder", 1, width)
    extra = w.moved("time_extra_emb.cat", mean, at.batch, pooled + more)
    return w.add("temb", emb, two_layers(w, "time_extra_emb.extra_embedder", extra, 4 * width, out=width))


def sana(w: Canvas, k: Keys, at: Latent) -> str:
    """SanaTransformer2DModel: linear attention in 32 bits, attention to the text, and a gated convolution."""
    norm = {"qk_norm": LOOSE, "norm_over": "all"} if "qk_norm" in k else {}
    a = heads_of(k, 70, 32, qkv_bias=k.flag("attention_bias"), **norm)
    cross = Heads(k.whole("num_cross_attention_heads", default=20), k.whole("cross_attention_head_dim", default=112),
                  **norm)  # type: ignore[arg-type]  # fmt: skip
    width, patch = a.width, k.whole("patch_size", default=1)
    x = patches(w, "patch_embed.proj", at, k.whole("in_channels", default=32), width, (patch, patch))
    emb = timestep(w, "time_embed.timestep", at.batch, width)
    if k.flag("guidance_embeds"):
        emb = w.add("temb", emb, timestep(w, "time_embed.guidance", at.batch, width))
    by = projected(w, "time_embed", emb, 6 * width)
    text = w.given("text", at.batch, at.text, k.whole("caption_channels", default=2304))
    text = w.norm("caption_norm", two_layers(w, "caption_projection", text, width, "gelu_tanh"), "rms_norm")
    grid = (at.height // patch, at.width // patch)
    hidden = int(k.number("mlp_ratio", 2.5) * width)
    x = sana_blocks(
        w, k, x, by, text, cross, lambda y: _linear_attention(w, y, a), lambda y: _glu_conv(w, y, grid, hidden)
    )
    w.parameter("scale_shift_table", 2, width)
    x = w.modulated("norm_out.modulate", w.layer_norm("norm_out", x), emb)
    return w.linear("proj_out", x, patch * patch * k.whole("out_channels", default=32), bias=True)


def sana_blocks(
    w: Canvas, k: Keys, x: str, by: str, text: str, cross: Heads, attended: Callable[[str], str],
    fed: Callable[[str], str],
) -> str:  # fmt: skip
    """The blocks of SANA and SANA-Video, which differ in how tokens are `attended` to and `fed` forward."""
    width = int(str(w.width(x)))
    with w.at("transformer_blocks", k.whole("num_layers", default=20)):
        w.parameter("scale_shift_table", 6, width)
        normed = w.modulated("norm1.modulate", w.layer_norm("norm1", x), by)
        x = w.gated_residual("attn1", attended(normed), x, by)
        x = w.add("attn2.sum", attention(w, "attn2", x, cross, text, out=width), x)
        normed = w.modulated("norm2.modulate", w.layer_norm("norm2", x), by)
        return w.gated_residual("ff", fed(normed), x, by)


def _linear_attention(w: Canvas, x: str, a: Heads) -> str:
    """relu(q) (relu(k)^T v), with the sums that normalize it as one more row of v; in 32 bits. Devices exchange heads
    for tokens as around any attention, and those of a ring add up their sums."""
    batch, rows, width = w.shape(x)
    heads, tokens = w.own_heads(a.heads), rows * w.ulysses
    inner = heads * a.d
    with w.at("attn1"):
        q, k, v = queries(w, "to", x, a, "q"), queries(w, "to", x, a, "k"), w.linear("to_v", x, a.width, a.qkv_bias)
        q, k, v = (w.exchanged(n, y, (batch, tokens, inner)) for n, y in (("q", q), ("k", k), ("v", v)))
        q, k = (w.kernels(f"{n}.relu", y) for n, y in (("q", q), ("k", k)))
        q, k, v = (w.kernels(f"{n}.wide", y, dtype="fp32") for n, y in (("q", q), ("k", k), ("v", v)))
        v = w.moved("v.pad", v, batch, tokens, heads * (a.d + 1))
        scores = w.op("matmul", "scores", (v, k), (batch, heads, a.d + 1, a.d), "bmm", "fp32",
                      groups=batch * heads, m=a.d + 1, n=a.d, k=tokens)  # fmt: skip
        scores = w.all_reduce("scores.sum", scores, w.ring)
        out = w.op("matmul", "read", (scores, q), (batch, tokens, heads * (a.d + 1)), "bmm", "fp32",
                   groups=batch * heads, m=a.d + 1, n=tokens, k=a.d)  # fmt: skip
        out = w.kernels("normalize", w.seen("heads", out, batch, tokens, inner), 2, dtype="fp32")
        out = w.exchanged("out", w.kernels("back", out, 2, dtype=w.held.dtype), (batch, rows, a.width))
        return w.linear("to_out", out, int(str(width)), bias=True)


def _glu_conv(w: Canvas, x: str, grid: tuple[int, int], hidden: int) -> str:
    """A gated convolution. Of a shared map each device asks its neighbours for a row on either side, and adds what
    these contribute (xDiT `xFuserGLUMBConvWrapper`)."""
    batch, rows, width = w.shape(x)
    with w.at("ff"):
        area = (w.local(grid[0]), grid[1])
        maps = w.moved("maps", x, batch, width, *area)
        up = w.act("silu", "silu", w.conv("conv_inverted", maps, 2 * hidden, 1))
        up = w.conv("conv_depth", up, 2 * hidden, 3, groups=2 * hidden)
        edges: list[str] = []
        for side in ("head", "tail") if w.ranks > 1 else ():
            with w.again(side, 1, known=True):
                row = w.sent("row", w.moved("cut", maps, batch, width, 1, grid[1]))
                more = w.act("silu", "silu", w.conv("conv_inverted", row, 2 * hidden, 1))
                more = w.moved("pad", more, batch, 2 * hidden, 3, grid[1])
                more = w.conv("conv_depth", more, 2 * hidden, 3, groups=2 * hidden, bias=False)
                edges.append(w.add("sum", w.moved("edge", more, batch, 2 * hidden, 1, grid[1])))
        gated = w.act("gate", "silu_mul", w.joined("half", (up, *edges), batch, hidden, *area))
        out = w.conv("conv_point", gated, int(str(width)), 1, bias=False)
        return w.moved("tokens", out, batch, rows, width)
