"""Copies an exported program without the content of its large constants, which is stepped over, never kept.

MLIR holds every embedded constant, several times while it parses; a lowering needs none of them. What MLIR gets to
parse is a temporary file:

    text                `dense<"0x...">` becomes `dense_resource<__elided__>`, as MLIR itself prints it; the section of
                        resources at the end goes
    bytecode            see `wattir.frontends.jax.light_bytecode`
    `jax.export` file   the same layout, its module's bytecode light, with a hole in the file where the rest was

A file that is not as its format says goes to MLIR as it is, which judges it.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from wattir.frontends.jax.light_bytecode import at, light_bytecode
from wattir.frontends.jax.mlir_process import BYTECODE

BLOCK = 1 << 20
MAX_REST_BYTES = 256 << 20  # of a jax.export file beside its modules
LONG = 256  # characters of a constant in text; longer ones are left out
ELIDED = b"dense_resource<__elided__>"
_CONSTANT = re.compile(rb'dense<["\[][^>]{%d,}>' % LONG)
_OPEN = re.compile(rb'dense<["\[][^>]*\Z')
MODULE_SLOT, VJP_SLOT = 30, 38
"""Places in the vtable of `Exported`, the root of a jax.export file, which is a flatbuffer."""


@contextmanager
def light_copy(path: str) -> Iterator[str]:
    """The path of a light copy, which is gone afterwards; the file's own where it is not as its format says."""
    with open(path, "rb") as file, tempfile.TemporaryDirectory(prefix="wattir") as folder:
        copy = os.path.join(folder, "light" + os.path.splitext(path)[1])
        with open(copy, "wb") as target:
            made = _copy(file, target, path.lower().endswith(".jaxexport"))
        yield copy if made else path


def _copy(file: BinaryIO, target: BinaryIO, is_export: bool) -> bool:
    start, size = at(file, 0, 64), os.fstat(file.fileno()).st_size
    try:
        if start[:4] == BYTECODE:
            target.write(light_bytecode(file, 0, size))
        elif is_export or b"\x00" in start:
            _copy_export(file, target, size)
        else:
            _copy_text(file, target)
    except (ValueError, LookupError, struct.error):
        return False
    return True


# ---- text ----------------------------------------------------------------------------------------------------------


def _copy_text(file: BinaryIO, target: BinaryIO) -> None:
    """By parts of lines; the end of a part that may begin a constant waits for the next part."""
    file.seek(0)
    text = b""
    while part := file.readline(BLOCK):
        if not text and part.startswith(b"{-#"):
            return
        text = _CONSTANT.sub(ELIDED, text + _with_plain_types(part))
        opened = _OPEN.search(text)
        done = opened.start() if opened else len(text) - (0 if text.endswith(b"\n") else len("dense<"))
        if opened and len(text) - done > LONG:
            target.write(text[:done] + ELIDED)
            text = _after_constant(file)
        else:
            target.write(text[: max(done, 0)])
            text = text[max(done, 0) :]
    target.write(text)


def _with_plain_types(part: bytes) -> bytes:
    """Quantized types as the integers that are stored, for jaxlib's MLIR lacks the dialect that knows them."""
    if b"quant" not in part:
        return part
    part = _QUANTIZED.sub(lambda found: found[1].replace(b"u", b"ui"), part)
    return _QUANTIZING.sub(rb"stablehlo.custom_call @stablehlo.uniform_\1quantize(\2)", part)


_QUANTIZED = re.compile(rb"!quant\.uniform<([iu]\d+)(?:<-?\d+:-?\d+>)?:[^>]*>")
_QUANTIZING = re.compile(rb'"?stablehlo\.uniform_(de)?quantize"?[ (]*(%[\w#]+)\)?')


def _after_constant(file: BinaryIO) -> bytes:
    while part := file.readline(BLOCK):
        _, end, rest = part.partition(b">")
        if end:
            return rest
    return b""


# ---- the flatbuffer of jax.export ----------------------------------------------------------------------------------


def _copy_export(file: BinaryIO, target: BinaryIO, size: int) -> None:
    done = 0
    for vector in sorted(_modules(file)):
        length = _u32(file, vector)
        light = light_bytecode(file, vector + 4, length)
        target.write(_rest(file, done, vector) + struct.pack("<I", len(light)) + light)
        done = target.seek(vector + 4 + length)
    target.write(_rest(file, done, size))


def _rest(file: BinaryIO, start: int, end: int) -> bytes:
    if not 0 <= end - start <= MAX_REST_BYTES:
        raise ValueError(f"{end - start} bytes beside the modules; expected at most {MAX_REST_BYTES}")
    return at(file, start, end - start)


def _modules(file: BinaryIO) -> Iterator[int]:
    """Where the vectors with bytecode are: of the function, and of its derivatives one within the other."""
    table: int | None = _u32(file, 0)
    while table is not None:
        fields = table - struct.unpack("<i", at(file, table, 4))[0]
        module = _field(file, table, fields, MODULE_SLOT)
        if module is None or at(file, module + 4, 4) != BYTECODE:
            raise ValueError("no bytecode where jax.export puts it")
        yield module
        table = _field(file, table, fields, VJP_SLOT)


def _field(file: BinaryIO, table: int, fields: int, slot: int) -> int | None:
    """What a field of a table points to, or None where the table leaves it out."""
    (size,) = struct.unpack("<H", at(file, fields, 2))
    (offset,) = struct.unpack("<H", at(file, fields + slot, 2)) if slot < size else (0,)
    return table + offset + _u32(file, table + offset) if offset else None


def _u32(file: BinaryIO, place: int) -> int:
    return int(struct.unpack("<I", at(file, place, 4))[0])
