"""Hugging Face configurations: ``config.json`` or a config object -> the network on ``meta`` -> a `Program`.

Nothing is downloaded and no code of a repository is run: the network is one of the installed transformers, with the
sizes of the configuration and without weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from wattir.errors import InputError, ModelFileError, UnsupportedError, suggestion
from wattir.frontends.torch.inputs import Inputs
from wattir.frontends.torch.program import Program
from wattir.reading import read_json

IMAGE_SIDE = 224


@dataclass(frozen=True)
class Setting:
    """What a configuration is asked with: `seq` tokens of each of `batch` texts; with `past`, one step of a decoder
    that adds `seq` (then 1) tokens to a cache of `past`."""

    batch: int = 1
    seq: int = 128
    past: int = 0


def read_config(source: Any, setting: Mapping[str, int] | None = None) -> Program:
    """The Program of a path to ``config.json``, a directory with one, or a config object; the free dims are ``batch``,
    and ``seq`` or ``past`` where there is text. Raises InputError's kin."""
    asked = setting_of(setting)
    config = config_of(source)
    from wattir.frontends.torch.modules import read_module

    network, inputs = network_of(config, asked)
    return read_module(network, inputs)


def setting_of(given: Mapping[str, int] | None) -> Setting:
    """The Setting of a mapping: ``{"seq": 512, "past": 0}``."""
    known = [field.name for field in fields(Setting)]
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise InputError(f"inputs of a configuration are a {type(given).__name__}; expected a mapping of {known}")
    for name, value in given.items():
        if name not in known:
            raise InputError(f"inputs of a configuration: {name!r}; expected {known}{suggestion(str(name), known)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < (name != "past"):
            raise InputError(f"inputs of a configuration: {name} = {value!r}; expected a whole number of at least 1")
    values = dict(given)
    return Setting(**({"seq": 1} if values.get("past") else {}) | values)


# ---- configurations -------------------------------------------------------------------------------------------------


def config_of(source: Any) -> Any:
    """The config object of a path, or the object itself."""
    if not isinstance(source, (str, os.PathLike)):
        _transformers()
        return source
    path = os.fspath(source)
    path = os.path.join(path, "config.json") if os.path.isdir(path) else path
    values = _json(path)
    transformers = _transformers()
    kind = values.pop("model_type", None)
    known = list(transformers.CONFIG_MAPPING.keys())
    if kind not in known:
        todo = "code of a repository is never run" if "auto_map" in values else "update transformers"
        near = suggestion(str(kind), known)
        expected = f"one of transformers {transformers.__version__}"
        raise ModelFileError(f"{path}: model_type {kind!r}; expected {expected}{near}; {todo}")
    try:
        return transformers.AutoConfig.for_model(kind, **values)
    except Exception as error:  # the classes check their values with errors of many kinds
        raise ModelFileError(f"{path}: {_line(error)}; expected a configuration of {kind}") from error


def _transformers() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError as error:
        raise UnsupportedError(
            f"a Hugging Face configuration, and transformers does not import ({_line(error)}); pip install transformers"
        ) from error
    declare_torchvision_ops()
    return transformers


def declare_torchvision_ops() -> None:
    """torchvision built for another torch (CUDA's beside a CPU's) fails to import for want of two ops, and with it most
    of transformers; that they are declared is enough, since nothing is run."""
    import torch

    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for op in ("nms", "qnms"):
            torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _json(path: str) -> dict[str, Any]:
    values = read_json(path, "a config.json of transformers", ModelFileError)
    if not isinstance(values.get("model_type"), str):
        raise ModelFileError(f"{path}: no model_type; expected a config.json of transformers")
    return values


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


# ---- networks -------------------------------------------------------------------------------------------------------


def network_of(config: Any, setting: Setting) -> tuple[Any, Inputs]:
    """The network of a configuration on meta, without weights, and inputs for it."""

    for part in _parts(config):
        for name in ("use_cache", "use_pretrained_backbone"):
            if hasattr(part, name):
                setattr(part, name, False)
    with _offline(), _on_meta():
        try:
            network = _class_of(config)(config).eval()
        except Exception as error:  # of many kinds: sizes that do not fit, packages that are missing
            kind = type(config).__name__
            raise UnsupportedError(f"{kind}: cannot be built: {_line(error)}; expected a whole config") from error
        if setting.past:
            return _step(network, config, setting)
        return network, _inputs(network, config, setting)


def _on_meta() -> Any:
    """What is made inside is on meta, but for single numbers: code computes sizes with those that it holds."""
    import torch
    from torch.utils._device import DeviceContext

    class OnMeta(DeviceContext):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.tensor and args and isinstance(args[0], (int, float)):
                return func(*args, **(kwargs or {}))
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]

    return OnMeta(torch.device("meta"))


def _parts(config: Any) -> Iterator[Any]:
    """A config and those nested in it."""
    yield config
    for value in vars(config).values():
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from _parts(value)


def _class_of(config: Any) -> Callable[[Any], Any]:
    """The class that `architectures` names; else the one with a language model's head, the plain one, or any."""
    import transformers
    from transformers.models.auto import modeling_auto

    for name in getattr(config, "architectures", None) or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)  # type: ignore[no-any-return]
    rest = (name for name in vars(modeling_auto) if re.fullmatch(r"MODEL_FOR_\w+_MAPPING", name))
    for mapping in (*_FIRST, *rest):
        found = getattr(modeling_auto, mapping).get(type(config), None)
        if found is not None:
            return found[0] if isinstance(found, (tuple, list)) else found  # type: ignore[no-any-return]
    kind = type(config).__name__
    raise UnsupportedError(f"{kind}: no network for it in the installed transformers; expected `architectures`")


_FIRST = ("MODEL_FOR_CAUSAL_LM_MAPPING", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING", "MODEL_MAPPING")


@contextmanager
def _offline() -> Iterator[None]:
    """No hub is asked while a network is built."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _inputs(network: Any, config: Any, setting: Setting) -> Inputs:
    """Inputs of the kinds that the network asks for, on meta."""
    import inspect

    import torch

    asked = inspect.signature(network.forward).parameters
    main = getattr(network, "main_input_name", "input_ids")
    kwargs: dict[str, Any] = {}
    dims: dict[str | int, dict[int, str]] = {}
    for name in _needed(network, config, main, asked):
        shape, dtype, free = _EXAMPLES[name](config, setting, network)
        kwargs[name] = torch.zeros(shape, dtype=getattr(torch, dtype))
        dims[name] = {axis: word for axis, word in enumerate(free) if word is not None}
    return Inputs((), kwargs, dims)


def _needed(network: Any, config: Any, main: str, asked: Mapping[str, Any]) -> list[str]:
    """Names of the inputs to give: the main one and those without a default; both where text and images are compared;
    the decoder's; boxes."""
    if main not in _EXAMPLES:
        known, kind = ", ".join(_EXAMPLES), type(network).__name__
        raise UnsupportedError(f"{kind}: its input is {main!r}; expected one of {known}; give the module")
    names = [main, *(name for name, each in asked.items() if name in _EXAMPLES and each.default is each.empty)]
    two = hasattr(config, "vision_config") and hasattr(config, "text_config")
    if two and "Conditional" not in type(network).__name__:
        names += [name for name in ("input_ids", "pixel_values") if name in asked]
    names += [name for name in ("decoder_input_ids", "bbox") if name in asked]
    return list(dict.fromkeys(names))


Example = tuple[tuple[int, ...], str, tuple[str | None, ...]]


def _tokens(config: Any, setting: Setting, network: Any) -> Example:
    return (setting.batch, _length(config, setting)), "int64", ("batch", "seq")


def _decoder_tokens(config: Any, setting: Setting, network: Any) -> Example:
    return (setting.batch, _length(config, setting)), "int64", ("batch", "decoder_seq")


def _length(config: Any, setting: Setting) -> int:
    """The tokens asked for, or as many as the network has positions."""
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    return min(setting.seq, most) if isinstance(most, int) and most > 1 else setting.seq


def _boxes(config: Any, setting: Setting, network: Any) -> Example:
    return (setting.batch, _length(config, setting), 4), "int64", ("batch", "seq", None)


def _image(config: Any, setting: Setting, network: Any) -> Example:
    vision = getattr(config, "vision_config", config)
    high, wide = _side(vision)
    channels = getattr(vision, "num_channels", 3) or 3
    frames = getattr(vision, "num_frames", None)
    if isinstance(frames, int):
        return (setting.batch, frames, channels, high, wide), _float(network), ("batch", None, None, None, None)
    return (setting.batch, channels, high, wide), _float(network), ("batch", None, None, None)


def _side(config: Any) -> tuple[int, int]:
    side = getattr(config, "image_size", None) or IMAGE_SIDE
    if isinstance(side, Mapping):
        side = (side.get("height", IMAGE_SIDE), side.get("width", IMAGE_SIDE))
    return (side[0], side[-1]) if isinstance(side, (list, tuple)) else (side, side)


def _mel(config: Any, setting: Setting, network: Any) -> Example:
    bins = getattr(config, "num_mel_bins", None) or getattr(config, "feature_size", None) or 80
    frames = 2 * getattr(config, "max_source_positions", 1500)
    return (setting.batch, bins, frames), _float(network), ("batch", None, None)


def _samples(config: Any, setting: Setting, network: Any) -> Example:
    """A second of sound; of codecs by channel."""
    channels = getattr(config, "audio_channels", None)
    if channels is None:
        return (setting.batch, 16_000), _float(network), ("batch", None)
    return (setting.batch, channels, 16_000), _float(network), ("batch", None, None)


def _float(network: Any) -> str:
    return str(network.dtype).removeprefix("torch.")


_EXAMPLES: dict[str, Callable[[Any, Setting, Any], Example]] = {
    "input_ids": _tokens, "decoder_input_ids": _decoder_tokens, "bbox": _boxes, "pixel_values": _image,
    "pixel_values_videos": _image, "input_features": _mel, "input_values": _samples,
}  # fmt: skip
"""Input -> its shape, dtype and free axes."""


# ---- one step of a decoder ------------------------------------------------------------------------------------------


def _step(network: Any, config: Any, setting: Setting) -> tuple[Any, Inputs]:
    """The network with its cache as plain tensors: key and value of each layer in, the grown ones out."""
    import torch

    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    new = torch.zeros((setting.batch, setting.seq), dtype=torch.int64)
    tokens = {"input_ids": new, "position_ids": new}
    cache = {
        f"past_{part}_{layer}": torch.zeros((setting.batch, heads, setting.past, width), dtype=network.dtype)
        for layer in range(text.num_hidden_layers)
        for part in ("key", "value")
    }
    dims: dict[str | int, dict[int, str]] = {name: {0: "batch"} for name in tokens}
    dims |= {name: {0: "batch", 2: "past"} for name in cache}
    return _decoding(network, [*tokens, *cache]), Inputs((), {**tokens, **cache}, dims)


def _layer(keys: Any, values: Any) -> Any:
    """One layer of a cache that is there already; made by transformers' own constructor it would be copied first."""
    from transformers.cache_utils import DynamicLayer

    kind: Any = DynamicLayer
    layer = kind()
    layer.keys, layer.values, layer.dtype, layer.device = keys, values, keys.dtype, keys.device
    layer.is_initialized = True
    return layer


def _decoding(network: Any, names: list[str]) -> Any:
    import inspect

    from transformers.cache_utils import DynamicCache

    class Decoding(type(network)):  # type: ignore[misc]
        def forward(self, **given: Any) -> Any:
            past = [given[name] for name in names[2:]]
            cache = DynamicCache()
            cache.layers = [_layer(*pair) for pair in zip(past[::2], past[1::2], strict=True)]
            tokens = {name: given[name] for name in names[:2]}
            made = super().forward(**tokens, past_key_values=cache, use_cache=True)
            layers: list[Any] = cache.layers
            return (made.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in ("self", *names)])
    Decoding.forward.__signature__ = signature  # type: ignore[attr-defined]  # export asks for names, not for **given
    Decoding.__name__ = type(network).__name__
    network.__class__ = Decoding
    return network
