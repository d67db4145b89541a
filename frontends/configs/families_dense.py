"""Dense decoders: a model type's keys -> the kinds of its layers in order, and what else a `Decoder` says."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice
from typing import Any, TypeAlias

from wattir.frontends.configs.architecture import Attention, Feed, Layer, Mlp
from wattir.frontends.configs.keys import Keys
from wattir.frontends.configs.writer import ACTIVATIONS

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
    """The activation function."""
    found = default
    for key in ("activation_function", "hidden_activation", "mlp_hidden_act", "hidden_act"):
        found = k.text(key, found)
    return found if found in ACTIVATIONS else default


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


def nemotron(k: Keys) -> Found:
    """Squared ReLU, no gate, LayerNorm."""
    mlp = mlp_of(k, gated=False, bias=k.flag("mlp_bias"), act=act_of(k, "relu2"))
    return plain(k, biased(k), mlp, norm="layer_norm", norm_bias=True)


def nanochat(k: Keys) -> Found:
    """No norm has weights."""
    mlp = mlp_of(k, gated=False, act=act_of(k, "relu2"))
    return plain(k, biased(k, qk_norm="head", qk_norm_weight=False), mlp, norm_weight=False)


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


def gpt_bigcode(k: Keys) -> Found:
    """GPT-2 whose heads share one key and value."""
    layers, parts = gpt2(k)
    kv_heads = {"kv_heads": 1} if k.flag("multi_query", True) else {}
    attention = attention_of(k, qkv_bias=True, out_bias=True, rotary=0.0, **kv_heads)
    return [replace(layer, mixer=attention) for layer in layers], parts


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


def phi(k: Keys) -> Found:
    attention = attention_of(
        k, qkv_bias=True, out_bias=True, rotary=k.number("partial_rotary_factor", 0.5), norm_bias=True,
        qk_norm="head" if k.flag("qk_layernorm") else "",
    )  # fmt: skip
    layer = Layer(attention, mlp_of(k, gated=False, bias=True, act=act_of(k, "gelu_new")), "shared")
    return [layer] * depth_of(k), {"norm": "layer_norm", "norm_bias": True, "head_bias": True}


def phi3(k: Keys) -> Found:
    return mistral(k)


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


def starcoder2(k: Keys) -> Found:
    bias = k.flag("use_bias", True)
    attention = attention_of(k, qkv_bias=bias, out_bias=bias, window=everywhere(k))
    mlp = mlp_of(k, gated=False, bias=bias, act="gelu_pytorch_tanh")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


def phi3small(k: Keys) -> Found:
    """Block-sparse attention in every other layer is taken as dense."""
    attention = attention_of(k, qkv_bias=True, out_bias=True)
    mlp = Mlp(k.whole("ff_intermediate_size", "intermediate_size"), bias=True, act="gelu")
    return plain(k, attention, mlp, norm="layer_norm", norm_bias=True)


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
