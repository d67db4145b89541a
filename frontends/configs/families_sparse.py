"""Mixtures of experts and hybrids: as `families_dense`."""

from __future__ import annotations

from typing import Any

from wattir.frontends.configs.architecture import (
    Attention,
    DeltaNet,
    Experts,
    Feed,
    LatentAttention,
    Layer,
    Mamba,
    Mixer,
    Mlp,
)
from wattir.frontends.configs.families_dense import (
    Found,
    act_of,
    attention_of,
    depth_of,
    mlp_of,
    patterned,
    plain,
    windowed,
)
from wattir.frontends.configs.keys import Keys

# ---- mixtures of experts --------------------------------------------------------------------------------------------


def experts_of(k: Keys, **changes: Any) -> Experts:
    found: dict[str, Any] = {
        "count": k.whole("num_experts", "num_local_experts", "n_routed_experts"),
        "chosen": k.whole("num_experts_per_tok", "num_experts_per_token", "moe_top_k"),
        "width": k.whole("moe_intermediate_size", "intermediate_size"),
        "act": act_of(k, "silu"),
    }
    found |= changes
    if found["chosen"] > found["count"]:
        raise k.wrong("num_experts_per_tok", f"at most the {found['count']} experts that there are")
    return Experts(**found)


def mixtral(k: Keys) -> Found:
    return plain(k, attention_of(k), experts_of(k))


def _sparse(k: Keys, attention: Attention, experts: Experts) -> Found:
    """Layers of `mlp_only_layers`, and those that `decoder_sparse_step` leaves out, are dense."""
    step, dense = k.whole("decoder_sparse_step", default=1), set(map(str, k.words("mlp_only_layers")))
    depth = depth_of(k)
    routed = [(i + 1) % step == 0 and str(i) not in dense for i in range(depth)]
    return [Layer(attention, experts if each else mlp_of(k)) for each in routed], {}


def qwen2_moe(k: Keys) -> Found:
    shared = k.whole("shared_expert_intermediate_size", default=0, least=0)
    return _sparse(k, attention_of(k, qkv_bias=True), experts_of(k, shared_width=shared, shared_gate=shared > 0))


def qwen3_moe(k: Keys) -> Found:
    bias = k.flag("attention_bias")
    return _sparse(k, attention_of(k, qk_norm="head", qkv_bias=bias, out_bias=bias), experts_of(k))


def olmoe(k: Keys) -> Found:
    return plain(k, attention_of(k, qk_norm="all"), experts_of(k))


def gpt_oss(k: Keys) -> Found:
    full = attention_of(k, qkv_bias=True, out_bias=True, sinks=True)
    sliding = attention_of(k, qkv_bias=True, out_bias=True, sinks=True, window=k.whole("sliding_window", default=128))
    experts = experts_of(k, bias=True, router_bias="weight", act="clamped")
    pattern = ["sliding_attention", "full_attention"]
    return [Layer(a, experts) for a in windowed(k, full, sliding, pattern)], {}


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


def deepseek(k: Keys) -> Found:
    mixer = LatentAttention(
        k.whole("num_attention_heads"), k.whole("q_lora_rank", default=0, least=0), k.whole("kv_lora_rank"),
        k.whole("qk_nope_head_dim"), k.whole("qk_rope_head_dim"), k.whole("v_head_dim"),
    )  # fmt: skip
    width = k.whole("moe_intermediate_size")
    shared = k.whole("n_shared_experts", default=0, least=0)
    corrected = "correction" if k.text("topk_method", "noaux_tc") == "noaux_tc" else ""
    experts = experts_of(k, width=width, shared_width=shared * width, router_bias=corrected)
    dense = k.whole("first_k_dense_replace", default=0, least=0)
    return [Layer(mixer, mlp_of(k) if i < dense else experts) for i in range(depth_of(k))], {}


def glm4_moe(k: Keys) -> Found:
    norm, bias = ("head" if k.flag("use_qk_norm") else ""), k.flag("attention_bias")
    width = k.whole("moe_intermediate_size")
    shared = width * k.whole("n_shared_experts", default=0, least=0)
    experts, dense = (
        experts_of(k, shared_width=shared, router_bias="correction"),
        k.whole("first_k_dense_replace", default=1, least=0),
    )
    attention = attention_of(k, qk_norm=norm, qkv_bias=bias, rotary=k.number("partial_rotary_factor", 0.5))
    return [Layer(attention, mlp_of(k) if i < dense else experts) for i in range(depth_of(k))], {}


# ---- hybrids --------------------------------------------------------------------------------------------------------


def nemotron_h(k: Keys) -> Found:
    """``M``: Mamba-2, ``*``: attention, ``-``: feed-forward, one part a layer."""
    mamba = Mamba(
        k.whole("mamba_num_heads"), k.whole("mamba_head_dim"), k.whole("ssm_state_size"),
        k.whole("n_groups", "mamba_n_groups"), k.whole("conv_kernel", default=4), k.flag("use_bias"),
    )  # fmt: skip
    mlp = mlp_of(k, gated=False, act="relu2")
    attention = attention_of(k, rotary=0.0)
    kinds: dict[str, tuple[Mixer | None, Feed | None]] = {"M": (mamba, None), "*": (attention, None), "-": (None, mlp)}
    if "n_routed_experts" in k:
        shared = k.whole("moe_shared_expert_intermediate_size", default=0, least=0)
        kinds["E"] = (None, experts_of(k, gated=False, shared_width=shared, router_bias="correction", act="relu2"))
    return [Layer(*_kind(k, kinds, letter)) for letter in k.text("hybrid_override_pattern")], {}


def _kind(k: Keys, kinds: dict[str, Any], letter: str) -> Any:
    if letter not in kinds:
        raise k.wrong("hybrid_override_pattern", f"letters of {', '.join(kinds)}; found {letter!r}")
    return kinds[letter]


def qwen3_next(k: Keys) -> Found:
    """Every fourth layer attends, with gated heads; the others are gated delta nets."""
    delta = DeltaNet(
        k.whole("linear_num_key_heads"), k.whole("linear_num_value_heads"), k.whole("linear_key_head_dim"),
        k.whole("linear_value_head_dim"), k.whole("linear_conv_kernel_dim", default=4),
    )  # fmt: skip
    every = k.whole("full_attention_interval", default=4)
    attention = attention_of(k, qk_norm="head", gated=True, rotary=k.number("partial_rotary_factor", 0.25))
    shared = k.whole("shared_expert_intermediate_size", default=0, least=0)
    feed: Feed = experts_of(k, shared_width=shared, shared_gate=shared > 0) if "num_experts" in k else mlp_of(k)
    kinds = patterned(k, ["linear_attention"] * (every - 1) + ["full_attention"], depth_of(k))
    return [Layer(attention if kind == "full_attention" else delta, feed) for kind in kinds], {}
