"""Descriptions that others wrote, read whole: plain files of a bounded size, as text, TOML or JSON.

Whatever is wrong is one line: an `error` of the caller's kind, with what was `expected` there.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from typing import Any

from wattir.errors import InputError

MOST_BYTES = 16 * 2**20
"""A description that is longer is a mistake or an attack."""


def check_file(path: str, expected: str, error: type[InputError], most_bytes: int = MOST_BYTES) -> None:
    """Refuses what is no plain file, before it is opened: opening a named pipe would wait for ever."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as reason:  # a path that cannot be one
        raise error(f"{path}: cannot be read ({reason}); expected {expected}") from None
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: no plain file; expected {expected}")
    if found.st_size > most_bytes:
        raise error(f"{path}: {found.st_size} bytes; expected {expected}, of at most {most_bytes} bytes")


def read_text(path: str, expected: str, error: type[InputError], most_bytes: int = MOST_BYTES) -> str:
    """The text of a file."""
    check_file(path, expected, error, most_bytes)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"{path}: cannot be read ({reason}); expected {expected}") from None


def read_toml(path: str, expected: str, error: type[InputError]) -> dict[str, Any]:
    """The table in a TOML file."""
    return toml_of(read_text(path, expected, error), path, expected, error)


def toml_of(text: str, where: str, expected: str, error: type[InputError]) -> dict[str, Any]:
    """The table in a TOML text, which `where` names."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as reason:  # no TOML, a number of thousands of digits, nesting without end
        raise error(f"{where}: not TOML ({reason}); expected {expected}") from None


def read_json(path: str, expected: str, error: type[InputError]) -> dict[str, Any]:
    """The object in a JSON file."""
    text = read_text(path, expected, error)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: no JSON ({reason}); expected {expected}") from None
    if not isinstance(found, dict):
        raise error(f"{path}: a {type(found).__name__}; expected an object, {expected}")
    return found
