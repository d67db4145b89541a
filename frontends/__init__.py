"""Frontends: one module each, `lower(model, inputs) -> Graph`; found by what the model is, imported only then.

Other people's frontends are entry points of the group ``wattir.frontends``: a name, and a module with
`recognises(model) -> bool` and `lower(model, inputs=None) -> Graph`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

if __name__ != "wattir.frontends":
    raise ImportError(f"import wattir.frontends, not {__name__}: this folder is a part of wattir")

from wattir.errors import ModelFileError, UnsupportedError
from wattir.graph_check import check_graph
from wattir.ir import Graph

BY_ENDING = {
    ".onnx": "onnx", ".ort": "onnx", ".pb": "onnx", ".jaxexport": "jax", ".mlir": "jax", ".mlirbc": "jax",
    ".pt2": "torch", ".json": "configs",
}  # fmt: skip
"""File ending -> module here. Of configurations, `torch` lowers those that `configs` has no description of."""

BY_OBJECT = {
    "onnx": "onnx", "jax": "jax", "jaxlib": "jax", "flax": "jax", "equinox": "jax", "keras": "jax",
    "torch": "torch", "transformers": "torch",
}  # fmt: skip
"""Top-level package of an object's class, or of a class it derives from -> module here."""


def lower_any(model: Any, inputs: Any = None) -> Graph:
    """Lowers a path or a framework's object with the frontend it belongs to; the result is a checked Graph."""
    found = _frontend_of(model, inputs)
    lower = import_module(f"wattir.frontends.{found}").lower if found else _foreign(model)
    return check_graph(lower(model, inputs))


def _frontend_of(model: Any, inputs: Any = None) -> str | None:
    if isinstance(model, (str, os.PathLike)):
        found = BY_ENDING.get(os.path.splitext(os.fspath(model))[1].lower())
        return found if found != "configs" or _configs().recognises(model) else "torch"
    packages = (cls.__module__.partition(".")[0] for cls in type(model).__mro__)
    found = next((BY_OBJECT[package] for package in packages if package in BY_OBJECT), None)
    return "jax" if found is None and callable(model) and _holds_jax(inputs) else found


def _configs() -> Any:
    return import_module("wattir.frontends.configs")


def model_names() -> tuple[str, ...]:
    """The published models that lower by name alone."""
    return (*_configs().names(), *_generators().names())


def lower_name(name: str) -> Graph | None:
    """A published model by its name, or None where none has it; of a generator of images or video, its denoiser."""
    for module in (_configs(), _generators()):
        if module.find(name):
            return check_graph(module.lower(name))
    return None


def _generators() -> Any:
    return import_module("wattir.frontends.configs.diffusion")


def _holds_jax(inputs: Any) -> bool:
    """Whether there is an array of JAX or numpy, or a description of one, among nested inputs of a plain function."""
    if isinstance(inputs, (tuple, list)):
        return any(map(_holds_jax, inputs))
    if isinstance(inputs, dict):
        return any(map(_holds_jax, inputs.values()))
    return type(inputs).__module__.partition(".")[0] in ("jax", "jaxlib", "numpy")


def _foreign(model: Any) -> Any:
    from importlib.metadata import entry_points

    for entry in entry_points(group="wattir.frontends"):
        module = entry.load()
        if module.recognises(model):
            return module.lower
    if isinstance(model, (str, os.PathLike)):
        known = ", ".join(sorted(BY_ENDING))
        path = os.fspath(model)
        raise ModelFileError(f"{path}: no frontend reads this file; expected an ending of {known} or .wattir")
    raise UnsupportedError(f"{type(model).__module__}.{type(model).__qualname__}: no frontend for such an object")
