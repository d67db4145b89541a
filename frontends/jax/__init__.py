"""JAX: functions, Flax (NNX, Linen), Equinox-like and Keras models by their jaxpr; exported programs as StableHLO."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from wattir.dim_text import parse
from wattir.dims import Size
from wattir.ir import Graph

__all__ = ["lower"]


def lower(
    model: Any,
    inputs: Any = None,
    *,
    name: str | None = None,
    trip_counts: Mapping[str, Size | str] | None = None,
) -> Graph:
    """The Graph of a model called with `inputs`, or of an exported program (a path, or a `jax.export.Exported`).

    `inputs`: a tuple of positional arguments, a dict of named ones, both as ``(args, kwargs)``, or the only argument;
    pytrees of `jax.ShapeDtypeStruct` or arrays, of which only shape and type count. Sizes of
    `jax.export.symbolic_shape` stay free. `trip_counts` says how often a ``while`` runs that ends on data, by its
    label; without it that count is a free size. Which arguments are weights: see `wattir.frontends.jax.trace`.
    Raises UnsupportedError, ModelFileError, InputError or SizeError.
    """
    trips = {label: parse(str(count)) for label, count in (trip_counts or {}).items()}
    if isinstance(model, (str, os.PathLike, bytes)) or hasattr(model, "mlir_module_serialized"):
        from wattir.frontends.jax.stablehlo import lower_exported

        return lower_exported(model, inputs, name, trips)
    from wattir.frontends.jax.lowering import lower_model

    return lower_model(model, inputs, name, trips)
