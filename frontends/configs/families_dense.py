"""Dense decoders: a model type's keys -> the kinds of its layers in order, and what else a `Decoder` says."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any, TypeAlias

from wattir.frontends.configs.architecture import Attention, Feed, Layer, Mlp
from wattir.frontends.configs.keys import Keys
from wattir.frontends.configs.writer import ACTIVATIONS

Layers: TypeAlias = list[Layer]
Found: TypeAlias = tuple[Layers, dict[str, Any]]


def hidden_of(k: Keys) -> int:
    """The width of a token."""
    return k.whole("hidden_size", "n_embd", "d_model")


def depth_of(k: Keys) -> int:
    """How many layers there are."""
    return k.whole("num_hidden_layers", "n_layer", "n_layers")


def patterned(k: Keys, kinds: list[str], depth: int) -> list[str]:
    """`layer_types` where it is given, else a pattern repeated."""
    given = [str(word) for word in k.words("layer_types")]
    if given and len(given) < depth:
        raise k.wrong("layer_types", f"{depth} kinds of layer")
    return given[:depth] or list(islice(cycle(kinds), depth))


# ---- attention and feed-forward parts -------------------------------------------------------------------------------


def attention_of(k: Keys, **changes: Any) -> Attention:
    """The attention that the usual keys describe, with `changes`."""
    heads = k.whole("num_attention_heads", "n_head")
    head_dim = k.whole("head_dim", default=hidden_of(k) // heads)
    rotary = k.number("partial_rotary_factor", k.number("rotary_pct", 1.0))
    kv_heads = k.whole("num_key_value_heads", default=heads)
    return Attention(**{"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "rotary": rotary} | changes)


def mlp_of(k: Keys, **changes: Any) -> Mlp:
    """The feed-forward part that the usual keys describe, with `changes`."""
    found: dict[str, Any] = {"width": k.whole("intermediate_size", "n_inner"), "act": act_of(k, "silu")}
    return Mlp(**found | changes)


def act_of(k: Keys, default: str) -> str:
    """The activation function."""
    found = k.text("hidden_act", k.text("hidden_activation", k.text("activation_function", default)))
    return found if found in ACTIVATIONS else default


def plain(k: Keys, attention: Attention, feed: Feed, **parts: Any) -> Found:
    """Layers that are all alike."""
    return [Layer(attention, feed)] * depth_of(k), parts


def llama(k: Keys) -> Found:
    bias = k.flag("attention_bias")
    return plain(k, attention_of(k, qkv_bias=bias, out_bias=bias), mlp_of(k, bias=k.flag("mlp_bias")))


def mistral(k: Keys) -> Found:
    return plain(k, attention_of(k, window=k.whole("sliding_window", default=0, least=0)), mlp_of(k))


def qwen2(k: Keys) -> Found:
    return plain(k, attention_of(k, qkv_bias=True), mlp_of(k))


def qwen3(k: Keys) -> Found:
    bias = k.flag("attention_bias")
    return plain(k, attention_of(k, qk_norm="head", qkv_bias=bias, out_bias=bias), mlp_of(k))


def olmo(k: Keys) -> Found:
    return plain(k, attention_of(k), mlp_of(k), norm="layer_norm", norm_weight=False)


def olmo2(k: Keys) -> Found:
    layer = Layer(attention_of(k, qk_norm="all"), mlp_of(k), "post")
    return [layer] * depth_of(k), {}


def phi(k: Keys) -> Found:
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=k.number("partial_rotary_factor", 0.5))
    layer = Layer(attention, mlp_of(k, gated=False, bias=True, act=act_of(k, "gelu_new")), "shared")
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True, "head_bias": True}


def phi3(k: Keys) -> Found:
    return plain(k, attention_of(k, window=k.whole("sliding_window", default=0, least=0)), mlp_of(k))


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


def bloom(k: Keys) -> Found:
    """Positions are slopes added to the scores (ALiBi): no rotation, no table."""
    mlp = Mlp(k.whole("n_inner", default=4 * hidden_of(k)), False, True, "gelu")
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0)
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def falcon(k: Keys) -> Found:
    new = k.flag("new_decoder_architecture")
    heads = k.whole("num_attention_heads", "n_head")
    kv_heads = k.whole("num_kv_heads", "n_head_kv", "num_key_value_heads", default=heads) if new else (
        1 if k.flag("multi_query", True) else heads)  # fmt: skip
    mlp = Mlp(k.whole("ffn_hidden_size", "intermediate_size", default=4 * hidden_of(k)), False, k.flag("bias"), "gelu")
    layer = Layer(attention_of(k, kv_heads=kv_heads), mlp, "parallel" if new else "shared")
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True}


def starcoder2(k: Keys) -> Found:
    bias = k.flag("use_bias", True)
    attention = attention_of(k, qkv_bias=bias, out_bias=bias, window=k.whole("sliding_window", default=0, least=0))
    mlp = mlp_of(k, gated=False, bias=bias, act="gelu_pytorch_tanh")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def phi3small(k: Keys) -> Found:
    """Block-sparse attention in every other layer is taken as dense."""
    attention = attention_of(k, qkv_bias=True, out_bias=True)
    mlp = Mlp(k.whole("ff_intermediate_size", "intermediate_size"), bias=True, act="gelu")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


# ---- sliding windows ------------------------------------------------------------------------------------------------


def windowed(k: Keys, full: Attention, sliding: Attention, pattern: list[str]) -> list[Attention]:
    kinds = patterned(k, pattern, depth_of(k))
    return [sliding if kind == "sliding_attention" else full for kind in kinds]


def gemma(k: Keys) -> Found:
    return plain(k, attention_of(k), mlp_of(k, act="gelu_pytorch_tanh"))


def gemma2(k: Keys, every: int = 2, window: int = 4096, qk_norm: str = "") -> Found:
    """Every `every`-th layer sees all keys, the others a window; norms before and after each part."""
    every = k.whole("sliding_window_pattern", default=every)
    full = attention_of(k, qk_norm=qk_norm)
    sliding = attention_of(k, qk_norm=qk_norm, window=k.whole("sliding_window", default=window))
    pattern = ["sliding_attention"] * (every - 1) + ["full_attention"]
    mlp = mlp_of(k, act="gelu_pytorch_tanh")
    return [Layer(a, mlp, "both") for a in windowed(k, full, sliding, pattern)], {}


def gemma3(k: Keys) -> Found:
    return gemma2(k, every=6, window=1024, qk_norm="head")
