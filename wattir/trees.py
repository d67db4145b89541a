"""Ensembles of regression trees: short texts, flat tables for `roofline.correction` to walk.

Those of a machine's own layers stand in its device file, those of libraries beside it (`wattir.trees_file`).

A text is base64 of one byte, how many of `roofline.FEATURES` there were when it was made, and of zlib of: for each of
these one byte, how many thresholds it has, and those as 32 bit floats, ascending; then two bytes, how many trees; then
the nodes of each in the order they are walked, a node before its smaller half before its larger half: one byte, the
feature, and one, which of its thresholds, or for a leaf one byte `LEAF` and its value as a 16 bit float.
"""

from __future__ import annotations

import math
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from wattir.errors import DeviceError
from wattir.roofline import FEATURES
from wattir.trees_file import Stored, read_trees

LEAF = 255
FIRST, ZLIB = 14, 0x78
"""The first texts did not say how many features they know, which was so many: they begin with zlib's own first byte."""
MOST_BYTES = 4 * 2**20
"""Of an ensemble unpacked: one that is larger is no correction but a mistake or an attack."""

Node = tuple[int, float] | tuple[int, float, "Node", "Node"]
"""(LEAF, value), or (feature, threshold, for values up to it, for larger ones)."""
Ensemble = str | Stored
"""A text, or where it lies."""


def pack(trees: Sequence[Node]) -> str:
    """The text of these trees."""
    thresholds: list[list[float]] = [[] for _ in FEATURES]
    for tree in trees:
        for node in _walk(tree):
            if node[0] != LEAF and node[1] not in thresholds[node[0]]:
                thresholds[node[0]].append(node[1])
    packed = b"".join(struct.pack(f"<B{len(found)}f", len(found), *sorted(found)) for found in thresholds)
    packed += struct.pack("<H", len(trees))
    places = [{value: place for place, value in enumerate(sorted(found))} for found in thresholds]
    for node in (node for tree in trees for node in _walk(tree)):
        leaf = node[0] == LEAF
        packed += struct.pack("<Be", LEAF, node[1]) if leaf else struct.pack("<BB", node[0], places[node[0]][node[1]])
    return b64encode(bytes([len(FEATURES)]) + zlib.compress(packed, 9)).decode()


def _walk(node: Any) -> list[Any]:
    return [node] if node[0] == LEAF else [node, *_walk(node[2]), *_walk(node[3])]


def text_of(ensemble: Ensemble) -> str:
    """The text of an ensemble, wherever it lies."""
    return read_trees(ensemble) if isinstance(ensemble, Stored) else ensemble


@lru_cache(maxsize=256)
def unpack(ensemble: Ensemble) -> tuple[float, ...]:
    """The flat table of an ensemble, as `wattir.roofline.correction` takes it; DeviceError if it is damaged."""
    text = text_of(ensemble)
    try:
        features, compressed = _opened(b64decode(text, validate=True))
        table = _table(zlib.decompressobj().decompress(compressed, MOST_BYTES), features)
    except (ValueError, zlib.error, struct.error, IndexError) as error:  # binascii's error is a ValueError
        raise DeviceError(f"correction {text[:20]!r}...: damaged ({error}); expected what `wattir fit` wrote") from None
    if not all(map(math.isfinite, table)):
        raise DeviceError(f"correction {text[:20]!r}...: damaged (not a number); expected what `wattir fit` wrote")
    return table


def _opened(stored: bytes) -> tuple[int, bytes]:
    """How many features a text knows, and its compressed part."""
    features, compressed = (FIRST, stored) if stored[0] == ZLIB else (stored[0], stored[1:])
    if features > len(FEATURES):
        raise ValueError(f"of {features} features, this wattir has {len(FEATURES)}")
    return features, compressed


def _table(packed: bytes, features: int) -> tuple[float, ...]:
    at, thresholds = 0, []
    for _ in range(features):
        thresholds.append(struct.unpack_from(f"<{packed[at]}f", packed, at + 1))
        at += 1 + 4 * packed[at]
    (count,) = struct.unpack_from("<H", packed, at)
    nodes: list[float] = []
    starts, at = [], at + 2
    for _ in range(count):
        starts.append(float(1 + count + len(nodes)))
        at = _read_tree(packed, at, thresholds, nodes)
    return (float(count), *starts, *nodes)


def _read_tree(packed: bytes, at: int, thresholds: Sequence[Sequence[float]], nodes: list[float]) -> int:
    """Appends one tree to `nodes`; where the next begins."""
    waiting: list[int] = []  # nodes whose larger half is still to come
    while True:
        feature = packed[at]
        if feature != LEAF:
            waiting.append(len(nodes))
            nodes += (float(feature), thresholds[feature][packed[at + 1]], 0.0)
            at += 2
            continue
        nodes += (-1.0, *struct.unpack_from("<e", packed, at + 1), 0.0)
        at += 3
        if not waiting:
            return at
        parent = waiting.pop()
        nodes[parent + 2] = float(len(nodes) - parent)
