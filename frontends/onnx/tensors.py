"""Checks of one tensor or declared type of an ONNX model: dims, payload against dims, place of external data.

All raise ModelFileError, one line naming the tensor. Data files may be missing; only small tensors are read from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx

from .external import take_small
from .wire import MARK, PAYLOAD, refused

MAX_DIM = 1 << 40
MAX_ELEMENTS = 1 << 50
AGAIN = "export the model again"

# Data type -> bits of an element in raw_data, and the other field that may hold it (onnx.proto, TensorProto).
LAYOUT = {
    "FLOAT": (32, "float_data"),
    "UINT8": (8, "int32_data"),
    "INT8": (8, "int32_data"),
    "UINT16": (16, "int32_data"),
    "INT16": (16, "int32_data"),
    "INT32": (32, "int32_data"),
    "INT64": (64, "int64_data"),
    "STRING": (0, "string_data"),
    "BOOL": (8, "int32_data"),
    "FLOAT16": (16, "int32_data"),
    "DOUBLE": (64, "double_data"),
    "UINT32": (32, "uint64_data"),
    "UINT64": (64, "uint64_data"),
    "COMPLEX64": (64, "float_data"),
    "COMPLEX128": (128, "double_data"),
    "BFLOAT16": (16, "int32_data"),
    "FLOAT8E4M3FN": (8, "int32_data"),
    "FLOAT8E4M3FNUZ": (8, "int32_data"),
    "FLOAT8E5M2": (8, "int32_data"),
    "FLOAT8E5M2FNUZ": (8, "int32_data"),
    "UINT4": (4, "int32_data"),
    "INT4": (4, "int32_data"),
    "FLOAT4E2M1": (4, "int32_data"),
    "FLOAT8E8M0": (8, "int32_data"),
    "UINT2": (2, "int32_data"),
    "INT2": (2, "int32_data"),
    "FLOAT6E2M3": (6, "int32_data"),
    "FLOAT6E3M2": (6, "int32_data"),
}
PACKED_BITS = (2, 4)  # one int32_data entry is then one byte of several elements
NAMES = {number: name for name, number in onnx.TensorProto.DataType.items()}


@dataclass(frozen=True)
class Source:
    """Where a model comes from, and what was found on the way through it.

    label    names it in messages
    folder   the folder its external data lies in; None where there is none (bytes)
    roots    the real folders that external data may resolve to
    notes    warnings, added to while reading
    bare     tensors without any data
    graphs   the graph and all bodies of nodes
    holders  the attributes that hold tensors, each with a title
    places   external data locations already found good
    """

    label: str
    folder: str | None = None
    roots: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    graphs: list[onnx.GraphProto] = field(default_factory=list)
    holders: list[tuple[str, onnx.AttributeProto]] = field(default_factory=list)
    places: set[str] = field(default_factory=set)


def has_data(tensor: onnx.TensorProto) -> bool:
    """Whether the elements of `tensor` are in the light model (an empty tensor has all of its none)."""
    if is_external(tensor) or any(entry.key == MARK for entry in tensor.external_data):
        return False
    return 0 in tensor.dims or any(len(getattr(tensor, name)) for name in PAYLOAD.values())


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the elements lie in a file of their own."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def short(value: object) -> str:
    """`value` quoted on one line, 80 characters at most."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def text(value: str | bytes, what: str, label: str) -> str:
    """`value`, which protobuf hands over as bytes where it is not UTF-8."""
    if isinstance(value, bytes):
        raise refused(label, f"{what} {short(value)} is not UTF-8", "text", AGAIN)
    return value


def check_sparse(sparse: onnx.SparseTensorProto, source: Source, owner: str = "the graph") -> None:
    """Dims and both parts of a sparse tensor."""
    count(sparse.dims, f"sparse tensor {short(sparse.values.name)} of {owner}", source.label)
    check_tensor(sparse.values, source, f"the values in {owner}")
    check_tensor(sparse.indices, source, f"the indices in {owner}")


def check_tensor(tensor: onnx.TensorProto, source: Source, owner: str = "the graph") -> None:
    """Name, data type, dims, and payload or place of external data; `owner` stands for a name it may lack."""
    name = text(tensor.name, "tensor name", source.label)
    what = f"tensor {short(name)}" if name else f"the tensor in {owner}"
    kind = NAMES.get(tensor.data_type, "")
    if kind not in LAYOUT:
        raise refused(source.label, f"{what} has data type {tensor.data_type}", "one that onnx knows", AGAIN)
    elements = count(tensor.dims, what, source.label)
    if is_external(tensor):
        _check_place(tensor, what, source)
        take_small(tensor, -(-elements * LAYOUT[kind][0] // 8), source.folder)
    else:
        _check_payload(tensor, what, kind, elements, source)


def count(dims: Iterable[int], what: str, label: str) -> int:
    """The number of elements; each dim in 0..2**40, their product at most 2**50."""
    sizes = list(dims)
    elements = 1
    for size in sizes:
        if not 0 <= size <= MAX_DIM:
            raise refused(label, f"{what} has a dimension of {size:,}", f"0 to {MAX_DIM:,}", AGAIN)
        elements = min(elements * size, MAX_ELEMENTS + 1) if elements else 0
    if 0 in sizes:
        return 0
    if elements > MAX_ELEMENTS:
        raise refused(label, f"{what} of dims {short(sizes)} is too large", f"at most {MAX_ELEMENTS:,} elements", AGAIN)
    return elements


def _check_payload(tensor: onnx.TensorProto, what: str, kind: str, elements: int, source: Source) -> None:
    """Length of the payload, stripped or not, against dims and data type."""
    held = list(_held(tensor, what, source.label))
    if not held:
        if elements:
            source.bare.append(what)
        return
    if len(held) > 1:
        names = " and ".join(name for name, _, _ in held)
        raise refused(source.label, f"{what} has data in {names}", "one of them", AGAIN)
    name, low, high = held[0]
    expected = _expected(name, kind, elements)
    if not low <= expected <= high:
        unit = "bytes" if name == "raw_data" else "entries"
        found = f"{what} has {_range(low, high)} {unit} of {name}"
        needed = f"{expected:,} for {kind} of dims {short(list(tensor.dims))}"
        raise refused(source.label, found, needed, AGAIN)


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _expected(name: str, kind: str, elements: int) -> int:
    """Bytes of raw_data, or entries of another field, that `elements` of `kind` take; -1 where it cannot hold them."""
    bits, typed = LAYOUT[kind]
    if (name == "raw_data" and bits) or (name == typed and bits in PACKED_BITS):
        return -(-elements * bits // 8)
    if name != typed:
        return -1
    return 2 * elements if kind.startswith("COMPLEX") else elements


def _held(tensor: onnx.TensorProto, what: str, label: str) -> Iterator[tuple[str, int, int]]:
    """Each field with payload: name, least and most it can hold, in bytes (raw_data) or entries."""
    for name in PAYLOAD.values():
        length = len(getattr(tensor, name))
        if length:
            yield name, length, length
    for entry in tensor.external_data:
        if entry.key == MARK:
            yield _marked(text(entry.value, f"a mark of {what}", label), what, label)


def _marked(mark: str, what: str, label: str) -> tuple[str, int, int]:
    """What a mark of wire.py says: the field, and least and most entries in its bytes."""
    name, *sizes = mark.split(" ")
    if name not in PAYLOAD.values() or len(sizes) != 2 or not all(s.isdecimal() and len(s) < 19 for s in sizes):
        raise refused(label, f"{what} has a foreign {MARK} entry {short(mark)}", "none in a file", AGAIN)
    size, occurrences = map(int, sizes)
    fixed = {"raw_data": size, "float_data": size // 4, "double_data": size // 8, "string_data": occurrences}
    if name in fixed:
        return name, fixed[name], fixed[name]
    return name, -(-size // 10), size  # a varint takes 1 to 10 bytes


def _check_place(tensor: onnx.TensorProto, what: str, source: Source) -> None:
    """`location` of external data must stay in the folder of the model."""
    place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    place = text(place, f"the external data location of {what}", source.label)
    if place in source.places:
        return
    if _leaves(place, source):
        found = f"{what} has external data at {short(place)}"
        raise refused(source.label, found, "a file in the folder of the model", "copy the data beside the model")
    source.places.add(place)


def _leaves(place: str, source: Source) -> bool:
    """Whether a location is none, absolute, climbs out of the folder, or is a link out of it."""
    path = place.replace("\\", "/")
    if not path or "\0" in path or path[0] == "/" or path[1:2] == ":":
        return True
    if os.path.normpath(path).split(os.sep)[0] == os.pardir:
        return True
    if source.folder is None:
        return False
    real = os.path.realpath(os.path.join(source.folder, path))
    return not any(real.startswith(os.path.join(root, "")) for root in source.roots)


def check_type(declared: onnx.TypeProto, what: str, source: Source) -> int:
    """Dims of a declared type; returns how many negative ones were made unknown."""
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        return _check_shape(getattr(declared, kind).shape, what, source)
    inner = {"sequence_type": "elem_type", "optional_type": "elem_type", "map_type": "value_type"}.get(kind or "")
    return check_type(getattr(getattr(declared, kind), inner), what, source) if kind and inner else 0


def _check_shape(shape: onnx.TensorShapeProto, what: str, source: Source) -> int:
    """As `check_type`, for one shape."""
    negative = [dim for dim in shape.dim if dim.dim_value < 0]
    for dim in negative:
        dim.ClearField("dim_value")
    for dim in shape.dim:
        text(dim.dim_param, f"a dimension name of {what}", source.label)
    count((dim.dim_value for dim in shape.dim if dim.HasField("dim_value")), what, source.label)
    return len(negative)
