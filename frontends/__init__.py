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

BY_ENDING = {".onnx": "onnx", ".ort": "onnx", ".pb": "onnx"}
"""File ending -> module here."""

BY_OBJECT = {"onnx": "onnx"}
"""Top-level package of an object's class, or of a class it derives from -> module here."""


def lower_any(model: Any, inputs: Any = None) -> Graph:
    """Lowers a path or a framework's object with the frontend it belongs to; the result is a checked Graph."""
    lower = import_module(f"wattir.frontends.{_frontend_of(model)}").lower if _frontend_of(model) else _foreign(model)
    return check_graph(lower(model, inputs))


def _frontend_of(model: Any) -> str | None:
    if isinstance(model, (str, os.PathLike)):
        return BY_ENDING.get(os.path.splitext(os.fspath(model))[1].lower())
    packages = (cls.__module__.partition(".")[0] for cls in type(model).__mro__)
    return next((BY_OBJECT[package] for package in packages if package in BY_OBJECT), None)


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
