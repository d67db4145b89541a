"""Generators by configuration: the work and the parameters of the modules of diffusers; folders; bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wattir
from wattir.costs import tabulate
from wattir.errors import ModelFileError, UnsupportedError
from wattir.frontends.configs import diffusion
from wattir.frontends.configs.diffusion import (
    image_decoders,
    image_transformers,
    kandinsky,
    unets,
    video_decoders,
    video_transformers,
    video_unets,
)
from wattir.frontends.configs.diffusion.blocks import Latent
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.keys import Keys
from wattir.graph_check import check_graph
from wattir.ir import Graph
from wattir.kinds import CONTRACTIONS


def written(write: Any, config: dict[str, Any], at: Latent) -> Graph:
    w = Canvas("model")
    out = write(w, Keys(json.loads(json.dumps(config)), "config"), at)
    inputs = tuple(name for name, tensor in w.builder.tensors.items() if tensor.role == "input")
    return check_graph(w.builder.finish(inputs, (out,), params=w.params))


def macs(graph: Graph) -> int:
    return sum(int(work.macs) * int(work.times) for work in tabulate(graph) if work.kind in CONTRACTIONS)


@pytest.fixture(scope="module")
def diffusers() -> Any:
    pytest.importorskip("torch")
    from wattir.frontends.torch.pretrained import declare_torchvision_ops

    declare_torchvision_ops()
    return pytest.importorskip("diffusers")


SMALL = {"num_attention_heads": 4, "attention_head_dim": 16}
DENOISERS: dict[str, tuple[Any, dict[str, Any], Latent, dict[str, tuple[int, ...]]]] = {
    "FluxTransformer2DModel": (
        image_transformers.flux,
        {"num_layers": 2, "num_single_layers": 3, "guidance_embeds": True, "axes_dims_rope": [4, 6, 6], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 64, 64), "encoder_hidden_states": (1, 20, 4096), "pooled_projections": (1, 768),
         "timestep": (1,), "img_ids": (64, 3), "txt_ids": (20, 3), "guidance": (1,)},
    ),
    "SD3Transformer2DModel": (
        image_transformers.sd3,
        {"num_layers": 3, "caption_projection_dim": 64, "qk_norm": "rms_norm", "dual_attention_layers": [0], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 16, 16, 16), "encoder_hidden_states": (1, 20, 4096), "pooled_projections": (1, 2048),
         "timestep": (1,)},
    ),
    "PixArtTransformer2DModel": (
        image_transformers.pixart,
        {"num_layers": 2, "caption_channels": 32, "use_additional_conditions": False, "cross_attention_dim": 64,
         **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 4, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "HunyuanDiT2DModel": (
        image_transformers.hunyuan_dit,
        {"num_layers": 6, "in_channels": 4, "patch_size": 2, "hidden_size": 64, "sample_size": 16, "mlp_ratio": 4.3637,
         "use_style_cond_and_image_meta_size": False, **SMALL},
        Latent(1, 1, 16, 16, (77, 256)),
        {"hidden_states": (1, 4, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 77, 1024),
         "text_embedding_mask": (1, 77), "encoder_hidden_states_t5": (1, 256, 2048),
         "text_embedding_mask_t5": (1, 256)},
    ),
    "SanaTransformer2DModel": (
        image_transformers.sana,
        {"num_layers": 2, "qk_norm": "rms_norm_across_heads", "num_cross_attention_heads": 2,
         "cross_attention_head_dim": 32, "cross_attention_dim": 64, "caption_channels": 48, **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 32, 16, 16), "encoder_hidden_states": (1, 20, 48), "timestep": (1,)},
    ),
    "CogVideoXTransformer3DModel": (
        video_transformers.cogvideox,
        {"num_layers": 2, "text_embed_dim": 32, "patch_size_t": 2, "use_rotary_positional_embeddings": True, **SMALL},
        Latent(1, 4, 16, 16, (20,)),
        {"hidden_states": (1, 4, 16, 16, 16), "encoder_hidden_states": (1, 20, 32), "timestep": (1,)},
    ),
    "WanTransformer3DModel": (
        video_transformers.wan,
        {"num_layers": 2, "ffn_dim": 96, "text_dim": 32, **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 16, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 20, 32)},
    ),
    "UNet2DConditionModel": (
        unets.unet,
        {"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": [2, 4], "cross_attention_dim": 48,
         "transformer_layers_per_block": [1, 3], "use_linear_projection": True},
        Latent(1, 1, 15, 16, (7,)),
        {"sample": (1, 4, 15, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 48)},
    ),
    "UNet3DConditionModel": (
        video_unets.unet_3d,
        {"block_out_channels": [32, 64, 64, 64], "attention_head_dim": 8, "cross_attention_dim": 48},
        Latent(1, 3, 16, 16, (7,)),
        {"sample": (1, 4, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 48)},
    ),
    "Kandinsky3UNet": (
        kandinsky.unet_3,
        {"block_out_channels": [64, 64, 128, 128], "time_embedding_dim": 64, "cross_attention_dim": 64,
         "encoder_hid_dim": 64, "attention_head_dim": 16},
        Latent(1, 1, 16, 16, (7,)),
        {"sample": (1, 4, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 64),
         "encoder_attention_mask": (1, 7)},
    ),
    "PriorTransformer": (
        kandinsky.prior,
        {"num_layers": 2, "embedding_dim": 32, **SMALL},
        Latent(1, 1, 16, 16, (77,)),
        {"hidden_states": (1, 32), "timestep": (1,), "proj_embedding": (1, 32), "encoder_hidden_states": (1, 77, 32),
         "attention_mask": (1, 77)},
    ),
    "QwenImageTransformer2DModel": (
        image_transformers.qwen_image,
        {"num_layers": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 6, 6], **SMALL},
        Latent(1, 1, 16, 16, (20,)),
        {"hidden_states": (1, 64, 64), "encoder_hidden_states": (1, 20, 32), "timestep": (1,),
         "encoder_hidden_states_mask": (1, 20), "img_shapes": [[(1, 8, 8)]]},
    ),
    "UNetMotionModel": (
        video_unets.motion,
        {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 48, "motion_num_attention_heads": 4,
         "use_motion_mid_block": False},
        Latent(1, 3, 16, 16, (7,)),
        {"sample": (1, 4, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (3, 7, 48)},
    ),
    "UNetSpatioTemporalConditionModel": (
        video_unets.spatio_temporal,
        {"block_out_channels": [32, 64, 64, 64], "num_attention_heads": [2, 4, 4, 4], "cross_attention_dim": 48,
         "projection_class_embeddings_input_dim": 768, "in_channels": 8},
        Latent(1, 3, 16, 16, (1,)),
        {"sample": (1, 3, 8, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 1, 48),
         "added_time_ids": (1, 3)},
    ),
    "I2VGenXLUNet": (
        video_unets.i2vgen,
        {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 32, "attention_head_dim": 8},
        Latent(1, 3, 32, 32, (7,)),
        {"sample": (1, 4, 3, 32, 32), "timestep": (1,), "fps": (1,), "image_latents": (1, 4, 3, 32, 32),
         "image_embeddings": (1, 32), "encoder_hidden_states": (1, 7, 32)},
    ),
    "HunyuanVideoTransformer3DModel": (
        video_transformers.hunyuan_video,
        {"num_layers": 2, "num_single_layers": 2, "text_embed_dim": 32, "rope_axes_dim": [4, 6, 6], **SMALL},
        Latent(1, 3, 16, 16, (20,)),
        {"hidden_states": (1, 16, 3, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 20, 32),
         "encoder_attention_mask": (1, 20), "pooled_projections": (1, 768), "guidance": (1,)},
    ),
}  # fmt: skip


def empty(key: str, shape: Any) -> Any:
    """An input of a module: a tensor of this shape, or what is no shape as it is."""
    import torch

    whole = {"encoder_hidden_states_mask": torch.bool, "fps": torch.int64}
    return torch.empty(*shape, dtype=whole.get(key)) if isinstance(shape, tuple) else shape


ON_CPU = {"UNetSpatioTemporalConditionModel", "AutoencoderKLTemporalDecoder"}
"""Modules that put some of their tensors on the CPU whatever they are given."""


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_has_the_work_and_parameters_of_the_module(name: str, diffusers: Any) -> None:
    import torch

    write, config, at, shapes = DENOISERS[name]
    with torch.device("cpu" if name in ON_CPU else "meta"):
        module = getattr(diffusers, name)(**config)
        lowered = wattir.lower(module, {key: empty(key, shape) for key, shape in shapes.items()})
    graph = written(write, config, at)
    assert macs(graph) == macs(lowered)
    assert graph.params == sum(weight.numel() for weight in module.parameters())


SHORT = {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1}
DECODERS: dict[str, tuple[Any, dict[str, Any], Latent, tuple[int, ...]]] = {
    "AutoencoderKL": (
        image_decoders.kl,
        {**SHORT, "latent_channels": 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
         "down_block_types": ["DownEncoderBlock2D"] * 4},
        Latent(1, 1, 8, 8, ()), (1, 4, 8, 8),
    ),
    "AutoencoderKLCogVideoX": (
        video_decoders.cogvideox, {**SHORT, "temporal_compression_ratio": 4}, Latent(1, 5, 8, 8, ()), (1, 16, 5, 8, 8),
    ),
    "AutoencoderKLWan": (video_decoders.wan, {"base_dim": 32}, Latent(1, 4, 8, 8, ()), (1, 16, 4, 8, 8)),
    "AutoencoderDC": (
        image_decoders.deep_compression,
        {"latent_channels": 8, "attention_head_dim": 8, "encoder_block_types": ["ResBlock", "EfficientViTBlock"],
         "decoder_block_types": ["ResBlock", "EfficientViTBlock"], "encoder_block_out_channels": [16, 32],
         "decoder_block_out_channels": [16, 32], "encoder_layers_per_block": [2, 2],
         "decoder_layers_per_block": [3, 2], "encoder_qkv_multiscales": [[], [5]],
         "decoder_qkv_multiscales": [[], [5]], "upsample_block_type": "interpolate"},
        Latent(1, 1, 8, 8, ()), (1, 8, 8, 8),
    ),
    "VQModel": (
        image_decoders.movq,
        {"latent_channels": 4, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 2, "norm_num_groups": 32,
         "num_vq_embeddings": 16, "vq_embed_dim": 4, "norm_type": "spatial",
         "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
         "down_block_types": ["DownEncoderBlock2D"] * 4},
        Latent(1, 1, 8, 8, ()), (1, 4, 8, 8),
    ),
    "AutoencoderKLQwenImage": (
        video_decoders.wan, {"base_dim": 32}, Latent(1, 1, 8, 8, ()), (1, 16, 1, 8, 8),
    ),
    "AutoencoderKLTemporalDecoder": (
        video_decoders.temporal,
        {**SHORT, "layers_per_block": 2, "down_block_types": ["DownEncoderBlock2D"] * 4},
        Latent(1, 3, 8, 8, ()), (3, 4, 8, 8),
    ),
    "AutoencoderKLHunyuanVideo": (video_decoders.hunyuan_video, SHORT, Latent(1, 8, 8, 8, ()), (1, 16, 8, 8, 8)),
}  # fmt: skip


MORE: dict[str, dict[str, Any]] = {
    "VQModel": {"force_not_quantize": True},
    "AutoencoderKLTemporalDecoder": {"num_frames": 3},
}
"""What a decoder is asked besides its latents."""


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # Qwen-Image's decoder has some
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_has_the_work_and_parameters_of_the_module(name: str, diffusers: Any) -> None:
    import torch

    write, config, at, shape = DECODERS[name]

    class Decoding(torch.nn.Module):
        def __init__(self, whole: Any) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, z: Any) -> Any:
            return self.whole.decode(z, return_dict=False, **MORE.get(name, {}))[0]

    with torch.device("cpu" if name in ON_CPU else "meta"):
        module = Decoding(getattr(diffusers, name)(**config))
        lowered = wattir.lower(module, (torch.empty(*shape),))
    graph = written(write, config, at)
    assert macs(graph) == macs(lowered)
    unread = ("whole.encoder.", "whole.quant_conv.", "whole.quantize.")
    assert graph.params == sum(x.numel() for part, x in module.named_parameters() if not part.startswith(unread))


PUBLISHED = {  # parameters of the denoiser as the model cards round them
    "black-forest-labs/FLUX.1-dev": 11.9e9, "stabilityai/stable-diffusion-3.5-large": 8.1e9,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": 0.61e9, "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": 1.5e9,
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": 1.6e9, "zai-org/CogVideoX-2b": 1.7e9,
    "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers": 4.72e9, "zai-org/CogVideoX-5b": 5.57e9,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 0.86e9, "stabilityai/stable-diffusion-xl-base-1.0": 2.57e9,
    "segmind/SSD-1B": 1.33e9, "stabilityai/stable-video-diffusion-img2vid": 1.52e9,
    "kandinsky-community/kandinsky-2-2-decoder": 1.25e9, "guoyww/animatediff-motion-adapter-v1-5-3": 1.28e9,
    "tencent/HunyuanVideo": 12.8e9, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 1.42e9,
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": 14.3e9,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_denoiser_has_its_parameters(name: str) -> None:
    assert wattir.lower(name).params == pytest.approx(PUBLISHED[name], rel=0.02)


@pytest.mark.parametrize("name", diffusion.names())
def test_every_published_generator_has_all_its_graphs(name: str) -> None:
    of = diffusion.load_generator(name)
    graphs = (diffusion.denoiser_graph(of, of.picture), diffusion.decoder_graph(of, of.picture),
              *(diffusion.encoder_graph(of, part) for part in of.encoders))  # fmt: skip
    assert len(graphs) >= 3 and all(check_graph(graph).params for graph in graphs)


def folder(path: Path, name: str, **changes: Any) -> str:
    """A pipeline as diffusers writes it, from the table's facts."""
    of = diffusion.load_generator(name)
    index = {"_class_name": of.call.pipeline, "_diffusers_version": "0.35.0", "scheduler": ["diffusers", "None"]}
    for part in of.parts:
        index[part.slot] = ["diffusers", part.kind]
        (path / part.slot).mkdir()
        (path / part.slot / "config.json").write_text(json.dumps(part.keys.values), encoding="utf-8")
    (path / "model_index.json").write_text(json.dumps({**index, **changes}), encoding="utf-8")
    return str(path)


def test_a_folder_is_as_good_as_the_name(tmp_path: Path) -> None:
    name = "zai-org/CogVideoX-2b"
    found, known = diffusion.load_generator(folder(tmp_path, name)), diffusion.load_generator(name)
    graphs = [diffusion.denoiser_graph(of, of.picture) for of in (found, known)]
    assert graphs[0].params == graphs[1].params and found.call == known.call


def test_a_folder_may_lack_an_encoder(tmp_path: Path) -> None:
    """As diffusers saves Stable Diffusion 3 without its T5."""
    name = "stabilityai/stable-diffusion-3-medium-diffusers"
    found = diffusion.load_generator(folder(tmp_path, name, text_encoder_3=[None, None]))
    assert [part.slot for part in found.encoders] == ["text_encoder", "text_encoder_2"]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"_class_name": "FluxPipelin"}, UnsupportedError, "did you mean FluxPipeline"),
        ({"transformer": ["diffusers", "MyTransformer"]}, UnsupportedError, "class 'MyTransformer'"),
        ({"transformer": None}, ModelFileError, "no denoiser"),
        ({"transformer": [None, None]}, ModelFileError, "no denoiser"),
        ({"vae": 7}, ModelFileError, "vae = '7'; expected a list"),
    ],
)
def test_what_a_folder_must_not_say(tmp_path: Path, changes: dict[str, Any], error: Any, said: str) -> None:
    path = folder(tmp_path, "black-forest-labs/FLUX.1-dev", **changes)
    with pytest.raises(error, match=said):
        diffusion.load_generator(path)


def test_a_key_that_cannot_be_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path, "black-forest-labs/FLUX.1-dev")
    (tmp_path / "transformer" / "config.json").write_text('{"num_layers": -3}', encoding="utf-8")
    of = diffusion.load_generator(path)
    with pytest.raises(ModelFileError, match=r"transformer/config\.json: num_layers = '-3'; expected a whole number"):
        diffusion.denoiser_graph(of, of.picture)
