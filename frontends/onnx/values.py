"""From protobuf to the lowering's terms: contents of tensors, declared shapes, attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import onnx
from onnx import numpy_helper

from wattir.dim_text import parse
from wattir.dims import Size, names, symbol
from wattir.errors import SizeError
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import MAX_KNOWN
from wattir.frontends.onnx.tensors import has_data
from wattir.kinds import FLOATS

MAX_KNOWN_FLOATS = 256  # elements; floats are scales and the like where their content matters at all
WEIGHTS = FLOATS | {"int8", "uint8", "int4", "uint4", "int2", "uint2"}
UNNAMED = frozenset({"", "?", "-1", "None", "none"})  # what exporters write for "not known"


def content(tensor: onnx.TensorProto) -> tuple[Any, ...] | None:
    """The elements of a small tensor in row-major order; None where they are not in the file, or too many."""
    dtype = dtype_of(tensor.data_type, "fp32")
    limit = MAX_KNOWN_FLOATS if dtype in FLOATS else MAX_KNOWN
    if math.prod(tensor.dims) > limit or dtype.startswith("complex") or not has_data(tensor):
        return None
    values = numpy_helper.to_array(tensor).reshape(-1).tolist()
    return tuple(float(v) if dtype in FLOATS else _plain(v) for v in values)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def role_of(dtype: str, shape: tuple[Size, ...]) -> str:
    """`weight` for floats and quantized weights of rank 1 and more; index tables and scalars are constants."""
    return "weight" if dtype in WEIGHTS and shape else "constant"


def dim_size(name: str) -> Size:
    """The size of a `dim_param`: a formula (``past + seq``) where it reads as one, else a free dim of that name."""
    text = name.strip()
    if re.search(r"[+*/%()]|\s-\s|-\s*\d+$", text):
        try:
            return parse(text.replace(" / ", " // "))
        except (SizeError, IndexError, RecursionError):
            pass
    return symbol(text)


def declared_shape(kind: Any, name: str) -> tuple[Size, ...] | None:
    """The shape of a tensor type; an axis without a name gets one from the value's; None where no shape is given."""
    if not kind.HasField("shape"):
        return None
    return tuple(_declared(dim, f"{name}_{axis}") for axis, dim in enumerate(kind.shape.dim))


def _declared(dim: Any, fallback: str) -> Size:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return symbol(fallback) if dim.dim_param.strip() in UNNAMED else dim_size(dim.dim_param)


def hinted_shape(kind: Any, known: Iterable[str]) -> tuple[Size, ...] | None:
    """The shape that the file declares for a value, where all of it can be evaluated with the names `known`."""
    if not kind.HasField("shape"):
        return None
    dims = kind.shape.dim
    if any(not dim.HasField("dim_value") and dim.dim_param.strip() in UNNAMED for dim in dims):
        return None
    shape = tuple(_declared(dim, "") for dim in dims)
    return shape if all(names(size) <= set(known) for size in shape) else None


def type_of(declared: onnx.TypeProto) -> tuple[str, Any]:
    """(``tensor``, ``sequence`` or ``map``; the tensor type inside). Optional types are looked through."""
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        return "tensor", getattr(declared, kind)
    if kind == "optional_type":
        return type_of(declared.optional_type.elem_type)
    if kind == "sequence_type":
        return "sequence", type_of(declared.sequence_type.elem_type)[1]
    return "map", None


def attributes(protos: Iterable[onnx.AttributeProto], outer: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> Python value; a reference to an attribute of the enclosing function gives that one's, if it is set."""
    found: dict[str, Any] = {}
    for proto in protos:
        if not proto.ref_attr_name:
            found[proto.name] = _READERS.get(proto.type, _nothing)(proto)
        elif proto.ref_attr_name in outer:
            found[proto.name] = outer[proto.ref_attr_name]
    return found


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _nothing(_: onnx.AttributeProto) -> None:
    return None


_A = onnx.AttributeProto
_READERS: dict[int, Callable[[Any], Any]] = {
    _A.FLOAT: lambda p: p.f,
    _A.INT: lambda p: p.i,
    _A.STRING: lambda p: _text(p.s),
    _A.TENSOR: lambda p: p.t,
    _A.GRAPH: lambda p: p.g,
    _A.SPARSE_TENSOR: lambda p: p.sparse_tensor,
    _A.TYPE_PROTO: lambda p: p.tp,
    _A.FLOATS: lambda p: tuple(p.floats),
    _A.INTS: lambda p: tuple(p.ints),
    _A.STRINGS: lambda p: tuple(_text(s) for s in p.strings),
    _A.TENSORS: lambda p: tuple(p.tensors),
    _A.GRAPHS: lambda p: tuple(p.graphs),
    _A.SPARSE_TENSORS: lambda p: tuple(p.sparse_tensors),
    _A.TYPE_PROTOS: lambda p: tuple(p.type_protos),
}
