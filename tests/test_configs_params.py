"""Parameters of models by configuration against transformers' own modules on the meta device, one type after another.

Every type's own default widths, a few layers deep: what a configuration leaves out is then as the library has it.
"""

from __future__ import annotations

from typing import Any

import pytest

from wattir.errors import InputError, ModelFileError, UnsupportedError
from wattir.frontends.configs import forward_graph, load_config
from wattir.frontends.configs.huggingface import FAMILIES
from wattir.frontends.torch.pretrained import declare_torchvision_ops

EXPERTS = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 256,
    "first_k_dense_replace": 1,
}  # fmt: skip
HYBRID = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in (
        "afmoe", "apertus", "arcee", "aria_text", "bamba", "biogpt", "bitnet", "bloom", "codegen", "cohere", "cohere2",
        "cwm", "deepseek_v3", "deepseek_v32", "ernie4_5", "ernie4_5_moe", "exaone", "exaone4", "exaone_moe", "falcon",
        "falcon_h1", "falcon_mamba", "flex_olmo", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe",
        "glm4_moe_lite", "glm_moe_dsa", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe",
        "granitemoehybrid", "helium", "hy_v3", "hyperclovax", "internlm3", "iquestcoder", "jais2", "jamba",
        "kimi_linear", "lfm2", "llama", "llama4_text", "mamba", "mamba2", "mellum", "mimo_v2_flash", "minicpm3",
        "minimax_m2", "ministral3", "mistral", "mixtral", "mpt", "nanochat", "nemotron_h", "olmo", "olmo2", "olmo3",
        "olmo_hybrid", "olmoe", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3",
        "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "sarvam_mla", "sarvam_moe", "seed_oss",
        "smollm3", "solar_open", "stablelm", "starcoder2", "vaultgemma", "xglm", "youtu",
    )),
    ("deepseek_v2", EXPERTS), ("deepseek_v2", EXPERTS | {"q_lora_rank": None, "topk_method": "greedy"}),
    ("dots1", EXPERTS), ("hunyuan_v1_dense", {"head_dim": 128}), ("nemotron", {"num_key_value_heads": 8}),
    ("hunyuan_v1_moe", {"head_dim": 128, "num_experts": 8, "moe_topk": 2}),
    ("gpt_neo", {"num_layers": 4, "num_hidden_layers": 4, "attention_types": [[["global", "local"], 2]]}),
    ("lfm2_moe", {"layer_types": ["conv", "conv", "full_attention", "conv"]}), ("lfm2", {"full_attn_idxs": [1]}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 8, "tie_word_embeddings": True}),
    ("qwen3_moe", {"mlp_only_layers": [0], "decoder_sparse_step": 2}), ("cohere", {"use_qk_norm": True}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 8}), ("falcon", {"multi_query": False, "bias": True}),
    ("falcon", {"parallel_attn": False, "alibi": True}), ("gpt_bigcode", {"multi_query": False}),
    ("stablelm", {"use_parallel_residual": True, "use_qkv_bias": True}), ("phi", {"qk_layernorm": True}),
    ("granitemoeshared", {"shared_intermediate_size": 512}), ("jamba", {"num_experts": 1}),
    ("granitemoehybrid", {"num_local_experts": 0, "layer_types": ["mamba", "attention", "mamba", "mamba"]}),
    ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1}), ("bamba", {"attn_layer_indices": [1]}),
    ("falcon_h1", {"mamba_d_ssm": None, "mamba_n_heads": 128, "mamba_d_head": 64}),
    ("falcon_h1", {"mamba_rms_norm": True}), ("kimi_linear", {"layer_types": HYBRID}),
    ("nemotron_h", {"layers_block_type": ["mamba", "moe", "attention", "mlp"], "moe_latent_size": 1024}),
    ("llama4_text", {"use_qk_norm": False, "interleave_moe_layer_step": 2}), ("olmo", {"attention_bias": True}),
    ("ernie4_5_moe", {"moe_num_shared_experts": 0}), ("phimoe", {"attention_bias": True, "lm_head_bias": True}),
    ("glm4_moe", {"use_qk_norm": True, "attention_bias": True}), ("hyperclovax", {"use_post_norm": False}),
]  # fmt: skip
CORRECTIONS = 3_000
"""Numbers that correct a router's choice are weights here and buffers there; xIELU's two a layer are not here."""


def config_of(kind: str, changes: dict[str, Any]) -> Any:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    declare_torchvision_ops()
    made = transformers.CONFIG_MAPPING[kind]
    depth = {"num_hidden_layers": 4} if hasattr(made(), "num_hidden_layers") else {}
    return made(**{**depth, **changes})


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(CASES)])
def test_parameters_are_those_of_the_module(kind: str, changes: dict[str, Any]) -> None:
    config = config_of(kind, changes)
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        theirs = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    assert forward_graph(load_config(config.to_dict())).params == pytest.approx(theirs, abs=CORRECTIONS)


WITH_IMAGES = (
    "aria",
    "cohere2_vision",
    "deepseek_vl",
    "exaone4_5",
    "fast_vlm",
    "gemma3",
    "got_ocr2",
    "idefics3",
    "internvl",
    "janus",
    "llama4",
    "llava",
    "llava_next",
    "llava_onevision",
    "mistral3",
    "nemotron_h_omni",
    "ovis2",
    "paligemma",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
    "video_llama_3",
    "vipllava",
)
SEEING = {"gemma3", "internvl", "llama4", "llava", "mistral3", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe"}
"""Those whose tower, and what stands between it and the language model, are described."""

LANGUAGE = ("language_model", "text_model", "lm_head")


@pytest.mark.parametrize("kind", WITH_IMAGES)
def test_the_language_model_among_towers_is_that_of_the_module(kind: str) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    declare_torchvision_ops()
    import torch

    config = transformers.CONFIG_MAPPING[kind]()
    with torch.device("meta"):
        module = transformers.AutoModelForImageTextToText.from_config(config)
    named = module.named_parameters()
    own = sum(each.numel() for name, each in named if any(part in name for part in LANGUAGE))
    found = load_config(config.to_dict())
    assert forward_graph(found).params == pytest.approx(own, abs=CORRECTIONS) and "vision" in found.towers
    assert (found.vision is not None) == (kind in SEEING)


def test_at_least_as_many_types_as_are_compared_are_known() -> None:
    assert {kind for kind, _ in CASES} <= set(FAMILIES) and len({kind for kind, _ in CASES}) >= 90


OWN_CODE: list[tuple[str, float, dict[str, Any]]] = [
    ("internlm2", 7.74, {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 92544,
                         "num_key_value_heads": 8, "intermediate_size": 14336, "bias": False}),
    ("chatglm", 6.24, {"hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "multi_query_group_num": 2,
                       "multi_query_attention": True, "ffn_hidden_size": 13696, "padded_vocab_size": 65024,
                       "kv_channels": 128, "add_qkv_bias": True, "rmsnorm": True}),
    ("qwen", 7.72, {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 151936,
                    "intermediate_size": 22016, "kv_channels": 128}),
    ("baichuan", 7.51, {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 125696,
                        "intermediate_size": 11008}),
    ("minicpm", 2.72, {"hidden_size": 2304, "num_hidden_layers": 40, "num_attention_heads": 36, "vocab_size": 122753,
                       "intermediate_size": 5760, "num_key_value_heads": 36}),
    ("deepseek", 16.4, {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "vocab_size": 102400,
                        "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64,
                        "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1}),
    ("dbrx", 131.6, {"d_model": 6144, "n_layers": 40, "n_heads": 48, "vocab_size": 100352,
                     "attn_config": {"kv_n_heads": 8}, "ffn_config": {
                         "moe_num_experts": 16, "moe_top_k": 4, "ffn_hidden_size": 10752}}),
]  # fmt: skip
"""Types whose code is not in transformers, or does not run there: billions of parameters as their publishers say."""


@pytest.mark.parametrize(("kind", "published", "config"), OWN_CODE, ids=[kind for kind, _, _ in OWN_CODE])
def test_parameters_are_those_that_publishers_say(kind: str, published: float, config: dict[str, Any]) -> None:
    found = forward_graph(load_config({"model_type": kind, **config})).params / 1e9
    assert found == pytest.approx(published, rel=3e-3)


LLAMA = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
NEMOTRON = LLAMA | {
    "model_type": "nemotron_h", "hybrid_override_pattern": "M*-E", "mamba_num_heads": 8, "mamba_head_dim": 16,
    "ssm_state_size": 16, "n_groups": 1, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
}  # fmt: skip


@pytest.mark.parametrize(("config", "error", "said"), [
    (LLAMA | {"n_routed_experts": 64}, UnsupportedError, "n_routed_experts = '64', which models of type 'llama'"),
    (LLAMA | {"kv_lora_rank": 512}, UnsupportedError, "kv_lora_rank"),
    (LLAMA | {"num_kv_shared_layers": 10}, UnsupportedError, "num_kv_shared_layers"),
    (LLAMA | {"layer_types": ["full_attention", "linear_attention"]}, ModelFileError, "'linear_attention'"),
    (LLAMA | {"layer_types": ["sliding_attention"] * 2}, ModelFileError, "no key 'sliding_window'"),
    (LLAMA | {"model_type": "deepseek_v4"}, UnsupportedError, "model_type 'deepseek_v4'"),
    (NEMOTRON | {"hybrid_override_pattern": "M*Q-"}, ModelFileError, "found 'Q'"),
    (NEMOTRON | {"hybrid_override_pattern": ""}, ModelFileError, "layers_block_type"),
    (LLAMA | {"model_type": "opt", "word_embed_proj_dim": 32}, ModelFileError, "another width"),
])  # fmt: skip
def test_what_is_not_understood_is_refused(config: dict[str, Any], error: type[InputError], said: str) -> None:
    with pytest.raises(error) as found:
        load_config(config)
    assert said in str(found.value)


def test_keys_that_say_nothing_are_no_reason_to_refuse() -> None:
    plain = {"num_experts": 0, "kv_lora_rank": None, "num_local_experts": 1, "mamba_d_state": 0}
    assert load_config(LLAMA | plain) == load_config(LLAMA)


def test_a_window_is_that_of_the_layers_that_say_so() -> None:
    """Qwen2: by `use_sliding_window` layers from `max_window_layers` on see a window; without it none does."""
    windowed = LLAMA | {"model_type": "qwen2", "sliding_window": 16, "max_window_layers": 1}
    for on, windows in ((False, {0}), (True, {0, 16})):
        layers = load_config(windowed | {"use_sliding_window": on}).layers
        assert {layer.mixer.window for layer, _ in layers} == windows  # type: ignore[union-attr]
