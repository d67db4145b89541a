"""Recurrent models and hybrids of them with attention: as `families_dense`."""

from __future__ import annotations

from typing import Any

from wattir.frontends.configs.architecture import (
    Beside,
    DeltaNet,
    Experts,
    Feed,
    FirstMamba,
    KimiDelta,
    Layer,
    Mamba,
    Mixer,
    Mlp,
    ShortConv,
)
from wattir.frontends.configs.families_dense import (
    FULL,
    Found,
    attention_of,
    biased,
    depth_of,
    hidden_of,
    mlp_of,
    patterned,
)
from wattir.frontends.configs.families_sparse import experts_of, latent_of, led, routed_of
from wattir.frontends.configs.keys import Keys

LINEAR = "linear_attention"
ALSO = {"mamba": LINEAR, "mamba2": LINEAR, "attention": FULL, "M": LINEAR, "*": FULL, "-": "mlp", "E": "moe",
        "conv": "conv", "recurrent": LINEAR}  # fmt: skip
"""What kinds of layers were called before transformers 5, and in patterns of letters."""


def kinds_of(k: Keys, default: list[str], key: str = "layer_types") -> list[str]:
    """The kind of every layer in the words of transformers 5."""
    return [ALSO.get(kind, kind) for kind in patterned(k, default, depth_of(k), key)]


def chosen(k: Keys, key: str, kinds: list[str], made: dict[str, Layer]) -> list[Layer]:
    """The layers of these kinds; an error names the key that holds another."""
    for kind in kinds:
        if kind not in made:
            raise k.wrong(key if key in k else "model_type", f"kinds {', '.join(made)}; found {kind!r}")
    return [made[kind] for kind in kinds]


# ---- Mamba -----------------------------------------------------------------------------------------------------------


def mamba2_of(k: Keys, **changes: Any) -> Mamba:
    """The Mamba-2 mixer that the usual keys describe, with `changes`."""
    heads = k.whole("mamba_num_heads", "mamba_n_heads", "num_heads")
    inner = k.whole("mamba_d_ssm", default=int(hidden_of(k) * k.number("mamba_expand", k.number("expand", 2.0))))
    head_dim = _whole_or(k, inner // heads, "mamba_head_dim", "mamba_d_head", "head_dim")
    found: dict[str, Any] = {
        "heads": heads, "head_dim": head_dim, "state": k.whole("ssm_state_size", "mamba_d_state", "state_size"),
        "groups": k.whole("n_groups", "mamba_n_groups", "mamba_ngroups", default=1),
        "width": k.whole("conv_kernel", "mamba_d_conv", default=4),
        "chunk": k.whole("chunk_size", "mamba_chunk_size", default=256),
        "bias": k.flag("mamba_proj_bias", k.flag("use_bias")),
        "conv_bias": k.flag("mamba_conv_bias", k.flag("use_conv_bias", True)),
    }  # fmt: skip
    return Mamba(**found | changes)


def _whole_or(k: Keys, default: int, *names: str) -> int:
    """A whole number under one of these keys; the default where it is left to be worked out (``auto``)."""
    return default if any(k.values.get(name) == "auto" for name in names) else k.whole(*names, default=default)


def first_mamba_of(k: Keys, **changes: Any) -> FirstMamba:
    """The Mamba mixer that the usual keys describe, with `changes`."""
    hidden = hidden_of(k)
    wide = int(hidden * k.number("mamba_expand", k.number("expand", 2.0)))
    inner = k.whole("intermediate_size", default=wide) if "state_size" in k else wide
    found: dict[str, Any] = {
        "inner": inner, "state": k.whole("state_size", "mamba_d_state", default=16),
        "rank": _whole_or(k, -(-hidden // 16), "time_step_rank", "mamba_dt_rank"),
        "width": k.whole("conv_kernel", "mamba_d_conv", default=4),
        "bias": k.flag("use_bias", k.flag("mamba_proj_bias")),
        "conv_bias": k.flag("use_conv_bias", k.flag("mamba_conv_bias", True)),
    }  # fmt: skip
    return FirstMamba(**found | changes)


def mamba(k: Keys) -> Found:
    return [Layer(first_mamba_of(k), None)] * depth_of(k), {}


def mamba2(k: Keys) -> Found:
    return [Layer(mamba2_of(k), None)] * depth_of(k), {}


def nemotron_h(k: Keys) -> Found:
    """One part a layer: Mamba-2 (``M``), attention (``*``), feed-forward (``-``), experts (``E``)."""
    pattern = "hybrid_override_pattern"
    key, kinds = ("layers_block_type", k.words("layers_block_type")) if pattern not in k else (
        pattern, list(k.text(pattern)))  # fmt: skip
    if not kinds:
        raise k.missing("layers_block_type", "a list of kinds of layer, or hybrid_override_pattern")
    made = {LINEAR: Layer(mamba2_of(k, bias=k.flag("use_bias")), None), FULL: Layer(biased(k, rotary=0.0), None)}
    if "mlp" in (words := [ALSO.get(str(kind), str(kind)) for kind in kinds]):
        made["mlp"] = Layer(None, mlp_of(k, gated=False, act="relu2", bias=k.flag("mlp_bias")))
    if "moe" in words:
        made["moe"] = Layer(None, _nemotron_experts(k))
    return chosen(k, key, words, made), {}


def _nemotron_experts(k: Keys) -> Experts:
    shared = k.whole("moe_shared_expert_intermediate_size", default=0, least=0)
    latent = k.whole("moe_latent_size", default=0, least=0)
    return experts_of(k, gated=False, shared_width=shared, router_bias="correction", act="relu2", latent=latent)


def bamba(k: Keys) -> Found:
    """Layers of Mamba-2 but for those of `attn_layer_indices`; each with a feed-forward part."""
    attending = set(map(str, k.words("attn_layer_indices")))
    kinds = [FULL if str(i) in attending else LINEAR for i in range(depth_of(k))]
    feed = mlp_of(k, bias=k.flag("mlp_bias"))
    return chosen(k, "layer_types", kinds_of(k, kinds), {LINEAR: Layer(mamba2_of(k), feed),
                                                         FULL: Layer(biased(k), feed)}), {}  # fmt: skip


def granite_hybrid(k: Keys) -> Found:
    """Experts where there are any, and a feed-forward part that every token takes."""
    shared = k.whole("shared_intermediate_size", default=0, least=0)
    feed: Feed = experts_of(k, shared_width=shared) if k.whole("num_local_experts", default=0, least=0) else mlp_of(
        k, width=shared)  # fmt: skip
    rotary = 1.0 if k.text("position_embedding_type", "") == "rope" else 0.0
    made = {LINEAR: Layer(mamba2_of(k), feed), FULL: Layer(biased(k, rotary=rotary), feed)}
    return chosen(k, "layer_types", kinds_of(k, [LINEAR]), made), {}


def falcon_h1(k: Keys) -> Found:
    """Attention and Mamba-2 side by side in every layer."""
    mixer = Beside((biased(k), mamba2_of(k, norm=k.flag("mamba_rms_norm"))))
    return [Layer(mixer, mlp_of(k, bias=k.flag("mlp_bias")))] * depth_of(k), {}


def jamba(k: Keys) -> Found:
    """Attention in every `attn_layer_period`-th layer, experts in every `expert_layer_period`-th."""
    depth = depth_of(k)
    attends, routes = (
        [i % k.whole(f"{what}_layer_period") == k.whole(f"{what}_layer_offset", default=0, least=0)
         for i in range(depth)]
        for what in ("attn", "expert")
    )  # fmt: skip
    mixers: tuple[Mixer, Mixer] = (first_mamba_of(k, norms=True), attention_of(k, rotary=0.0))
    mlp = mlp_of(k)
    feeds: tuple[Feed, Feed] = (mlp, experts_of(k) if k.whole("num_experts", default=1) > 1 else mlp)
    return [Layer(mixers[a], feeds[e]) for a, e in zip(attends, routes, strict=True)], {}


# ---- delta nets and convolutions -----------------------------------------------------------------------------------


def delta_of(k: Keys) -> DeltaNet:
    """The gated delta net that the usual keys describe."""
    return DeltaNet(
        k.whole("linear_num_key_heads"), k.whole("linear_num_value_heads"), k.whole("linear_key_head_dim"),
        k.whole("linear_value_head_dim"), k.whole("linear_conv_kernel_dim", default=4),
    )  # fmt: skip


def qwen3_next(k: Keys) -> Found:
    """Every fourth layer attends, with gated heads; the others are gated delta nets."""
    every = k.whole("full_attention_interval", default=4)
    attention = biased(k, qk_norm="head", gated=True, rotary=k.number("partial_rotary_factor", 0.25))
    shared = k.whole("shared_expert_intermediate_size", default=0, least=0)
    routed = "num_experts" in k
    if k.words("mlp_only_layers") or k.whole("decoder_sparse_step", default=1) != 1:
        raise k.wrong("mlp_only_layers", "none: experts in every layer")
    feed: Feed = experts_of(k, shared_width=shared, shared_gate=shared > 0) if routed else mlp_of(k)
    kinds = kinds_of(k, [LINEAR] * (every - 1) + [FULL])
    return chosen(k, "layer_types", kinds, {LINEAR: Layer(delta_of(k), feed), FULL: Layer(attention, feed)}), {}


def olmo_hybrid(k: Keys) -> Found:
    """Gated delta nets behind a norm; layers that attend have norms after their parts."""
    made = {LINEAR: Layer(delta_of(k), mlp_of(k)), FULL: Layer(biased(k, qk_norm="all"), mlp_of(k), "post")}
    return chosen(k, "layer_types", kinds_of(k, [LINEAR] * 3 + [FULL]), made), {}


def kimi_linear(k: Keys) -> Found:
    """Kimi delta attention, latent attention without positions in every fourth layer; the first layer is dense."""
    how = k.part("linear_attn_config") if "linear_attn_config" in k else k
    heads, dim = how.whole("linear_num_heads", "num_heads"), how.whole("linear_head_dim", "head_dim")
    delta = KimiDelta(heads, dim, dim, how.whole("linear_conv_kernel_dim", "short_conv_kernel_size", default=4))
    attending = set(map(str, how.words("full_attn_layers")))  # counted from 1
    kinds = [FULL if str(i + 1) in attending else LINEAR for i in range(depth_of(k))]
    made = {LINEAR: Layer(delta, None), FULL: Layer(latent_of(k), None)}
    mixers = [layer.mixer for layer in chosen(k, "layer_types", kinds_of(k, kinds), made)]
    return led(k, mixers, routed_of(k, router_bias="correction"))


def lfm2(k: Keys) -> Found:
    """Gated short convolutions, attention in some layers; widths of feed-forward parts are rounded up."""
    return chosen(k, "layer_types", *_lfm2(k, _lfm2_feed(k))), {}


def lfm2_moe(k: Keys) -> Found:
    experts = experts_of(k, router_bias="correction" if k.flag("use_expert_bias", True) else "")
    mixers = [layer.mixer for layer in chosen(k, "layer_types", *_lfm2(k, None))]
    return led(k, mixers, experts)


def _lfm2(k: Keys, feed: Feed | None) -> tuple[list[str], dict[str, Layer]]:
    attending = set(map(str, k.words("full_attn_idxs")))
    kinds = [FULL if str(i) in attending else "conv" for i in range(depth_of(k))]
    conv = ShortConv(k.whole("conv_L_cache", default=3), k.flag("conv_bias"))
    return kinds_of(k, kinds), {"conv": Layer(conv, feed), FULL: Layer(attention_of(k, qk_norm="head"), feed)}


def _lfm2_feed(k: Keys) -> Mlp:
    width = k.whole("intermediate_size", "block_ff_dim")
    if not k.flag("block_auto_adjust_ff_dim", True):
        return mlp_of(k, width=width)
    step = k.whole("block_multiple_of", default=256)
    width = int(k.number("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
    return mlp_of(k, width=-(-width // step) * step)
