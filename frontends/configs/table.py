"""The published models that are known by name: rows of ``models.toml``, found whatever their case or publisher."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from wattir.errors import InputError, suggestion
from wattir.frontends.configs.keys import Keys

FILE = "models.toml"


@lru_cache
def _table(file: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / file).read_text(encoding="utf-8"))


def names(file: str = FILE) -> tuple[str, ...]:
    """All names, in the order of the file."""
    return tuple(name for name in _table(file) if name != "aliases")


def find(name: str, file: str = FILE) -> str | None:
    """The name in the table that is meant: itself, an alias, or the only one equal but for case and publisher."""
    if name in names(file):
        return name
    return _meant(file).get(_bare(name))


@lru_cache
def _meant(file: str) -> dict[str, str]:
    table = _table(file)
    found: dict[str, str] = {}
    for name in names(file):
        found.setdefault(_bare(name), name)
    return found | {_bare(alias): name for alias, name in table["aliases"].items()}


def _bare(name: str) -> str:
    return name.rpartition("/")[2].lower()


def row(name: str, file: str = FILE) -> tuple[Keys, str]:
    """A model's keys and its name; InputError suggests near misses."""
    found = find(name, file)
    if found is None:
        bare = {_bare(known): known for known in names(file)}
        near = suggestion(_bare(name), bare) or "; see `wattir models`"
        raise InputError(f"{name!r}: no published model of this name; expected one of {len(names(file))}{near}")
    entry = _table(file)[found]
    config = entry.get("config") or _table(file)[entry["same"]]["config"]
    return Keys(config, f"{found} ({entry['source']})"), found
