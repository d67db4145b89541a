"""What a module is called with: `Inputs`, made of the forms that people write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wattir.errors import InputError

DimNames: TypeAlias = Mapping[int, str] | Sequence[str | int | None]


@dataclass(frozen=True)
class Inputs:
    """Arguments of a forward pass, and which of their dims stay free.

    `dims` maps an input (the parameter's name, or its place among `args`) to names of its free axes: ``{"input_ids":
    {0: "batch", 1: "seq"}}`` or ``{0: ("batch", None, None, None)}``. The examples' sizes become the defaults.
    `trip_counts` says how often loops run whose count depends on data, by their names.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str | int, DimNames] = field(default_factory=dict)
    trip_counts: Mapping[str, Any] = field(default_factory=dict)


def inputs_of(given: Any) -> Inputs:
    """`Inputs` from a tensor, a tuple or list of positional arguments, a dict of keyword arguments, ``(args, kwargs)``
    or an `Inputs`."""
    if given is None:
        raise InputError("a torch module without inputs; expected a tensor, a tuple of them, a dict of keyword "
                         "arguments or (args, kwargs); tensors on the meta device will do")  # fmt: skip
    if isinstance(given, Inputs):
        return given
    if isinstance(given, Mapping):
        return Inputs((), dict(given))
    if not isinstance(given, (tuple, list)):
        return Inputs((given,))
    if len(given) == 2 and isinstance(given[0], (tuple, list)) and isinstance(given[1], Mapping):
        return Inputs(tuple(given[0]), dict(given[1]))
    return Inputs(tuple(given))
