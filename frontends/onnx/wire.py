"""Copies an ONNX file without its weights, by walking the protobuf wire format.

A length-delimited field says how long it is, so the payload of a tensor is stepped over, not read: of a memory map
only the pages that hold headers are touched. Result: bytes for `onnx.ModelProto.FromString`.

**Stripped tensors.** A tensor with more than `keep_bytes` of payload loses it and gains one entry per payload field in
`TensorProto.external_data`: key `wattir.stripped`, value `"<field> <bytes> <occurrences>"`, e.g. `"raw_data 4000 1"`.
Its dims, data type and name stay, `data_location` is left as it was. A tensor that is empty has no such entry.

**Bounds**, each a `ModelFileError`: MAX_DEPTH nested messages (what protobuf itself reads), MAX_FIELDS fields walked
(under 1 us each), MAX_COPY_BYTES of result. A message no longer than `keep_bytes` is copied without a look inside,
so a graph of 100,000 ordinary nodes costs about as many fields, and some 20 MB.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from wattir.errors import ModelFileError

MARK = "wattir.stripped"
KEEP_BYTES = 4096
MAX_DEPTH = 100
MAX_FIELDS = 8_000_000
MAX_COPY_BYTES = 256 << 20
RELEASE_EVERY = 256  # stripped tensors; Linux maps up to 64 KiB around each header it reads, here 16 MiB in all

PAYLOAD = {
    4: "float_data",
    5: "int32_data",
    6: "string_data",
    7: "int64_data",
    9: "raw_data",
    10: "double_data",
    11: "uint64_data",
}
EXTERNAL_DATA = 13  # the field of TensorProto that takes the mark

# Message type -> field number -> type of the message in it. None: left out. A field not named is copied as it is.
INSIDE: dict[str, dict[int, str | None]] = {
    "ModelProto": {7: "GraphProto", 20: None, 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": dict.fromkeys(PAYLOAD),
}

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups, which ONNX has never had
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}

Buffer = bytes | mmap.mmap
Field = tuple[int, int, int, int, int]  # number, wire type, first byte of tag, first byte of body, byte after it


def refused(where: str, found: str, expected: str, advice: str) -> ModelFileError:
    """The error `<where>: <found>; expected <expected>; <advice>`, for the caller to raise."""
    return ModelFileError(f"{where}: {found}; expected {expected}; {advice}")


def light_copy(buffer: Buffer, label: str, keep_bytes: int = KEEP_BYTES) -> bytes:
    """A serialized ModelProto without tensor payloads over `keep_bytes` and without training info.

    `label` names the file in errors. Raises ModelFileError where the bytes are no protobuf or pass a bound.
    """
    return _Walk(buffer, label, keep_bytes).copy("ModelProto", 0, len(buffer), 1)


class _Walk:
    """One pass over one buffer, with what is left of its allowances."""

    def __init__(self, buffer: Buffer, label: str, keep_bytes: int) -> None:
        self.buffer = buffer
        self.label = label
        self.keep_bytes = keep_bytes
        self.fields_left = MAX_FIELDS
        self.bytes_left = MAX_COPY_BYTES
        self.stripped = 0

    def copy(self, kind: str, start: int, end: int, depth: int) -> bytes:
        """The message `[start, end)` of type `kind` without what INSIDE leaves out."""
        if depth > MAX_DEPTH:
            raise self.error(f"messages nested over {MAX_DEPTH} deep at byte {start:,}", "a shallower model")
        inside = INSIDE[kind]
        parts: list[bytes] = []
        done = start
        for number, wire, at, body, stop in self.fields(start, end):
            if number not in inside:
                continue
            child = inside[number]
            if child and (wire != LENGTH or stop - body <= self.keep_bytes):
                continue
            parts += self.take(done, at), self.inner(number, child, body, stop, depth)
            done = stop
        parts.append(self.take(done, end))
        return b"".join(parts)

    def inner(self, number: int, kind: str | None, start: int, end: int, depth: int) -> bytes:
        """The copy of the message `[start, end)`, as field `number`; nothing where `kind` is None."""
        if kind is None:
            return b""
        deeper = self.tensor if kind == "TensorProto" else self.copy
        return _delimited(number, deeper(kind, start, end, depth + 1))

    def tensor(self, kind: str, start: int, end: int, depth: int) -> bytes:
        """A TensorProto, marked and without payload where that is over `keep_bytes`."""
        sizes = self.payload(start, end)
        if sum(size for size, _ in sizes.values()) <= self.keep_bytes:
            return self.take(start, end)
        self.stripped += 1
        if self.stripped % RELEASE_EVERY == 0:
            _release(self.buffer)
        marks = [_entry(MARK, f"{PAYLOAD[n]} {size} {count}") for n, (size, count) in sizes.items() if size]
        return self.copy(kind, start, end, depth) + b"".join(marks)

    def payload(self, start: int, end: int) -> dict[int, tuple[int, int]]:
        """Payload field number -> (bytes, occurrences) of the TensorProto `[start, end)`."""
        sizes: dict[int, tuple[int, int]] = {}
        for number, _, _, body, stop in self.fields(start, end):
            if number in PAYLOAD:
                size, count = sizes.get(number, (0, 0))
                sizes[number] = (size + stop - body, count + 1)
        return sizes

    def take(self, start: int, end: int) -> bytes:
        """The bytes `[start, end)` as they are."""
        self.bytes_left -= end - start
        if self.bytes_left < 0:
            raise self.error(f"over {MAX_COPY_BYTES:,} bytes beside tensor data", "a model whose bulk is its weights")
        return self.buffer[start:end]

    def fields(self, pos: int, end: int) -> Iterator[Field]:
        """The fields of the message `[pos, end)`."""
        while pos < end:
            at = pos
            tag, body = self.varint(at, end)
            wire = tag & 7
            if wire == LENGTH:
                size, body = self.varint(body, end)
                pos = body + size
            else:
                pos = self.scalar_end(wire, at, body, end)
            self.allow(tag >> 3, at, pos, end)
            yield tag >> 3, wire, at, body, pos

    def scalar_end(self, wire: int, at: int, body: int, end: int) -> int:
        """The byte after a field of one number."""
        if wire == VARINT:
            return self.varint(body, end)[1]
        if wire not in FIXED_BYTES:
            raise self.error(f"wire type {wire} at byte {at:,}", "protobuf as ONNX writes it")
        return body + FIXED_BYTES[wire]

    def allow(self, number: int, at: int, stop: int, end: int) -> None:
        """Raises where a field runs past its message, has no valid number, or is one too many."""
        self.fields_left -= 1
        if stop > end:
            raise self.cut_off(at, stop, end)
        if not 0 < number < 1 << 29:
            raise self.error(f"field number {number} at byte {at:,}", "protobuf as ONNX writes it")
        if self.fields_left < 0:
            raise self.error(f"over {MAX_FIELDS:,} protobuf fields", "a smaller model")

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """A base-128 number and the byte after it."""
        if pos < end and self.buffer[pos] < 128:
            return self.buffer[pos], pos + 1
        value = shift = 0
        for at in range(pos, min(pos + 10, end)):
            byte = self.buffer[at]
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at + 1
            shift += 7
        if end - pos >= 10:
            raise self.error(f"a number of over 10 bytes at byte {pos:,}", "protobuf as ONNX writes it")
        raise self.cut_off(pos, end + 1, end)

    def cut_off(self, at: int, stop: int, end: int) -> ModelFileError:
        """The error for a field that runs past its message: a short file, or a damaged one."""
        if end < len(self.buffer):
            return self.error(f"the field at byte {at:,} runs past its message's end {end:,}", "an undamaged ONNX file")
        found = f"truncated: the field at byte {at:,} needs a file of at least {stop:,} bytes, this one has {end:,}"
        return self.error(found, "a whole ONNX file")

    def error(self, found: str, expected: str) -> ModelFileError:
        return refused(self.label, found, expected, "download or export the file again")


def _release(buffer: Buffer) -> None:
    """Gives back the pages of a memory map; the next look at one fetches it again."""
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED)


def _varint(value: int) -> bytes:
    """`value` >= 0 in base 128, least significant digits first."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _delimited(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | LENGTH) + _varint(len(body)) + body


def _entry(key: str, value: str) -> bytes:
    """A StringStringEntryProto as an `external_data` field."""
    return _delimited(EXTERNAL_DATA, _delimited(1, key.encode()) + _delimited(2, value.encode()))
