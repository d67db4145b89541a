"""``config.json`` of transformers -> `Decoder`. One row of `FAMILIES` a model type; keys as the library names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wattir.errors import ModelFileError, UnsupportedError, suggestion
from wattir.frontends.configs import families_dense as dense
from wattir.frontends.configs import families_sparse as sparse
from wattir.frontends.configs.architecture import Decoder, Layer
from wattir.frontends.configs.families_dense import Layers, hidden_of
from wattir.frontends.configs.keys import Keys
from wattir.frontends.configs.vision import vision_of

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def decoder_of(keys: Keys, name: str) -> Decoder:
    """The Decoder of a configuration; ModelFileError names a key that is missing or wrong, UnsupportedError a type."""
    if "thinker_config" in keys:
        return decoder_of(keys.part("thinker_config"), name)
    inner, text = _language(keys)
    family = FAMILIES.get(inner)
    if family is None:
        near = suggestion(inner, FAMILIES)
        raise UnsupportedError(
            f"{keys.where}: model_type {inner!r}; expected one of {len(FAMILIES)} such as llama, qwen3_moe, deepseek_v3"
            f"{near}; with transformers installed, give the model object instead"
        )
    layers, parts = family(text)
    held = _quantization(keys if "quantization_config" in keys else text)
    return Decoder(
        name=name, source=keys.where, hidden=hidden_of(text), vocab=text.whole("vocab_size"), layers=_counted(layers),
        tied=text.flag("tie_word_embeddings", keys.flag("tie_word_embeddings", inner in TIED)),
        towers=tuple(name for name in TOWERS if f"{name}_config" in keys), dtype=_dtype(keys, text), **held, **parts,
        vision=vision_of(keys, hidden_of(text)) if "vision_config" in keys else None,
    )  # fmt: skip


def is_known(keys: Keys) -> bool:
    """Whether there is a description of its language model."""
    return "thinker_config" in keys or _language(keys)[0] in FAMILIES


def _language(keys: Keys) -> tuple[str, Keys]:
    """The type and the keys of the language model, which may be a part of the configuration."""
    if not isinstance(keys.values.get("model_type"), str):
        raise ModelFileError(f"{keys.where}: no model_type; expected a config.json of transformers")
    text = next((keys.part(part) for part in ("text_config", "llm_config") if part in keys), keys)
    inner, outer = text.text("model_type", ""), keys.text("model_type")
    return (inner if inner in FAMILIES else outer), text


TOWERS = ("vision", "audio")

TIED = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "bloom", "falcon", "starcoder2", "phi3small"})
"""Types whose library default is that the head reads the embedding."""


def _dtype(*keys: Keys) -> str:
    for each in keys:
        for key in ("dtype", "torch_dtype"):
            if key in each:
                found = each.text(key)
                if found not in DTYPES:
                    raise each.wrong(key, f"one of {', '.join(DTYPES)}")
                return DTYPES[found]
    return "bf16"


def _quantization(keys: Keys) -> dict[str, Any]:
    """`weights` and `expert_weights` of the quantization that a configuration declares."""
    if "quantization_config" not in keys:
        return {}
    how = keys.part("quantization_config")
    method = how.text("quant_method", "")
    bits = how.whole("bits", default=0, least=0)
    if method == "mxfp4":
        return {"expert_weights": "mxfp4"}
    if method in ("fp8", "fbgemm_fp8", "modelopt"):
        return {"weights": "fp8" if method == "fp8" else "fp8_channel"}
    if method in ("awq", "gptq", "auto-round") and bits in (0, 4):
        return {"weights": "int4"}
    if method in ("bitsandbytes", "gptq", "compressed-tensors"):
        return {"weights": _tensors_of(how, bits)}
    raise UnsupportedError(f"{how.where}: quant_method {method!r}; expected fp8, mxfp4, awq, gptq, compressed-tensors "
                           "or bitsandbytes; leave it out and ask for a weights dtype")  # fmt: skip


def _tensors_of(how: Keys, bits: int) -> str:
    if how.flag("load_in_8bit") or bits == 8:
        return "int8"
    for group in how.values.get("config_groups", {}).values() if "config_groups" in how else ():
        weights = Keys(group, how.where).part("weights")
        kind = weights.text("type", "int")
        narrow = "fp8" if weights.text("strategy", "channel") == "block" else "fp8_channel"
        return "int4" if weights.whole("num_bits") == 4 else (narrow if kind == "float" else "int8")
    return "int4"


def _counted(layers: Layers) -> tuple[tuple[Layer, int], ...]:
    """Each kind of layer once with its count, in order of first appearance: their order does not change the work."""
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(counts.items())


FAMILIES: dict[str, Callable[[Keys], dense.Found]] = {
    kind: family
    for family, kinds in {
        dense.llama: "llama yi smollm", dense.mistral: "mistral ministral pixtral",
        dense.qwen2: "qwen2 qwen2_vl qwen2_vl_text qwen2_5_vl qwen2_5_vl_text glm",
        dense.qwen3: "qwen3 qwen3_vl qwen3_vl_text",
        dense.olmo: "olmo", dense.olmo2: "olmo2", dense.phi: "phi", dense.phi3: "phi3 phi3_v",
        dense.phi3small: "phi3small", dense.gpt2: "gpt2", dense.gptj: "gptj", dense.gpt_neox: "gpt_neox",
        dense.bloom: "bloom",
        dense.falcon: "falcon", dense.starcoder2: "starcoder2",
        dense.gemma: "gemma", dense.gemma2: "gemma2", dense.gemma3: "gemma3 gemma3_text",
        sparse.mixtral: "mixtral", sparse.qwen2_moe: "qwen2_moe", sparse.olmoe: "olmoe",
        sparse.qwen3_moe: "qwen3_moe qwen3_vl_moe qwen3_vl_moe_text qwen3_omni_moe qwen3_omni_moe_text",
        sparse.gpt_oss: "gpt_oss", sparse.llama4: "llama4 llama4_text",
        sparse.deepseek: "deepseek_v3 deepseek_v2 kimi_k2", sparse.glm4_moe: "glm4_moe",
        sparse.nemotron_h: "nemotron_h",
        sparse.qwen3_next: "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text",
    }.items()
    for kind in kinds.split()
}  # fmt: skip
"""model_type -> the kinds of its layers in order, and what else a `Decoder` says."""
