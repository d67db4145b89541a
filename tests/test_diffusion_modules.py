"""Denoisers and autoencoders by configuration against the modules of diffusers: the same work, the same parameters.

Two oracles: what PyTorch counts while the module runs without its tensors' contents, and the graph that the PyTorch
frontend reads from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from diffusion_cases import DECODERS, DENOISERS, ENCODERS, macs, written

import wattir
from wattir.costs import tabulate
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.generator import AUTOENCODERS
from wattir.frontends.configs.diffusion.generator import DENOISERS as WRITERS
from wattir.frontends.configs.diffusion.generator import ENCODERS as READ
from wattir.frontends.configs.keys import Keys
from wattir.graph_check import check_graph
from wattir.kinds import CONTRACTIONS

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),  # Qwen-Image's decoder has some
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),  # Chroma's own import
    pytest.mark.filterwarnings("ignore:In CPU autocast"),  # Mochi's angles, which are in 32 bits anyhow
]

DTYPES: dict[str, Any] = {
    "encoder_hidden_states_mask": torch.bool, "fps": torch.int64, "input_ids": torch.int64,
    "position_ids": torch.int64, "encoder_attention_mask": torch.int64,
}  # fmt: skip
ON_CPU = {
    "UNetSpatioTemporalConditionModel", "AutoencoderKLTemporalDecoder", "Lumina2Transformer2DModel",
    "OmniGenTransformer2DModel", "MochiTransformer3DModel", "ZImageTransformer2DModel",
    "HiDreamImageTransformer2DModel",
}  # fmt: skip
"""Modules that look at their inputs, or put some of their tensors on the CPU whatever they are given."""
READ_BY_FRONTEND = (
    "FluxTransformer2DModel", "SD3Transformer2DModel", "QwenImageTransformer2DModel", "PixArtTransformer2DModel",
    "HunyuanDiT2DModel", "SanaTransformer2DModel", "CogVideoXTransformer3DModel", "WanTransformer3DModel",
    "HunyuanVideoTransformer3DModel", "UNet2DConditionModel", "PriorTransformer", "AuraFlowTransformer2DModel",
    "LTXVideoTransformer3DModel",
)  # fmt: skip
"""Those that the PyTorch frontend reads in a second or two."""


@pytest.fixture(scope="module")
def diffusers() -> Any:
    from wattir.frontends.torch.pretrained import declare_torchvision_ops

    declare_torchvision_ops()
    return pytest.importorskip("diffusers")


def kind_of(name: str) -> str:
    return name.split(" ")[0]


@contextmanager
def placed(name: str) -> Iterator[None]:
    with torch.device("cpu" if kind_of(name) in ON_CPU else "meta"), torch.no_grad():
        yield


def given(key: str, shape: Any) -> Any:
    """An input: ones of this shape (a list of such under some keys), or what is no shape as it is."""
    if key in ("x", "cap_feats"):
        return [given("", each) for each in shape]
    return torch.ones(shape, dtype=DTYPES.get(key)) if isinstance(shape, tuple) else shape


def counted(run: Callable[[], Any]) -> int:
    """FLOP of a run, without the angles of rotary embeddings, which are products in some modules."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    counts = counter.get_flop_counts()
    angles = [sum(found.values()) for module, found in counts.items() if module.endswith(".rope")]
    return counter.get_total_flops() - sum(angles)


def params(module: Any, *unread: str) -> int:
    return sum(x.numel() for part, x in module.named_parameters() if not part.startswith(unread))


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_has_the_work_and_parameters_of_the_module(name: str, diffusers: Any) -> None:
    config, at, shapes = DENOISERS[name]
    with placed(name):
        module = getattr(diffusers, kind_of(name))(**config).eval()
        flop = counted(lambda: module(**{key: given(key, shape) for key, shape in shapes.items()}))
    graph = written(WRITERS[kind_of(name)], config, at)
    assert 2 * macs(graph) == flop
    assert graph.params == params(module)


@pytest.mark.parametrize("name", READ_BY_FRONTEND)
def test_a_denoiser_has_the_work_of_what_the_frontend_reads(name: str, diffusers: Any) -> None:
    config, at, shapes = DENOISERS[name]
    with placed(name):
        module = getattr(diffusers, name)(**config)
        lowered = wattir.lower(module, {key: given(key, shape) for key, shape in shapes.items()})
    assert macs(written(WRITERS[name], config, at)) == macs(lowered)


MORE: dict[str, dict[str, Any]] = {
    "VQModel": {"force_not_quantize": True},
    "AutoencoderKLTemporalDecoder": {"num_frames": 3},
}
"""What a decoder is asked besides its latents."""


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_has_the_work_and_parameters_of_the_module(name: str, diffusers: Any) -> None:
    config, at, shape = DECODERS[name]
    with placed(name):
        module = getattr(diffusers, kind_of(name))(**config).eval()
        more = {"temb": torch.ones(1)} if config.get("timestep_conditioning") else MORE.get(name, {})
        flop = counted(lambda: module.decode(torch.ones(shape), return_dict=False, **more))
    graph = written(AUTOENCODERS[kind_of(name)].write, config, at)
    assert 2 * macs(graph) == flop
    assert graph.params == params(module, "encoder.", "quant_conv.", "quantize.")


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_has_the_work_and_parameters_of_the_module(name: str, diffusers: Any) -> None:
    config, at, shape = ENCODERS[name]
    with placed(name):
        module = getattr(diffusers, kind_of(name))(**config).eval()
        read = getattr(module, "_encode", module.encode)  # the whole network: what patches pixels is around it
        flop = counted(lambda: read(torch.ones(shape)))
    graph = written(AUTOENCODERS[kind_of(name)].read, config, at)
    assert 2 * macs(graph) == flop
    encoding = {x for part, x in module.named_parameters() if part.startswith(("encoder.", "quant_conv."))}
    assert graph.params == sum(x.numel() for x in encoding)


CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4, "vocab_size": 100}
READERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "CLIPTextModel": ("CLIPTextConfig", CLIP, (1, 77)),
    "CLIPTextModelWithProjection": ("CLIPTextConfig", {**CLIP, "projection_dim": 24}, (1, 77)),
    "T5EncoderModel": ("T5Config", {**T5, "feed_forward_proj": "relu"}, (1, 20)),
    "UMT5EncoderModel": ("UMT5Config", {**T5, "feed_forward_proj": "gated-gelu"}, (1, 20)),
    "MT5EncoderModel": ("MT5Config", {**T5, "feed_forward_proj": "gated-gelu"}, (1, 20)),
    "BertModel": ("BertConfig", {**CLIP, "vocab_size": 100}, (1, 20)),
    "CLIPVisionModel": ("CLIPVisionConfig", {**CLIP, "image_size": 28, "patch_size": 14}, (1, 3, 28, 28)),
    "CLIPVisionModelWithProjection": (
        "CLIPVisionConfig", {**CLIP, "image_size": 28, "patch_size": 14, "projection_dim": 24}, (1, 3, 28, 28),
    ),
}  # fmt: skip
"""Encoders of prompts and images: the class of their configuration, its keys, and the shape of what they read."""


@pytest.mark.parametrize("name", READERS)
def test_an_encoder_of_prompts_has_the_work_and_parameters_of_the_module(name: str, diffusers: Any) -> None:
    import transformers

    kind, keys, shape = READERS[name]
    config = getattr(transformers, kind)(**keys, attn_implementation="eager")
    module = getattr(transformers, name)(config).eval()
    what, dtype = ("pixel_values", torch.float32) if len(shape) == 4 else ("input_ids", torch.int64)
    with torch.no_grad():
        flop = counted(lambda: module(**{what: torch.ones(shape, dtype=dtype)}))
    w = Canvas("model")
    out = READ[name](w, Keys({**config.to_dict(), **keys}, "config"), 1, shape[1])
    inputs = tuple(name for name, tensor in w.builder.tensors.items() if tensor.role == "input")
    graph = check_graph(w.builder.finish(inputs, (out,), params=w.params))
    assert 2 * macs(graph) == flop and graph.params == params(module)


def test_nothing_that_is_described_goes_without_an_oracle() -> None:
    assert {kind_of(name) for name in DENOISERS} == set(WRITERS)
    assert {kind_of(name) for name in DECODERS} == set(AUTOENCODERS)
    assert set(READERS) == set(READ)
    assert {kind_of(name) for name in ENCODERS} == {kind for kind, each in AUTOENCODERS.items() if each.read}


def test_experts_hold_their_parameters(diffusers: Any) -> None:
    """HiDream's: all are held, a token goes through as many as it is sent to and through the shared one."""
    config, at, _ = DENOISERS["HiDreamImageTransformer2DModel"]
    config = {**config, "num_routed_experts": 4, "num_activated_experts": 2}
    with placed("meta"):
        module = diffusers.HiDreamImageTransformer2DModel(**config)
    graph = written(WRITERS["HiDreamImageTransformer2DModel"], config, at)
    assert graph.params == params(module)
    per_row = {}
    for work in tabulate(graph):
        if ".ff_i." in work.name and work.kind in CONTRACTIONS:
            part = "experts" if "experts.expert" in work.name else "shared" if "shared" in work.name else "gate"
            per_row[part] = per_row.get(part, 0) + int(work.macs) * int(work.times)
    inner, inner_shared = 256, 256  # two thirds of 4 and of 2 times 64 wide, in steps of 256
    rows = 2 * 64 + 3 * (64 + 12 + 20 + 20)  # two blocks over the image, three over all tokens
    assert per_row["experts"] == 2 * rows * 3 * 64 * inner and per_row["shared"] == rows * 3 * 64 * inner_shared
