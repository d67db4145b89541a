"""Models by configuration against transformers' own classes on the meta device: the same parameters, FLOP and bytes."""

from __future__ import annotations

from typing import Any

import pytest

import wattir
from wattir.costs import tabulate
from wattir.dims import evaluate
from wattir.frontends import configs
from wattir.frontends.torch.pretrained import declare_torchvision_ops
from wattir.ir import Graph
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision

SMALL = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
OWN_HEADS = {"num_key_value_heads": 4}
OLD = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "num_key_value_heads": 4, "n_inner": 128}
CHOSEN = {"num_experts_per_tok": 2}
LATENT = {
    "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 32, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": {"sliding_window": 8}, "qwen2": {}, "qwen3": {"head_dim": 32}, "olmo2": {}, "phi3": {},
    "phi": OWN_HEADS, "gpt_neox": OWN_HEADS, "gpt2": OLD,
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2}, "starcoder2": {},
    "gemma3_text": {"head_dim": 16, "sliding_window": 8},
    "mixtral": {"num_local_experts": 8, **CHOSEN},
    "qwen3_moe": {"num_experts": 8, "moe_intermediate_size": 32, "head_dim": 16, **CHOSEN},
    "deepseek_v3": {**LATENT, **OWN_HEADS, **CHOSEN},
}  # fmt: skip
DECODED = ("llama", "gpt_neox", "gemma3_text", "qwen3_moe")
"""Families whose decode step is compared too: multi-head, grouped-query, sliding-window and sparse ones."""
MANY = 64
"""Texts that reach every one of 8 experts: of the others a configuration reads no weights."""


def config_of(kind: str) -> Any:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    declare_torchvision_ops()
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **FAMILIES[kind]})
    config.architectures = [transformers.AutoModelForCausalLM._model_mapping[type(config)].__name__]
    return config


def asked(graph: Graph, **sizes: int) -> dict[str, float]:
    """FLOP of contractions, bytes of weights and of the cache, all in 16 bits."""
    kernels = tabulate(lower_to_kernels(with_precision(graph, "bf16"), "compiled"))
    columns = {"flop": "macs_causal", "weights": "weight_bytes", "cache": "state_bytes"}
    return {
        name: sum(evaluate(getattr(work, column), sizes) * evaluate(work.times, sizes) for work in kernels)
        for name, column in columns.items()
    }


def both(kind: str, ask: dict[str, int], **sizes: int) -> tuple[Graph, dict[str, float], dict[str, float]]:
    config = config_of(kind)
    torch_graph, graph = wattir.lower(config, ask), configs.lower(config.to_dict(), ask)
    assert graph.params == pytest.approx(torch_graph.params, rel=1e-4)  # a router's corrections are buffers there
    return graph, asked(torch_graph, **sizes), asked(graph, **sizes)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_pass_is_the_same(kind: str) -> None:
    _, theirs, ours = both(kind, {"seq": 16}, batch=MANY, seq=24)

    assert ours["flop"] == pytest.approx(theirs["flop"], rel=1e-3)
    assert ours["weights"] == pytest.approx(theirs["weights"], rel=1e-2)  # scores, masks, tables of angles


@pytest.mark.parametrize("kind", DECODED)
def test_a_step_is_the_same(kind: str) -> None:
    _, theirs, ours = both(kind, {"past": 15}, batch=MANY, past=31)

    assert ours["flop"] == pytest.approx(theirs["flop"], rel=1e-3)
    assert ours["weights"] == pytest.approx(theirs["weights"], rel=1e-2)
    assert ours["cache"] == pytest.approx(theirs["cache"], rel=2e-2)
