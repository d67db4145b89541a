"""Decoders of the years of GPT-2: layer norms with biases, products without gates. As `families_dense`."""

from __future__ import annotations

from dataclasses import replace

from wattir.frontends.configs.architecture import Attention, Layer, Mlp
from wattir.frontends.configs.families_dense import (
    Found,
    act_of,
    attention_of,
    biased,
    depth_of,
    everywhere,
    hidden_of,
    mlp_of,
    plain,
)
from wattir.frontends.configs.keys import Keys


def phi(k: Keys) -> Found:
    attention = attention_of(
        k, qkv_bias=True, out_bias=True, rotary=k.number("partial_rotary_factor", 0.5), norm_bias=True,
        qk_norm="head" if k.flag("qk_layernorm") else "",
    )  # fmt: skip
    layer = Layer(attention, mlp_of(k, gated=False, bias=True, act=act_of(k, "gelu_new")), "shared")
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True, "head_bias": True}


def gpt_neox(k: Keys) -> Found:
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=k.number("rotary_pct", 0.25))
    mlp = mlp_of(k, gated=False, bias=True, act=act_of(k, "gelu"))
    layer = Layer(attention, mlp, "parallel" if k.flag("use_parallel_residual", True) else "pre")
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True}


def gptj(k: Keys) -> Found:
    heads = k.whole("num_attention_heads", "n_head")
    turned = k.whole("rotary_dim", default=64) * heads / hidden_of(k)
    mlp = Mlp(k.whole("n_inner", "intermediate_size", default=4 * hidden_of(k)), False, True, "gelu_new")
    layer = Layer(attention_of(k, rotary=turned), mlp, "shared")
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True, "head_bias": True}


def gpt2(k: Keys) -> Found:
    mlp = Mlp(k.whole("n_inner", "intermediate_size", default=4 * hidden_of(k)), False, True, "gelu_new")
    positions = k.whole("n_positions", "max_position_embeddings", default=1024)
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0)
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True, positions=positions)


def gpt_bigcode(k: Keys) -> Found:
    """GPT-2 whose heads share one key and value."""
    layers, parts = gpt2(k)
    kv_heads = {"kv_heads": 1} if k.flag("multi_query", True) else {}
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0, **kv_heads)
    return [replace(layer, mixer=attention) for layer in layers], parts


def gpt_neo(k: Keys) -> Found:
    """Every other layer sees a window; products of queries, keys and values have no biases."""
    depth = depth_of(k)
    words = k.words("attention_layers") or [
        word for pattern, times in k.words("attention_types") for _ in range(times) for word in pattern
    ]
    kinds = list(map(str, words))
    if len(kinds) < depth or set(kinds) - {"global", "local"}:
        raise k.wrong("attention_types", f"{depth} layers, each global or local")
    mlp = Mlp(k.whole("intermediate_size", default=4 * hidden_of(k)), False, True, "gelu_new")
    full = attention_of(k, out_bias=True, rotary=0.0)
    local = replace(full, window=k.whole("window_size", default=256))
    positions = k.whole("max_position_embeddings", default=2048)
    layers = [Layer(local if kind == "local" else full, mlp) for kind in kinds[:depth]]
    return layers, {"norm": "layer_norm", "norm_bias": True, "positions": positions}


def bloom(k: Keys) -> Found:
    """Positions are slopes added to the scores (ALiBi): no rotation, no table."""
    mlp = Mlp(k.whole("n_inner", default=4 * hidden_of(k)), False, True, "gelu")
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0)
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True, embedding_norm=True)


def falcon(k: Keys) -> Found:
    new = k.flag("new_decoder_architecture")
    heads = k.whole("num_attention_heads", "n_head")
    kv_heads = k.whole("num_kv_heads", "n_head_kv", "num_key_value_heads", default=heads) if new else (
        1 if k.flag("multi_query", True) else heads)  # fmt: skip
    bias = k.flag("bias")
    mlp = Mlp(k.whole("ffn_hidden_size", "intermediate_size", default=4 * hidden_of(k)), False, bias, "gelu")
    norms = "parallel" if new else "shared" if k.flag("parallel_attn", True) else "pre"
    if new and k.whole("num_ln_in_parallel_attn", default=2) == 1:
        norms = "shared"
    layer = Layer(attention_of(k, kv_heads=kv_heads, qkv_bias=bias, out_bias=bias), mlp, norms)
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True}


def mpt(k: Keys) -> Found:
    """Positions are slopes added to the scores (ALiBi), norms without biases."""
    bias = not k.flag("no_bias", True)
    how = k.part("attn_config") if "attn_config" in k else k
    heads = k.whole("n_heads")
    if how.text("attn_type", "multihead_attention") != "multihead_attention" or how.flag("qk_ln"):
        raise k.wrong("attn_config", "multihead_attention without norms of queries and keys")
    kv_heads = how.whole("kv_n_heads", default=heads)
    attention = Attention(heads, kv_heads, hidden_of(k) // heads, 0, bias, bias, rotary=0.0)
    mlp = Mlp(int(k.number("expansion_ratio", 4.0) * hidden_of(k)), False, bias, "gelu")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=bias)


def opt(k: Keys) -> Found:
    """Learned positions, of which two more than the longest text."""
    if not k.flag("do_layer_norm_before", True):
        raise k.wrong("do_layer_norm_before", "true: norms after each part are not described")
    if k.whole("word_embed_proj_dim", default=hidden_of(k)) != hidden_of(k):
        raise k.wrong("word_embed_proj_dim", "that of hidden_size: embeddings of another width are not described")
    bias = k.flag("enable_bias", True)
    mlp = mlp_of(k, gated=False, bias=bias, act=act_of(k, "relu"))
    attention = attention_of(k, qkv_bias=bias, out_bias=bias, rotary=0.0)
    positions = k.whole("max_position_embeddings", default=2048) + 2
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True, positions=positions)


def biogpt(k: Keys) -> Found:
    mlp = mlp_of(k, gated=False, bias=True, act=act_of(k, "gelu"))
    positions = k.whole("max_position_embeddings", default=1024) + 2
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0)
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True, positions=positions)


def xglm(k: Keys) -> Found:
    """Positions are sines, not learned."""
    mlp = mlp_of(k, gated=False, bias=True, act=act_of(k, "gelu"))
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0)
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def starcoder2(k: Keys) -> Found:
    bias = k.flag("use_bias", True)
    attention = attention_of(k, qkv_bias=bias, out_bias=bias, window=everywhere(k))
    mlp = mlp_of(k, gated=False, bias=bias, act="gelu_pytorch_tanh")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def stablelm(k: Keys) -> Found:
    if k.flag("qk_layernorm"):
        raise k.wrong("qk_layernorm", "false: norms of a head each are not described")
    norms = "shared" if k.flag("use_parallel_residual") else "pre"
    attention = attention_of(k, qkv_bias=k.flag("use_qkv_bias"), rotary=k.number("partial_rotary_factor", 0.25))
    return plain(k, attention, mlp_of(k), norms, norm="layer_norm", norm_bias=True)


def persimmon(k: Keys) -> Found:
    qk_norm = "head" if k.flag("qk_layernorm", True) else ""
    attention = attention_of(k, qkv_bias=True, out_bias=True, qk_norm=qk_norm, norm_bias=True)
    mlp = mlp_of(k, gated=False, bias=True, act=act_of(k, "relu2"))
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def phi3small(k: Keys) -> Found:
    """Block-sparse attention in every other layer is taken as dense."""
    attention = attention_of(k, qkv_bias=True, out_bias=True)
    mlp = Mlp(k.whole("ff_intermediate_size", "intermediate_size"), bias=True, act="gelu")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def nemotron(k: Keys) -> Found:
    """Squared ReLU, no gate, LayerNorm."""
    mlp = mlp_of(k, gated=False, bias=k.flag("mlp_bias"), act=act_of(k, "relu2"))
    return plain(k, biased(k), mlp, norm="layer_norm", norm_bias=True)
