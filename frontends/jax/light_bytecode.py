"""MLIR bytecode without the content of its large constants.

Bytecode (https://mlir.llvm.org/docs/BytecodeFormat) is a header and sections that say how long they are. Of each record
in the section of attributes and types, the section of offsets says how long it is. A dense attribute, of StableHLO's
portable dialect VHLO as of the builtin one, is a code, a type, and the number of its bytes before them: these become
one element, all of whose bytes are `mlir_process.MARK`, which MLIR reads as a splat. Blobs of resources become empty.
All other bytes stay, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from math import prod
from typing import BinaryIO

from wattir.frontends.jax.mlir_process import MARK

KEEP_BYTES = 4096
MAX_KEPT_BYTES = 256 << 20
ATTRIBUTES, ATTRIBUTE_OFFSETS, RESOURCES, RESOURCE_OFFSETS = 2, 3, 5, 6
ALIGNED, PADDING = 0x80, 0xCB
WIDTHS = (1, 2, 4, 8, 16)  # bytes of one element
BLOB = 0  # kind of a resource, beside bool and string

EMPTY = b"\x03\x01"  # a blob: alignment 1, size 0

Span = tuple[int, int]
Spans = dict[int, Span]
"""Kind of a section -> start and end of its content."""


def at(file: BinaryIO, start: int, count: int) -> bytes:
    """The bytes at a place, fewer where the file ends; ValueError where they are too many to be kept."""
    if not 0 <= count <= MAX_KEPT_BYTES or start < 0:
        raise ValueError(f"{count} bytes at {start}; expected up to {MAX_KEPT_BYTES}")
    file.seek(start)
    return file.read(count)


def varint(value: int) -> bytes:
    """A number as bytecode has it: the zeros at the low end of its first byte count the bytes that follow."""
    for width in range(1, 9):
        if value < 1 << (7 * width):
            return ((value << width) | (1 << (width - 1))).to_bytes(width, "little")
    return b"\0" + value.to_bytes(8, "little")


class Numbers:
    """The varints in some bytes, one after the other."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self.data, self.place = data, place

    def next(self) -> int:
        first = self.data[self.place]
        count = (first & -first).bit_length() or 9
        value = int.from_bytes(self.data[self.place : self.place + count], "little")
        self.place += count
        return value >> min(count, 8)

    def byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def more(self) -> bool:
        return self.place < len(self.data)


def light_bytecode(file: BinaryIO, start: int, size: int) -> bytes:
    """The module of `size` bytes at `start`; ValueError or IndexError where it is not as the format says."""
    head = at(file, start, 256)
    numbers = Numbers(head, 4)
    numbers.next()
    first = head.index(b"\0", numbers.place) + 1  # after the version and the producer's name
    spans = dict(_sections(file, start + first, start + size))
    light = {**_attributes(file, spans), **_resources(file, spans)}
    made = [head[:first]]
    for kind, (begin, end) in spans.items():
        content = light[kind] if kind in light else at(file, begin, end - begin)
        made += [bytes((kind,)), varint(len(content)), content]
    return b"".join(made)


def _sections(file: BinaryIO, place: int, end: int) -> Iterator[tuple[int, Span]]:
    while place < end:
        head = at(file, place, 64)
        numbers = Numbers(head, 1)
        length = numbers.next()
        if head[0] & ALIGNED:
            numbers.next()
            while head[numbers.place] == PADDING:
                numbers.place += 1
        place += numbers.place
        yield head[0] & ~ALIGNED, (place, place + length)
        place += length


# ---- attributes ----------------------------------------------------------------------------------------------------


def _attributes(file: BinaryIO, spans: Spans) -> dict[int, bytes]:
    """The section of attributes and types, and that of their offsets, which must agree."""
    (begin, end), (place, _) = spans[ATTRIBUTE_OFFSETS], spans[ATTRIBUTES]
    numbers = Numbers(at(file, begin, end - begin))
    attributes, types = numbers.next(), numbers.next()
    groups = list(_groups(numbers))
    starts = list(accumulate((entry >> 1 for _, entries in groups for entry in entries), initial=place))
    spans_of = list(pairwise(starts))
    cut = {i: _cut(file, span, spans_of[attributes:]) for i, span in enumerate(spans_of[:attributes]) if _is_long(span)}
    light = {i: record for i, record in cut.items() if record is not None}
    offsets, done = [varint(attributes), varint(types)], 0
    for dialect, entries in groups:
        sizes = (len(light[i]) << 1 | entry & 1 if i in light else entry for i, entry in enumerate(entries, done))
        offsets += map(varint, (dialect, len(entries), *sizes))
        done += len(entries)
    return {ATTRIBUTES: _spliced(file, starts, light), ATTRIBUTE_OFFSETS: b"".join(offsets)}


def _groups(numbers: Numbers) -> Iterator[tuple[int, list[int]]]:
    """A dialect, and for each of its records twice its size, plus 1 where it is in the dialect's own encoding."""
    while numbers.more():
        dialect, records = numbers.next(), numbers.next()
        yield dialect, [numbers.next() for _ in range(records)]


def _is_long(span: Span) -> bool:
    return span[1] - span[0] > KEEP_BYTES


def _cut(file: BinaryIO, span: Span, types: list[Span]) -> bytes | None:
    """A dense attribute with one element; None where the record is none."""
    start, end = span
    head = Numbers(at(file, start, 32))
    _, kind = head.next(), head.next()
    before = head.place
    size = head.next()
    if start + head.place + size != end or kind >= len(types):
        return None
    width, rest = divmod(size, max(_elements(file, types[kind]), 1))
    return head.data[:before] + varint(width) + MARK * width if width in WIDTHS and not rest else None


def _elements(file: BinaryIO, span: Span) -> int:
    """How many a ranked tensor type has: a code, its rank, its sizes with the sign in the lowest bit."""
    numbers = Numbers(at(file, span[0], span[1] - span[0]))
    _, rank = numbers.next(), numbers.next()
    return prod(numbers.next() >> 1 for _ in range(min(rank, span[1] - span[0])))


def _spliced(file: BinaryIO, starts: list[int], light: dict[int, bytes]) -> bytes:
    """All records in order, the light ones in place of theirs."""
    parts, done = [], starts[0]
    for i, record in light.items():
        parts += [at(file, done, starts[i] - done), record]
        done = starts[i + 1]
    return b"".join((*parts, at(file, done, starts[-1] - done)))


# ---- resources -----------------------------------------------------------------------------------------------------


def _resources(file: BinaryIO, spans: Spans) -> dict[int, bytes]:
    """The section of resources and that of their offsets: groups of a key, a size and a kind for each entry."""
    if RESOURCES not in spans or RESOURCE_OFFSETS not in spans:
        return {}
    (begin, end), (place, _) = spans[RESOURCE_OFFSETS], spans[RESOURCES]
    numbers = Numbers(at(file, begin, end - begin))
    offsets, content = [varint(numbers.next())], []
    while numbers.more():
        group, entries = numbers.next(), numbers.next()
        offsets += map(varint, (group, entries))
        for _ in range(entries):
            key, size, kind = numbers.next(), numbers.next(), numbers.byte()
            content.append(EMPTY if kind == BLOB else at(file, place, size))
            offsets += [varint(key), varint(len(content[-1])), bytes((kind,))]
            place += size
    return {RESOURCES: b"".join(content), RESOURCE_OFFSETS: b"".join(offsets)}
