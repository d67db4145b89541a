"""The driver: walks the nodes of a graph, its nested graphs and functions, and asks the rule of each op.

`Lowering` is what one call of `lower` knows; frame.py has the scopes of names. After a rule has answered, the driver
folds small known contents, follows which weights reach which op, and refuses sizes that no machine holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import onnx

from wattir.dim_text import parse
from wattir.dims import Dim, Size, bounds
from wattir.errors import ModelFileError, SizeError, UnsupportedError, suggestion
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.folding import fold, follow_offset
from wattir.frontends.onnx.frame import Frame, domain_of, opsets_of
from wattir.frontends.onnx.inputs import Inputs
from wattir.frontends.onnx.node import Node, Value
from wattir.frontends.onnx.reader import Loaded, load_bytes, read
from wattir.frontends.onnx.triangles import Triangles
from wattir.frontends.onnx.values import content, role_of
from wattir.frontends.rules import load_rules
from wattir.ir import Graph, GraphBuilder

MAX_DIM = 1 << 40
MAX_ELEMENTS = 1 << 53
MAX_FORMULA = 20_000  # characters of one size
Marks = tuple[int, ...]


def lower_model(
    source: Any,
    inputs: Mapping[str, Sequence[Size | str]],
    name: str | None = None,
    trip_counts: Mapping[str, Size | str] | None = None,
) -> tuple[Graph, dict[str, Value | None]]:
    """The graph, and what each name of the file's main graph became.

    Where nothing tells which of two branches runs, the one with more axes is taken; where the rest of the graph does
    not fit that one, the other.
    """
    load_rules("wattir.frontends.onnx")
    loaded = _load(source)
    title = name or _title(loaded)
    lowering = Lowering(loaded, title, trip_counts or {})
    try:
        return _lowered(lowering, loaded, inputs)
    except UnsupportedError as error:
        if not lowering.open_axes:
            raise
        first = error
    try:
        return _lowered(Lowering(loaded, title, trip_counts or {}, fewer_axes=True), loaded, inputs)
    except UnsupportedError:
        raise first from None


def _lowered(
    lowering: Lowering, loaded: Loaded, inputs: Mapping[str, Sequence[Size | str]]
) -> tuple[Graph, dict[str, Value | None]]:
    frame = Frame(lowering, opsets_of(loaded.model.opset_import), hints=loaded.model.graph)
    bound = Inputs(lowering, loaded.model.graph, inputs)
    frame.values.update(bound.values)
    frame.load(loaded.model.graph)
    frame.run(loaded.model.graph.node)
    outputs = [frame.find(output.name, "the graph's outputs") for output in loaded.model.graph.output]
    return lowering.finish(bound, outputs), frame.values


def _load(source: Any) -> Loaded:
    if isinstance(source, onnx.ModelProto):
        return load_bytes(_serialized(source), source.graph.name or "model")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return load_bytes(bytes(source))
    if isinstance(source, (str, os.PathLike)):
        return read(source)
    found = type(source).__name__
    raise ModelFileError(f"an object of type {found}; expected a path, the bytes of a file or an onnx.ModelProto")


def _serialized(model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except Exception as error:  # protobuf's own error, which has no common base over its versions
        found = f"a ModelProto that protobuf cannot write ({error}); expected one of less than 2 GB"
        raise ModelFileError(
            f"{model.graph.name or 'model'}: {found}; save it with external data and give the path"
        ) from error


def _title(loaded: Loaded) -> str:
    stem = os.path.splitext(os.path.basename(loaded.path))[0]
    return stem or loaded.model.graph.name or "model"


class Lowering:
    """What one call of `lower` knows beside the names in scope.

    roots    fixed tensor -> the weights of the file that it is made of
    static   tensors whose content depends on the file alone, not on the sizes of the inputs
    offsets  a number that is not known -> the one it was made from, and how much was added (``i + 1``)
    triangles  what is known of causal masks
    marked   fixed tensors that a rule called constants
    baked    (old, new): the batch that the file fixes, and the caller's
    fewer_axes  whether of branches that differ in their axes alone the one with fewer is kept, and
    open_axes   whether there was such a choice
    """

    def __init__(
        self, loaded: Loaded, name: str, trip_counts: Mapping[str, Size | str], fewer_axes: bool = False
    ) -> None:
        self.model = loaded.model
        self.fewer_axes, self.open_axes = fewer_axes, False
        self.builder = GraphBuilder(name)
        self.functions = {(domain_of(f.domain), f.name, f.overload): f for f in loaded.model.functions}
        self.trip_counts = {key: parse(str(count)) for key, count in trip_counts.items()}
        self.trip_counts_used: set[str] = set()
        self.loops: dict[str, None] = {}
        self.labels: dict[str, int] = {}
        self.roots: dict[str, frozenset[str]] = {}
        self.static: dict[str, None] = {}
        self.offsets: dict[str, tuple[str, int]] = {}
        self.triangles = Triangles()
        self.marked: list[str] = []
        self.unknown: dict[str, int] = {}
        self.free: set[str] = set()
        self.baked: tuple[int, Size] | None = None
        self.lowered = 0
        for line in loaded.warnings:
            self.builder.warn(line)

    def finish(self, bound: Inputs, outputs: list[Value]) -> Graph:
        """The graph, once every node has been lowered."""
        self._check_trip_counts()
        for op, count in self.unknown.items():
            self.builder.warn(f"{op} has no mapping ({count} nodes): its bytes are counted, its work is not known")
        last = [item.name for value in outputs for item in ([value] if value.items is None else value.items)]
        self._mark_constants()
        params = self._params(last)
        return self.builder.finish(bound.names, tuple(dict.fromkeys(last)), bound.sizes, bound.batch, params)

    def _check_trip_counts(self) -> None:
        for key in self.trip_counts.keys() - self.trip_counts_used:
            listed = ", ".join(self.loops) or "none"
            near = suggestion(key, self.loops)
            raise SizeError(f"{self.builder.name}: trip count for {key!r}; expected one of its loops: {listed}{near}")

    def _mark_constants(self) -> None:
        for name in self.marked:
            for root in {name, *self.roots.get(name, ())}:
                tensor = self.builder.tensors.get(root)
                if tensor is not None and tensor.role == "weight":
                    self.builder.tensors[root] = type(tensor)(tensor.shape, tensor.dtype, "constant")

    def _params(self, outputs: list[str]) -> Size:
        """Elements of the weights that reach an op or an output, each once."""
        used = dict.fromkeys(name for op in self.builder.ops for name in op.ins) | dict.fromkeys(outputs)
        found = dict.fromkeys(root for name in used for root in self.roots.get(name, (name,)))
        tensors = (self.builder.tensors[root] for root in found if root in self.builder.tensors)
        return sum((tensor.elements for tensor in tensors if tensor.role == "weight"), start=0)

    # ---- values ---------------------------------------------------------------------------------------------------

    def initializer(self, name: str, tensor: onnx.TensorProto, role: str | None = None) -> Value:
        """The value of a tensor of the file; its role is guessed from its type unless it is given."""
        shape, dtype = tuple(tensor.dims), dtype_of(tensor.data_type, "fp32")
        return self.constant(name, shape, dtype, content(tensor), role or role_of(dtype, shape))

    def constant(
        self, name: str, shape: tuple[Size, ...], dtype: str, data: tuple[Any, ...] | None, role: str
    ) -> Value:
        """A fixed value that the file holds."""
        unique = self.builder.tensor(name, shape, dtype, role)
        self.static[unique] = None
        if role == "weight":
            self.roots[unique] = frozenset((unique,))
        return Value(unique, shape, dtype, data, True)

    def make_weight(self, value: Value) -> None:
        """A rule says that this value stands for a weight that the file has left out."""
        tensor = self.builder.tensors[value.name]
        self.builder.tensors[value.name] = type(tensor)(tensor.shape, tensor.dtype, "weight")
        self.roots[value.name] = frozenset((value.name,))

    def mark_constant(self, value: Value) -> None:
        """A rule says that this fixed value is a buffer, not a parameter."""
        self.marked.append(value.name)

    def settle(self, node: Node) -> None:
        """What follows a rule: known contents, weights behind fixed results, sizes in range."""
        for value in node.results:
            if value is not None and value.items is None:
                _check_sizes(node, value)
        fold(node)
        follow_offset(node, self.offsets)
        self.triangles.follow(node)
        fixed = [v for v in node.results if v is not None and v.fixed and v.name not in self.static]
        if not fixed:
            return
        ins = [v for v in node.ins if v is not None]
        static = bool(ins) and all(v.name in self.static for v in ins)
        roots: frozenset[str] = frozenset().union(*(self.roots.get(v.name, ()) for v in ins))
        for value in fixed:
            if len(roots) == 1:
                self._name_after(value, *roots)
            if static:
                self.static[value.name] = None
            if roots and value.name not in self.roots and self.builder.tensors[value.name].role == "weight":
                self.roots[value.name] = roots

    def _name_after(self, value: Value, weight: str) -> None:
        """What is made of one weight alone, and kept as a weight, is called after it: it says whose it is."""
        tensor = self.builder.tensors[value.name]
        if tensor.role == "weight" and next(reversed(self.builder.tensors)) == value.name:
            del self.builder.tensors[value.name]
            value.name = self.builder.tensor(weight, tensor.shape, tensor.dtype, tensor.role)

    # ---- lowering something twice, or in vain ---------------------------------------------------------------------

    def _journal(self) -> tuple[Any, ...]:
        b = self.builder
        masks = (self.triangles.counting, self.triangles.masks)
        own = (self.labels, self.marked, self.roots, self.static, self.offsets, self.unknown, *masks)
        return b.ops, b.tensors, b.warnings, *own

    def mark(self) -> Marks:
        """Where everything stands, for `cut`."""
        return tuple(len(part) for part in self._journal())

    def cut(self, marks: Marks) -> tuple[list[Any], ...]:
        """Takes back what was added since `mark`; `paste` adds it again."""
        return tuple(_cut(part, mark) for part, mark in zip(self._journal(), marks, strict=True))

    def paste(self, pieces: tuple[list[Any], ...]) -> None:
        """Adds what `cut` took."""
        for part, piece in zip(self._journal(), pieces, strict=True):
            part.update(piece) if isinstance(part, dict) else part.extend(piece)


def _cut(part: Any, mark: int) -> list[Any]:
    if isinstance(part, dict):
        return [part.popitem() for _ in range(len(part) - mark)][::-1]
    piece = part[mark:]
    del part[mark:]
    return list(piece)


def _check_sizes(node: Node, value: Value) -> None:
    """Refuses dims over 2**40 and tensors over 2**53 elements, and formulas that have exploded."""
    elements = 1
    for size in value.shape:
        low = size if isinstance(size, int) else _least(size)
        if not 0 <= low <= MAX_DIM:
            node.fail(f"an output of shape [{_short(value.shape)}]", f"dimensions of 0 to {MAX_DIM:,}")
        elements *= low or 1
    if elements > MAX_ELEMENTS:
        node.fail(f"an output of shape [{_short(value.shape)}]", f"at most {MAX_ELEMENTS:,} elements")


def _short(shape: tuple[Size, ...]) -> str:
    text = ", ".join(str(size) if isinstance(size, int) else str(size)[:60] for size in shape)
    return text[:200]


@lru_cache(4096)
def _least(size: Dim) -> int:
    """The least a formula can be, at least 0; -1 for one that is too long."""
    if len(str(size)) > MAX_FORMULA:
        return -1
    return max(bounds(size)[0], 0)
