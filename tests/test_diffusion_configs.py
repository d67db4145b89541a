"""Generators by configuration: the work and the parameters of the modules of diffusers; folders; bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wattir
from wattir.errors import ModelFileError, UnsupportedError
from wattir.frontends.configs import diffusion
from wattir.graph_check import check_graph


@pytest.fixture(scope="module")
def diffusers() -> Any:
    pytest.importorskip("torch")
    from wattir.frontends.torch.pretrained import declare_torchvision_ops

    declare_torchvision_ops()
    return pytest.importorskip("diffusers")


PUBLISHED = {  # parameters of the denoiser as the model cards round them
    "black-forest-labs/FLUX.1-dev": 11.9e9, "stabilityai/stable-diffusion-3.5-large": 8.1e9,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": 0.61e9, "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": 1.5e9,
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": 1.6e9, "zai-org/CogVideoX-2b": 1.7e9,
    "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers": 4.72e9, "zai-org/CogVideoX-5b": 5.57e9,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 0.86e9, "stabilityai/stable-diffusion-xl-base-1.0": 2.57e9,
    "segmind/SSD-1B": 1.33e9, "stabilityai/stable-video-diffusion-img2vid": 1.52e9,
    "kandinsky-community/kandinsky-2-2-decoder": 1.25e9, "guoyww/animatediff-motion-adapter-v1-5-3": 1.28e9,
    "tencent/HunyuanVideo": 12.8e9, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 1.42e9,
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": 14.3e9, "Wan-AI/Wan2.2-TI2V-5B-Diffusers": 5.0e9,
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": 16.4e9, "black-forest-labs/FLUX.2-dev": 32.2e9,
    "black-forest-labs/FLUX.2-klein-4B": 3.88e9, "lodestones/Chroma1-HD": 8.9e9, "fal/AuraFlow": 6.8e9,
    "Alpha-VLLM/Lumina-Image-2.0": 2.6e9, "Tongyi-MAI/Z-Image": 6.15e9, "Shitao/OmniGen-v1-diffusers": 3.8e9,
    "HiDream-ai/HiDream-I1-Full": 17.1e9, "zai-org/CogView4-6B": 6.4e9, "genmo/mochi-1-preview": 10.0e9,
    "Lightricks/LTX-Video": 1.92e9, "nvidia/Cosmos-Predict2-2B-Text2Image": 1.96e9,
    "Kwai-Kolors/Kolors-diffusers": 2.58e9, "Efficient-Large-Model/SANA-Video_2B_480p_diffusers": 2.06e9,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_denoiser_has_its_parameters(name: str) -> None:
    assert wattir.lower(name).params == pytest.approx(PUBLISHED[name], rel=0.02)


@pytest.mark.parametrize("name", diffusion.names())
def test_every_published_generator_has_all_its_graphs(name: str) -> None:
    of = diffusion.load_generator(name)
    graphs = (diffusion.denoiser_graph(of, of.picture), diffusion.decoder_graph(of, of.picture),
              *(diffusion.encoder_graph(of, part) for part in of.encoders))  # fmt: skip
    assert len(graphs) >= 2 and all(check_graph(graph).params for graph in graphs)


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


def test_an_image_to_start_from_is_encoded_and_its_tokens_stand_beside_the_others() -> None:
    """FLUX Kontext: twice the image's tokens through the denoiser; Wan: as many frames as come out; FLUX: none."""
    flux, kontext = (diffusion.load_generator(f"black-forest-labs/FLUX.1-{name}dev") for name in ("", "Kontext-"))
    assert diffusion.image_graph(flux, flux.picture) is None
    assert diffusion.image_graph(kontext, kontext.picture) is not None
    rows = [diffusion.denoiser_graph(of, of.picture).tensors["proj_out:out"].shape[1] for of in (flux, kontext)]
    assert rows == [64 * 64, 2 * 64 * 64]
    wan = diffusion.load_generator("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers")
    frames = diffusion.image_graph(wan, wan.picture)
    assert frames is not None and frames.tensors["latents"].shape[2:] == (21, 60, 104)


def test_frames_are_filled_up_to_whole_patches() -> None:
    """CogVideoX 1.5: 81 frames are 21 latents, which the pipeline fills up to 22 as a patch holds two: 11 of 48 by 85
    tokens. They do not come out: the decoder sees 21."""
    of = diffusion.load_generator("zai-org/CogVideoX1.5-5B")
    assert diffusion.denoiser_graph(of, of.picture).tensors["proj_out:out"].shape[1] == 11 * 48 * 85
    assert of.latent(of.picture).frames == 21


def test_two_experts_take_the_memory_of_both_and_the_time_of_one() -> None:
    """Wan 2.2: some of the steps go through another denoiser of the same shape."""
    one, two = (diffusion.load_generator(f"Wan-AI/Wan2.{name}-Diffusers") for name in ("1-T2V-14B", "2-T2V-A14B"))
    assert len(one.experts) == 0 and len(two.experts) == 1
    steps = [diffusion.denoiser_graph(of, of.picture) for of in (one, two)]
    assert steps[0].params == steps[1].params


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
