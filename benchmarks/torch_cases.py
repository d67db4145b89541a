"""The architectures of the PyTorch sweep: how each is built on meta, and what it is called with.

A case is a function that gives (module, Inputs) or a configuration of transformers with a setting for it. Nothing is
downloaded and no weights are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from wattir.frontends.torch import Inputs

Case = Callable[[], tuple[Any, Any]]

TIMM_NAMES = """
    beit_base_patch16_224 lambda_resnet50ts mobileone_s1 cait_xxs24_224 coat_tiny convit_tiny convmixer_1024_20_ks9_p14
    convnext_zepto_rms cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny
    deepseek_vit_412m deit_tiny_patch16_224 densenet201 dla60x_c dpn107 edgenext_xx_small efficientformer_l1
    efficientformerv2_s0 mnasnet_050 efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224
    fasternet_t0 fastvit_s12 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_570m ghostnet_050 hardcorenas_b hgnetv2_b0
    hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_s inception_next_atto inception_resnet_v2 inception_v3
    inception_v4 lcnetv2_small levit_384_s8 lowformer_b0 mambaout_femto maxvit_pico_rw_256 poolformerv2_s12
    mixer_s16_224 mobilenetv3_small_050 mobilenetv5_300m mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_siglip
    nasnetalarge nest_tiny nextvit_small nf_regnet_b0 pit_xs_224 pnasnet5large pvt_v2_b0 qwen3_vit_306m rdnet_tiny
    regnetx_002 repghostnet_050 repvit_m0_9 res2next50 resnest50d_1s4x24d resnet10t resnetv2_18 rexnet_100 selecsls60
    legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11
    visformer_tiny flexivit_small vit_tiny_r_s16_p8_224 vit_srelpos_small_patch16_224 samvit_base_patch16_224
    vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
"""
"""A small model of each of timm's modules."""

TORCHVISION = {
    **dict.fromkeys(
        ("alexnet", "resnet50", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t",
         "swin_v2_t", "maxvit_t", "shufflenet_v2_x1_0", "googlenet"), (3, 224, 224)
    ),
    "r3d_18": (3, 16, 112, 112),
    **dict.fromkeys(("s3d", "mvit_v1_b", "swin3d_t"), (3, 16, 224, 224)),
    **dict.fromkeys(("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"), (3, 520, 520)),
    **dict.fromkeys(("raft_small",), (3, 256, 256)),
}  # fmt: skip
"""Name -> shape of one image or clip."""

FEW = {"num_hidden_layers": 2}
TRANSFORMERS: dict[str, tuple[str, Mapping[str, Any], Mapping[str, int]]] = {
    "llama": ("LlamaForCausalLM", FEW, {"seq": 128}),
    "llama_step": ("LlamaForCausalLM", FEW, {"past": 127}),
    "mistral": ("MistralForCausalLM", FEW, {}),
    "mixtral": ("MixtralForCausalLM", FEW, {}),
    "qwen2": ("Qwen2ForCausalLM", FEW, {}),
    "qwen3": ("Qwen3ForCausalLM", FEW, {}),
    "qwen3_step": ("Qwen3ForCausalLM", FEW, {"past": 127}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", FEW, {}),
    "gemma": ("GemmaForCausalLM", FEW, {}),
    "gemma2": ("Gemma2ForCausalLM", FEW, {}),
    "gemma3_text": ("Gemma3ForCausalLM", FEW, {}),
    "phi3": ("Phi3ForCausalLM", {**FEW, "pad_token_id": 0}, {}),
    "falcon": ("FalconForCausalLM", FEW, {}),
    "gpt2": ("GPT2LMHeadModel", {}, {}),
    "gpt_neox": ("GPTNeoXForCausalLM", FEW, {}),
    "gpt_oss": ("GptOssForCausalLM", FEW, {}),
    "olmo2": ("Olmo2ForCausalLM", FEW, {}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", {**FEW, "first_k_dense_replace": 1}, {}),
    "mamba": ("MambaForCausalLM", FEW, {"seq": 16}),
    "mamba2": ("Mamba2ForCausalLM", FEW, {"seq": 64}),
    "bert": ("BertModel", {}, {}),
    "roberta": ("RobertaForMaskedLM", {}, {}),
    "distilbert": ("DistilBertModel", {}, {}),
    "deberta-v2": ("DebertaV2Model", FEW, {}),
    "electra": ("ElectraForSequenceClassification", {}, {}),
    "modernbert": ("ModernBertModel", FEW, {}),
    "t5": ("T5ForConditionalGeneration", {}, {"seq": 64}),
    "bart": ("BartForConditionalGeneration", {}, {"seq": 64}),
    "whisper": ("WhisperForConditionalGeneration", {}, {"seq": 32}),
    "wav2vec2": ("Wav2Vec2ForCTC", {}, {}),
    "hubert": ("HubertModel", {}, {}),
    "clip": ("CLIPModel", {}, {"seq": 77}),
    "siglip": ("SiglipModel", {}, {"seq": 64}),
    "vit": ("ViTForImageClassification", {}, {}),
    "dinov2": ("Dinov2Model", {}, {}),
    "detr": ("DetrForObjectDetection", {}, {}),
    "yolos": ("YolosForObjectDetection", {"image_size": [512, 512]}, {}),
    "sam": ("SamModel", {}, {}),
    "segformer": ("SegformerForSemanticSegmentation", {}, {}),
    "dpt": ("DPTForDepthEstimation", {}, {}),
    "layoutlm": ("LayoutLMModel", {}, {}),
    "videomae": ("VideoMAEForVideoClassification", {}, {}),
}
"""Name -> class, changes to the configuration's defaults, setting. A name without ``_step`` is the model_type."""


def _timm(name: str) -> Case:
    def case() -> tuple[Any, Any]:
        import timm

        with torch.device("meta"):
            module = timm.create_model(name)
            size = module.pretrained_cfg.get("input_size", (3, 224, 224))
            return module, Inputs((torch.zeros(1, *size),), {}, {0: {0: "batch"}})

    return case


def _torchvision(name: str, shape: tuple[int, ...]) -> Case:
    def case() -> tuple[Any, Any]:
        import torchvision

        options = {"weights": None}
        if shape[-1] == 520:
            options["weights_backbone"] = None
        with torch.device("meta"):
            module = torchvision.models.get_model(name, **options)
            images = [torch.zeros(1, *shape) for _ in range(2 if name.startswith("raft") else 1)]
            dims = {} if name.startswith("raft") else {0: {0: "batch"}}
            return module, Inputs(tuple(images), {}, dims)

    return case


def _transformers(name: str, kind: str, changes: Mapping[str, Any], setting: Mapping[str, int]) -> Case:
    def case() -> tuple[Any, Any]:
        import transformers

        config = transformers.AutoConfig.for_model(name.removesuffix("_step"), **changes)
        config.architectures = [kind]
        return config, dict(setting)

    return case


def _zeros(**shapes: Any) -> dict[str, torch.Tensor]:
    """Tensors on meta; ``int`` in front of a shape makes it one of whole numbers."""
    found = {}
    for name, shape in shapes.items():
        whole = shape[:1] == (int,)
        found[name] = torch.zeros(shape[1:] if whole else shape, dtype=torch.int64 if whole else None, device="meta")
    return found


SD_UNET = {"sample_size": 64, "cross_attention_dim": 768}
SDXL_UNET = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
}  # fmt: skip
DIFFUSERS: dict[str, tuple[str, Mapping[str, Any], Callable[[], dict[str, Any]]]] = {
    "sd_unet": ("UNet2DConditionModel", SD_UNET, lambda: _zeros(
        sample=(1, 4, 64, 64), timestep=(int, 1), encoder_hidden_states=(1, 77, 768))),
    "sdxl_unet": ("UNet2DConditionModel", SDXL_UNET, lambda: _zeros(
        sample=(1, 4, 128, 128), timestep=(int, 1), encoder_hidden_states=(1, 77, 2048)
    ) | {"added_cond_kwargs": _zeros(text_embeds=(1, 1280), time_ids=(1, 6))}),
    "dit_xl_2": ("DiTTransformer2DModel", {"sample_size": 32}, lambda: _zeros(
        hidden_states=(1, 4, 32, 32), timestep=(int, 1), class_labels=(int, 1))),
    "vae": ("AutoencoderKL", VAE, lambda: _zeros(sample=(1, 3, 256, 256))),
    "taesd": ("AutoencoderTiny", {}, lambda: _zeros(sample=(1, 3, 256, 256))),
    "sd3": ("SD3Transformer2DModel", {"num_layers": 2}, lambda: _zeros(
        hidden_states=(1, 16, 64, 64), encoder_hidden_states=(1, 77, 4096), pooled_projections=(1, 2048),
        timestep=(int, 1))),
    "flux": ("FluxTransformer2DModel", {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": False},
             lambda: _zeros(hidden_states=(1, 1024, 64), encoder_hidden_states=(1, 128, 4096),
                            pooled_projections=(1, 768), timestep=(1,), img_ids=(1024, 3), txt_ids=(128, 3))),
    "pixart": ("PixArtTransformer2DModel", {"num_layers": 2, "sample_size": 64, "caption_channels": 4096},
               lambda: _zeros(hidden_states=(1, 4, 64, 64), encoder_hidden_states=(1, 120, 4096), timestep=(int, 1))
               | {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}),
}  # fmt: skip
"""Name -> class of diffusers, its arguments, its inputs."""


def _diffusers(kind: str, changes: Mapping[str, Any], inputs: Callable[[], dict[str, Any]]) -> Case:
    def case() -> tuple[Any, Any]:
        import diffusers

        with torch.device("meta"):
            module = getattr(diffusers, kind)(**changes)
        return module, Inputs((), inputs())

    return case


CASES: dict[str, Case] = {
    **{f"timm/{name}": _timm(name) for name in TIMM_NAMES.split()},
    **{f"torchvision/{name}": _torchvision(name, shape) for name, shape in TORCHVISION.items()},
    **{f"transformers/{name}": _transformers(name, *row) for name, row in TRANSFORMERS.items()},
    **{f"diffusers/{name}": _diffusers(*row) for name, row in DIFFUSERS.items()},
}
"""``library/name`` -> case."""

FAST = (
    "timm/resnet10t", "timm/convnext_zepto_rms", "timm/swinv2_tiny_window8_256", "timm/levit_384_s8",
    "torchvision/r3d_18", "torchvision/vit_b_16", "transformers/llama", "transformers/mixtral", "transformers/t5",
    "transformers/mamba", "diffusers/vae",
)  # fmt: skip
"""What stands for the rest in the tests."""
