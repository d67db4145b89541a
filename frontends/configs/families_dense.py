"""Dense decoders: a model type's keys -> the kinds of its layers in order, and what else a `Decoder` says."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice
from typing import Any, TypeAlias

from wattir.frontends.configs.architecture import Attention, Feed, Layer, Mlp
from wattir.frontends.configs.keys import Keys

Layers: TypeAlias = list[Layer]
Found: TypeAlias = tuple[Layers, dict[str, Any]]
FULL, SLIDING = "full_attention", "sliding_attention"


def hidden_of(k: Keys) -> int:
    """The width of a token."""
    return k.whole("hidden_size", "n_embd", "d_model")


def depth_of(k: Keys) -> int:
    """How many layers there are."""
    return k.whole("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def patterned(k: Keys, kinds: list[str], depth: int, key: str = "layer_types") -> list[str]:
    """The list under `key` where it is given, else a pattern repeated."""
    given = [str(word) for word in k.words(key)]
    if given and len(given) < depth:
        raise k.wrong(key, f"{depth} kinds of layer")
    return given[:depth] or list(islice(cycle(kinds), depth))


# ---- attention and feed-forward parts -------------------------------------------------------------------------------


def attention_of(k: Keys, **changes: Any) -> Attention:
    """The attention that the usual keys describe, with `changes`."""
    heads = k.whole("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads")
    head_dim = k.whole("head_dim", default=hidden_of(k) // heads)
    rotary = k.number("partial_rotary_factor", k.number("rotary_pct", 1.0))
    kv_heads = k.whole("num_key_value_heads", default=heads)
    return Attention(**{"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "rotary": rotary} | changes)


def biased(k: Keys, **changes: Any) -> Attention:
    """As `attention_of`, whose products have biases where `attention_bias` says so."""
    bias = k.flag("attention_bias")
    return attention_of(k, **{"qkv_bias": bias, "out_bias": bias} | changes)


def mlp_of(k: Keys, **changes: Any) -> Mlp:
    """The feed-forward part that the usual keys describe, with `changes`."""
    width = {} if "width" in changes else {"width": k.whole("intermediate_size", "n_inner", "ffn_dim")}
    return Mlp(**{"act": act_of(k, "silu"), **width, **changes})


def act_of(k: Keys, default: str) -> str:
    """The name of the activation function."""
    found = default
    for key in ("activation_function", "hidden_activation", "mlp_hidden_act", "hidden_act"):
        found = k.text(key, found)
    return found


def plain(k: Keys, attention: Attention, feed: Feed, norms: str = "pre", **parts: Any) -> Found:
    """Layers that are alike but for the windows that `windowed` finds."""
    return [Layer(each, feed, norms) for each in windowed(k, attention)], parts


def windowed(k: Keys, attention: Attention, pattern: tuple[str, ...] = (FULL,), window: int = 0) -> list[Attention]:
    """The attention of every layer: of all keys, or of a window where ``layer_types`` (without: `pattern`) say so."""
    kinds = patterned(k, list(pattern), depth_of(k))
    for kind in kinds:
        if kind not in (FULL, SLIDING):
            raise k.wrong("layer_types", f"kinds {FULL} and {SLIDING}; found {kind!r}")
    if SLIDING not in kinds:
        return [attention] * len(kinds)
    sliding = replace(attention, window=k.whole("sliding_window", **({"default": window} if window else {})))
    return [sliding if kind == SLIDING else attention for kind in kinds]


def everywhere(k: Keys) -> int:
    """The window of every layer; 0 where there is none."""
    return k.whole("sliding_window", default=0, least=0)


def from_layer(k: Keys) -> tuple[str, ...]:
    """Which layers have a window by ``use_sliding_window`` and ``max_window_layers``: the later ones."""
    depth = depth_of(k)
    first = k.whole("max_window_layers", default=depth, least=0)
    if not k.flag("use_sliding_window") or "sliding_window" not in k:
        return (FULL,)
    return tuple(FULL if i < first else SLIDING for i in range(depth))


def llama(k: Keys) -> Found:
    return plain(k, biased(k), mlp_of(k, bias=k.flag("mlp_bias")))


def arcee(k: Keys) -> Found:
    return plain(k, biased(k), mlp_of(k, gated=False, bias=k.flag("mlp_bias"), act=act_of(k, "relu2")))


def apertus(k: Keys) -> Found:
    """Its activation, xIELU, has two learned numbers a layer, which are not counted."""
    return plain(k, biased(k, qk_norm="head"), mlp_of(k, gated=False, bias=k.flag("mlp_bias"), act="xielu"))


def bitnet(k: Keys) -> Found:
    """Weights of three values, as they lie in 16 bits before they are packed; a norm before each last product."""
    return plain(k, biased(k, out_norm=True), mlp_of(k, act=act_of(k, "relu2"), norm=True))


def ernie(k: Keys) -> Found:
    bias = k.flag("use_bias")
    return plain(k, attention_of(k, qkv_bias=bias, out_bias=bias), mlp_of(k, bias=bias))


def seed_oss(k: Keys) -> Found:
    attention = attention_of(k, qkv_bias=k.flag("attention_bias", True), out_bias=k.flag("attention_out_bias"))
    return plain(k, attention, mlp_of(k, bias=k.flag("mlp_bias")))


def smollm3(k: Keys) -> Found:
    """Every fourth layer does not turn its queries, which is not told apart."""
    feed = mlp_of(k, bias=k.flag("mlp_bias"))
    return [Layer(each, feed) for each in windowed(k, biased(k), from_layer(k))], {}


def mistral(k: Keys) -> Found:
    window = 0 if "layer_types" in k else everywhere(k)
    return plain(k, attention_of(k, window=window), mlp_of(k))


def internlm3(k: Keys) -> Found:
    bias = k.flag("bias")
    attention = attention_of(k, qkv_bias=k.flag("qkv_bias", k.flag("attention_bias")), out_bias=bias)
    return plain(k, attention, mlp_of(k, bias=bias))


def exaone4(k: Keys) -> Found:
    """Norms after each part alone; where windows are, every fourth layer sees all keys."""
    hybrid = (SLIDING, SLIDING, SLIDING, FULL) if "sliding_window" in k else (FULL,)
    pattern = tuple({"L": SLIDING, "G": FULL}.get(letter, letter) for letter in _letters(k)) or hybrid
    return [Layer(a, mlp_of(k), "post") for a in windowed(k, attention_of(k, qk_norm="head"), pattern)], {}


def _letters(k: Keys) -> str:
    """The pattern of windows where it is a text, ``LLLG``."""
    return str(k.values["sliding_window_pattern"]) if isinstance(k.values.get("sliding_window_pattern"), str) else ""


def glm4(k: Keys) -> Found:
    """Norms before and after each part."""
    return plain(k, attention_of(k, qkv_bias=k.flag("attention_bias")), mlp_of(k), "both")


def glm4v(k: Keys) -> Found:
    return plain(k, attention_of(k, qkv_bias=k.flag("attention_bias", True)), mlp_of(k), "both")


def chatglm(k: Keys) -> Found:
    """The keys of its own code: groups of queries share a key, widths of heads are `kv_channels`."""
    heads = k.whole("num_attention_heads")
    kv_heads = k.whole("multi_query_group_num") if k.flag("multi_query_attention") else heads
    bias = k.flag("add_bias_linear")
    head_dim = k.whole("kv_channels", default=hidden_of(k) // heads)
    attention = Attention(heads, kv_heads, head_dim, 0, bias or k.flag("add_qkv_bias"), bias, rotary=0.5)
    if not k.flag("rmsnorm", True):
        raise k.wrong("rmsnorm", "true")
    return plain(k, attention, Mlp(k.whole("ffn_hidden_size"), bias=bias))


def qwen(k: Keys) -> Found:
    """`intermediate_size` is that of both halves of the gate."""
    return plain(k, attention_of(k, qkv_bias=True), Mlp(k.whole("intermediate_size") // 2))


def hyperclovax(k: Keys) -> Found:
    return plain(k, biased(k), mlp_of(k, bias=k.flag("mlp_bias")), "both" if k.flag("use_post_norm") else "pre")


def cohere(k: Keys) -> Found:
    """Attention and feed-forward part side by side behind one norm, without biases."""
    attention = biased(k, qk_norm="all" if k.flag("use_qk_norm") else "")
    layers = [Layer(each, mlp_of(k), "shared") for each in windowed(k, attention, _every(k), 4096)]
    return layers, {"norm": "layer_norm"}


def _every(k: Keys) -> tuple[str, ...]:
    """Every `sliding_window_pattern`-th layer sees all keys; without the key all do."""
    return (SLIDING,) * (k.whole("sliding_window_pattern", default=1) - 1) + (FULL,)


def nanochat(k: Keys) -> Found:
    """No norm has weights."""
    mlp = mlp_of(k, gated=False, act=act_of(k, "relu2"))
    return plain(k, biased(k, qk_norm="head", qk_norm_weight=False), mlp, norm_weight=False)


def qwen2(k: Keys) -> Found:
    return [Layer(a, mlp_of(k)) for a in windowed(k, attention_of(k, qkv_bias=True), from_layer(k))], {}


def qwen3(k: Keys) -> Found:
    return [Layer(a, mlp_of(k)) for a in windowed(k, biased(k, qk_norm="head"), from_layer(k))], {}


def glm(k: Keys) -> Found:
    return plain(k, attention_of(k, qkv_bias=k.flag("attention_bias", True)), mlp_of(k))


def hunyuan(k: Keys) -> Found:
    """Norms of queries and keys, after their turn."""
    return plain(k, biased(k, qk_norm="head"), mlp_of(k))


def olmo(k: Keys) -> Found:
    return plain(k, biased(k), mlp_of(k), norm="layer_norm", norm_weight=False)


def olmo2(k: Keys) -> Found:
    """Norms after each part alone; OLMo 3 has windows in three of four layers."""
    return plain(k, biased(k, qk_norm="all"), mlp_of(k), "post")


def phi3(k: Keys) -> Found:
    return mistral(k)


# ---- Gemma -----------------------------------------------------------------------------------------------------------


def gemma(k: Keys) -> Found:
    return plain(k, attention_of(k), mlp_of(k, act="gelu_pytorch_tanh"))


def gemma2(k: Keys, every: int = 2, window: int = 4096, qk_norm: str = "", norms: str = "both") -> Found:
    """Every `every`-th layer sees all keys, the others a window; norms before and after each part."""
    every = k.whole("sliding_window_pattern", "_sliding_window_pattern", default=every)
    pattern = (SLIDING,) * (every - 1) + (FULL,)
    mlp = mlp_of(k, act="gelu_pytorch_tanh")
    return [Layer(a, mlp, norms) for a in windowed(k, biased(k, qk_norm=qk_norm), pattern, window)], {}


def gemma3(k: Keys) -> Found:
    return gemma2(k, every=6, window=1024, qk_norm="head")


def vaultgemma(k: Keys) -> Found:
    return gemma2(k, norms="pre")
