"""``config.json`` of transformers -> `Decoder`. One row of `FAMILIES` a model type; keys as the library names them."""

from __future__ import annotations

from collections.abc import Callable

from wattir.errors import ModelFileError, UnsupportedError, suggestion
from wattir.frontends.configs import families_dense as dense
from wattir.frontends.configs import families_gpt as gpt
from wattir.frontends.configs import families_hybrid as hybrid
from wattir.frontends.configs import families_sparse as sparse
from wattir.frontends.configs.architecture import Decoder, Experts, Layer
from wattir.frontends.configs.families_dense import Layers, hidden_of
from wattir.frontends.configs.keys import Keys, unread
from wattir.frontends.configs.quantization import quantized
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
    if strange := unread(text):
        raise UnsupportedError(
            f"{text.where}: {strange[0]} = {str(text.values[strange[0]])[:60]!r}, which models of type {inner!r} are "
            "not known to have; with transformers installed, give the model object instead"
        )
    experts = any(isinstance(layer.feed, Experts) for layer in layers)
    held = quantized(keys if "quantization_config" in keys else text, len(layers), experts)
    return Decoder(
        name=name, source=keys.where, hidden=hidden_of(text),
        vocab=text.whole("vocab_size", "padded_vocab_size"), layers=_counted(layers),
        tied=keys.flag("tie_word_embeddings", text.flag("tie_word_embeddings", inner in TIED)),
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
    text = next((keys.part(part) for part in ("text_config", "llm_config", "language_config") if part in keys), keys)
    inner, outer = text.text("model_type", ""), keys.text("model_type")
    own = inner and not inner.startswith(outer)
    return (inner if inner in FAMILIES or own else outer), text


TOWERS = ("vision", "audio")

TIED = frozenset({
    "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "gpt-sw3", "gpt_bigcode", "gpt_neo", "bloom", "falcon",
    "starcoder2", "phi3small", "mpt", "opt", "xglm", "biogpt", "cohere", "cohere2", "ernie4_5", "ernie4_5_moe",
    "smollm3", "vaultgemma", "minicpm", "minicpm3", "youtu", "mamba", "falcon_mamba", "lfm2", "lfm2_moe",
})  # fmt: skip
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


def _counted(layers: Layers) -> tuple[tuple[Layer, int], ...]:
    """Each kind of layer once with its count, in order of first appearance: their order does not change the work."""
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(counts.items())


FAMILIES: dict[str, Callable[[Keys], dense.Found]] = {
    kind: family
    for family, kinds in {
        dense.llama: "llama yi smollm cwm exaone granite helium iquestcoder baichuan minicpm", dense.arcee: "arcee",
        dense.apertus: "apertus", dense.bitnet: "bitnet", dense.ernie: "ernie4_5", dense.seed_oss: "seed_oss",
        dense.smollm3: "smollm3", dense.mistral: "mistral ministral ministral3 pixtral",
        dense.internlm3: "internlm2 internlm3", dense.exaone4: "exaone4", dense.hyperclovax: "hyperclovax",
        dense.hunyuan: "hunyuan_v1_dense",
        dense.qwen2: "qwen2 qwen2_vl qwen2_vl_text qwen2_5_vl qwen2_5_vl_text qwen2_5_omni_text",
        dense.qwen3: "qwen3 qwen3_vl qwen3_vl_text", dense.glm: "glm", dense.glm4: "glm4", dense.glm4v: "glm4v_text",
        dense.chatglm: "chatglm", dense.qwen: "qwen",
        dense.cohere: "cohere cohere2", gpt.nemotron: "nemotron jais2", dense.nanochat: "nanochat",
        gpt.stablelm: "stablelm", gpt.persimmon: "persimmon", gpt.opt: "opt", gpt.biogpt: "biogpt",
        gpt.xglm: "xglm", dense.olmo: "olmo", dense.olmo2: "olmo2 olmo3", gpt.phi: "phi",
        dense.phi3: "phi3 phi3_v", gpt.phi3small: "phi3small", gpt.gpt2: "gpt2 gpt-sw3",
        gpt.gpt_bigcode: "gpt_bigcode", gpt.gpt_neo: "gpt_neo", gpt.gptj: "gptj codegen",
        gpt.gpt_neox: "gpt_neox", gpt.bloom: "bloom", gpt.mpt: "mpt", gpt.falcon: "falcon",
        gpt.starcoder2: "starcoder2", dense.gemma: "gemma", dense.gemma2: "gemma2",
        dense.gemma3: "gemma3 gemma3_text", dense.vaultgemma: "vaultgemma",
        sparse.mixtral: "mixtral", sparse.phimoe: "phimoe", sparse.minimax_m2: "minimax_m2",
        sparse.flex_olmo: "flex_olmo", sparse.granitemoe: "granitemoe granitemoeshared", sparse.aria: "aria_text",
        sparse.hunyuan_moe: "hunyuan_v1_moe", sparse.dbrx: "dbrx", sparse.qwen2_moe: "qwen2_moe",
        sparse.olmoe: "olmoe",
        sparse.qwen3_moe: "qwen3_moe qwen3_vl_moe qwen3_vl_moe_text qwen3_omni_moe qwen3_omni_moe_text",
        sparse.gpt_oss: "gpt_oss", sparse.llama4: "llama4 llama4_text", sparse.dots: "dots1",
        sparse.solar: "solar_open", sparse.sarvam: "sarvam_moe", sparse.hy_v3: "hy_v3",
        sparse.exaone_moe: "exaone_moe", sparse.afmoe: "afmoe", sparse.mellum: "mellum",
        sparse.mimo: "mimo_v2_flash", sparse.ernie_moe: "ernie4_5_moe",
        sparse.deepseek: "deepseek_v3 deepseek_v2 deepseek_v32 kimi_k2 glm4_moe_lite sarvam_mla mistral4",
        sparse.latent: "minicpm3 youtu", sparse.glm_dsa: "glm_moe_dsa", sparse.glm4_moe: "glm4_moe glm4v_moe_text",
        sparse.deepseek_moe: "deepseek",
        hybrid.mamba: "mamba falcon_mamba", hybrid.mamba2: "mamba2", hybrid.nemotron_h: "nemotron_h",
        hybrid.bamba: "bamba", hybrid.granite_hybrid: "granitemoehybrid", hybrid.falcon_h1: "falcon_h1",
        hybrid.jamba: "jamba", hybrid.qwen3_next: "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text",
        hybrid.olmo_hybrid: "olmo_hybrid", hybrid.kimi_linear: "kimi_linear", hybrid.lfm2: "lfm2",
        hybrid.lfm2_moe: "lfm2_moe",
    }.items()
    for kind in kinds.split()
}  # fmt: skip
"""model_type -> the kinds of its layers in order, and what else a `Decoder` says."""
