"""Whole networks with random weights, and the cases each is measured in, most valuable first.

A decode case is one step of one token per sequence over a key-value cache that already holds `context` tokens. The
cache has room for exactly one token more and every step writes that slot, so a step can be repeated and captured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

Config = dict[str, Any]
DTYPES = {"tf32": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
CHANNELS, FRAMES, CLIP_SIZE, MEL_BINS = 3, 16, 112, 80


@dataclass(frozen=True)
class NetworkCase:
    """One network at one shape. `size` is the image side or the sequence length; `context` the tokens cached."""

    model: str
    phase: str
    mode: str
    dtype: str
    batch: int
    size: int
    context: int = 0

    @property
    def case_id(self) -> str:
        """A name unique in a run."""
        return "-".join(str(part) for part in (self.model, self.phase, self.mode, self.dtype, self.shape))

    @property
    def shape(self) -> str:
        """Batch x size, and the context of a decode step."""
        return f"b{self.batch}x{self.size}" + (f"c{self.context}" if self.context else "")


IMAGE_SIZES = {
    "inception_v3": 299, "efficientnet_b4": 380, "efficientnet_v2_s": 384, "swin_v2_t": 256, "deeplabv3_resnet50": 520,
    "fcn_resnet50": 520, "r3d_18": CLIP_SIZE,
}  # fmt: skip
VISION_FIRST = ("resnet50", "vit_b_16")
VISION_SECOND = ("mobilenet_v2", "efficientnet_b0", "convnext_tiny")
VISION_MORE = (
    "resnet18", "densenet121", "vgg16", "swin_t", "regnet_y_8gf", "mobilenet_v3_large", "resnet152", "vit_l_16",
    "efficientnet_v2_s", "convnext_base", "resnext50_32x4d", "wide_resnet50_2", "inception_v3", "googlenet", "alexnet",
    "squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b4", "maxvit_t", "swin_v2_t",
    "deeplabv3_resnet50", "fcn_resnet50", "r3d_18",
)  # fmt: skip
VISION = (*VISION_FIRST, *VISION_SECOND, *VISION_MORE)
HEAVY = {"deeplabv3_resnet50": 16, "fcn_resnet50": 16, "r3d_18": 32, "efficientnet_b4": 64, "efficientnet_v2_s": 64}
NO_INIT = {"inception_v3", "googlenet"}
WHOLE_IMAGE = ("deeplabv3_resnet50", "fcn_resnet50")


def llama_like(vocab: int, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, **more: Any) -> Config:
    """Configuration of a decoder with rotary positions, gated feed-forward and grouped queries."""
    base = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    heading = {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": 32768}
    return base | heading | more


def bert_like(vocab: int, hidden: int, layers: int, heads: int, positions: int) -> Config:
    """Configuration of a BERT-family encoder."""
    base = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers}
    return base | {"num_attention_heads": heads, "max_position_embeddings": positions}


# name: (model class, configuration class, configuration)
TRANSFORMERS: dict[str, tuple[str, str, Config]] = {
    "bert-base": ("BertModel", "BertConfig", bert_like(30522, 768, 12, 12, 512)),
    "bert-large": ("BertModel", "BertConfig", bert_like(30522, 1024, 24, 16, 512)),
    "roberta-base": ("RobertaModel", "RobertaConfig", bert_like(50265, 768, 12, 12, 514)),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}),
    "gpt2-xl": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024}),
    "t5-base-encoder": (
        "T5EncoderModel", "T5Config",
        {"vocab_size": 32128, "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_layers": 12, "num_heads": 12},
    ),
    "whisper-small-encoder": (
        "WhisperEncoder", "WhisperConfig",
        {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072,
         "num_mel_bins": MEL_BINS, "max_source_positions": 1500},
    ),
    "clip-vit-l14": (
        "CLIPVisionModel", "CLIPVisionConfig",
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "image_size": 224, "patch_size": 14},
    ),
    "llama-3.2-1b": (
        "LlamaForCausalLM", "LlamaConfig",
        llama_like(128256, 2048, 8192, 16, 32, 8, head_dim=64, tie_word_embeddings=True),
    ),
    "llama-3.2-3b": (
        "LlamaForCausalLM", "LlamaConfig",
        llama_like(128256, 3072, 8192, 28, 24, 8, head_dim=128, tie_word_embeddings=True),
    ),
    "llama-3-8b": ("LlamaForCausalLM", "LlamaConfig", llama_like(128256, 4096, 14336, 32, 32, 8)),
    "qwen2.5-7b": ("Qwen2ForCausalLM", "Qwen2Config", llama_like(152064, 3584, 18944, 28, 28, 4)),
    "mistral-7b": (
        "MistralForCausalLM", "MistralConfig", llama_like(32768, 4096, 14336, 32, 32, 8, sliding_window=None)
    ),
    "mixtral-4-layers": (
        "MixtralForCausalLM", "MixtralConfig",
        llama_like(32000, 4096, 14336, 4, 32, 8, num_local_experts=8, num_experts_per_tok=2),
    ),
    "mamba-130m": (
        "MambaForCausalLM", "MambaConfig",
        {"vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24, "state_size": 16, "use_mambapy": False},
    ),
}  # fmt: skip
DRY_CONFIG = {
    "num_hidden_layers": 1, "n_layer": 1, "num_layers": 1, "encoder_layers": 1, "intermediate_size": 128,
    "vocab_size": 512, "num_local_experts": 4,
}  # fmt: skip
# name: shapes (batch, sequence) of a whole forward, shapes (batch, context) of a decode step
ENCODER_SHAPES = {
    "bert-base": ((1, 128), (32, 128), (32, 512), (128, 128)),
    "bert-large": ((1, 384), (32, 384)),
    "roberta-base": ((16, 256),),
    "t5-base-encoder": ((1, 128), (32, 512)),
    "whisper-small-encoder": ((1, 3000), (16, 3000)),
    "clip-vit-l14": ((1, 224), (64, 224)),
}
DECODER_SHAPES = {
    "llama-3-8b": (((1, 128), (1, 512), (8, 512), (1, 2048), (1, 8192)),
                   ((1, 512), (1, 8192), (8, 2048), (32, 512), (64, 2048), (32, 8192))),
    "llama-3.2-1b": (((1, 512), (8, 2048)), ((1, 512), (32, 2048), (64, 512))),
    "gpt2": (((1, 512), (16, 1024)), ((1, 512), (32, 512))),
    "qwen2.5-7b": (((4, 1024),), ((1, 2048), (32, 2048))),
    "llama-3.2-3b": (((2, 1024),), ((1, 2048), (16, 2048))),
    "gpt2-xl": (((4, 512),), ((1, 512), (32, 512))),
    "mistral-7b": (((2, 2048),), ((16, 4096),)),
    "mixtral-4-layers": (((1, 1024), (8, 1024)), ((1, 1024), (16, 1024))),
    "mamba-130m": (((1, 64), (16, 64)), ()),
}  # fmt: skip
EARLY = ("llama-3-8b", "llama-3.2-1b", "gpt2")
LATE = ("qwen2.5-7b", "llama-3.2-3b", "gpt2-xl", "mistral-7b", "mixtral-4-layers", "mamba-130m")
COMPILED = (
    ("resnet50", "forward", "bf16", 32, 224, 0), ("bert-base", "forward", "bf16", 32, 128, 0),
    ("llama-3.2-1b", "prefill", "bf16", 1, 512, 0), ("vit_b_16", "forward", "bf16", 32, 224, 0),
    ("llama-3.2-1b", "decode", "bf16", 1, 1, 512), ("mobilenet_v2", "forward", "bf16", 128, 224, 0),
    ("convnext_tiny", "forward", "bf16", 32, 224, 0), ("gpt2", "prefill", "bf16", 1, 512, 0),
)  # fmt: skip
BOTH = ("eager", "graph")
FULL_VISION = (("bf16", 1, BOTH), ("tf32", 1, ("graph",)), ("bf16", 32, BOTH), ("tf32", 128, BOTH), ("bf16", 128, BOTH))
SHORT_VISION = (("bf16", 1, BOTH), ("tf32", 32, ("graph",)), ("bf16", 128, BOTH))
LARGE_BATCH = 32


def vision_cases(models: tuple[str, ...], plan: tuple[tuple[str, int, tuple[str, ...]], ...]) -> Iterator[NetworkCase]:
    """Image networks at the batches of a plan, capped for the heavy ones."""
    for model in models:
        for dtype, batch, modes in sorted(plan, key=lambda step: step[0], reverse=True):
            for mode in modes:
                size = IMAGE_SIZES.get(model, 224)
                yield NetworkCase(model, "forward", mode, dtype, min(batch, HEAVY.get(model, batch)), size)


def encoder_cases(models: tuple[str, ...]) -> Iterator[NetworkCase]:
    """Encoders: host-limited shapes in both modes, large ones too."""
    for model in models:
        for batch, size in ENCODER_SHAPES[model]:
            for mode in BOTH:
                yield NetworkCase(model, "forward", mode, "bf16", batch, size)


def decoder_cases(models: tuple[str, ...]) -> Iterator[NetworkCase]:
    """Prefill and decode; the large prefill shapes run eagerly only in one mode."""
    for model in models:
        prefill, decode = DECODER_SHAPES[model]
        for batch, size in prefill:
            for mode in BOTH if batch * size <= 2048 else ("eager",):
                yield NetworkCase(model, "prefill", mode, "bf16", batch, size)
        for batch, context in decode:
            for mode in BOTH if batch < LARGE_BATCH else ("graph",):
                yield NetworkCase(model, "decode", mode, "bf16", batch, 1, context)


def extra_cases() -> Iterator[NetworkCase]:
    """Other number types of one encoder and two image networks."""
    yield NetworkCase("bert-base", "forward", "graph", "tf32", 32, 128)
    yield NetworkCase("bert-base", "forward", "graph", "fp16", 32, 128)
    yield NetworkCase("resnet50", "forward", "graph", "fp32", 32, 224)
    yield NetworkCase("resnet50", "forward", "graph", "fp16", 128, 224)
    yield NetworkCase("vit_b_16", "forward", "graph", "fp32", 32, 224)


def network_cases() -> list[NetworkCase]:
    """All cases without compilation, most valuable first; equal neighbours are dropped."""
    late_encoders = tuple(name for name in ENCODER_SHAPES if name != "bert-base")
    cases = [
        *vision_cases(VISION_FIRST, FULL_VISION),
        *encoder_cases(("bert-base",)),
        *decoder_cases(EARLY[:1]),
        *vision_cases(VISION_SECOND, FULL_VISION),
        *decoder_cases(EARLY[1:]),
        *extra_cases(),
        *vision_cases(VISION_MORE[:10], SHORT_VISION),
        *encoder_cases(late_encoders),
        *decoder_cases(LATE),
        *vision_cases(VISION_MORE[10:], SHORT_VISION),
    ]
    return list(dict.fromkeys(cases))


def compiled_cases() -> list[NetworkCase]:
    """Cases run through the graph compiler."""
    return [NetworkCase(model, phase, "compile", *rest) for model, phase, *rest in COMPILED]


def shrink(case: NetworkCase) -> NetworkCase:
    """The case at a size that a rehearsal on a host finishes in seconds."""
    size = min(case.size, DRY_IMAGE if case.model in VISION else DRY_TOKENS)
    if case.model.startswith(FIXED_SIZE):
        size = case.size
    return replace(case, batch=min(case.batch, 2), size=size, context=min(case.context, DRY_TOKENS))


DRY_IMAGE, DRY_TOKENS = 96, 16
FIXED_SIZE = ("whisper", "clip", "vit", "maxvit")


def config_of(model: str, dry: bool) -> Config:
    """What to rebuild a network from: its architecture and every size that is not the library's default."""
    if model in VISION:
        return {"arch": model, "image_size": IMAGE_SIZES.get(model, 224), "num_classes": 1000}
    model_class, config_class, values = TRANSFORMERS[model]
    if dry:
        values = {key: DRY_CONFIG.get(key, value) for key, value in values.items()}
    return {"model_class": model_class, "config_class": config_class, **values}


def library_of(model: str) -> str:
    return "torchvision" if model in VISION else "transformers"


def build(model: str, device: str, dry: bool) -> torch.nn.Module:
    """The network with random weights, ready for inference."""
    with torch.device(device):
        module = build_vision(model) if model in VISION else build_transformer(config_of(model, dry))
    return module.to(device).eval().requires_grad_(False)


def build_vision(model: str) -> torch.nn.Module:
    """A torchvision network; it knows three folders of models."""
    from torchvision import models

    folders: tuple[Any, ...] = (models, models.segmentation, models.video)
    function = next(getattr(folder, model) for folder in folders if hasattr(folder, model))
    settings: Config = {"init_weights": False} if model in NO_INIT else {}
    if model in WHOLE_IMAGE:
        settings["weights_backbone"] = None
    return function(weights=None, **settings)


def build_transformer(config: Config) -> torch.nn.Module:
    """A transformers network in bf16 with fused attention."""
    import transformers

    values = {key: value for key, value in config.items() if key not in ("model_class", "config_class")}
    settings = getattr(transformers, config["config_class"])(**values)
    return transformer_class(config["model_class"])._from_config(
        settings, dtype=torch.bfloat16, **attention_choice(config["model_class"])
    )


def transformer_class(name: str) -> Any:
    """The class by name; encoders that the package does not export come from their own module."""
    import transformers

    if name != "WhisperEncoder":
        return getattr(transformers, name)
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder


def attention_choice(model_class: str) -> Config:
    """Fused attention, except in networks that have none."""
    return {} if model_class.startswith("Mamba") else {"attn_implementation": "sdpa"}


def prepare(module: torch.nn.Module, case: NetworkCase) -> torch.nn.Module:
    """The module in the case's number type; images of two-byte types run channels last."""
    module.to(DTYPES[case.dtype])
    return module.to(memory_format=MEMORY_FORMATS[layout_of(case)]) if layout_of(case) else module


def layout_of(case: NetworkCase) -> str:
    """Layout of the images; empty for networks without."""
    if case.model not in VISION or case.model == "r3d_18":
        return ""
    return "nhwc" if case.dtype in ("bf16", "fp16") else "nchw"


def parameters(module: torch.nn.Module) -> int:
    """Number of weights."""
    return sum(weight.numel() for weight in module.parameters())


def describe(module: torch.nn.Module, case: NetworkCase, dry: bool) -> dict[str, Any]:
    """Columns that say which network ran and how; `config` rebuilds it."""
    image = case.model in VISION or case.model.startswith("clip")
    return {
        "case_id": case.case_id,
        "model": case.model,
        "library": library_of(case.model),
        "config": json.dumps(config_of(case.model, dry), sort_keys=True),
        "phase": case.phase,
        "mode": case.mode,
        "dtype": "fp32" if case.dtype == "tf32" else case.dtype,
        "math": case.dtype,
        "layout": layout_of(case),
        "batch": case.batch,
        "image": case.size if image else "",
        "seq": "" if image else case.size,
        "context": case.context or "",
        "params": parameters(module),
    }
