"""A generator of images or video: its components, what a call does by default, and their graphs at a size."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any

from wattir.dims import symbol
from wattir.errors import SizeError, UnsupportedError, suggestion
from wattir.frontends.configs.diffusion import (
    encoders,
    frame_decoders,
    image_decoders,
    image_encoders,
    image_transformers,
    joint_transformers,
    kandinsky,
    one_sequence,
    unets,
    video_across,
    video_decoders,
    video_unets,
)
from wattir.frontends.configs.diffusion import video_transformers as video
from wattir.frontends.configs.diffusion.blocks import Latent
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.keys import Keys
from wattir.ir import Graph

Denoiser = Callable[[Canvas, Keys, Latent], str]


def _unet_2d(w: Canvas, k: Keys, at: Latent) -> str:
    """UNet2DConditionModel: that of Stable Diffusion, or the decoder of Kandinsky 2.2, which reads an image."""
    image = k.text("encoder_hid_dim_type", "") == "image_proj"
    return kandinsky.unet_22(w, k, at) if image else unets.conditioned(w, k, at)


DENOISERS: dict[str, Denoiser] = {
    "FluxTransformer2DModel": image_transformers.flux,
    "SD3Transformer2DModel": image_transformers.sd3,
    "QwenImageTransformer2DModel": image_transformers.qwen_image,
    "AuraFlowTransformer2DModel": joint_transformers.auraflow,
    "ChromaTransformer2DModel": joint_transformers.chroma,
    "Flux2Transformer2DModel": joint_transformers.flux_2,
    "CogView3PlusTransformer2DModel": joint_transformers.cogview,
    "CogView4Transformer2DModel": joint_transformers.cogview_4,
    "HiDreamImageTransformer2DModel": joint_transformers.hidream,
    "Lumina2Transformer2DModel": one_sequence.lumina_2,
    "ZImageTransformer2DModel": one_sequence.z_image,
    "OmniGenTransformer2DModel": one_sequence.omnigen,
    "PixArtTransformer2DModel": image_transformers.pixart,
    "HunyuanDiT2DModel": image_transformers.hunyuan_dit,
    "SanaTransformer2DModel": image_transformers.sana,
    "CogVideoXTransformer3DModel": video.cogvideox,
    "WanTransformer3DModel": video.wan,
    "HunyuanVideoTransformer3DModel": video.hunyuan_video,
    "MochiTransformer3DModel": video.mochi,
    "LTXVideoTransformer3DModel": video_across.ltx,
    "AllegroTransformer3DModel": video_across.allegro,
    "CosmosTransformer3DModel": video_across.cosmos,
    "SanaVideoTransformer3DModel": video_across.sana_video,
    "UNet2DConditionModel": _unet_2d,
    "UNet3DConditionModel": video_unets.unet_3d,
    "UNetMotionModel": video_unets.motion,
    "UNetSpatioTemporalConditionModel": video_unets.spatio_temporal,
    "I2VGenXLUNet": video_unets.i2vgen,
    "Kandinsky3UNet": kandinsky.unet_3,
    "PriorTransformer": kandinsky.prior,
}
"""Class of diffusers -> what writes its graph."""


@dataclass(frozen=True)
class Autoencoder:
    """What writes a decoder's graph; pixels and frames of one latent, where its keys do not say otherwise; what writes
    its encoder's."""

    write: Denoiser
    space: int = 8
    time: int = 1
    read: Denoiser | None = None


AUTOENCODERS = {
    "AutoencoderKL": Autoencoder(image_decoders.kl, read=image_encoders.kl),
    "AutoencoderDC": Autoencoder(image_decoders.deep_compression, 32),
    "VQModel": Autoencoder(image_decoders.movq),
    "AutoencoderKLCogVideoX": Autoencoder(video_decoders.cogvideox, 8, 4, image_encoders.cogvideox),
    "AutoencoderKLWan": Autoencoder(video_decoders.wan, 8, 4, image_encoders.wan),
    "AutoencoderKLQwenImage": Autoencoder(video_decoders.wan, 8, 4, image_encoders.wan),
    "AutoencoderKLHunyuanVideo": Autoencoder(video_decoders.hunyuan_video, 8, 4),
    "AutoencoderKLFlux2": Autoencoder(image_decoders.kl, read=image_encoders.kl),
    "AutoencoderKLMochi": Autoencoder(frame_decoders.mochi, 8, 6),
    "AutoencoderKLLTXVideo": Autoencoder(frame_decoders.ltx, 32, 8),
    "AutoencoderKLTemporalDecoder": Autoencoder(video_decoders.temporal, read=image_encoders.kl),
}

ENCODERS: dict[str, Callable[..., str]] = {
    "CLIPTextModel": encoders.clip_text,
    "CLIPTextModelWithProjection": partial(encoders.clip_text, projected=True),
    "T5EncoderModel": encoders.t5,
    "UMT5EncoderModel": encoders.t5,
    "MT5EncoderModel": encoders.t5,
    "BertModel": encoders.bert,
    "CLIPVisionModel": encoders.clip_vision,
    "CLIPVisionModelWithProjection": partial(encoders.clip_vision, projected=True),
}
LANGUAGE_MODELS = frozenset(
    {
        "Gemma2Model",
        "Gemma2ForCausalLM",
        "LlamaModel",
        "LlamaForCausalLM",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3Model",
        "Qwen3ForCausalLM",
        "MistralModel",
        "Mistral3ForConditionalGeneration",
        "GlmModel",
        "GlmForCausalLM",
        "ChatGLMModel",
    }
)
"""Encoders that are decoders of text, described as such by `wattir.frontends.configs`."""

DENOISER_SLOTS = ("transformer", "unet")
EXPERT_SLOTS = ("transformer_2",)
"""A second denoiser, which runs some of the steps in place of the first (Wan 2.2)."""
PRIOR_SLOTS = ("prior_prior",)
AUTOENCODER_SLOTS = ("vae", "movq")


@dataclass(frozen=True)
class Part:
    """A component: where it sits in the pipeline, its class, its configuration's keys."""

    slot: str
    kind: str
    keys: Keys


@dataclass(frozen=True)
class Call:
    """What a call of a pipeline does where it is not told otherwise; `two_passes`: under classifier-free guidance a
    step runs the denoiser for the prompt and for a negative one, which it does if `guided`; `decodes_alone`: of the
    devices that share a call, one makes the pixels; `decoder_dtype`: which they are made in. `image`: what the
    autoencoder reads before: "image", one to start from; "tokens", one to edit, whose tokens the denoiser sees beside
    its own; "video", as many frames as come out; "" nothing."""

    pipeline: str
    steps: int
    size: tuple[int, int]
    two_passes: bool
    tokens: Mapping[str, int]
    seen: tuple[str, ...]
    frames: int = 1
    fps: float = 0.0
    prior_steps: int = 0
    decodes_alone: bool = True
    guided: bool = True
    decoder_dtype: str = "bf16"
    image: str = ""


@dataclass(frozen=True)
class Picture:
    """What is generated: pixels, and frames of a video (1: an image)."""

    height: int
    width: int
    frames: int = 1


@dataclass(frozen=True)
class Generator:
    """A published pipeline, or one in a folder; `family`: the published one whose components it has."""

    name: str
    source: str
    call: Call
    parts: tuple[Part, ...]
    family: str = ""

    @property
    def denoiser(self) -> Part:
        """What runs in every step."""
        return self._in(DENOISER_SLOTS)

    @property
    def experts(self) -> tuple[Part, ...]:
        """Other denoisers, of the same shape, that run some of the steps."""
        return tuple(part for part in self.parts if part.slot in EXPERT_SLOTS)

    @property
    def autoencoder(self) -> Part:
        """What makes pixels of latents."""
        return self._in(AUTOENCODER_SLOTS)

    @property
    def prior(self) -> Part | None:
        """What makes the embedding that the denoiser reads, in steps of its own; None where there is none."""
        return next((part for part in self.parts if part.slot in PRIOR_SLOTS), None)

    @property
    def encoders(self) -> tuple[Part, ...]:
        """What reads prompts."""
        return tuple(part for part in self.parts if part.slot in self.call.tokens)

    def _in(self, slots: tuple[str, ...]) -> Part:
        return next(part for part in self.parts if part.slot in slots)

    @property
    def picture(self) -> Picture:
        """What it generates where it is not told otherwise."""
        return Picture(*self.call.size, self.call.frames)

    @property
    def is_video(self) -> bool:
        """Whether it makes several frames."""
        return self.call.frames > 1

    @property
    def covers(self) -> tuple[int, int]:
        """Pixels along an edge, and frames, of one latent."""
        keys, kind = self.autoencoder.keys, AUTOENCODERS[self.autoencoder.kind]
        return (keys.whole("spatial_compression_ratio", "scale_factor_spatial", default=kind.space),
                keys.whole("temporal_compression_ratio", "scale_factor_temporal", default=kind.time))  # fmt: skip

    def nearest_frames(self, frames: float) -> int:
        """The number of frames nearest to this one that it can make."""
        time = self.covers[1]
        return max(round((frames - 1) / time), 0) * time + 1

    def latent(self, picture: Picture) -> Latent:
        """The latents of a picture; SizeError where it is no multiple of what one latent (and a patch) covers."""
        space, time = self.covers
        unit = space * self._patch()
        for name, value in (("height", picture.height), ("width", picture.width)):
            if value < unit or value % unit:
                raise SizeError(
                    f"{self.name}: {name} = {value}; expected a multiple of {unit} pixels ({space} of a latent of its "
                    f"autoencoder, times {self._patch()} of a patch of its denoiser)"
                )
        self._check_frames(picture.frames, time)
        tokens = tuple(sum(self.call.tokens[slot] for slot in group.split("+")) for group in self.call.seen)
        frames = (picture.frames - 1) // time + 1
        images = 1 if self.call.image == "tokens" else 0
        return Latent(symbol("batch"), frames, picture.height // space, picture.width // space, tokens, images)

    def _check_frames(self, frames: int, time: int) -> None:
        if not self.is_video and frames != 1:
            raise SizeError(f"{self.name}: frames = {frames}; it makes images, expected 1")
        if (frames - 1) % time:
            near = (frames - 1) // time * time + 1
            raise SizeError(f"{self.name}: frames = {frames}; expected {time} k + 1, such as {near} or {near + time}")

    def _patch(self) -> int:
        """Latents along an edge that belong together: a patch; one for a UNet."""
        part = self.denoiser
        if part.slot == "unet":
            return 1
        if part.kind in PACKED:
            return 2
        found = part.keys.values.get("patch_size") or DEFAULT_PATCH.get(part.kind, 2)
        return int(found[-1]) if isinstance(found, list) else int(found)


PACKED = frozenset({"FluxTransformer2DModel", "Flux2Transformer2DModel", "ChromaTransformer2DModel"})
"""Classes whose latents are packed two by two before they see them."""
DEFAULT_PATCH = {"SanaTransformer2DModel": 1, "LTXVideoTransformer3DModel": 1}
"""Classes whose default patch is not 2 latents wide."""


# ---- graphs ---------------------------------------------------------------------------------------------------------


def denoiser_graph(of: Generator, picture: Picture, *, ulysses: int = 1, ring: int = 1) -> Graph:
    """One pass of the denoiser over ``batch`` samples, as one of `ulysses` times `ring` devices runs it."""
    part = of.denoiser
    if ulysses * ring > 1 and part.slot == "unet":
        raise SizeError(f"{of.name}: {ulysses * ring} devices; a UNet's maps are not shared among devices; expected 1")
    return _written(of, part, DENOISERS[part.kind], of.latent(picture), ulysses, ring)


def prior_graph(of: Generator, picture: Picture) -> Graph:
    """One pass of the prior over ``batch`` samples."""
    part = of.prior
    assert part is not None
    return _written(of, part, DENOISERS[part.kind], of.latent(picture))


def decoder_graph(of: Generator, picture: Picture) -> Graph:
    """The pixels of ``batch`` samples."""
    part = of.autoencoder
    return _written(of, part, AUTOENCODERS[part.kind].write, of.latent(picture), dtype=of.call.decoder_dtype)


def image_graph(of: Generator, picture: Picture) -> Graph | None:
    """The latents of the images that ``batch`` samples start from; None where a call starts from none."""
    if not of.call.image:
        return None
    part, at = of.autoencoder, of.latent(picture)
    read = AUTOENCODERS[part.kind].read
    if read is None:
        raise UnsupportedError(f"{of.name}: the encoder of {part.kind} is not described, which {of.call.pipeline} "
                               "starts from an image with; expected a pipeline from text")  # fmt: skip
    return _written(of, part, read, at if of.call.image == "video" else replace(at, frames=1))


def encoder_graph(of: Generator, part: Part) -> Graph:
    """One encoder's reading of ``batch`` prompts, padded to as many tokens as the pipeline pads them."""
    tokens = of.call.tokens[part.slot]
    if part.kind in LANGUAGE_MODELS:
        graph = encoders.language_model(part.keys, f"{of.name} {part.slot}")
        return replace(graph, sizes={"batch": 1, "seq": tokens})
    w = Canvas(f"{of.name} {part.slot}")
    out = ENCODERS[part.kind](w, part.keys, symbol("batch"), tokens)
    return _finished(w, out)


def _written(
    of: Generator, part: Part, write: Denoiser, at: Latent, ulysses: int = 1, ring: int = 1, dtype: str = "bf16"
) -> Graph:
    w = Canvas(f"{of.name} {part.slot}", dtype, ulysses, ring)
    return _finished(w, write(w, part.keys, at))


def _finished(w: Canvas, out: str) -> Graph:
    inputs = tuple(name for name, tensor in w.builder.tensors.items() if tensor.role == "input")
    return w.builder.finish(inputs, (out,), {"batch": 1}, "batch", w.params)


# ---- what pipelines do by default -----------------------------------------------------------------------------------


@lru_cache
def table(file: str) -> dict[str, Any]:
    """One of the TOML files here."""
    return tomllib.loads((files(__package__) / file).read_text(encoding="utf-8"))


def call_of(pipeline: str, where: str, **changes: Any) -> Call:
    """The defaults of a pipeline's class; UnsupportedError where it is not described here."""
    known = table("pipelines.toml")
    if pipeline not in known:
        near = suggestion(pipeline, known)
        some = ", ".join(list(known)[:3])
        raise UnsupportedError(f"{where}: pipeline {pipeline!r}; expected one of {len(known)} such as {some}{near}")
    row = {**known[pipeline], **changes}
    return Call(
        pipeline, row["steps"], tuple(row["size"]), row["guidance"] == "two_passes", dict(row["tokens"]),
        tuple(row["seen"]), row.get("frames", 1), float(row.get("fps", 0.0)), row.get("prior_steps", 0),
        row.get("decoders") != "all", row.get("guided", True), row.get("decoder_dtype", "bf16"), row.get("image", ""),
    )  # fmt: skip
