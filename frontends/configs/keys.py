"""Values of a configuration, each checked when it is asked for; errors name the key and the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wattir import reading
from wattir.errors import ModelFileError, suggestion

LARGEST = 2**24
"""No width, count of layers or vocabulary is larger; what claims to be is damaged."""


class Keys:
    """A mapping with the place it came from: a path, or a name and its table."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def whole(self, key: str, *others: str, default: int | None = None, least: int = 1) -> int:
        """A whole number under the first of these keys that is there."""
        found = next((name for name in (key, *others) if name in self), None)
        if found is None:
            if default is None:
                raise self.missing(key, "a whole number")
            return default
        value = self.values[found]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            raise self.wrong(found, f"a whole number from {least} to {LARGEST}")
        return value

    def number(self, key: str, default: float) -> float:
        """A number of at least 0."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= LARGEST:
            raise self.wrong(key, f"a number from 0 to {LARGEST}")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or False."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.missing(key, "a text")
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def words(self, key: str) -> list[Any]:
        """A list, or none."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > LARGEST:
            raise self.wrong(key, "a list")
        return value

    def part(self, key: str) -> Keys:
        """A configuration in this one."""
        value = self.values.get(key)
        if value is None:
            raise self.missing(key, "a configuration")
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a configuration")
        return Keys(value, f"{self.where}: {key}")

    def missing(self, key: str, expected: str) -> ModelFileError:
        """The error of a key that is not there."""
        return ModelFileError(
            f"{self.where}: no key {key!r}; expected {expected}{suggestion(key, map(str, self.values))}"
        )

    def wrong(self, key: str, expected: str) -> ModelFileError:
        """The error of a value that cannot be."""
        return ModelFileError(f"{self.where}: {key} = {str(self.values[key])[:60]!r}; expected {expected}")


def read_json(path: str) -> Keys:
    """The object in a JSON file."""
    return Keys(reading.read_json(path, "a config.json of transformers", ModelFileError), path)
