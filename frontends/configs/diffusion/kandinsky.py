"""UNets of Kandinsky: Kandinsky3UNet, and the decoder of 2.2 with attention to added keys; and the prior of 2.2.

Defaults are those of the classes. Source: huggingface/diffusers 0.35, src/diffusers/models/unets.
"""

from __future__ import annotations

from wattir.dims import product
from wattir.frontends.configs.diffusion.blocks import Feed, Heads, Latent, attention, feed_forward, two_layers
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_decoders import widths
from wattir.frontends.configs.diffusion.maps import doubled, residual_block
from wattir.frontends.configs.diffusion.unets import stages_of
from wattir.frontends.configs.keys import Keys

STAGES_3 = (384, 768, 1536, 3072)
STAGES_22 = (384, 768, 1152, 1536)
IMAGE_TOKENS = 32
"""Tokens that the decoder of 2.2 makes of the image embedding (diffusers `ImageProjection`)."""


# ---- Kandinsky 3 ----------------------------------------------------------------------------------------------------


def unet_3(w: Canvas, k: Keys, at: Latent) -> str:
    """Kandinsky3UNet: bottleneck blocks whose norms follow the timestep; attention to itself once a stage, to the text
    in each of its layers."""
    stages, layers = widths(k, STAGES_3), k.whole("layers_per_block", default=3)
    wide, narrow = k.whole("time_embedding_dim", default=1536), stages[0] // 2
    cross, d = k.whole("cross_attention_dim", default=4096), k.whole("attention_head_dim", default=64)
    emb = two_layers(w, "time_embedding", w.waves("time_proj", at.batch, narrow), wide)
    words = w.given("text", at.batch, at.text, k.whole("encoder_hid_dim", default=4096))
    text = w.layer_norm("encoder_hid_proj.norm", w.linear("encoder_hid_proj", words, cross), affine=True)
    mean = w.op("reduction", "mean", (text,), (at.batch, 1, cross), "mean", function="mean", length=at.text)
    pooling = Heads(wide // d, d, qkv_bias=False, out_bias=False)
    emb = w.add("temb", emb, w.seen("pooled", attention(w, "add_time_condition", mean, pooling, text, out=wide),
                                    at.batch, wide))  # fmt: skip
    x = w.conv(
        "conv_in", w.given("latent", at.batch, k.whole("in_channels", default=4), at.height, at.width), narrow, 3
    )
    kept: list[str] = []
    for place, width in enumerate(stages):
        with w.at(f"down_blocks.{place}"):
            x = _down(w, x, (emb, text), width, layers, d, attends=place > 0, halves=place < len(stages) - 1)
        kept.append(x)
    kept.pop()
    for place, width in enumerate(reversed((narrow, *stages[:-1]))):
        with w.at(f"up_blocks.{place}"):
            if place:
                skip = kept.pop()
                x = w.joined("cat", (x, skip), at.batch, w.shape(x)[1] + w.shape(skip)[1], *w.shape(x)[2:])
            inner = stages[len(stages) - 1 - place]
            x = _up(w, x, (emb, text), inner, width, layers, d, attends=place < len(stages) - 1, doubles=place > 0)
    x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x))
    return w.conv("conv_out", x, k.whole("in_channels", default=4), 3)


def _down(
    w: Canvas, x: str, given: tuple[str, str], out: int, layers: int, d: int, *, attends: bool, halves: bool
) -> str:
    if attends:
        x = _attention_block(w, "attentions.0", x, given, d, across=False)
    for layer in range(layers):
        x = _bottleneck(w, f"resnets_in.{layer}", x, given[0], out)
        if attends:
            x = _attention_block(w, f"attentions.{layer + 1}", x, given, d, across=True)
        step = "down" if halves and layer == layers - 1 else ""
        x = _bottleneck(w, f"resnets_out.{layer}", x, given[0], out, step)
    return x


def _up(
    w: Canvas, x: str, given: tuple[str, str], inner: int, out: int, layers: int, d: int, *, attends: bool,
    doubles: bool,
) -> str:  # fmt: skip
    for layer in range(layers):
        step = "up" if doubles and layer == 0 else ""
        x = _bottleneck(w, f"resnets_in.{layer}", x, given[0], int(str(w.shape(x)[1])), step)
        if attends:
            x = _attention_block(w, f"attentions.{layer + 1}", x, given, d, across=True)
        x = _bottleneck(w, f"resnets_out.{layer}", x, given[0], out if layer == layers - 1 else inner)
    return _attention_block(w, "attentions.0", x, given, d, across=False) if attends else x


def _conditioned_norm(w: Canvas, name: str, x: str, emb: str) -> str:
    with w.at(name):
        width = int(str(w.shape(x)[1]))
        by = w.linear("context_mlp", w.act("silu", "silu", emb), 2 * width, bias=True)
        each = width // 32 * product(w.shape(x)[2:])
        normed = w.op("norm", "norm", (x,), w.shape(x), "group_norm", function="group_norm", length=each)
        return w.kernels("scale_shift", normed, 2, by=by)


def _bottleneck(w: Canvas, name: str, x: str, emb: str, out: int, step: str = "") -> str:
    """Kandinsky3ResNetBlock: convolutions of 1, 3, 3 and 1 points over half as many channels; the second of a block
    that doubles the map is behind a transposed one, the third of one that halves it before a strided one."""
    c_in = int(str(w.shape(x)[1]))
    hidden = max(c_in, out) // 2
    with w.at(name):
        y = x
        for place, (channels, taps) in enumerate(((hidden, 1), (hidden, 3), (hidden, 3), (out, 1))):
            y = w.act(f"{place}.silu", "silu", _conditioned_norm(w, f"{place}.norm", y, emb))
            y = w.doubled_conv(f"{place}.up_sample", y) if step == "up" and place == 1 else y
            y = w.conv(f"{place}.projection", y, channels, taps)
            y = w.conv(f"{place}.down_sample", y, channels, 2, 2) if step == "down" and place == 2 else y
        x = w.doubled_conv("shortcut_up_sample", x) if step == "up" else x
        x = w.conv("shortcut_projection", x, out, 1) if c_in != out else x
        x = w.conv("shortcut_down_sample", x, out, 2, 2) if step == "down" else x
        return w.add("sum", x, y)


def _attention_block(w: Canvas, name: str, x: str, given: tuple[str, str], d: int, *, across: bool) -> str:
    emb, text = given
    batch, channels, *axes = w.shape(x)
    width = int(str(channels))
    a = Heads(width // d, d, qkv_bias=False, out_bias=False)
    with w.at(name):
        tokens = w.moved("tokens", _conditioned_norm(w, "in_norm", x, emb), batch, product(axes), width)
        mixed = attention(w, "attention", tokens, a, text if across else "")
        x = w.add("sum", w.moved("map", mixed, batch, width, *axes), x)
        out = w.conv("up", _conditioned_norm(w, "out_norm", x, emb), 4 * width, 1, bias=False)
        return w.add("ff.sum", w.conv("down", w.act("silu", "silu", out), width, 1, bias=False), x)


# ---- Kandinsky 2.2 --------------------------------------------------------------------------------------------------


def unet_22(w: Canvas, k: Keys, at: Latent) -> str:
    """UNet2DConditionModel as the decoder of Kandinsky 2.2 is: blocks that also resize, attention with added keys."""
    stages, layers = widths(k, STAGES_22), k.whole("layers_per_block", default=3)
    cross, image = k.whole("cross_attention_dim", default=768), k.whole("encoder_hid_dim", default=1280)
    d, narrow = k.whole("attention_head_dim", default=64), stages[0]
    emb = two_layers(w, "time_embedding", w.waves("time_proj", at.batch, narrow), 4 * narrow)
    vector = w.given("image_embeds", at.batch, image)
    added = w.layer_norm("add_embedding.norm", w.linear("add_embedding", vector, 4 * narrow, bias=True), affine=True)
    emb = w.add("emb", emb, added)
    seen = w.seen("tokens", w.linear("encoder_hid_proj", vector, IMAGE_TOKENS * cross, bias=True), at.batch,
                  IMAGE_TOKENS, cross)  # fmt: skip
    text = w.layer_norm("encoder_hid_proj.norm", seen, affine=True)
    x = w.conv(
        "conv_in", w.given("latent", at.batch, k.whole("in_channels", default=4), at.height, at.width), narrow, 3
    )
    kept = [x]
    for place, stage in enumerate(stages_of(k, layers)):
        with w.at(f"down_blocks.{place}"):
            for layer in range(layers):
                x = _added_block(w, f"{layer}", x, (emb, text), stage.width, d, attends=place > 0)
                kept.append(x)
            if place < len(stages) - 1:
                x = _resizing_block(w, "downsamplers.0", x, emb, "down")
                kept.append(x)
    with w.at("mid_block"):
        x = _added_block(w, "0", x, (emb, text), stages[-1], d, attends=True)
        x = _added_block(w, "1", x, (emb, text), stages[-1], d, attends=False)
    for place, width in enumerate(reversed(stages)):
        with w.at(f"up_blocks.{place}"):
            for layer in range(layers + 1):
                skip = kept.pop()
                x = w.joined(f"{layer}.cat", (x, skip), at.batch, w.shape(x)[1] + w.shape(skip)[1], *w.shape(x)[2:])
                x = _added_block(w, f"{layer}", x, (emb, text), width, d, attends=place < len(stages) - 1)
            if place < len(stages) - 1:
                x = _resizing_block(w, "upsamplers.0", x, emb, "up")
    x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x))
    return w.conv("conv_out", x, k.whole("out_channels", default=8), 3)


def _added_block(w: Canvas, name: str, x: str, given: tuple[str, str], width: int, d: int, *, attends: bool) -> str:
    x = residual_block(w, f"resnets.{name}", x, width, given[0], shift_scale=True)
    return _added_attention(w, f"attentions.{name}", x, given[1], d) if attends else x


def _added_attention(w: Canvas, name: str, x: str, text: str, d: int) -> str:
    """Points look at each other and at added keys of the text (`AttnAddedKVProcessor`)."""
    batch, channels, *axes = w.shape(x)
    width, points = int(str(channels)), product(axes)
    with w.at(name):
        tokens = w.moved("tokens", w.group_norm("group_norm", x), batch, points, width)
        q = w.linear("to_q", tokens, width, bias=True)
        count, keys = w.shape(text)[1], []
        for part in "kv":
            own, more = (
                w.linear(f"to_{part}", tokens, width, bias=True),
                w.linear(f"add_{part}_proj", text, width, bias=True),
            )
            keys.append(w.joined(f"{part}.cat", (more, own), batch, points + count, width))
        mixed = w.linear("to_out", w.attend("attn", q, keys[0], keys[1], width // d), width, bias=True)
        return w.add("sum", w.moved("map", mixed, batch, width, *axes), x)


def _resizing_block(w: Canvas, name: str, x: str, emb: str, step: str) -> str:
    """A residual block between whose first norm and convolution the map, and its shortcut, are halved or doubled."""
    width, (*_, height, breadth) = int(str(w.shape(x)[1])), w.shape(x)
    axes = doubled(w, x) if step == "up" else (height // 2, breadth // 2)
    with w.at(name):
        h = w.act("silu1", "silu", w.group_norm("norm1", x))
        h = w.conv("conv1", w.resized("resize", h, *axes), width, 3)
        by = w.linear("time_emb_proj", w.act("time_silu", "silu", emb), 2 * width, bias=True)
        h = w.kernels("scale_shift", w.group_norm("norm2", h), 2, by=by)
        h = w.conv("conv2", w.act("silu2", "silu", h), width, 3)
        return w.add("sum", h, w.resized("shortcut", x, *axes))


def prior(w: Canvas, k: Keys, at: Latent) -> str:
    """PriorTransformer: from a text to the embedding of an image, over the text's tokens and four of its own."""
    a = Heads(k.whole("num_attention_heads", default=32), k.whole("attention_head_dim", default=64))
    width, channels = a.width, k.whole("embedding_dim", default=768)
    tokens = at.text + k.whole("additional_embeddings", default=4)
    emb = two_layers(w, "time_embedding", w.waves("time_proj", at.batch, width), width)
    latent = w.linear("proj_in", w.given("latent", at.batch, channels), width, bias=True)
    vector = w.linear("embedding_proj", w.given("text_embeds", at.batch, channels), width, bias=True)
    words = w.linear("encoder_hidden_states_proj", w.given("text", at.batch, at.text, channels), width, bias=True)
    w.parameter("prd_embedding", width)
    w.parameter("positional_embedding", tokens, width)
    x = w.kernels("positions", w.joined("cat", (words, vector, emb, latent), at.batch, tokens, width))
    with w.at("transformer_blocks", k.whole("num_layers", default=20)):
        x = w.add("attn1.sum", attention(w, "attn1", w.layer_norm("norm1", x, affine=True), a), x)
        fed = feed_forward(w, "ff", w.layer_norm("norm3", x, affine=True), Feed(4 * width, "gelu"))
        x = w.add("ff.sum", fed, x)
    last = w.moved("last", w.layer_norm("norm_out", x, affine=True), at.batch, width)
    w.parameter("clip_mean_std", 2, channels)
    return w.linear("proj_to_clip_embeddings", last, channels, bias=True)
