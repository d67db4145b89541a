"""``.trees`` files: the ensembles of a machine's libraries, beside the device file that they would make unreadable.

A zip of ensembles as `wattir.trees.pack` makes them, under names as ``matmul.bf16@torch_flow.time``; each is read only
when a kernel of that library is asked for. The device file holds the CRC-32 of each, so that two files which no fit
wrote together are told apart.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from wattir.errors import DeviceError
from wattir.reading import check_file
from wattir.writing import replacing

MOST_BYTES = 2**20
"""Of one ensemble as it is stored: one that is larger is no correction but a mistake or an attack."""
MOST_BYTES_IN_ALL = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an ensemble lies: the file, its name in there, and the CRC-32 of its bytes."""

    path: str
    name: str
    crc32: int


def trees_path(device_path: str) -> str:
    """The ``.trees`` file of a device file."""
    return device_path.removesuffix(".toml") + ".trees"


def read_trees(stored: Stored) -> str:
    """The text of an ensemble, as in a device file; DeviceError where it is not to be had."""
    from zipfile import BadZipFile, ZipFile

    where = f"{stored.path}: {stored.name}"
    check_file(stored.path, _WRITTEN, DeviceError, MOST_BYTES_IN_ALL)
    try:
        with ZipFile(stored.path) as file, file.open(stored.name) as member:
            found = member.read(MOST_BYTES + 1)
    except KeyError:
        raise DeviceError(f"{where} is not in there; expected {_WRITTEN}") from None
    except (OSError, BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:  # the third: odd compression
        raise DeviceError(f"{where} cannot be read ({error}); expected {_WRITTEN}") from None
    if len(found) > MOST_BYTES or crc32(found) != stored.crc32:
        raise DeviceError(f"{where} is not what the device file was written with; expected {_WRITTEN}")
    return b64encode(found).decode()


_WRITTEN = "the .trees file that `wattir fit` wrote together with the device file"


def write_trees(path: str, texts: Mapping[str, str]) -> Mapping[str, int]:
    """Writes ensembles by name; the CRC-32 of each. The same ensembles make the same file."""
    from zipfile import ZipFile, ZipInfo

    stored = {name: b64decode(text) for name, text in texts.items()}
    with replacing(path) as partial, ZipFile(partial, "x") as file:
        for name, packed in stored.items():
            file.writestr(ZipInfo(name), packed)  # ZipInfo's date is that of 1980
    return {name: crc32(packed) for name, packed in stored.items()}
