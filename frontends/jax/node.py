"""What a rule for a JAX primitive (or a StableHLO op of the same meaning) sees: a `Node` of `Value`s.

A rule says what work makes the node's outputs, whose shapes are given:

    @rule("sort")
    def sort(node):
        node.emit("sort", function="sort", length=node.ins[0].shape[node.params["dimension"]])

or that an output is an input seen differently (`node.same`). The primitive's parameters are in `node.params`, under the
names that JAX gives them; the StableHLO reader translates its attributes to these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from wattir.dims import Size, product
from wattir.errors import UnsupportedError
from wattir.ir import Op
from wattir.kinds import CONTRACTIONS

Shape = tuple[Size, ...]
SMALL = 1 << 16  # elements; arithmetic on fewer that come from parameters alone is done by whoever reads the result


@dataclass(slots=True)
class Value:
    """An array while a program is lowered.

    `name` is the tensor it is in, which may have another shape (a view, a broadcast). `fixed`: it depends on the
    parameters alone; `free`: not even on these (a literal, an iota, what is made of such): XLA makes it where it is
    read, so that it costs no bytes. `data`: the number that all its elements are, or for a vector the tuple of them,
    where that is known. `ramp`: the axis along which it counts up. `triangle`: it masks what comes later. `dealt`:
    (tensor, n): the rows of that tensor dealt out to n groups, each to one, with zeros for the others.
    """

    name: str
    shape: Shape
    dtype: str
    fixed: bool = False
    free: bool = False
    data: Any = None
    ramp: int | None = None
    triangle: bool = False
    dealt: tuple[str, Size] | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Size:
        return product(self.shape)


class Node:
    """One equation: its inputs are lowered, its outputs are `results` once the rule has answered."""

    __slots__ = ("builder", "context", "ins", "label", "op", "outs", "params", "results", "scope", "source", "times")

    def __init__(
        self,
        context: Any,
        op: str,
        label: str,
        params: Mapping[str, Any],
        ins: list[Value],
        outs: list[tuple[Shape, str]],
        times: Size = 1,
        scope: str = "",
        source: str = "",
    ) -> None:
        self.context, self.builder = context, context.builder
        self.op, self.label, self.params, self.ins, self.outs = op, label, params, ins, outs
        self.times, self.scope, self.source = times, scope, source or op
        self.results: list[Value | None] = [None] * len(outs)

    def same(self, value: Value, index: int = 0, **changes: Any) -> None:
        """Output `index` is `value` seen in the output's shape: nothing moves."""
        shape, _ = self.outs[index]
        self.results[index] = replace(value, shape=shape, **changes)

    def emit(
        self,
        kind: str,
        *,
        ins: Iterable[Value] | None = None,
        outs: tuple[int, ...] | None = None,
        role: str = "value",
        name: str | None = None,
        fold: bool = True,
        **attrs: Any,
    ) -> None:
        """Adds the op that makes `outs` (indices; all by default) from `ins` (or all inputs), or folds it.

        What depends on nothing but literals is free, and (with `fold`) small arithmetic on parameters is left to its
        reader.
        """
        used = self.ins if ins is None else list(ins)
        indices = range(len(self.outs)) if outs is None else outs
        if fold and used and all(v.fixed for v in used) and self._folds(kind, used, indices):
            return
        made = [self._made(index, role) for index in indices]
        read = used if kind in CONTRACTIONS else [v for v in used if not v.free]
        names = tuple(v.name for v in read)
        self.builder.ops.append(
            Op(kind, names, tuple(made), name or self.unique_label(), self.source, attrs, self.times)
        )

    def unique_label(self) -> str:
        return str(self.context.unique(self.label))

    def _made(self, index: int, role: str) -> str:
        shape, dtype = self.outs[index]
        name = self.builder.tensor(f"{self.label}:{index}" if index else self.label, shape, dtype, role)
        self.results[index] = Value(name, shape, dtype)
        return str(name)

    def _folds(self, kind: str, used: list[Value], indices: Iterable[int]) -> bool:
        if all(v.free for v in used):
            for index in indices:
                self.results[index] = self.context.free(*self.outs[index])
            return True
        if kind not in ("pointwise", "copy") or any(_is_large(shape) for shape, _ in self.outs):
            return False
        for index in indices:
            self.results[index] = self.context.derived(self, used, *self.outs[index])
        return True

    def slice_of(self, value: Value, index: int = 0) -> None:
        """Output `index` is a part of a parameter: its readers read no more than it."""
        self.results[index] = self.context.derived(self, [value], *self.outs[index])

    def warn(self, line: str) -> None:
        self.builder.warn(f"{self.label} ({self.source}): {line}")

    def fail(self, found: str, expected: str, todo: str = "") -> NoReturn:
        """Refuses the node: where, what, expected, what to do."""
        where = f"{self.builder.name}: {self.label!r} ({self.source})"
        raise UnsupportedError(f"{where}: {found}; expected {expected}" + (f"; {todo}" if todo else ""))


def _is_large(shape: Shape) -> bool:
    elements = product(shape)
    return not isinstance(elements, int) or elements > SMALL


Rule = Callable[[Node], None]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Registers a rule for primitives; registering one twice is an error."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if op in RULES:
                raise ValueError(f"two rules for {op}")
            RULES[op] = function
        return function

    return register


def unknown(node: Node) -> None:
    """Costs its bytes and is listed; what gives nothing back only checks or tells something."""
    if not node.outs:
        return
    node.context.program.count_unknown(node.source)
    node.emit("unknown")
