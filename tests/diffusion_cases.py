"""Small denoisers and autoencoders of diffusers: configuration, latents, and the inputs that the module takes for them.

A name is a class; what stands behind a space tells two cases of it apart.
"""

from __future__ import annotations

import json
from typing import Any

from wattir.costs import tabulate
from wattir.frontends.configs.diffusion.blocks import Latent
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.keys import Keys
from wattir.graph_check import check_graph
from wattir.ir import Graph
from wattir.kinds import CONTRACTIONS


def written(write: Any, config: dict[str, Any], at: Latent) -> Graph:
    """The graph of a denoiser or an autoencoder with this configuration."""
    w = Canvas("model")
    out = write(w, Keys(json.loads(json.dumps(config)), "config"), at)
    inputs = tuple(name for name, tensor in w.builder.tensors.items() if tensor.role == "input")
    return check_graph(w.builder.finish(inputs, (out,), params=w.params))


def macs(graph: Graph) -> int:
    """Multiply-adds of its contractions, as PyTorch counts them."""
    return sum(int(work.macs) * int(work.times) for work in tabulate(graph) if work.kind in CONTRACTIONS)


SMALL = {"num_attention_heads": 4, "attention_head_dim": 16}
DENOISERS: dict[str, tuple[dict[str, Any], Latent, dict[str, Any]]] = {
    "FluxTransformer2DModel": (
        {"num_layers": 2, "num_single_layers": 3, "guidance_embeds": True, "axes_dims_rope": [4, 6, 6], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 64, 64), "encoder_hidden_states": (1, 20, 4096), "pooled_projections": (1, 768),
         "timestep": (1,), "img_ids": (64, 3), "txt_ids": (20, 3), "guidance": (1,)},
    ),
    "SD3Transformer2DModel": (
        {"num_layers": 3, "caption_projection_dim": 64, "qk_norm": "rms_norm", "dual_attention_layers": [0], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 16, 16, 16), "encoder_hidden_states": (1, 20, 4096), "pooled_projections": (1, 2048),
         "timestep": (1,)},
    ),
    "PixArtTransformer2DModel": (
        {"num_layers": 2, "caption_channels": 32, "use_additional_conditions": False, "cross_attention_dim": 64,
         **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 4, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "HunyuanDiT2DModel": (
        {"num_layers": 6, "in_channels": 4, "patch_size": 2, "hidden_size": 64, "sample_size": 16, "mlp_ratio":
         4.3637, "use_style_cond_and_image_meta_size": False, **SMALL},
        Latent(1, 1, 16, 16, (77, 256)),
        {"hidden_states": (1, 4, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 77, 1024),
         "text_embedding_mask": (1, 77), "encoder_hidden_states_t5": (1, 256, 2048), "text_embedding_mask_t5": (1,
         256)},
    ),
    "SanaTransformer2DModel": (
        {"num_layers": 2, "qk_norm": "rms_norm_across_heads", "num_cross_attention_heads": 2,
         "cross_attention_head_dim": 32, "cross_attention_dim": 64, "caption_channels": 48, **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 32, 16, 16), "encoder_hidden_states": (1, 20, 48), "timestep": (1,)},
    ),
    "CogVideoXTransformer3DModel": (
        {"num_layers": 2, "text_embed_dim": 32, "patch_size_t": 2, "use_rotary_positional_embeddings": True, **SMALL},
        Latent(1, 4, 16, 16, (20,)),
        {"hidden_states": (1, 4, 16, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "WanTransformer3DModel": (
        {"num_layers": 2, "ffn_dim": 96, "text_dim": 32, **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 16, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 20, 32)},
    ),
    "UNet2DConditionModel": (
        {"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": [2, 4], "cross_attention_dim":
         48, "transformer_layers_per_block": [1, 3], "use_linear_projection": True},
        Latent(1, 1, 15, 16, (7,)),
        {"sample": (1, 4, 15, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 48)},
    ),
    "UNet3DConditionModel": (
        {"block_out_channels": [32, 64, 64, 64], "attention_head_dim": 8, "cross_attention_dim": 48},
        Latent(1, 3, 16, 16, (7,)),
        {"sample": (1, 4, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 48)},
    ),
    "Kandinsky3UNet": (
        {"block_out_channels": [64, 64, 128, 128], "time_embedding_dim": 64, "cross_attention_dim": 64,
         "encoder_hid_dim": 64, "attention_head_dim": 16},
        Latent(1, 1, 16, 16, (7,)),
        {"sample": (1, 4, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 64), "encoder_attention_mask":
         (1, 7)},
    ),
    "PriorTransformer": (
        {"num_layers": 2, "embedding_dim": 32, **SMALL},
        Latent(1, 1, 16, 16, (77,)),
        {"hidden_states": (1, 32), "timestep": (1,), "proj_embedding": (1, 32), "encoder_hidden_states": (1, 77, 32),
         "attention_mask": (1, 77)},
    ),
    "QwenImageTransformer2DModel": (
        {"num_layers": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 6, 6], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 64, 64), "encoder_hidden_states": (1, 20, 32), "timestep": (1,),
         "encoder_hidden_states_mask": (1, 20), "img_shapes": [[(1, 8, 8)]]},
    ),
    "UNetMotionModel": (
        {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 48, "motion_num_attention_heads": 4,
         "use_motion_mid_block": False},
        Latent(1, 3, 16, 16, (7,)),
        {"sample": (1, 4, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (3, 7, 48)},
    ),
    "UNetSpatioTemporalConditionModel": (
        {"block_out_channels": [32, 64, 64, 64], "num_attention_heads": [2, 4, 4, 4], "cross_attention_dim": 48,
         "projection_class_embeddings_input_dim": 768, "in_channels": 8},
        Latent(1, 3, 16, 16, (1,)),
        {"sample": (1, 3, 8, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 1, 48), "added_time_ids": (1, 3)},
    ),
    "I2VGenXLUNet": (
        {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 32, "attention_head_dim": 8},
        Latent(1, 3, 32, 32, (7,)),
        {"sample": (1, 4, 3, 32, 32), "timestep": (1,), "fps": (1,), "image_latents": (1, 4, 3, 32, 32),
         "image_embeddings": (1, 32), "encoder_hidden_states": (1, 7, 32)},
    ),
    "HunyuanVideoTransformer3DModel": (
        {"num_layers": 2, "num_single_layers": 2, "text_embed_dim": 32, "rope_axes_dim": [4, 6, 6], **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 16, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 20, 32),
         "encoder_attention_mask": (1, 20), "pooled_projections": (1, 768), "guidance": (1,)},
    ),
    "AuraFlowTransformer2DModel": (
        {"num_mmdit_layers": 2, "num_single_dit_layers": 3, "joint_attention_dim": 32, "caption_projection_dim": 64,
         "pos_embed_max_size": 256, **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 4, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "ChromaTransformer2DModel": (
        {"num_layers": 2, "num_single_layers": 3, "joint_attention_dim": 32, "axes_dims_rope": [4, 6, 6],
         "approximator_hidden_dim": 48, "approximator_num_channels": 16, **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 64, 64), "encoder_hidden_states": (1, 20, 32), "timestep": (1,), "img_ids": (64, 3),
         "txt_ids": (20, 3)},
    ),
    "Flux2Transformer2DModel": (
        {"num_layers": 2, "num_single_layers": 3, "joint_attention_dim": 32, "axes_dims_rope": [4, 4, 4, 4], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 64, 128), "encoder_hidden_states": (1, 20, 32), "timestep": (1,), "img_ids": (64, 4),
         "txt_ids": (20, 4), "guidance": (1,)},
    ),
    "CogView3PlusTransformer2DModel": (
        {"num_layers": 2, "text_embed_dim": 32, "time_embed_dim": 48, "condition_dim": 8, "pos_embed_max_size": 16,
         **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 16, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,), "original_size":
         (1, 2), "target_size": (1, 2), "crop_coords": (1, 2)},
    ),
    "CogView4Transformer2DModel": (
        {"num_layers": 2, "text_embed_dim": 32, "time_embed_dim": 48, "condition_dim": 8, "rope_axes_dim": [16, 16],
         **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 16, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,), "original_size":
         (1, 2), "target_size": (1, 2), "crop_coords": (1, 2)},
    ),
    "HiDreamImageTransformer2DModel": (
        {"patch_size": 2, "in_channels": 16, "num_layers": 2, "num_single_layers": 3, "caption_channels": [32, 48],
         "text_emb_dim": 24, "num_routed_experts": 0, "axes_dims_rope": [8, 4, 4], "llama_layers": [0, 0, 0, 0, 0],
         **SMALL},
        Latent(1, 1, 16, 16, (12, 20)),
        {"hidden_states": (1, 16, 16, 16), "timesteps": (1,), "encoder_hidden_states_t5": (1, 12, 32),
         "encoder_hidden_states_llama3": (1, 1, 20, 48), "pooled_embeds": (1, 24)},
    ),
    "Lumina2Transformer2DModel": (
        {"hidden_size": 96, "num_layers": 3, "num_attention_heads": 4, "num_kv_heads": 2, "multiple_of": 16,
         "axes_dim_rope": [8, 8, 8], "cap_feat_dim": 32},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 16, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,),
         "encoder_attention_mask": (1, 20)},
    ),
    "ZImageTransformer2DModel": (
        {"dim": 96, "n_layers": 3, "n_heads": 4, "n_kv_heads": 4, "cap_feat_dim": 32, "axes_dims": [8, 8, 8],
         "axes_lens": [64, 64, 64]},
        Latent(1, 1, 16, 16, (32,)),
        {"x": [(16, 1, 16, 16)], "t": (1,), "cap_feats": [(32, 32)]},
    ),
    "OmniGenTransformer2DModel": (
        {"hidden_size": 64, "num_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size":
         96, "vocab_size": 128, "pad_token_id": 0, "pos_embed_max_size": 32, "rope_scaling": {"short_factor": [1.0] *
         8, "long_factor": [1.0] * 8}},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 4, 16, 16), "timestep": (1,), "input_ids": (1, 20), "input_img_latents": [],
         "input_image_sizes": {}, "attention_mask": None, "position_ids": (1, 85)},
    ),
    "MochiTransformer3DModel": (
        {"num_layers": 3, "pooled_projection_dim": 24, "text_embed_dim": 32, **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 12, 3, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,),
         "encoder_attention_mask": (1, 20)},
    ),
    "LTXVideoTransformer3DModel": (
        {"num_layers": 2, "cross_attention_dim": 64, "caption_channels": 32, **SMALL},
        Latent(1, 3, 8, 8, (20,)),
        {"hidden_states": (1, 192, 128), "encoder_hidden_states": (1, 20, 32), "timestep": (1, 1),
         "encoder_attention_mask": (1, 20), "num_frames": 3, "height": 8, "width": 8},
    ),
    "AllegroTransformer3DModel": (
        {"num_layers": 2, "cross_attention_dim": 96, "caption_channels": 32, "sample_frames": 3, **SMALL,
         "attention_head_dim": 24},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 4, 3, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "CosmosTransformer3DModel": (
        {"num_layers": 2, "text_embed_dim": 32, "adaln_lora_dim": 8, "max_size": [8, 32, 32], **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 16, 3, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,), "padding_mask":
         (1, 1, 16, 16)},
    ),
    "SanaVideoTransformer3DModel": (
        {"num_layers": 2, "num_cross_attention_heads": 2, "cross_attention_head_dim": 32, "cross_attention_dim": 64,
         "caption_channels": 32, **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 16, 3, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "FluxTransformer2DModel edit": (
        {"num_layers": 1, "num_single_layers": 1, "axes_dims_rope": [4, 6, 6], **SMALL},
        Latent(1, 1, 16, 16, (20,), images=1),
        {"hidden_states": (1, 128, 64), "encoder_hidden_states": (1, 20, 4096), "pooled_projections": (1, 768),
         "timestep": (1,), "img_ids": (128, 3), "txt_ids": (20, 3)},
    ),
    "WanTransformer3DModel image": (
        {"num_layers": 2, "ffn_dim": 96, "text_dim": 32, "in_channels": 36, "image_dim": 48, "added_kv_proj_dim": 64,
         **SMALL},
        Latent(1, 3, 16, 16, (512,)),
        {"hidden_states": (1, 36, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 512, 32),
         "encoder_hidden_states_image": (1, 257, 48)},
    ),
    "UNet2DConditionModel kolors": (
        {"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": [2, 4], "cross_attention_dim":
         48, "encoder_hid_dim": 40, "encoder_hid_dim_type": "text_proj"},
        Latent(1, 1, 16, 16, (7,)),
        {"sample": (1, 4, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 40)},
    ),
}  # fmt: skip

SHORT = {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1}
DECODERS: dict[str, tuple[dict[str, Any], Latent, tuple[int, ...]]] = {
    "AutoencoderKL": (
        {**SHORT, "latent_channels": 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "down_block_types":
         ["DownEncoderBlock2D"] * 4},
        Latent(1, 1, 8, 8, ()),
        (1, 4, 8, 8),
    ),
    "AutoencoderKLCogVideoX": ({**SHORT, "temporal_compression_ratio": 4}, Latent(1, 5, 8, 8, ()), (1, 16, 5, 8, 8)),
    "AutoencoderKLWan": ({"base_dim": 32}, Latent(1, 4, 8, 8, ()), (1, 16, 4, 8, 8)),
    "AutoencoderDC": (
        {"latent_channels": 8, "attention_head_dim": 8, "encoder_block_types": ["ResBlock", "EfficientViTBlock"],
         "decoder_block_types": ["ResBlock", "EfficientViTBlock"], "encoder_block_out_channels": [16, 32],
         "decoder_block_out_channels": [16, 32], "encoder_layers_per_block": [2, 2], "decoder_layers_per_block": [3,
         2], "encoder_qkv_multiscales": [[], [5]], "decoder_qkv_multiscales": [[], [5]], "upsample_block_type":
         "interpolate"},
        Latent(1, 1, 8, 8, ()),
        (1, 8, 8, 8),
    ),
    "VQModel": (
        {"latent_channels": 4, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 2, "norm_num_groups": 32,
         "num_vq_embeddings": 16, "vq_embed_dim": 4, "norm_type": "spatial", "up_block_types": ["AttnUpDecoderBlock2D",
         "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"], "down_block_types": ["DownEncoderBlock2D"] * 4},
        Latent(1, 1, 8, 8, ()),
        (1, 4, 8, 8),
    ),
    "AutoencoderKLQwenImage": ({"base_dim": 32}, Latent(1, 1, 8, 8, ()), (1, 16, 1, 8, 8)),
    "AutoencoderKLTemporalDecoder": (
        {**SHORT, "layers_per_block": 2, "down_block_types": ["DownEncoderBlock2D"] * 4},
        Latent(1, 3, 8, 8, ()),
        (3, 4, 8, 8),
    ),
    "AutoencoderKLHunyuanVideo": (SHORT, Latent(1, 8, 8, 8, ()), (1, 16, 8, 8, 8)),
    "AutoencoderKLMochi": (
        {"decoder_block_out_channels": [32, 32, 64, 64], "encoder_block_out_channels": [32, 32, 64, 64],
         "layers_per_block": [1, 2, 1, 2, 1]},
        Latent(1, 3, 4, 4, ()),
        (1, 12, 3, 4, 4),
    ),
    "AutoencoderKLLTXVideo": (
        {"latent_channels": 16, "block_out_channels": [32, 32, 64, 64], "decoder_block_out_channels": [32, 32, 64,
         64], "layers_per_block": [1, 1, 1, 1, 1], "decoder_layers_per_block": [1, 2, 1, 2, 1]},
        Latent(1, 3, 4, 4, ()),
        (1, 16, 3, 4, 4),
    ),
    "AutoencoderKLLTXVideo later": (
        {"latent_channels": 16, "block_out_channels": [32, 32, 64, 64], "decoder_block_out_channels": [32, 64, 128],
         "layers_per_block": [1, 1, 1, 1, 1], "decoder_layers_per_block": [1, 2, 1, 2],
         "decoder_spatio_temporal_scaling": [True, True, True], "decoder_inject_noise": [False, True, True, True],
         "upsample_residual": [True, True, True], "upsample_factor": [2, 2, 2], "timestep_conditioning": True},
        Latent(1, 3, 4, 4, ()),
        (1, 16, 3, 4, 4),
    ),
    "AutoencoderKLWan later": (
        {"base_dim": 32, "decoder_base_dim": 48, "z_dim": 16, "is_residual": True, "patch_size": 2, "in_channels": 12,
         "out_channels": 12, "scale_factor_spatial": 16},
        Latent(1, 4, 8, 8, ()),
        (1, 16, 4, 8, 8),
    ),
    "AutoencoderKLFlux2": (
        {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1, "latent_channels": 8},
        Latent(1, 1, 8, 8, ()),
        (1, 8, 8, 8),
    ),
}  # fmt: skip
"""Latents to pixels."""

ENCODERS: dict[str, tuple[dict[str, Any], Latent, tuple[int, ...]]] = {
    "AutoencoderKL": (DECODERS["AutoencoderKL"][0], Latent(1, 1, 8, 8, ()), (1, 3, 64, 64)),
    "AutoencoderKLFlux2": (DECODERS["AutoencoderKLFlux2"][0], Latent(1, 1, 8, 8, ()), (1, 3, 64, 64)),
    "AutoencoderKLTemporalDecoder": (
        DECODERS["AutoencoderKLTemporalDecoder"][0],
        Latent(1, 1, 8, 8, ()),
        (1, 3, 64, 64),
    ),
    "AutoencoderKLWan": (DECODERS["AutoencoderKLWan"][0], Latent(1, 4, 8, 8, ()), (1, 3, 13, 64, 64)),
    "AutoencoderKLWan later": (DECODERS["AutoencoderKLWan later"][0], Latent(1, 4, 8, 8, ()), (1, 3, 13, 128, 128)),
    "AutoencoderKLQwenImage": (DECODERS["AutoencoderKLQwenImage"][0], Latent(1, 1, 8, 8, ()), (1, 3, 1, 64, 64)),
    "AutoencoderKLCogVideoX": (DECODERS["AutoencoderKLCogVideoX"][0], Latent(1, 1, 8, 8, ()), (1, 3, 1, 64, 64)),
}  # fmt: skip
"""Pixels to latents."""
