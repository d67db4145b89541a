"""Search spaces as TOML files.

name = "cells"

[sizes]                                # what is searched besides the choices: lists, or ranges as "1..12" and
batch = [1, 8]                         # "128..4096:128"

[[part]]                               # runs in every candidate: a model file or name, or a layer by description
layer = "conv"                         # a function of wattir.layers; its sizes are numbers or formulas
batch = "batch"
c_in = 3
c_out = 16
in_spatial = [32, 32]
kernel = [3, 3]
times = 1                              # a number or a formula in the names, such as "equal(depth, 3)"

[[choice]]                             # each of these names chooses one of the blocks
names = ["edge0", "edge1"]
times = 5
[choice.blocks]
none = {}                              # nothing runs
wide = { model = "block.onnx" }
narrow = { layer = "matmul", m = "batch", n = 16, k = 16 }
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wattir import layers
from wattir.api import lower
from wattir.dim_text import parse
from wattir.errors import SizeError, SpaceError, WattirError, suggestion
from wattir.ir import Graph
from wattir.reading import read_toml
from wattir.spaces import MOST_VALUES, Block, Choice, Space, supernet

MOST_COUNT = 65535
"""Of what a layer takes as a plain count, such as operands."""


def load_space(path: str) -> Space:
    """The space of a file; SpaceError names the file, the key and what was expected."""
    return _Reader(path).space(read_toml(path, "a space in TOML", SpaceError))


def values_of(text: str) -> tuple[int, ...]:
    """``32,64,96`` or ``128..4096:128`` (both ends, by steps) or a mix of them; SpaceError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        ends, _, step = part.strip().partition(":")
        first, dots, last = ends.partition("..")
        numbers = [first, last if dots else first, step or "1"]
        if not all(n.isascii() and n.isdigit() and len(n) < 14 for n in numbers) or (step and not dots):
            raise SpaceError(f"found {part.strip()!r}; expected values such as 32,64,96 or 128..4096:128")
        low, high, by = map(int, numbers)
        if high < low or by == 0 or (high - low) // by >= MOST_VALUES:
            raise SpaceError(f"found {part.strip()!r}; expected an ascending range of at most {MOST_VALUES} values")
        found += range(low, high + 1, by)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Reader:
    where: str

    def space(self, table: Mapping[str, Any]) -> Space:
        self._keys(table, ("name", "sizes", "part", "choice"), "")
        parts = [self._block(part, f"part {n}: ") for n, part in enumerate(self._tables(table, "part"), 1)]
        choices = [
            c for n, part in enumerate(self._tables(table, "choice"), 1) for c in self._choices(part, f"choice {n}: ")
        ]
        sizes = table.get("sizes", {})
        if not isinstance(sizes, Mapping):
            raise self._wrong("sizes", sizes, "a table of values by name")
        values = {name: self._values(name, value) for name, value in sizes.items()}
        name = str(table.get("name", os.path.splitext(os.path.basename(self.where))[0]))
        try:
            return supernet(name, [*parts, *choices], values)
        except SpaceError as error:
            raise SpaceError(f"{self.where}: {error}") from None

    def _choices(self, table: Mapping[str, Any], at: str) -> Iterator[Choice]:
        self._keys(table, ("names", "times", "blocks"), at)
        names, blocks = table.get("names"), table.get("blocks")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.isidentifier() for n in names):
            raise self._wrong(f"{at}names", names, 'a list of names such as ["edge0", "edge1"]')
        if not isinstance(blocks, Mapping) or not blocks:
            raise self._wrong(f"{at}blocks", blocks, "a table of blocks by label")
        models = {label: self._model(block, f"{at}blocks.{label}: ") for label, block in blocks.items()}
        times = self._size(table.get("times", 1), f"{at}times")
        return (Choice(name, models, times) for name in names)

    def _block(self, table: Mapping[str, Any], at: str) -> Block:
        times = self._size(table.get("times", 1), f"{at}times")
        return Block(self._model({key: value for key, value in table.items() if key != "times"}, at), times)

    def _model(self, table: Any, at: str) -> Graph | None:
        """The graph of a block; None of an empty table."""
        if not isinstance(table, Mapping):
            raise self._wrong(at.rstrip(": "), table, "a table with model or layer, or {} for nothing")
        if not table:
            return None
        if "layer" in table:
            return self._layer(table, at)
        self._keys(table, ("model",), at)
        model = str(table.get("model"))
        beside = os.path.join(os.path.dirname(self.where), model)
        try:
            return lower(beside if os.path.exists(beside) else model)
        except WattirError as error:
            raise SpaceError(f"{self.where}: {at}model: {error}") from None

    def _layer(self, table: Mapping[str, Any], at: str) -> Graph:
        kind = table["layer"]
        if kind not in layers.__all__:
            near = suggestion(str(kind), layers.__all__)
            raise self._wrong(f"{at}layer", kind, f"one of {', '.join(layers.__all__)}{near}")
        function = getattr(layers, kind)
        known = inspect.signature(function).parameters
        given = {key: value for key, value in table.items() if key != "layer"}
        self._keys(given, tuple(known), f"{at}{kind} ")
        missing = [name for name, p in known.items() if p.default is p.empty and name not in given]
        if missing:
            raise SpaceError(f"{self.where}: {at}{kind} lacks {', '.join(missing)}; expected a value for each")
        taken = {key: self._argument(value, str(known[key].annotation), f"{at}{key}") for key, value in given.items()}
        try:
            graph: Graph = function(**taken)
        except (WattirError, TypeError, ValueError, KeyError, ZeroDivisionError) as error:
            raise SpaceError(f"{self.where}: {at}{kind}: {error}") from None
        return graph

    def _argument(self, value: Any, kind: str, at: str) -> Any:
        """What a layer's function takes, by its annotation."""
        if kind in ("str", "bool", "bool | None"):
            return value
        if isinstance(value, list) and ("Shape" in kind or "tuple" in kind):
            return tuple(self._size(each, at) for each in value)
        if kind == "int" and isinstance(value, int) and value > MOST_COUNT:
            raise self._wrong(at, value, f"at most {MOST_COUNT}")
        return self._size(value, at)

    def _size(self, value: Any, at: str) -> Any:
        """A number or a formula in the names."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        if not isinstance(value, str):
            raise self._wrong(at, value, 'a whole number or a formula such as "4*width"')
        try:
            return parse(value)
        except (SizeError, RecursionError) as error:
            raise SpaceError(f"{self.where}: {at}: {error}") from None

    def _values(self, name: str, value: Any) -> tuple[int, ...]:
        listed = value if isinstance(value, list) else [value]
        try:
            return tuple(n for each in listed for n in (values_of(each) if isinstance(each, str) else (each,)))
        except SpaceError as error:
            raise SpaceError(f"{self.where}: sizes.{name}: {error}") from None

    def _tables(self, table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
            raise self._wrong(key, found, f"[[{key}]] tables")
        return found

    def _keys(self, table: Mapping[str, Any], known: tuple[str, ...], at: str) -> None:
        for key in table:
            if key not in known:
                near = suggestion(key, known)
                raise SpaceError(f"{self.where}: {at}unknown key {key!r}; expected {', '.join(known)}{near}")

    def _wrong(self, at: str, value: Any, expected: str) -> SpaceError:
        return SpaceError(f"{self.where}: {at} = {value!r}; expected {expected}")
