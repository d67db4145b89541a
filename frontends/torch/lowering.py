"""The driver: walks the calls of a Program, asks the rule of each operator, and follows memory that is shared.

Views share memory with what they are views of. A call that writes in place gives that memory a new content; whoever
reads it later, under any name, reads the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from wattir.dim_text import parse
from wattir.dims import Size, evaluate, names, product
from wattir.errors import ModelFileError
from wattir.frontends.rules import load_rules
from wattir.frontends.torch.caches import mark_states
from wattir.frontends.torch.node import RULES, Node, Storage, Value, bodies, flat
from wattir.frontends.torch.program import Call, Program, TensorRef
from wattir.frontends.torch.strides import Strides, row_major
from wattir.ir import Graph, GraphBuilder, Op

SAMPLE = 8  # stands for a free dim without a default where only the pattern of strides is asked for
_SILENT = ("_assert", "sym_constrain", "assert", "_functional_assert", "_functional_sym", "warn", "_print", "resize_")
"""Operators that give no tensor and do nothing to one."""


def lower_program(program: Program, trip_counts: Mapping[str, Size | str] | None = None) -> Graph:
    """A network as layers; `trip_counts` says how often its loops run, by their names. Raises UnsupportedError,
    ModelFileError or SizeError."""
    load_rules("wattir.frontends.torch")
    lowering = Lowering(program, trip_counts or {})
    lowering.run(program, 1)
    return lowering.finish()


class Lowering:
    """What one call of `lower_program` knows: the graph so far, and what each name of the program became."""

    def __init__(self, program: Program, trip_counts: Mapping[str, Size | str]) -> None:
        self.program = program
        self.trip_counts = {name: parse(str(count)) for name, count in trip_counts.items()}
        self.offsets: dict[str, int] = {}  # integers made by subtracting a number -> that number
        self.builder = GraphBuilder(program.name)
        self.env: dict[str, Value] = {}
        self.unknown: dict[str, int] = {}
        self.kept: frozenset[str] = frozenset(program.outputs)
        self.read = self.kept | set(_read(program))
        for line in program.warnings:
            self.builder.warn(line)
        for ref in program.held:
            self._hold(ref, program.parameters.get(ref.name, "constant"))
        for ref in program.inputs:
            self._hold(ref, program.parameters.get(ref.name, "input"))

    def _hold(self, ref: TensorRef, role: str) -> None:
        name = self.builder.tensor(ref.name, ref.shape, ref.dtype, role)
        self.env[ref.name] = self._whole(name, ref.shape, ref.dtype)

    def _whole(self, name: str, shape: tuple[Size, ...], dtype: str, strides: Strides | None = None) -> Value:
        storage = Storage()
        value = Value(name, shape, dtype, row_major(self.sample(shape)) if strides is None else strides, storage)
        storage.whole = value
        return value

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(self, program: Program, times: Size) -> None:
        """Lowers the calls of a program whose inputs are bound."""
        for call in program.calls:
            self.lower_call(call, times)

    def inline(self, program: Program, operands: Sequence[Value | None], times: Size = 1) -> list[Value | None]:
        """Runs a body on operands; gives what its outputs became (None for one that is no tensor)."""
        outer = self.env
        bound = {ref.name: value for ref, value in zip(program.inputs, operands, strict=False) if value is not None}
        self.env = {**outer, **bound}
        for ref in program.held:
            if ref.name not in outer:
                self._hold(ref, program.parameters.get(ref.name, "constant"))
        try:
            self.run(program, times)
            return [self.env.get(name) for name in program.outputs]
        finally:
            self.env = outer

    def lower_call(self, call: Call, times: Size) -> None:
        """Lowers one call: its rule, and what it writes in place."""
        node = Node(self, call, times)
        if not node.outs and node.op.startswith(_SILENT):
            return
        written = node.value(0, "self") if node.in_place else None
        found = RULES.get(f"{node.namespace}.{node.op}")
        if found is None:
            self._unknown(node)
        else:
            try:
                found(node)
            except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                found_text = f"arguments that its rule does not understand ({type(error).__name__}: {error})"
                node.fail(found_text, f"those of {call.target}", "please report it")
        if written is not None and node.outs:
            self._written(node, written, self.env[node.outs[0].name])

    def trip_count(self, name: str) -> Size | None:
        """How often a loop runs, where the caller has said so."""
        return self.trip_counts.get(name)

    def _unknown(self, node: Node) -> None:
        """Bytes, and a warning; torch's own calls that give no tensor (numbers, checks, bookkeeping) are nothing."""
        if not node.outs and node.namespace in ("aten", "python", "prim", "prims"):
            return
        self.unknown[node.source] = self.unknown.get(node.source, 0) + 1
        node.emit("unknown")

    # ---- values -----------------------------------------------------------------------------------------------------

    def value(self, ref: TensorRef) -> Value:
        """What a tensor of the program is now."""
        found = self.env.get(ref.name)
        if found is None:
            raise ModelFileError(f"{self.builder.name}: tensor {ref.name!r} is read before it is made")
        return found if found.version == found.storage.version else self._refreshed(ref, found)

    def _refreshed(self, ref: TensorRef, stale: Value) -> Value:
        """A view that was made before its memory was written in place, now of the new content."""
        whole = stale.storage.whole
        if whole is None or whole.shape == stale.shape:
            value = whole if whole is not None else stale
        else:
            value = self.fresh(ref.name, stale.shape, stale.dtype, stale.strides, stale.storage)
            op = Op("view", (whole.name,), (value.name,), ref.name, "aten.view", {"function": "view"})
            self.builder.ops.append(op)
        self.env[ref.name] = value
        return value

    def fresh(
        self,
        name: str,
        shape: tuple[Size, ...],
        dtype: str,
        strides: Strides | None = None,
        storage: Storage | None = None,
    ) -> Value:
        """A new tensor, of memory of its own or sharing `storage`."""
        unique = self.builder.tensor(name, shape, dtype)
        if storage is None:
            return self._whole(unique, shape, dtype, strides)
        strides = row_major(self.sample(shape)) if strides is None else strides
        return Value(unique, shape, dtype, strides, storage, storage.version)

    def declare(self, ref: TensorRef) -> Value:
        """A result of a call, in memory of its own."""
        value = self.fresh(ref.name, ref.shape, ref.dtype)
        self.env[ref.name] = value
        return value

    def bind(self, ref: TensorRef, value: Value) -> None:
        """A result that is a tensor there is already."""
        self.env[ref.name] = value

    def view(self, node: Node, x: Value, ref: TensorRef, strides: Strides | None) -> None:
        """A result that sees the memory of `x`; the same tensor where even the shape is the same."""
        if ref.shape == x.shape and (strides is None or strides == x.strides) and ref.dtype == x.dtype:
            self.bind(ref, x)
            return
        made = self.fresh(ref.name, ref.shape, ref.dtype, strides, x.storage)
        self.bind(ref, made)
        self.builder.op(
            "view", (x.name,), (made.name,), name=node.label, source=node.source, times=node.times, function=node.op
        )

    def sample(self, shape: tuple[Size, ...]) -> tuple[int, ...]:
        """A shape with numbers for its free dims: their defaults, or a stand-in."""
        return tuple(size if isinstance(size, int) else self._sampled(size) for size in shape)

    def _sampled(self, size: Size) -> int:
        values = {name: self.program.sizes.get(name) or SAMPLE for name in names(size)}
        return max(int(evaluate(size, values)), 0)

    # ---- writing in place -------------------------------------------------------------------------------------------

    def _written(self, node: Node, target: Value, result: Value) -> None:
        """`result` is the new content of the memory that `target` sees."""
        storage = target.storage
        whole = storage.whole
        if whole is None or result is target:
            return
        if whole.name != target.name and whole.elements != target.elements:
            updates = 0 if self.builder.ops[-1].kind != "scatter" else None
            result = self._merged(node, whole, result, updates)
        storage.version += 1
        result.storage, result.version = storage, storage.version
        result.strides = row_major(self.sample(result.shape))
        storage.whole = result
        self._mark_state(whole.name, result.name)

    def _merged(self, node: Node, whole: Value, part: Value, updates: Size | None) -> Value:
        """A whole of which a part has been written: by a scatter that has no work where the call did it all."""
        last = self.builder.ops[-1]
        merged = self.fresh(whole.name, whole.shape, whole.dtype)
        if updates is None and last.outs == (part.name,):
            self.builder.ops[-1] = replace(last, outs=(merged.name,), ins=(whole.name, *last.ins[1:]))
            self.bind(node.outs[0], self._part_of(node, merged, part))
            return merged
        self.builder.op("scatter", (whole.name, part.name), (merged.name,), name=node.label, source=node.source,
                        times=node.times, function="in_place", updates=0)  # fmt: skip
        return merged

    def _part_of(self, node: Node, merged: Value, part: Value) -> Value:
        self.builder.op(
            "view", (merged.name,), (part.name,), name=node.label, source=node.source, times=node.times, function="part"
        )
        part.storage, part.version = merged.storage, merged.storage.version
        return part

    def _mark_state(self, before: str, after: str) -> None:
        """What the model is given or keeps, and writes in place, is kept between calls."""
        tensors = self.builder.tensors
        if tensors[before].role in ("constant", "input", "state"):
            for name in (before, after):
                tensors[name] = replace(tensors[name], role="state")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> Graph:
        """The graph, once every call has been lowered."""
        for op, count in self.unknown.items():
            self.builder.warn(f"{op} has no mapping ({count} calls): its bytes are counted, its work is not known")
        program = self.program
        outputs = tuple(dict.fromkeys(self.env[name].name for name in program.outputs if name in self.env))
        mark_states(self.builder)
        weights = [ref for ref in program.held if program.parameters.get(ref.name) == "weight"]
        params: Size = sum((product(ref.shape) for ref in weights), start=0)
        inputs = tuple(ref.name for ref in program.inputs)
        return self.builder.finish(inputs, outputs, program.sizes, self._batch(), params)

    def _batch(self) -> str | None:
        used = {name for t in self.builder.tensors.values() for size in t.shape for name in names(size)}
        return self.program.batch if self.program.batch in used else None


def _read(program: Program) -> Iterator[str]:
    """The names of the tensors that calls of a program read, and bodies inside it."""
    for call in program.calls:
        for argument in (*call.args, *call.kwargs.values()):
            yield from (ref.name for ref in flat(argument))
            for body in bodies(argument):
                yield from body.outputs
                yield from _read(body)
