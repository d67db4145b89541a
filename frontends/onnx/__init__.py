"""ONNX: `lower` reads a file, bytes or a ModelProto, opset 7 to the newest that the installed onnx knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wattir.dims import Size
from wattir.ir import Graph

__all__ = ["lower"]


def lower(
    source: Any,
    inputs: Mapping[str, Sequence[Size | str]] | None = None,
    *,
    name: str | None = None,
    trip_counts: Mapping[str, Size | str] | None = None,
) -> Graph:
    """The Graph of an ONNX model: a path, the bytes of one, or an `onnx.ModelProto`. Weights are never loaded.

    Free dims of the file become Dims of the same names; `inputs` gives some inputs other shapes, of numbers or names
    (``{"x": ("batch", 3, 224, 224)}``). `trip_counts` says how often a loop runs whose count the file leaves open, by
    the name of its node. Raises ModelFileError, UnsupportedError or SizeError.
    """
    from wattir.frontends.onnx.lowering import lower_model

    return lower_model(source, inputs or {}, name, trip_counts or {})[0]
