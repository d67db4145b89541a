"""Towers for images by configuration: transformers' own parameters and FLOP, tokens as published, images served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from nets import work

import wattir
from wattir.device import load_device
from wattir.dims import evaluate
from wattir.errors import InputError, ModelFileError
from wattir.frontends.configs import load_config, tower
from wattir.frontends.configs.decoder import held_as
from wattir.frontends.configs.vision import seen, vision_graph
from wattir.frontends.torch.pretrained import declare_torchvision_ops
from wattir.passes import lower_to_kernels
from wattir.serving_model import Deployment, Request, Served
from wattir.serving_report import Load, serve

SEEING = "Qwen/Qwen3-VL-8B-Instruct"
H100 = load_device("h100_sxm")


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("torch")
    found = pytest.importorskip("transformers")
    declare_torchvision_ops()
    return found


def config_of(transformers: Any, kind: str) -> Any:
    """A configuration at its defaults; made to fit where these do not describe one model."""
    config = transformers.AutoConfig.for_model(kind)
    if kind == "llama4":  # four merged patches are as wide as its layers
        vision = config.vision_config
        vision.hidden_size, vision.vision_output_dim = 1408, 4096
        vision.projector_input_dim = vision.projector_output_dim = 4096
    if kind == "gemma3":
        config.vision_config.vision_use_head = False  # it has a head for classes, which no token passes
    if kind == "qwen2_vl":
        config.vision_config.hidden_size = config.text_config.hidden_size
    if hasattr(config.vision_config, "out_hidden_size"):
        config.vision_config.out_hidden_size = config.text_config.hidden_size
    return config


KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "gemma3", "mistral3", "internvl", "llama4", "llava")


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_library(transformers: Any, kind: str) -> None:
    import torch

    config = config_of(transformers, kind)
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    seeing = [
        p.numel() for name, p in model.named_parameters() if "language_model" not in name and "lm_head" not in name
    ]

    assert tower(load_config(config.to_dict()), 448)[0].params == sum(seeing)


@pytest.mark.parametrize("kind", ["gemma3", "llava"])
def test_flop_are_those_of_the_library(transformers: Any, kind: str) -> None:
    import torch

    whole = config_of(transformers, kind)
    vision = load_config(whole.to_dict()).vision
    assert vision is not None
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(whole.vision_config)
        theirs = wattir.lower(model, (torch.empty(2, 3, vision.side, vision.side),))
    alone = replace(vision, out=(), merger_norm="")  # without what makes tokens of patches
    ours, _ = vision_graph(alone, held_as(load_config(whole.to_dict())), vision.side)
    found = [evaluate(work(lower_to_kernels(graph, "compiled"), "macs"), {"images": 2}) for graph in (ours, theirs)]

    assert found[0] == pytest.approx(found[1], rel=1e-9)


TOKENS = {  # kind -> side of an image, its tokens
    "qwen3_vl": (1024, 1024),  # patches of 16 pixels, four to a token
    "qwen2_5_vl": (448, 256),  # of 14
    "gemma3": (896, 256), "llava": (336, 576), "internvl": (448, 256),  # as their publishers say
    "mistral3": (1540, 3025),  # 110 x 110 patches of 14, four to a token
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENS)
def test_tokens_of_an_image(transformers: Any, kind: str) -> None:
    side, tokens = TOKENS[kind]
    vision = load_config(config_of(transformers, kind).to_dict()).vision

    assert vision is not None and seen(vision, side)[2] == tokens


def test_a_large_image_is_seen_in_tiles_and_as_a_whole(transformers: Any) -> None:
    vision = load_config(config_of(transformers, "internvl").to_dict()).vision
    assert vision is not None

    assert seen(vision, 448) == (1, 1024, 256)
    assert seen(vision, 896) == (5, 1024, 5 * 256)
    assert seen(vision, 9000)[0] == 10  # at most 12, as a square 9


def test_windows_save_attention_alone() -> None:
    vision = {"model_type": "qwen2_5_vl", "depth": 4, "hidden_size": 64, "num_heads": 4, "intermediate_size": 128,
              "patch_size": 14, "spatial_merge_size": 2, "fullatt_block_indexes": [3]}  # fmt: skip
    text = {"model_type": "qwen2_5_vl", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4}  # fmt: skip
    some, every = (load_config({**text, "vision_config": vision | more}) for more in ({}, {"window_size": 14 * 64}))
    macs = [
        evaluate(work(lower_to_kernels(tower(c, 14 * 64)[0], "compiled"), "macs"), {"images": 1}) for c in (some, every)
    ]
    pairs = 2 * 64 * 4096  # scores and values, for one patch over one patch in all heads
    assert macs[1] - macs[0] == 3 * (pairs * 4096 - pairs * 64)  # three layers see 8 x 8 patches


# ---- served ---------------------------------------------------------------------------------------------------------


def test_images_are_tokens_and_the_work_of_the_tower() -> None:
    image, text = Request(100, 300, images=2), Request(100 + 2048, 300)
    seeing, reading = (serve(SEEING, H100, request, Load(16)) for request in (image, text))

    assert seeing.request.image_tokens == 2048 and seeing.warnings == ()
    more = sum(seeing.energy_j["prefill"].values()) / sum(reading.energy_j["prefill"].values())
    assert 1.1 < more < 3.0  # 0.6 G parameters over four patches a token, beside 8 G over each token
    assert sum(seeing.energy_j["decode"].values()) == pytest.approx(sum(reading.energy_j["decode"].values()), rel=0.05)


def test_the_tower_takes_memory() -> None:
    plain, seeing = (Served(name, H100, Deployment()) for name in ("Qwen/Qwen3-8B", SEEING))

    assert seeing.weight_bytes - plain.weight_bytes == pytest.approx(2 * 0.576e9, rel=0.01)  # bf16


BLIND = {
    "model_type": "llava", "vision_config": {"model_type": "clip_vision_model", "hidden_size": 8},
    "text_config": {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8,
                    "num_hidden_layers": 1, "num_attention_heads": 1},
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "said"), [
    (lambda: serve("Qwen/Qwen3-8B", H100, Request(9, 9, images=1), Load(1)), InputError, "no tower for images"),
    (lambda: Request(9, 9, images=-1), InputError, "images = -1; expected a whole number from 0"),
    (lambda: Request(9, 9, images=1, image_size=0), InputError, "image_size = 0; expected a whole number from 1"),
    (lambda: load_config(BLIND), ModelFileError, "vision_config: no key 'image_size'"),
])  # fmt: skip
def test_bad_images_are_refused(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()
