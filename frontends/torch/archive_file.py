"""The zip around an exported program: found, checked and its JSON read; no weight, no pickle, nothing executed.

torch stores its members uncompressed. An archive that names paths outside itself, repeats or overlaps members, is
encrypted, or unpacks to far more than it holds is refused before anything is unpacked.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NoReturn

from wattir.errors import ModelFileError

MAX_JSON_BYTES = 256 << 20
MAX_CONTAINERS = 5_000_000
MAX_VALUES = 10_000_000
MAX_DIRECTORY_BYTES = 64 << 20
MAX_RATIO = 200
FREE_OF_RATIO_BYTES = 16 << 20
"""Limits: bytes of one JSON, its objects and lists, its values, bytes of the zip's directory, and how much larger than
its packed form a member may be when it is larger than `FREE_OF_RATIO_BYTES`."""

OLD_LAYOUT = "serialized_exported_program.json"
_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, struct.error)
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")


@dataclass
class ArchiveFile:
    """What is read of an archive: the program's JSON, and the JSON of where each weight lies (empty in old layouts)."""

    program: Any
    weights: dict[str, Any] = field(default_factory=dict)


def read_file(path: str) -> ArchiveFile:
    """The JSON of a ``.pt2`` file. Raises ModelFileError."""
    try:
        with open(path, "rb") as file:
            _check_directory(path, file)
            with zipfile.ZipFile(file) as archive:
                return _Members(path, archive, os.fstat(file.fileno()).st_size).read()
    except _DAMAGED as error:
        raise ModelFileError(
            f"{path}: a damaged zip ({_line(error)}); expected what torch.export.save writes"
        ) from error
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        found = f"cannot be read: {_line(error)}"
        raise ModelFileError(f"{path}: {found}; expected what torch.export.save writes") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]


def _check_directory(path: str, file: BinaryIO) -> None:
    """The zip's directory has a sane size; a file that is no zip says what it is instead."""
    head = file.read(4)
    size = file.seek(0, os.SEEK_END)
    if not head.startswith(b"PK"):
        _no_zip(path, head, size)
    tail_start = max(size - 65_557 - 20, 0)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + _END.size:
        raise ModelFileError(f"{path}: a zip without its directory: the file is cut short; expected a whole .pt2")
    length = _END.unpack_from(tail, at)[5]
    wide = tail.rfind(b"PK\x06\x06", 0, at)
    if length == 0xFFFFFFFF and wide >= 0 and len(tail) >= wide + _END_64.size:
        length = _END_64.unpack_from(tail, wide)[8]
    if length > min(MAX_DIRECTORY_BYTES, size):
        raise ModelFileError(f"{path}: a zip directory of {length} bytes; expected at most {MAX_DIRECTORY_BYTES}")
    file.seek(0)


def _no_zip(path: str, head: bytes, size: int) -> NoReturn:
    if size == 0:
        raise ModelFileError(f"{path}: an empty file; expected a .pt2 archive of torch.export.save")
    what = "a pickle" if head[:1] == b"\x80" else "no zip archive"
    raise ModelFileError(f"{path}: {what}; expected a .pt2 archive: make one with torch.export.save(program, path)")


class _Members:
    """The members of one zip."""

    def __init__(self, path: str, archive: zipfile.ZipFile, size: int) -> None:
        self.path, self.archive = path, archive
        self.infos = [info for info in archive.infolist() if not info.is_dir()]
        self.by_name = {info.filename: info for info in self.infos}
        self._check_names()
        self._check_sizes(size)

    def _fail(self, found: str, expected: str) -> NoReturn:
        raise ModelFileError(f"{self.path}: {found}; expected {expected}")

    def _check_names(self) -> None:
        for info in self.archive.infolist():
            if _leaves(info.orig_filename) or _leaves(info.filename):
                self._fail(f"a member named {info.orig_filename[:80]!r}", "names that stay inside the archive")
        if len(self.by_name) != len(self.infos):
            self._fail("two members of one name", "each name once")

    def _check_sizes(self, size: int) -> None:
        for info in self.infos:
            if info.file_size > max(FREE_OF_RATIO_BYTES, MAX_RATIO * info.compress_size):
                found = f"member {info.filename[-80:]!r} unpacks from {info.compress_size} to {info.file_size} bytes"
                self._fail(found, f"at most {MAX_RATIO} times as many")
        packed = sum(info.compress_size for info in self.infos)
        if packed > size:
            self._fail(f"members of {packed} bytes in a file of {size}", "members that do not overlap")

    def read(self) -> ArchiveFile:
        if OLD_LAYOUT in self.by_name:
            return ArchiveFile(self._json(OLD_LAYOUT))
        name = self._model()
        root, _, file = name.rpartition("models/")
        weights = f"{root}data/weights/{file.removesuffix('.json')}_weights_config.json"
        found = self._json(weights) if weights in self.by_name else {}
        return ArchiveFile(self._json(name), found if isinstance(found, dict) else {})

    def _model(self) -> str:
        """The member that holds the program: ``<root>/models/model.json``, or the only one in that folder."""
        models = [name for name in self.by_name if _is_model(name)]
        usual = [name for name in models if name.endswith("/model.json")] or models
        if len(usual) == 1:
            return usual[0]
        if models:
            listed = ", ".join(sorted(models)[:5])
            self._fail(f"{len(models)} programs ({listed})", "one; save each in a file of its own")
        if any("aotinductor" in name for name in self.by_name):
            self._fail("a compiled package without its graph", "an exported program: use torch.export.save")
        if any(name.endswith(("/data.pkl", "/constants.pkl")) for name in self.by_name):
            self._fail("saved weights or a TorchScript module", "an exported program: use torch.export.save")
        self._fail("no models/model.json among its members", "what torch.export.save writes")

    def _json(self, name: str) -> Any:
        raw = self._bytes(name)
        if sum(map(raw.count, (b"{", b"["))) > MAX_CONTAINERS or raw.count(b",") > MAX_VALUES:
            self._fail(f"{name[-80:]!r} has millions of values", f"at most {MAX_CONTAINERS} objects and lists")
        try:
            return json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            self._fail(f"{name[-80:]!r} is no UTF-8 text ({error.reason} at byte {error.start})", "JSON")
        except RecursionError:
            self._fail(f"{name[-80:]!r} is nested too deep", "JSON of torch.export.save")
        except ValueError as error:
            self._fail(f"{name[-80:]!r} is no JSON ({str(error)[:100]})", "JSON of torch.export.save")

    def _bytes(self, name: str) -> bytes:
        """The content of one member, unpacked piece by piece so that a false size in the directory cannot hurt."""
        info = self.by_name[name]
        if info.flag_bits & 0x1:
            self._fail(f"{name[-80:]!r} is encrypted", "an archive without a password")
        if info.file_size > MAX_JSON_BYTES:
            self._fail(f"{name[-80:]!r} has {info.file_size} bytes", f"at most {MAX_JSON_BYTES}")
        pieces, total = [], 0
        with self.archive.open(info) as stream:
            while piece := stream.read(_CHUNK):
                total += len(piece)
                if total > MAX_JSON_BYTES:
                    self._fail(f"{name[-80:]!r} unpacks to more than it says", f"at most {MAX_JSON_BYTES} bytes")
                pieces.append(piece)
        return b"".join(pieces)


def _is_model(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".json" and path.parent.name == "models"


def _leaves(name: str) -> bool:
    """Whether a member's name points outside the archive, or is none."""
    parts = name.replace("\\", "/").split("/")
    return "\0" in name or name.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":")
