"""What an argument is by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wattir.kinds import FLOATS

PARAMETERS = re.compile(
    r"(.*_)?(params?|parameters|weights?|variables|model|state_dict|theta|kernel)$|w$", re.IGNORECASE
)
CACHE = re.compile(r"cache|past|kv_state", re.IGNORECASE)
STATISTICS = re.compile(r"batch_stats|moving_mean|moving_var|running_(mean|var)|(mean|var)_ema", re.IGNORECASE)
NOT_TRAINED = re.compile(rf"{STATISTICS.pattern}|seed_generator|rng|(^|\.)(mean|var|variance)$", re.IGNORECASE)


WEIGHTS = FLOATS | {"complex64", "complex128", "int8", "int4", "uint4", "int2", "uint2"}
"""What a container of parameters holds: floats, or weights quantized to signed bytes and less (images are uint8)."""


def parameters_among(arguments: Mapping[str, bool]) -> frozenset[str]:
    """Which arguments are parameters: by their names, else the first of several if it is a container of `WEIGHTS`.

    `arguments`: name -> whether it is such a container.
    """
    named = frozenset(name for name in arguments if PARAMETERS.match(name))
    first, is_container = next(iter(arguments.items()), ("", False))
    return named or (frozenset({first}) if is_container and len(arguments) > 1 else frozenset())


def input_role(name: str) -> str:
    """`state` for caches, `constant` for running statistics, else `input`."""
    return "state" if CACHE.search(name) else ("constant" if STATISTICS.search(name) else "input")


def parameter_role(name: str) -> str:
    """`constant` for statistics and seeds, `state` for caches, else `weight`."""
    return "constant" if NOT_TRAINED.search(name) else ("state" if CACHE.search(name) else "weight")
