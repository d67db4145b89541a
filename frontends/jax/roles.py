"""What an argument is by its name."""

from __future__ import annotations

import re

PARAMETERS = re.compile(r"(.*_)?(params?|parameters|weights|variables|model|state_dict)$", re.IGNORECASE)
CACHE = re.compile(r"cache|past|kv_state", re.IGNORECASE)
STATISTICS = re.compile(r"batch_stats|moving_mean|moving_var|running_(mean|var)|seed_generator|rng", re.IGNORECASE)


def input_role(name: str) -> str:
    """`state` for caches, else `input`."""
    return "state" if CACHE.search(name) else "input"


def parameter_role(name: str) -> str:
    """`constant` for statistics and seeds, `state` for caches, else `weight`."""
    return "constant" if STATISTICS.search(name) else ("state" if CACHE.search(name) else "weight")


def argument_role(path: str) -> str:
    """The role of a leaf by its path, whose first word is the argument's name; ``.value`` ends an NNX variable's."""
    is_parameter = path.endswith(".value") or PARAMETERS.match(path.partition(".")[0])
    return parameter_role(path) if is_parameter else input_role(path)
