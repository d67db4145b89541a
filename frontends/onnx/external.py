"""Small tensors of external data are read: axes and shapes lie there too where an exporter sets no least size.

Their place has been checked (tensors.py). A file that is missing, short or no plain file leaves them unknown.
"""

from __future__ import annotations

import os
import stat

import onnx

MOST_BYTES = 8 * 4096
"""Contents of more than 4096 numbers are not followed (`wattir.frontends.onnx.node.MAX_KNOWN`)."""


def take_small(tensor: onnx.TensorProto, size: int, folder: str | None) -> None:
    """Takes the `size` bytes of a tensor into the model where they are few and can be read."""
    if folder is None or not 0 < size <= MOST_BYTES:
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = place.get("offset", "0"), place.get("length", str(size))
    if not (_is_number(offset) and _is_number(length)) or int(length) != size:
        return
    data = _part(os.path.join(folder, place["location"]), int(offset), size)
    if data is not None:
        tensor.raw_data = data
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _is_number(value: str | bytes) -> bool:
    return isinstance(value, str) and value.isdecimal() and len(value) < 20


def _part(path: str, offset: int, size: int) -> bytes | None:
    """Bytes of a plain file (a named pipe would keep us waiting); None where there are not as many."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
    except (OSError, ValueError, OverflowError):
        return None
    return data if len(data) == size else None
