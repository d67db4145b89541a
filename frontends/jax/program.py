"""What one lowering knows, whichever text it reads: the tensors, which parameters are behind them, the names given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wattir.dims import Size, symbol
from wattir.errors import SizeError, suggestion
from wattir.frontends.jax.node import Node, Shape, Value
from wattir.frontends.rules import load_rules
from wattir.ir import Graph, GraphBuilder, Op, live_ops


class Program:
    """Fills a GraphBuilder.

    roots    tensor made of parameters alone -> the parameters it is made of
    axes     name of a mesh axis -> its size, inside `shard_map`
    limits   free size of a loop that data may end -> how often it runs at most
    effects  what calls that act on the world give back; these are made even if nobody reads it
    """

    def __init__(self, name: str, trip_counts: Mapping[str, Size] | None = None) -> None:
        load_rules("wattir.frontends.jax")
        self.builder = GraphBuilder(name)
        self.roots: dict[str, tuple[str, ...]] = {}
        self.axes: dict[str, Size] = {}
        self.inputs: list[str] = []
        self.limits: dict[str, int] = {}
        self.effects: list[str] = []
        self._labels: dict[str, int] = {}
        self._free: dict[str, str] = {}
        self._trip_counts = dict(trip_counts or {})
        self._loops: list[str] = []
        self._carries: list[Carry] = []
        self._unknown: dict[str, int] = {}

    # ---- values ----------------------------------------------------------------------------------------------------

    def given(self, name: str, shape: Shape, dtype: str, role: str) -> Value:
        """A leaf of the arguments: a parameter (`weight`, `constant`), an `input`, or `state`."""
        unique = self.builder.tensor(name, shape, dtype, role)
        if role in ("input", "state"):
            self.inputs.append(unique)
        else:
            self.roots[unique] = (unique,)
        return Value(unique, shape, dtype, fixed=role in ("weight", "constant"))

    def free(self, shape: Shape, dtype: str, data: Any = None, ramp: int | None = None) -> Value:
        """A value of no bytes: a literal, or what is made of literals where it is read."""
        name = self._free.get(dtype)
        if name is None:
            name = self._free[dtype] = self.builder.tensor(f"literal.{dtype}", (), dtype, "constant")
        return Value(name, shape, dtype, True, True, data, ramp)

    def derived(self, node: Node, used: Iterable[Value], shape: Shape, dtype: str) -> Value:
        """What is made of parameters alone; it keeps their role, and they count as used where it is."""
        used = list(used)
        roots = tuple(dict.fromkeys(root for v in used for root in self.roots.get(v.name, ())))
        roles = {self.builder.tensors[root].role for root in roots}
        role = "state" if "state" in roles else ("weight" if "weight" in roles else "constant")
        name = self.builder.tensor(f"{(roots or (node.label,))[0]}.{node.op}", shape, dtype, role)
        self.roots[name] = roots
        return Value(name, shape, dtype, fixed=True)

    def part(self, value: Value, shape: Shape) -> Value:
        """One trip's part of a parameter or an input: a tensor of its own that is read in place."""
        role = self.builder.tensors[value.name].role
        name = self.builder.tensor(f"{value.name}[]", shape, value.dtype, role)
        self.roots[name] = self.roots.get(value.name, (value.name,))
        return Value(name, shape, value.dtype, fixed=value.fixed)

    def role(self, value: Value) -> str:
        return self.builder.tensors[value.name].role

    # ---- names -----------------------------------------------------------------------------------------------------

    def unique(self, label: str) -> str:
        """`label`, with a number where it has been given before."""
        count = self._labels.get(label, 0) + 1
        self._labels[label] = count
        return label if count == 1 else f"{label}~{count}"

    def count_unknown(self, source: str) -> None:
        self._unknown[source] = self._unknown.get(source, 0) + 1

    def noted(self) -> tuple[Any, ...]:
        """What has been noted beside the ops; see `note_only`."""
        return list(self.builder.warnings), dict(self._unknown), list(self._carries), list(self.effects)

    def note_only(self, noted: tuple[Any, ...]) -> None:
        """Forgets what was noted since, of ops that were taken back."""
        warnings, unknown, carries, effects = noted
        self.builder.warnings[:] = warnings
        self._unknown, self._carries, self.effects = dict(unknown), list(carries), list(effects)

    def trip_count(self, label: str, found: Size | None, may_end_earlier: bool) -> Size:
        """How often a loop runs.

        What the program does not say is the caller's count, else a free size of the loop's name; where data may end it
        before the limit that was `found`, the default of that size is the limit.
        """
        if found is not None and not may_end_earlier:
            return found
        self._loops.append(label)
        given = self._trip_counts.get(label)
        if given is not None:
            return given
        size = symbol(f"trip_count.{label}")
        if found is None:
            self.builder.warn(f"{label}: how often it runs depends on data; give it with --set {size}=N")
        elif isinstance(found, int):
            self.limits[str(size)] = found
            self.builder.warn(
                f"{label}: data may end it before its limit of {found}; give its runs with --set {size}=N"
            )
        else:
            self.builder.warn(f"{label}: data may end it before its limit of {found}, which is taken")
            return found
        return size

    def carry(self, start: int, before: Sequence[Value], after: Sequence[Value]) -> list[Value]:
        """Notes that the ops from `start` on are a loop's body; gives its carried values once it has ended.

        One that the body took from another carried value (the very object) depends on the body as that one does.
        """
        pairs = [(b.name, a.name) for b, a in zip(before, after, strict=True) if not a.fixed and a.name != b.name]
        self._carries.append(Carry(start, len(self.builder.ops), tuple(pairs)))
        taken = {id(value): after[place].name for place, value in enumerate(before)}
        return [
            replace(value, data=None, name=value.name if value is before[place] else taken.get(id(value), value.name))
            for place, value in enumerate(after)
        ]

    # ---- the end ---------------------------------------------------------------------------------------------------

    def finish(self, outputs: Iterable[Value], batch: str | None) -> Graph:
        """The graph."""
        for label in self._trip_counts.keys() - set(self._loops):
            listed = ", ".join(self._loops) or "none"
            where = f"{self.builder.name}: trip count for {label!r}; expected one of its open loops: {listed}"
            raise SizeError(where + suggestion(label, self._loops))
        for op, count in self._unknown.items():
            self.builder.warn(f"{op} has no mapping ({count} times): its bytes are counted, its work is not known")
        last = self._kept(tuple(dict.fromkeys([*self._written_out(outputs), *self.effects])))
        inputs = tuple(self.inputs)
        defaults = {**self.limits, **({batch: 1} if batch else {})}
        return self.builder.finish(inputs, last, defaults, batch, self._params(last))

    def _written_out(self, outputs: Iterable[Value]) -> list[str]:
        """The outputs' tensors; one that is a part or a repetition of another tensor is copied."""
        views = {name for op in self.builder.ops if op.kind == "view" for name in op.outs}
        names = []
        for value in outputs:
            name, is_part = value.name, value.name in views
            if not value.fixed and (is_part or value.elements != self.builder.tensors[name].elements):
                name = self.builder.tensor(f"{name}.output", value.shape, value.dtype)
                attrs = {"function": "slice" if is_part else "expand"}
                self.builder.ops.append(Op("copy", (value.name,), (name,), self.unique("output"), "output", attrs))
            names.append(name)
        return names

    def _kept(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """The outputs, and what only a loop's next trip reads."""
        ops = self.builder.ops
        while self._carries:
            live = live_ops(ops, outputs, self.builder.tensors)
            more = dict.fromkeys(name for carry in self._carries for name in carry.missing(ops, live))
            if not more:
                break
            outputs += tuple(more)
        return outputs

    def _params(self, outputs: Iterable[str]) -> Size:
        used = dict.fromkeys(name for op in self.builder.ops for name in op.ins) | dict.fromkeys(outputs)
        roots = dict.fromkeys(root for name in used for root in self.roots.get(name, ()))
        tensors = (self.builder.tensors[root] for root in roots)
        return sum((tensor.elements for tensor in tensors if tensor.role == "weight"), start=0)


@dataclass(frozen=True, slots=True)
class Carry:
    """A loop's body (ops `start` to `end`), and the tensors that each carried value is in before and after it."""

    start: int
    end: int
    pairs: tuple[tuple[str, str], ...]

    def missing(self, ops: Sequence[Op], live: Sequence[bool]) -> list[str]:
        """What the next trip reads and nothing else."""
        body = range(self.start, self.end)
        read = {name for place in body if live[place] for name in ops[place].ins}
        dead = {name for place in body if not live[place] for name in ops[place].outs}
        return [after for before, after in self.pairs if before in read and after in dead]
