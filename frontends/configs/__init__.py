"""Configurations: a Hugging Face ``config.json``, or the name of a published model, without framework and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from wattir.errors import InputError, suggestion
from wattir.frontends.configs import table
from wattir.frontends.configs.architecture import Decoder
from wattir.frontends.configs.decoder import Footprint, decoder_graphs, footprint, forward_graph, phase, tower
from wattir.frontends.configs.huggingface import decoder_of, is_known
from wattir.frontends.configs.keys import Keys, read_json
from wattir.ir import Graph, replace_graph

__all__ = [
    "Decoder", "Footprint", "decoder_graphs", "footprint", "forward_graph", "load_config", "lower", "names", "phase",
    "tower",
]  # fmt: skip

SETTINGS = ("batch", "seq", "past")


def load_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> Decoder:
    """The model that a configuration describes: a path to ``config.json`` or a folder with one, its content as a
    mapping, or a published name such as ``Qwen/Qwen3-8B`` (`names`). ModelFileError names key and file."""
    if isinstance(source, Mapping):
        return decoder_of(Keys(source, "config"), str(source.get("_name_or_path") or source.get("model_type")))
    path = os.fspath(source)
    path = os.path.join(path, "config.json") if os.path.isdir(path) else path
    if os.path.isfile(path):
        keys = read_json(path)
        return decoder_of(keys, str(keys.values.get("_name_or_path") or keys.values.get("model_type")))
    return decoder_of(*table.row(path))


def names() -> tuple[str, ...]:
    """The published models that are known by name."""
    return table.names()


def find(name: str) -> str | None:
    """The published model that a name means, whatever its case and publisher; None where there is none."""
    return table.find(name)


def recognises(path: str | os.PathLike[str]) -> bool:
    """Whether a ``config.json`` is of a model type that is described here; ModelFileError where it is none at all."""
    keys = read_json(os.fspath(path))
    return is_known(keys)


def lower(model: Any, inputs: Any = None) -> Graph:
    """What `load_config` reads as one graph: a forward pass with free sizes ``batch`` and ``seq``.

    `inputs` may set them, ``{"seq": 512}``; with ``past`` it is one decode step, with free sizes ``batch`` and
    ``past``.
    """
    asked = _setting(inputs)
    config = load_config(model)
    graph = decoder_graphs(config)[1] if asked.get("past") else forward_graph(config)
    return replace_graph(graph, sizes={name: asked.get(name, value) for name, value in graph.sizes.items()})


def _setting(given: Any) -> Mapping[str, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"inputs of a configuration are a {type(given).__name__}; expected a mapping of {SETTINGS}")
    for name, value in given.items():
        if name not in SETTINGS:
            near = suggestion(str(name), SETTINGS)
            raise InputError(f"inputs of a configuration: {name!r}; expected {SETTINGS}{near}")
        if not isinstance(value, int) or isinstance(value, bool) or value < (name != "past"):
            raise InputError(f"inputs of a configuration: {name} = {value!r}; expected a whole number of at least 1")
    return given
