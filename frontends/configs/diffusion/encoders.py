"""Encoders of prompts (and of an image to start from): one function a class of transformers, from keys to a graph.

Defaults are those of the classes' configurations. Source: huggingface/transformers, CLIPTextConfig, T5Config,
BertConfig, CLIPVisionConfig.
"""

from __future__ import annotations

from dataclasses import replace

from wattir.dims import Size
from wattir.frontends.configs.decoder import forward_graph
from wattir.frontends.configs.diffusion.blocks import Feed, Heads, attention, feed_forward
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.huggingface import decoder_of
from wattir.frontends.configs.keys import Keys
from wattir.ir import Graph, replace_graph


def clip_text(w: Canvas, k: Keys, batch: Size, tokens: int, projected: bool = False) -> str:
    """CLIPTextModel: a causal transformer; `projected`: with a projection of its last token, as one class has."""
    width, vocab = k.whole("hidden_size", default=512), k.whole("vocab_size", default=49408)
    x = _embedded(w, batch, tokens, width, vocab, k.whole("max_position_embeddings", default=77))
    x = _clip_layers(w, k, x, "encoder.layers", 12, 8, 2048)
    x = w.layer_norm("final_layer_norm", x, affine=True)
    if not projected:
        return x
    pooled = w.moved("pooled", x, batch, width)
    return w.linear("text_projection", pooled, k.whole("projection_dim", default=512))


def _clip_layers(w: Canvas, k: Keys, x: str, name: str, depth: int, heads: int, wide: int) -> str:
    width, heads = w.width(x), k.whole("num_attention_heads", default=heads)
    a, act = Heads(heads, width // heads), k.text("hidden_act", "quick_gelu")
    with w.at(name, k.whole("num_hidden_layers", default=depth)):
        x = w.add("self_attn.sum", attention(w, "self_attn", w.layer_norm("layer_norm1", x, affine=True), a), x)
        normed = w.layer_norm("layer_norm2", x, affine=True)
        return w.add(
            "mlp.sum", feed_forward(w, "mlp", normed, Feed(k.whole("intermediate_size", default=wide), act)), x
        )


def _embedded(w: Canvas, batch: Size, tokens: int, width: int, vocab: int, places: int = 0) -> str:
    ids = w.builder.tensor(w.path("input_ids"), (batch, tokens), "int64", "input")
    table = w.weight("token_embedding.weight", (vocab, width))
    x = w.op("gather", "token_embedding", (table, ids), (batch, tokens, width), "embedding", function="embedding")
    if not places:
        return x
    w.parameter("position_embedding.weight", places, width)
    return w.kernels("positions", x)


def t5(w: Canvas, k: Keys, batch: Size, tokens: int) -> str:
    """T5EncoderModel (and UMT5, mT5): RMS norms, attention with a bias of positions, a gated feed-forward part."""
    width, d, heads = k.whole("d_model", default=512), k.whole("d_kv", default=64), k.whole("num_heads", default=8)
    depth, gated = k.whole("num_layers", default=6), k.text("feed_forward_proj", "relu").startswith("gated")
    a = Heads(heads, d, qkv_bias=False, out_bias=False)
    x = _embedded(w, batch, tokens, width, k.whole("vocab_size", default=32128))
    biases = depth if k.text("model_type", "t5") == "umt5" else 1
    w.parameter("relative_attention_bias", biases * k.whole("relative_attention_num_buckets", default=32), heads)
    feed = Feed(k.whole("d_ff", default=2048), "gelu_new" if gated else "relu", "joined" if gated else "", bias=False)
    with w.at("encoder.block", depth):
        x = w.add("attn.sum", attention(w, "attn", w.norm("layer_norm1", x, "rms_norm"), a), x)
        normed = w.norm("layer_norm2", x, "rms_norm")
        x = w.add("ff.sum", feed_forward(w, "ff", normed, feed), x)
    return w.norm("final_layer_norm", x, "rms_norm")


def bert(w: Canvas, k: Keys, batch: Size, tokens: int) -> str:
    """BertModel: norms after each part, and a pooler."""
    width, heads = k.whole("hidden_size", default=768), k.whole("num_attention_heads", default=12)
    x = _embedded(w, batch, tokens, width, k.whole("vocab_size", default=30522),
                  k.whole("max_position_embeddings", default=512) + k.whole("type_vocab_size", default=2))  # fmt: skip
    x = w.layer_norm("embeddings.LayerNorm", x, affine=True)
    with w.at("encoder.layer", k.whole("num_hidden_layers", default=12)):
        mixed = attention(w, "attention", x, Heads(heads, width // heads))
        x = w.layer_norm("attention.LayerNorm", w.add("attention.sum", mixed, x), affine=True)
        fed = feed_forward(w, "output", x, Feed(k.whole("intermediate_size", default=3072), "gelu"))
        x = w.layer_norm("output.LayerNorm", w.add("output.sum", fed, x), affine=True)
    first = w.moved("first", x, batch, width)
    return w.joined("outputs", (x, w.linear("pooler", first, width, bias=True)), batch, tokens + 1, width)


def clip_vision(w: Canvas, k: Keys, batch: Size, tokens: int, projected: bool = False) -> str:
    """CLIPVisionModel: the image that a video starts from; `projected` as that of text."""
    width, size, patch = (k.whole("hidden_size", default=768), k.whole("image_size", default=224),
                          k.whole("patch_size", default=32))  # fmt: skip
    count = (size // patch) ** 2
    x = w.conv("patch_embedding", w.given("image", batch, 3, size, size), width, patch, patch, bias=False)
    w.parameter("class_embedding", width)
    w.parameter("position_embedding.weight", count + 1, width)
    x = w.layer_norm("pre_layrnorm", w.moved("tokens", x, batch, count + 1, width), affine=True)
    x = _clip_layers(w, k, x, "encoder.layers", 12, 12, 3072)
    first = w.layer_norm("post_layernorm", w.moved("first", x, batch, width), affine=True)
    return w.linear("visual_projection", first, k.whole("projection_dim", default=512)) if projected else first


def language_model(k: Keys, name: str) -> Graph:
    """A decoder of text (Gemma, Llama, Qwen) read for its hidden states: its graph without the head."""
    if "padded_vocab_size" in k:
        k = Keys({"model_type": "qwen2", **{ours: k.values.get(theirs) for ours, theirs in CHATGLM.items()}}, k.where)
    decoder = replace(decoder_of(k, name), tied=True)
    graph = forward_graph(decoder)
    head = graph.ops[-1]
    assert head.name == "lm_head"
    return replace_graph(graph, ops=graph.ops[:-1], outputs=head.ins[:1])


CHATGLM = {"num_hidden_layers": "num_layers", "intermediate_size": "ffn_hidden_size", "hidden_size": "hidden_size",
           "num_attention_heads": "num_attention_heads", "num_key_value_heads": "multi_query_group_num",
           "vocab_size": "padded_vocab_size"}  # fmt: skip
"""Keys of other language models -> those of ChatGLM, whose layers are as theirs."""
