"""One scope of names: the graph, the body of an If, Loop or Scan, or a function written out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from wattir.dims import Size
from wattir.errors import ModelFileError, SizeError, UnsupportedError, WattirError
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.fallback import fallback, fill_missing
from wattir.frontends.onnx.naming import exported_roles, label_of
from wattir.frontends.onnx.node import RULES, Node, Value
from wattir.frontends.onnx.reader import DEFAULT_DOMAINS
from wattir.frontends.onnx.values import attributes, hinted_shape, type_of

if TYPE_CHECKING:
    from wattir.frontends.onnx.lowering import Lowering

MAX_NODES = 1_000_000  # nodes lowered, with loops and functions written out
MAX_DEPTH = 48  # scopes within each other


class Frame:
    """One scope: its names, its opsets, the attributes of the function it is, how often it runs."""

    def __init__(
        self,
        lowering: Lowering,
        opsets: Mapping[str, int],
        outer: Frame | None = None,
        path: str = "",
        times: Size = 1,
        attrs: Mapping[str, Any] | None = None,
        hints: Any = None,
        prefix: str = "",
    ) -> None:
        self.lowering, self.opsets, self.outer, self.path, self.times = lowering, opsets, outer, path, times
        self.attrs: Mapping[str, Any] = attrs or {}
        self.prefix = prefix
        self.depth: int = outer.depth + 1 if outer else 0
        self.values: dict[str, Value | None] = {}  # None: an optional input of a function that is not given
        self._hints = hints
        self._types: dict[str, onnx.TypeProto] | None = None
        if self.depth > MAX_DEPTH:
            where = f"{lowering.builder.name}: {path or 'the graph'}"
            raise UnsupportedError(f"{where}: over {MAX_DEPTH} graphs or functions within each other; expected fewer")

    def look_up(self, name: str, reader: str) -> Value | None:
        """What a name stands for, here or in an enclosing scope."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.values:
                return frame.values[name]
            frame = frame.outer
        where = f"{self.lowering.builder.name}: {reader} uses {name!r}"
        raise ModelFileError(f"{where}, which nothing makes; expected a graph that is whole; export the model again")

    def find(self, name: str, reader: str) -> Value:
        """The value of a name."""
        found = self.look_up(name, reader)
        if found is None:
            raise UnsupportedError(f"{self.lowering.builder.name}: {reader} uses {name!r}, which is not given")
        return found

    def load(self, graph: onnx.GraphProto) -> None:
        """Binds the initializers of a graph."""
        roles = exported_roles(graph)
        for tensor in graph.initializer:
            self.values[tensor.name] = self.lowering.initializer(
                self.prefix + tensor.name, tensor, roles.get(tensor.name)
            )
        for sparse in graph.sparse_initializer:
            dense = onnx.TensorProto(dims=sparse.dims, data_type=sparse.values.data_type)
            self.values[sparse.values.name] = self.lowering.initializer(self.prefix + sparse.values.name, dense)

    def run(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Lowers nodes in order."""
        for proto in nodes:
            self._run_one(proto)

    def _run_one(self, proto: onnx.NodeProto) -> None:
        lowering = self.lowering
        lowering.lowered += 1
        label = self._label(proto)
        if lowering.lowered > MAX_NODES:
            raise UnsupportedError(f"{lowering.builder.name}: over {MAX_NODES:,} nodes at {label!r}; expected fewer")
        domain = domain_of(proto.domain)
        node = Node(
            lowering.builder,
            proto.op_type,
            domain,
            self.opsets.get(domain, 1),
            label,
            attributes(proto.attribute, self.attrs),
            [self.look_up(name, label) if name else None for name in proto.input],
            [self.prefix + name if name else "" for name in proto.output],
            self.times,
            self,
        )
        node.proto = proto
        self._apply(node)
        for name, value in zip(proto.output, node.results, strict=True):
            if name and value is not None:
                self.values[name] = value

    def _apply(self, node: Node) -> None:
        try:
            (RULES.get((node.domain, node.op)) or fallback(node))(node)
            fill_missing(node)
            self.lowering.settle(node)
        except SizeError as error:
            raise UnsupportedError(f"{_where(node)}: {error}") from error
        except WattirError:
            raise
        except Exception as error:  # whatever else a node does to a rule, it is not as the standard has it
            said = " ".join(str(error).split())[:160]
            found = f"cannot be lowered ({type(error).__name__}: {said})"
            raise UnsupportedError(f"{_where(node)}: {found}; expected a node as the ONNX standard has it") from error

    def _label(self, proto: onnx.NodeProto) -> str:
        """The node's name as a readable path, unique in the graph."""
        label = label_of(proto)
        if self.path and not label.startswith(self.path + "/"):
            label = f"{self.path}/{label}"
        labels, unique, count = self.lowering.labels, label, self.lowering.labels.get(label, 0)
        while unique in labels:
            count += 1
            unique = f"{label}~{count + 1}"
        if unique != label:
            labels[label] = count
        labels[unique] = 0
        return unique

    # ---- for rules with graphs inside -----------------------------------------------------------------------------

    def mark_constant(self, value: Value) -> None:
        self.lowering.mark_constant(value)

    def body(self, graph: onnx.GraphProto, ins: Sequence[Value], path: str = "", times: Size = 1) -> list[Value]:
        """Lowers a nested graph with its inputs bound; what its outputs are."""
        path = path or self.path
        inner = Frame(self.lowering, self.opsets, self, path, self.times * times, self.attrs, graph, self.prefix)
        inner.values.update((given.name, value) for given, value in zip(graph.input, ins, strict=False))
        inner.load(graph)
        inner.run(graph.node)
        return [inner.find(output.name, f"the outputs of {path or 'a nested graph'}") for output in graph.output]

    def call(self, function: onnx.FunctionProto, node: Node) -> None:
        """Writes a function out in place of the node that calls it."""
        attrs = {**attributes(function.attribute_proto, {}), **node.attrs}
        opsets = {**self.opsets, **opsets_of(function.opset_import)}
        prefix = f"{node.label}/"
        inner = Frame(self.lowering, opsets, None, node.label, node.times, attrs, function, prefix)
        inner.depth = self.depth + 1
        if inner.depth > MAX_DEPTH:
            node.fail(f"over {MAX_DEPTH} functions within each other", "fewer")
        inner.values.update(dict.fromkeys(function.input))
        inner.values.update(zip(function.input, node.ins, strict=False))
        inner.run(function.node)
        for index, name in enumerate(function.output[: len(node.out_names)]):
            if node.out_names[index]:
                node.same(index, inner.find(name, node.label))

    def value(self, name: str, shape: tuple[Size, ...], dtype: str, role: str = "value") -> Value:
        """A new value that depends on the model's inputs."""
        return Value(self.lowering.builder.tensor(name, shape, dtype, role), tuple(shape), dtype)

    def hint(self, name: str) -> tuple[tuple[Size, ...], str] | None:
        """Shape and dtype that the file declares for a value of this scope, where they can be relied on."""
        if self._types is None:
            described = [*getattr(self._hints, "value_info", ()), *getattr(self._hints, "output", ())]
            self._types = {info.name: info.type for info in described if not isinstance(info, str)}
        declared = self._types.get(name[len(self.prefix) :])
        kind, tensor = type_of(declared) if declared is not None else ("", None)
        if tensor is None or kind != "tensor":
            return None
        shape = hinted_shape(tensor, self.lowering.free)
        return None if shape is None else (shape, dtype_of(tensor.elem_type, "fp32"))

    def trip_count(self, node: Node) -> Size | None:
        """How often the caller says that a loop runs."""
        lowering = self.lowering
        lowering.loops[node.label] = None
        for key in (node.label, node.proto.name, *(name for name in node.out_names if name)):
            if key in lowering.trip_counts:
                lowering.trip_counts_used.add(key)
                return lowering.trip_counts[key]
        return None


def opsets_of(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Domain -> version."""
    return {domain_of(entry.domain): entry.version for entry in imports}


def domain_of(domain: str) -> str:
    """The default domain has two names."""
    return "" if domain in DEFAULT_DOMAINS else domain


def _where(node: Node) -> str:
    return f"{node.builder.name}: node {node.label!r} ({node.op})"
