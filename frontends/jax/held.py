"""Arrays that a function holds rather than takes: parameters that it closes over, or finds among its globals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

MAX_LEVELS = 6  # functions in functions: jit(vmap(partial(...)))
INSIDE = ("__wrapped__", "func", "fun", "__self__")
"""Attributes under which wrappers keep what they wrap."""
LIBRARIES = frozenset({"jax", "jaxlib", "flax", "equinox", "haiku", "keras", "numpy", "optax", "einops"})
"""Packages whose functions keep no parameters of a model among their globals."""


Identity = tuple[Any, ...]


def held_arrays(model: Any) -> dict[Identity, str]:
    """Each array that a callable holds -> the path to it, of two words at least if a container holds it."""
    return {identity(array): name for name, array in _held(model, "", MAX_LEVELS, set())}


def identity(array: Any) -> Identity:
    """Equal for the same array. Of numpy's JAX makes another object in the same memory."""
    if isinstance(array, np.ndarray):
        return (array.__array_interface__["data"][0], array.shape, array.dtype.name)
    return (id(array),)


def _held(holder: Any, name: str, levels: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(holder)[0]:
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            yield path_text(path, name), leaf
        elif callable(leaf) and levels and id(leaf) not in seen:
            seen.add(id(leaf))
            for inner, item in _parts(leaf):
                yield from _held(item, inner, levels - 1, seen)


def _parts(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function wraps, the variables it reads from outside, the arguments it was given in advance."""
    for attribute in INSIDE:
        if (inner := getattr(function, attribute, None)) is not None:
            yield "", inner
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    if str(getattr(function, "__module__", "")).partition(".")[0] not in LIBRARIES:
        around = getattr(function, "__globals__", {})
        yield from ((name, around[name]) for name in getattr(code, "co_names", ()) if name in around)
    args, keywords = getattr(function, "args", ()), getattr(function, "keywords", None)
    yield from ((f"x{place}", item) for place, item in enumerate(args if isinstance(args, tuple) else ()))
    yield from keywords.items() if isinstance(keywords, Mapping) else ()


def path_text(path: Any, prefix: str = "") -> str:
    """``('blocks', 0, 'kernel')`` of a pytree as ``prefix.blocks.0.kernel``."""
    if path and getattr(path[-1], "name", "") == "value":  # the array inside an NNX variable
        path = path[:-1]
    words = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    return ".".join(part for word in (prefix, *words) for part in word.split("/") if part not in ("", "~"))
