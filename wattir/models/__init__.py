"""Built-in models: ``.wattir`` files in this folder, for any machine. `benchmarks/make_models.py` makes them."""

from __future__ import annotations

import os
from functools import lru_cache

from wattir.ir import Graph
from wattir.wattir_file import read

FOLDER = os.path.dirname(__file__)


@lru_cache
def model_names() -> tuple[str, ...]:
    """The names of all built-in models, sorted."""
    return tuple(sorted(name[:-7] for name in os.listdir(FOLDER) if name.endswith(".wattir")))


def load_model(name: str) -> Graph:
    """The graph of a built-in model."""
    return read(os.path.join(FOLDER, name + ".wattir")).graph
