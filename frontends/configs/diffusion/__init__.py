"""Generators of images and video by configuration: a published name, or a pipeline's folder as diffusers writes it."""

from __future__ import annotations

import os
from typing import Any

from wattir.errors import InputError, ModelFileError, UnsupportedError, suggestion
from wattir.frontends.configs.diffusion.generator import (
    AUTOENCODER_SLOTS,
    AUTOENCODERS,
    DENOISER_SLOTS,
    DENOISERS,
    ENCODERS,
    EXPERT_SLOTS,
    LANGUAGE_MODELS,
    PRIOR_SLOTS,
    Call,
    Generator,
    Part,
    Picture,
    call_of,
    decoder_graph,
    denoiser_graph,
    encoder_graph,
    image_graph,
    prior_graph,
    table,
)
from wattir.frontends.configs.keys import Keys, read_json
from wattir.ir import Graph

__all__ = ["Call", "Generator", "Part", "Picture", "decoder_graph", "denoiser_graph", "encoder_graph", "find",
           "image_graph", "is_folder", "load_generator", "lower", "names", "prior_graph", "short",
           "short_names"]  # fmt: skip

INDEX = "model_index.json"
CLASSES = (*DENOISERS, *AUTOENCODERS, *ENCODERS, *LANGUAGE_MODELS)


def names() -> tuple[str, ...]:
    """The published generators that are known by name."""
    return tuple(name for name in table("models.toml") if name != "aliases")


def find(name: str) -> str | None:
    """The published generator that a name means, whatever its case and publisher."""
    bare = short_names()
    bare |= {short(alias): each for alias, each in table("models.toml").get("aliases", {}).items()}
    return name if name in names() else bare.get(short(name))


def short(name: str) -> str:
    """A name without its publisher, in lower case."""
    return name.rpartition("/")[2].lower()


def short_names() -> dict[str, str]:
    """The published generators by their short names."""
    return {short(name): name for name in reversed(names())}


def is_folder(path: str) -> bool:
    """Whether a pipeline lies there."""
    return os.path.isfile(os.path.join(path, INDEX))


def load_generator(source: str) -> Generator:
    """A published name such as ``black-forest-labs/FLUX.1-dev``, or a folder with ``model_index.json``: JSON alone is
    read. InputError for an unknown name, ModelFileError and UnsupportedError for files that are not as expected."""
    if is_folder(source):
        return _from_folder(source)
    found = find(source)
    if found is None:
        near = suggestion(short(source), short_names()) or "; see `wattir models`"
        raise InputError(f"{source!r}: no published generator of this name; expected one of {len(names())}{near}")
    return _from_table(found)


def lower(model: str, inputs: Any = None) -> Graph:
    """One pass of a generator's denoiser at the pipeline's usual size, with a free ``batch``."""
    if inputs:
        raise InputError(
            f"{model}: inputs were given; expected none, its sizes are those of its pipeline but for batch"
        )
    found = load_generator(model)
    return denoiser_graph(found, found.picture)


def _from_table(name: str) -> Generator:
    every = table("models.toml")
    row = every[name]
    if "same" in row:
        row = {**every[row["same"]], **row}
    shared, where = table("parts.toml"), f"{name} ({row['source']})"
    given = {
        slot: (dict(shared[value]["config"]) if isinstance(value, str) else dict(value))
        for slot, value in row["parts"].items()
    }
    parts = tuple(_part(slot, Keys(config, f"{where}: {slot}")) for slot, config in given.items())
    call = call_of(row["pipeline"], where, **row.get("call", {}))
    return Generator(name, row["source"], call, parts, row.get("same", name))


def _part(slot: str, keys: Keys, kind: str = "") -> Part:
    kind = kind or keys.text("_class_name")
    if kind not in CLASSES:
        near = suggestion(kind, CLASSES)
        raise UnsupportedError(
            f"{keys.where}: class {kind!r}; expected one of {len(CLASSES)} such as {CLASSES[0]}{near}"
        )
    return Part(slot, kind, keys)


def _from_folder(path: str) -> Generator:
    """The pipeline that ``model_index.json`` names, with the configuration of each component in its own folder: a
    pipeline saved without one has ``[null, null]`` for it."""
    index = read_json(os.path.join(path, INDEX))
    pipeline = index.text("_class_name")
    call = call_of(pipeline, index.where)
    wanted = (*call.tokens, *PRIOR_SLOTS, *DENOISER_SLOTS, *EXPERT_SLOTS, *AUTOENCODER_SLOTS)
    named = {slot: index.words(slot)[1:] for slot in wanted}
    parts = tuple(_component(path, slot, str(kind[0])) for slot, kind in named.items() if any(kind))
    for slots, what in ((DENOISER_SLOTS, "denoiser"), (AUTOENCODER_SLOTS, "autoencoder")):
        if not any(part.slot in slots for part in parts):
            raise ModelFileError(f"{index.where}: no {what}; expected one of the keys {', '.join(slots)}")
    return Generator(os.path.basename(os.path.normpath(path)), path, call, parts)


def _component(path: str, slot: str, kind: str) -> Part:
    return _part(slot, read_json(os.path.join(path, slot, "config.json")), kind)
