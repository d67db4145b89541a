"""The networks that ship with wattir: published configurations, random weights on the `meta` device, no downloads.

A `Recipe` says how to build one network and what its inputs are. Input shapes are written with names for the free
dims: ``("batch", 3, 224, 224)``. Every configuration is written out with its source, so that nothing depends on what
an installed version of a library takes as its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mlperf_zoo as zoo
import torch

Shape = tuple[int | str, ...]
Build = Callable[[], torch.nn.Module]


@dataclass(frozen=True)
class Recipe:
    """One network. `inputs`: name -> (shape, dtype); `sizes`: defaults of the free dims; `source`: of the numbers."""

    build: Build
    inputs: Mapping[str, tuple[Shape, torch.dtype]]
    source: str
    sizes: Mapping[str, int] = field(default_factory=lambda: {"batch": 1})
    dtype: torch.dtype = torch.float32


# ---- torchvision --------------------------------------------------------------------------------------------------

VISION = {
    "alexnet": (224, "Krizhevsky 2014, arXiv:1404.5997"),
    "vgg16": (224, "Simonyan and Zisserman 2014, arXiv:1409.1556"),
    "resnet18": (224, "He et al. 2015, arXiv:1512.03385"),
    "resnet50": (224, "He et al. 2015, arXiv:1512.03385, with stride 2 in the 3x3 convolutions (v1.5)"),
    "resnet152": (224, "He et al. 2015, arXiv:1512.03385, with stride 2 in the 3x3 convolutions (v1.5)"),
    "densenet121": (224, "Huang et al. 2016, arXiv:1608.06993"),
    "mobilenet_v2": (224, "Sandler et al. 2018, arXiv:1801.04381"),
    "mobilenet_v3_large": (224, "Howard et al. 2019, arXiv:1905.02244"),
    "efficientnet_b0": (224, "Tan and Le 2019, arXiv:1905.11946"),
    "efficientnet_v2_s": (384, "Tan and Le 2021, arXiv:2104.00298"),
    "convnext_tiny": (224, "Liu et al. 2022, arXiv:2201.03545"),
    "vit_b_16": (224, "Dosovitskiy et al. 2020, arXiv:2010.11929"),
    "swin_t": (224, "Liu et al. 2021, arXiv:2103.14030"),
}
"""torchvision's name -> side of its images, source. torchvision writes these architectures out itself."""


def _vision(name: str, side: int, source: str) -> Recipe:
    def build() -> torch.nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None)  # type: ignore[no-any-return]

    return Recipe(build, {"image": (("batch", 3, side, side), torch.float32)}, f"{source}; torchvision {name}")


# ---- transformers -------------------------------------------------------------------------------------------------

TOKENS = (("batch", "seq"), torch.int64)


def _hub(config: str, model: str, settings: Mapping[str, Any], attention: str = "unmasked") -> Build:
    """A network of transformers from the names of its classes and its published settings."""

    def build() -> torch.nn.Module:
        import transformers

        made = getattr(transformers, config)(**settings)
        made._attn_implementation = attention
        return getattr(transformers, model)(made)  # type: ignore[no-any-return]

    return build


BERT_BASE = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu",
}  # fmt: skip
BERT_LARGE = {**BERT_BASE, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
              "intermediate_size": 4096}  # fmt: skip
DISTILBERT = {
    "vocab_size": 30522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "max_position_embeddings": 512,
    "activation": "gelu", "sinusoidal_pos_embds": False,
}  # fmt: skip
GPT2 = {
    "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
    "activation_function": "gelu_new", "use_cache": False,
}  # fmt: skip
T5_BASE = {
    "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "feed_forward_proj": "relu",
    "is_encoder_decoder": False, "use_cache": False,
}  # fmt: skip
WHISPER_SMALL = {
    "vocab_size": 51865, "num_mel_bins": 80, "d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12,
    "encoder_ffn_dim": 3072, "max_source_positions": 1500, "activation_function": "gelu",
}  # fmt: skip
CLIP_VIT_B_32 = {
    "projection_dim": 512,
    "text_config": {
        "vocab_size": 49408, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8,
        "intermediate_size": 2048, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 512,
    },
    "vision_config": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "projection_dim": 512,
    },
}  # fmt: skip
DEIT_SMALL = {
    "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536,
    "image_size": 224, "patch_size": 16, "hidden_act": "gelu", "qkv_bias": True, "num_labels": 1000,
}  # fmt: skip
YOLOS_TINY = {
    "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768,
    "image_size": [800, 1333], "patch_size": 16, "num_detection_tokens": 100, "num_labels": 91,
    "use_mid_position_embeddings": False,
}  # fmt: skip
LLAMA_3 = {
    "vocab_size": 128256, "hidden_act": "silu", "rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
LLAMA_3_2_1B = {
    **LLAMA_3, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131072, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_3_8B = {
    **LLAMA_3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip


def _bert(settings: Mapping[str, Any], source: str) -> Recipe:
    inputs = {"input_ids": TOKENS, "token_type_ids": TOKENS}
    return Recipe(_hub("BertConfig", "BertModel", settings), inputs, source, {"batch": 1, "seq": 128})


def _llama(settings: Mapping[str, Any], source: str) -> Recipe:
    """Prefill: logits of every position, as an evaluation asks for them, and the cache of keys and values."""
    build = _hub("LlamaConfig", "LlamaForCausalLM", {**settings, "use_cache": False}, "causal")
    inputs = {"input_ids": TOKENS, "position_ids": TOKENS}
    return Recipe(build, inputs, source, {"batch": 1, "seq": 512}, torch.bfloat16)


def _llama_step(settings: Mapping[str, Any], source: str) -> Recipe:
    """One step of one token per sequence over a cache of `past` tokens: 511 and the new one are a context of 512."""
    cache = ("batch", settings["num_key_value_heads"], "past", settings["head_dim"])
    inputs: dict[str, tuple[Shape, torch.dtype]] = {
        "input_ids": (("batch", 1), torch.int64), "position_ids": (("batch", 1), torch.int64),
    }  # fmt: skip
    for layer in range(settings["num_hidden_layers"]):
        inputs[f"past_key_{layer}"] = (cache, torch.bfloat16)
        inputs[f"past_value_{layer}"] = (cache, torch.bfloat16)
    build = _hub("LlamaConfig", "LlamaForCausalLM", settings)
    return Recipe(lambda: decoding(build()), inputs, source, {"batch": 1, "past": 511}, torch.bfloat16)


def decoding(model: Any) -> torch.nn.Module:
    """The model with its cache as plain tensors: key and value of each layer in, the grown ones out."""
    from transformers.cache_utils import DynamicCache

    class Decoding(type(model)):  # type: ignore[misc]
        def forward(self, input_ids: Any, position_ids: Any, *past: Any) -> Any:
            cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
            logits = (
                super()
                .forward(input_ids=input_ids, position_ids=position_ids, past_key_values=cache, use_cache=True)
                .logits
            )
            return (logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)))

    model.__class__ = Decoding
    return model  # type: ignore[no-any-return]


# ---- diffusers ----------------------------------------------------------------------------------------------------

STABLE_DIFFUSION_1_5 = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "center_input_sample": False, "flip_sin_to_cos": True,
    "freq_shift": 0, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "cross_attention_dim": 768,
    "attention_head_dim": 8, "act_fn": "silu", "norm_num_groups": 32, "norm_eps": 1e-5, "downsample_padding": 1,
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
}  # fmt: skip


def _unet() -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**STABLE_DIFFUSION_1_5)  # type: ignore[no-any-return]


# ---- MLPerf Inference ---------------------------------------------------------------------------------------------

MLPERF = "github.com/mlcommons/inference"
MLPERF_NETWORKS: Mapping[str, tuple[Build, Mapping[str, Any], str]] = {
    "ssd_resnet34": (zoo.SsdResNet34, {"image": (("batch", 3, 1200, 1200), torch.float32)}, "ssd-resnet34"),
    "ssd_mobilenet": (zoo.SsdMobileNet, {"image": (("batch", 3, 300, 300), torch.float32)}, "ssd-mobilenet"),
    "retinanet_resnext50": (zoo.RetinaNet, {"image": (("batch", 3, 800, 800), torch.float32)}, "retinanet"),
    "rnnt": (
        zoo.RnnTransducer,
        {"audio": (("batch", 100, 480), torch.float32), "text": (("batch", 90), torch.int64)},
        "rnnt, 6 s of audio",
    ),
    "dlrm": (zoo.Dlrm, {"dense": (("batch", 13), torch.float32), "rows": (("batch", 26), torch.int64)}, "dlrm"),
    "unet3d_brats": (
        lambda: zoo.UNet3d(4, (30, 60, 120, 240, 320, 320), 4),
        {"volume": (("batch", 4, 224, 224, 160), torch.float32)}, "3d-unet, v1.0 and v1.1",
    ),
    "unet3d_kits": (
        lambda: zoo.UNet3d(1, (32, 64, 128, 256, 320, 320), 3),
        {"volume": (("batch", 1, 128, 128, 128), torch.float32)}, "3d-unet from v2.0 on, one window",
    ),
}  # fmt: skip


RECIPES: dict[str, Recipe] = {
    **{name: _vision(name, *row) for name, row in VISION.items()},
    "deit_small": Recipe(
        _hub("ViTConfig", "ViTForImageClassification", DEIT_SMALL),
        {"pixel_values": (("batch", 3, 224, 224), torch.float32)},
        "Touvron et al. 2020, arXiv:2012.12877; model card facebook/deit-small-patch16-224",
    ),
    "yolos_tiny": Recipe(
        _hub("YolosConfig", "YolosForObjectDetection", YOLOS_TINY),
        {"pixel_values": (("batch", 3, 800, 1344), torch.float32)},
        "Fang et al. 2021, arXiv:2106.00666; model card hustvl/yolos-tiny",
    ),
    "clip_vit_b_32": Recipe(
        _hub("CLIPConfig", "CLIPModel", CLIP_VIT_B_32),
        {
            "input_ids": (("batch", 77), torch.int64), "pixel_values": (("batch", 3, 224, 224), torch.float32),
        },
        "Radford et al. 2021, arXiv:2103.00020; model card openai/clip-vit-base-patch32",
    ),
    "bert_base": _bert(BERT_BASE, "Devlin et al. 2018, arXiv:1810.04805; model card bert-base-uncased"),
    "bert_large": _bert(BERT_LARGE, "Devlin et al. 2018, arXiv:1810.04805; model card bert-large-uncased"),
    "distilbert": Recipe(
        _hub("DistilBertConfig", "DistilBertModel", DISTILBERT), {"input_ids": TOKENS},
        "Sanh et al. 2019, arXiv:1910.01108; model card distilbert-base-uncased", {"batch": 1, "seq": 128},
    ),
    "gpt2": Recipe(
        _hub("GPT2Config", "GPT2LMHeadModel", GPT2, "causal"), {"input_ids": TOKENS, "position_ids": TOKENS},
        "Radford et al. 2019; model card openai-community/gpt2", {"batch": 1, "seq": 512},
    ),
    "t5_base_encoder": Recipe(
        _hub("T5Config", "T5EncoderModel", T5_BASE), {"input_ids": TOKENS},
        "Raffel et al. 2019, arXiv:1910.10683; model card google-t5/t5-base", {"batch": 1, "seq": 128},
    ),
    "whisper_small_encoder": Recipe(
        lambda: _hub("WhisperConfig", "WhisperModel", WHISPER_SMALL)().encoder,  # type: ignore[return-value]
        {"input_features": (("batch", 80, 3000), torch.float32)},
        "Radford et al. 2022, arXiv:2212.04356; model card openai/whisper-small",
    ),
    "llama_3_2_1b": _llama(LLAMA_3_2_1B, "model card meta-llama/Llama-3.2-1B"),
    "llama_3_2_1b_decode": _llama_step(LLAMA_3_2_1B, "model card meta-llama/Llama-3.2-1B"),
    "llama_3_8b": _llama(LLAMA_3_8B, "Grattafiori et al. 2024, arXiv:2407.21783; card meta-llama/Meta-Llama-3-8B"),
    "llama_3_8b_decode": _llama_step(LLAMA_3_8B, "model card meta-llama/Meta-Llama-3-8B"),
    "sd_1_5_unet": Recipe(
        _unet,
        {
            "sample": (("batch", 4, 64, 64), torch.float16), "timestep": (("batch",), torch.int64),
            "encoder_hidden_states": (("batch", 77, 768), torch.float16),
        },
        "Rombach et al. 2021, arXiv:2112.10752; model card stable-diffusion-v1-5, half precision", {"batch": 1},
        torch.float16,
    ),
    **{name: Recipe(build, inputs, f"MLPerf Inference {task}; {MLPERF}", {"batch": 1})
       for name, (build, inputs, task) in MLPERF_NETWORKS.items()},
}  # fmt: skip
"""Built-in name -> recipe."""
