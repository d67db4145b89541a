"""Mixtures of experts: as `families_dense`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wattir.frontends.configs.architecture import (
    Attention,
    Experts,
    Index,
    LatentAttention,
    Layer,
    Mlp,
)
from wattir.frontends.configs.families_dense import (
    FULL,
    SLIDING,
    Found,
    act_of,
    attention_of,
    biased,
    depth_of,
    everywhere,
    from_layer,
    hidden_of,
    mlp_of,
    patterned,
    plain,
    windowed,
)
from wattir.frontends.configs.keys import Keys

COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k")
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")


def experts_of(k: Keys, **changes: Any) -> Experts:
    """The experts that the usual keys describe, with `changes`."""
    found: dict[str, Any] = {"count": k.whole(*COUNTS), "chosen": k.whole(*CHOSEN), "act": act_of(k, "silu")}
    if "width" not in changes:
        found["width"] = k.whole("moe_intermediate_size", "intermediate_size")
    found |= changes
    if found["chosen"] > found["count"]:
        raise k.wrong(next(key for key in CHOSEN if key in k), f"at most the {found['count']} experts that there are")
    return Experts(**found)


def shared_of(k: Keys, width: int) -> int:
    """The width of experts that every token goes to, one after the other."""
    return width * k.whole(*SHARED, default=0, least=0)


def routed_of(k: Keys, **changes: Any) -> Experts:
    """Experts of `moe_intermediate_size`, and shared ones as wide."""
    width = k.whole("moe_intermediate_size", "intermediate_size")
    return experts_of(k, **{"width": width, "shared_width": shared_of(k, width)} | changes)


def mixtral(k: Keys) -> Found:
    return plain(k, attention_of(k, window=everywhere(k)), experts_of(k))


def phimoe(k: Keys) -> Found:
    parts: dict[str, Any] = {"norm": "layer_norm", "norm_bias": True, "head_bias": k.flag("lm_head_bias")}
    return plain(k, biased(k, window=everywhere(k)), experts_of(k), **parts)


def minimax_m2(k: Keys) -> Found:
    norm = "all" if k.flag("use_qk_norm", True) else ""
    return plain(k, attention_of(k, qk_norm=norm), experts_of(k, router_bias="correction"))


def flex_olmo(k: Keys) -> Found:
    return plain(k, biased(k, qk_norm="all"), experts_of(k), "post")


def granitemoe(k: Keys) -> Found:
    """`shared_intermediate_size`: a feed-forward part that every token takes as well."""
    shared = k.whole("shared_intermediate_size", default=0, least=0)
    return plain(k, biased(k), experts_of(k, shared_width=shared))


def aria(k: Keys) -> Found:
    return plain(k, biased(k), routed_of(k))


def hunyuan_moe(k: Keys) -> Found:
    """One shared expert as wide as each of the others."""
    width = k.whole("moe_intermediate_size", "intermediate_size")
    return plain(k, biased(k, qk_norm="head"), experts_of(k, width=width, shared_width=width))


def dbrx(k: Keys) -> Found:
    """Keys of attention and of experts in parts of their own; norms without biases."""
    how, feed = k.part("attn_config"), k.part("ffn_config")
    heads = k.whole("n_heads")
    attention = Attention(heads, how.whole("kv_n_heads"), hidden_of(k) // heads)
    experts = Experts(feed.whole("moe_num_experts"), feed.whole("moe_top_k"), feed.whole("ffn_hidden_size"))
    return plain(k, attention, experts, norm="layer_norm")


# ---- after dense layers ---------------------------------------------------------------------------------------------


def led(k: Keys, attention: list[Any], experts: Experts, norms: str = "pre", first: int = 0) -> Found:
    """The first layers are dense: ``mlp_layer_types`` says which, or ``first_k_dense_replace``."""
    depth = len(attention)
    first = k.whole("first_k_dense_replace", "num_dense_layers", default=first, least=0)
    kinds = patterned(k, ["dense"] * min(first, depth) + ["sparse"] * max(depth - first, 0), depth, "mlp_layer_types")
    if set(kinds) - {"dense", "sparse"}:
        raise k.wrong("mlp_layer_types", "kinds dense and sparse")
    mlp = mlp_of(k) if "dense" in kinds else None
    return [Layer(a, experts if kind == "sparse" else mlp, norms) for a, kind in zip(attention, kinds, strict=True)], {}


def deepseek_moe(k: Keys) -> Found:
    """The first DeepSeek: attention as everywhere, experts after dense layers."""
    if k.whole("moe_layer_freq", default=1) != 1:
        raise k.wrong("moe_layer_freq", "1: experts in every layer after the dense ones")
    return led(k, windowed(k, biased(k)), routed_of(k))


def dots(k: Keys) -> Found:
    attention = windowed(k, biased(k, qk_norm="head"), from_layer(k))
    return led(k, attention, routed_of(k, router_bias="correction"))


def solar(k: Keys) -> Found:
    norm = "head" if k.flag("use_qk_norm") else ""
    return led(k, windowed(k, biased(k, qk_norm=norm)), routed_of(k, router_bias="correction"))


def sarvam(k: Keys) -> Found:
    norm = "head" if k.flag("use_qk_norm", True) else ""
    return led(k, windowed(k, biased(k, qk_norm=norm)), routed_of(k, router_bias="correction"))


def hy_v3(k: Keys) -> Found:
    return led(k, windowed(k, biased(k, qk_norm="head")), routed_of(k, router_bias="correction"))


def exaone_moe(k: Keys) -> Found:
    pattern = (SLIDING, SLIDING, SLIDING, FULL) if "sliding_window" in k else (FULL,)
    attention = windowed(k, attention_of(k, qk_norm="head"), pattern)
    return led(k, attention, routed_of(k, router_bias="correction"))


def afmoe(k: Keys) -> Found:
    """Gated attention, windows in three of four layers, norms before and after each part."""
    every = k.whole("global_attn_every_n_layers", default=4)
    attention = windowed(k, biased(k, qk_norm="head", gated=True), (SLIDING,) * (every - 1) + (FULL,))
    return led(k, attention, routed_of(k, router_bias="correction"), "both")


def mellum(k: Keys) -> Found:
    return led(k, windowed(k, biased(k, qk_norm="head")), experts_of(k))


def mimo(k: Keys) -> Found:
    """Values narrower than keys; layers with a window have heads of their own and sinks."""
    depth, width = depth_of(k), k.whole("v_head_dim")
    full = biased(k, v_dim=width)
    sliding = replace(
        full, window=k.whole("sliding_window"), sinks=k.flag("add_swa_attention_sink_bias", True),
        heads=k.whole("swa_num_attention_heads", default=full.heads),
        kv_heads=k.whole("swa_num_key_value_heads", default=2 * full.kv_heads),
        head_dim=k.whole("swa_head_dim", default=full.head_dim), v_dim=k.whole("swa_v_head_dim", default=width),
    )  # fmt: skip
    given = k.words("hybrid_layer_pattern")
    kinds = [SLIDING if each else FULL for each in given] or patterned(k, [FULL], depth)
    attention = [sliding if kind == SLIDING else full for kind in kinds[:depth]]
    routed = k.words("moe_layer_freq")
    if routed and "mlp_layer_types" not in k:
        return [Layer(a, experts_of(k, router_bias="correction") if each else mlp_of(k))
                for a, each in zip(attention, routed, strict=True)], {}  # fmt: skip
    return led(k, attention, experts_of(k, router_bias="correction"))


def ernie_moe(k: Keys) -> Found:
    """Layers from `moe_layer_start_index` to `moe_layer_end_index`, every `moe_layer_interval`-th, have experts."""
    depth, bias = depth_of(k), k.flag("use_bias")
    first, step = k.whole("moe_layer_start_index", default=1, least=0), k.whole("moe_layer_interval", default=1)
    last = k.values.get("moe_layer_end_index", -1)
    last = depth - 1 if last in (-1, None) else k.whole("moe_layer_end_index", least=0)
    attention = attention_of(k, qkv_bias=bias, out_bias=bias)
    experts = routed_of(k, router_bias="correction", bias=bias)
    routed = [first <= i <= last and (i + 1) % step == 0 for i in range(depth)]
    return [Layer(attention, experts if each else mlp_of(k, bias=bias)) for each in routed], {}


# ---- as Qwen ---------------------------------------------------------------------------------------------------------


def _sparse(k: Keys, attention: Attention, experts: Experts) -> Found:
    """Layers of `mlp_only_layers`, and those that `decoder_sparse_step` leaves out, are dense."""
    step, dense = k.whole("decoder_sparse_step", default=1), set(map(str, k.words("mlp_only_layers")))
    depth = depth_of(k)
    routed = [(i + 1) % step == 0 and str(i) not in dense for i in range(depth)]
    mixers = windowed(k, attention, from_layer(k))
    return [Layer(a, experts if each else mlp_of(k)) for a, each in zip(mixers, routed, strict=True)], {}


def qwen2_moe(k: Keys) -> Found:
    shared = k.whole("shared_expert_intermediate_size", default=0, least=0)
    experts = experts_of(k, shared_width=shared, shared_gate=shared > 0)
    return _sparse(k, attention_of(k, qkv_bias=k.flag("qkv_bias", True)), experts)


def qwen3_moe(k: Keys) -> Found:
    return _sparse(k, biased(k, qk_norm="head"), experts_of(k))


def olmoe(k: Keys) -> Found:
    return plain(k, biased(k, qk_norm="all"), experts_of(k))


def gpt_oss(k: Keys) -> Found:
    bias = k.flag("attention_bias", True)
    attention = attention_of(k, qkv_bias=bias, out_bias=bias, sinks=True)
    experts = experts_of(k, bias=True, router_bias="weight", act="clamped")
    return [Layer(a, experts) for a in windowed(k, attention, (SLIDING, FULL), 128)], {}


def llama4(k: Keys) -> Found:
    """Three of four layers attend within chunks (as a window of that length); every `step`-th has experts."""
    norm = "head" if k.flag("use_qk_norm", True) else ""
    chunk, depth = k.whole("attention_chunk_size", default=8192), depth_of(k)
    step = k.whole("interleave_moe_layer_step", default=1)
    nope = [int(str(i)) for i in k.words("no_rope_layers")] or [int((i + 1) % 4 != 0) for i in range(depth)]
    routed = [int(str(i)) for i in k.words("moe_layers")] or list(range(step - 1, depth, step))
    experts = experts_of(k, width=k.whole("intermediate_size"), shared_width=k.whole("intermediate_size"))
    dense = Mlp(k.whole("intermediate_size_mlp"), act=act_of(k, "silu"))
    turned = attention_of(k, window=chunk, qk_norm=norm, qk_norm_weight=False)
    plain = attention_of(k, rotary=0.0)
    return [
        Layer(turned if nope[i] else plain, experts if i in routed else dense) for i in range(depth)
    ], {}  # fmt: skip


def latent_of(k: Keys) -> LatentAttention:
    """Latent attention; with an index where keys are chosen (DeepSeek-V3.2)."""
    index = None
    if "index_topk" in k:
        index = Index(k.whole("index_n_heads"), k.whole("index_head_dim"), k.whole("index_topk"))
    return LatentAttention(
        k.whole("num_attention_heads"), k.whole("q_lora_rank", default=0, least=0), k.whole("kv_lora_rank"),
        k.whole("qk_nope_head_dim"), k.whole("qk_rope_head_dim"), k.whole("v_head_dim"), index,
    )  # fmt: skip


def deepseek(k: Keys) -> Found:
    corrected = "correction" if k.text("topk_method", "noaux_tc") == "noaux_tc" else ""
    return led(k, [latent_of(k)] * depth_of(k), routed_of(k, router_bias=corrected))


def latent(k: Keys) -> Found:
    """Latent attention in a dense model."""
    return [Layer(latent_of(k), mlp_of(k, bias=k.flag("mlp_bias")))] * depth_of(k), {}


def glm_dsa(k: Keys) -> Found:
    """GLM-5: as DeepSeek-V3.2; layers may take the keys that another has chosen."""
    whole = latent_of(k)
    kinds = patterned(k, ["full"], depth_of(k), "indexer_types")
    if set(kinds) != {"full"}:
        raise k.wrong("indexer_types", "an index of its own in every layer")
    return led(k, [whole] * depth_of(k), routed_of(k, router_bias="correction"))


def glm4_moe(k: Keys) -> Found:
    norm = "head" if k.flag("use_qk_norm") else ""
    attention = attention_of(k, qk_norm=norm, qkv_bias=k.flag("attention_bias"),
                             rotary=k.number("partial_rotary_factor", 0.5))  # fmt: skip
    return led(k, [attention] * depth_of(k), routed_of(k, router_bias="correction"), first=1)
