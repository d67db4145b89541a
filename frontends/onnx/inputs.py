"""What the graph's inputs are: declared shapes, the caller's own, the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from wattir.dims import Dim, Size, names, symbol
from wattir.errors import SizeError, UnsupportedError, suggestion
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import Value
from wattir.frontends.onnx.values import declared_shape, dim_size, type_of

if TYPE_CHECKING:
    from wattir.frontends.onnx.lowering import Lowering

Given = Mapping[str, Sequence[Size | str]]


class Inputs:
    """The graph's inputs as values.

    `names` are their tensors, `batch` is the free dim that leads them, `sizes` the defaults of free dims (the batch
    is 1).
    """

    def __init__(self, lowering: Lowering, graph: onnx.GraphProto, given: Given) -> None:
        self.lowering, self.given = lowering, given
        self.values: dict[str, Value] = {}
        self.shapes: list[tuple[Size, ...]] = []
        self.baked: list[tuple[Size, Size]] = []  # leading size in the file, and as it is lowered
        self._check_given([info.name for info in graph.input])
        for info in graph.input:
            self.values[info.name] = self._value(info)
        self.names = tuple(item.name for v in self.values.values() for item in (v.items or [v]))
        self.batch = _batch(self.shapes)
        self.sizes: dict[str, int | None] = {} if self.batch is None else {self.batch: 1}
        lowering.free.update(name for shape in self.shapes for size in shape for name in names(size))
        lowering.baked = self._rebatched()

    def _check_given(self, known: list[str]) -> None:
        for name in self.given:
            if name not in known:
                listed = ", ".join(known)
                where = self.lowering.builder.name
                raise SizeError(f"{where}: a shape for input {name!r}; expected {listed}{suggestion(name, known)}")

    def _value(self, info: onnx.ValueInfoProto) -> Value:
        kind, tensor = type_of(info.type)
        if kind == "tensor" and tensor is not None:
            return self._tensor(info.name, tensor)
        if kind == "sequence" and tensor is not None and hasattr(tensor, "elem_type"):
            item = self._tensor(info.name, tensor)
            length = symbol(f"{info.name}_length")
            self.lowering.free.add(str(length))
            return Value(info.name, (length,), item.dtype, items=[item])
        name = self.lowering.builder.tensor(info.name, (), "string", "input")
        return Value(name, (), "string")

    def _tensor(self, name: str, kind: Any) -> Value:
        declared = declared_shape(kind, name)
        shape = declared
        if name in self.given:
            shape = tuple(self._size(name, size) for size in self.given[name])
            if declared is not None and len(declared) != len(shape):
                axes = ", ".join(map(str, declared))
                where = self.lowering.builder.name
                raise SizeError(f"{where}: {len(shape)} sizes for input {name!r}; expected {len(declared)}: [{axes}]")
        if shape is None:
            where = self.lowering.builder.name
            raise UnsupportedError(
                f"{where}: input {name!r} has no shape in the file; expected one; give inputs={{{name!r}: (...)}}"
            )
        if declared and shape:
            self.baked.append((declared[0], shape[0]))
        self.shapes.append(shape)
        dtype = dtype_of(kind.elem_type, "fp32")
        return Value(self.lowering.builder.tensor(name, shape, dtype, "input"), shape, dtype)

    def _size(self, name: str, size: Size | str) -> Size:
        if isinstance(size, str):
            return int(size) if size.strip().isdigit() else dim_size(size)
        if isinstance(size, Dim) or (isinstance(size, int) and not isinstance(size, bool) and size >= 0):
            return size
        where = self.lowering.builder.name
        raise SizeError(f"{where}: a size of {size!r} for input {name!r}; expected a number or a name")

    def _rebatched(self) -> tuple[int, Size] | None:
        """The file's fixed batch and the caller's, where they differ."""
        changed = [(old, new) for old, new in self.baked if isinstance(old, int) and old != new]
        return changed[0] if changed else None


def _batch(shapes: list[tuple[Size, ...]]) -> str | None:
    """The free dim that leads most inputs; one that is named so goes first."""
    leading = [str(shape[0]) for shape in shapes if shape and isinstance(shape[0], Dim) and _is_name(shape[0])]
    if not leading:
        return None
    named = [name for name in leading if "batch" in name.lower()]
    return Counter(named or leading).most_common(1)[0][0]


def _is_name(size: Dim) -> bool:
    return names(size) == {str(size)}
