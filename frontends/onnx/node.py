"""What a rule for an ONNX op sees: a `Node` with its input `Value`s, and the verbs to answer with.

A rule is a function of a Node. It says what each output is (`node.result`) and what work makes it (`node.emit`):

    @rule("Softmax")
    def softmax(node):
        x = node.ins[0]
        node.result(x.shape)
        node.emit("softmax", function="softmax", length=x.shape[node.attr("axis", -1)])

Ops that only shuffle small known numbers (the shape arithmetic that exporters write) pass `data=` to `result`; `emit`
does nothing when every output's content is known, or when every input is fixed (a weight, a constant, or made of such),
because any runtime folds these before it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from wattir.dims import Size, product
from wattir.errors import UnsupportedError
from wattir.ir import GraphBuilder

MAX_KNOWN = 4096  # elements; contents of larger tensors are not followed


@dataclass(slots=True)
class Value:
    """A tensor while the graph is lowered.

    `name` is its name in the GraphBuilder; `data` is its content in row-major order where it is known (Sizes, floats,
    bools or texts; `len(data) == elements`); `fixed` says that it does not depend on the model's inputs. A sequence
    has its elements in `items` instead. `source` remembers the file's initializer behind a fixed value.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: str
    data: tuple[Any, ...] | None = None
    fixed: bool = False
    items: list[Value] | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Size:
        return product(self.shape)


class Node:
    """One node of the file: its inputs are lowered, its outputs are what the rule makes of them."""

    def __init__(
        self,
        builder: GraphBuilder,
        op: str,
        domain: str,
        opset: int,
        label: str,
        attrs: dict[str, Any],
        ins: list[Value | None],
        out_names: list[str],
        times: Size = 1,
        context: Any = None,
    ) -> None:
        self.builder, self.op, self.domain, self.opset, self.label = builder, op, domain, opset, label
        self.attrs, self.ins, self.out_names, self.times = attrs, ins, out_names, times
        self.context = context  # the lowering that runs this node; for rules with subgraphs
        self.results: list[Value | None] = [None] * len(out_names)
        self.proto: Any = None  # the NodeProto itself, where the node is of a file

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value: int, float, str, bytes, tuple, or a TensorProto/GraphProto."""
        return self.attrs.get(name, default)

    def given(self, index: int) -> bool:
        """Whether the optional input is there."""
        return index < len(self.ins) and self.ins[index] is not None

    def wanted(self, index: int) -> bool:
        """Whether the optional output is used."""
        return index < len(self.out_names) and self.out_names[index] != ""

    def value(self, index: int) -> Value:
        """A required input; UnsupportedError names it when it is absent."""
        found = self.ins[index] if index < len(self.ins) else None
        if found is None:
            self.fail(f"input {index} is missing", "a tensor")
        return found

    def known(self, index: int) -> tuple[Any, ...] | None:
        """The content of an input, or None where it is absent or not known."""
        found = self.ins[index] if index < len(self.ins) else None
        return None if found is None else found.data

    def result(
        self,
        shape: tuple[Size, ...],
        dtype: str | None = None,
        data: tuple[Any, ...] | None = None,
        index: int = 0,
        fixed: bool | None = None,
    ) -> Value:
        """Declares output `index`; its dtype is the first input's unless given, and it is fixed where all inputs are
        unless `fixed` says otherwise (random numbers and dequantized weights are not)."""
        present = [v for v in self.ins if v is not None]
        dtype = dtype or (present[0].dtype if present else "fp32")
        if fixed is None:
            fixed = data is not None or (bool(present) and all(v.fixed for v in present))
        role = self._fixed_role(present, dtype) if fixed else "value"
        name = self.builder.tensor(self.out_names[index] or f"{self.label}:{index}", shape, dtype, role)
        value = Value(name, tuple(shape), dtype, data if data is None or len(data) <= MAX_KNOWN else None, fixed)
        self.results[index] = value
        return value

    def same(self, index: int, value: Value) -> None:
        """Output `index` is an input itself: nothing is made."""
        self.results[index] = value

    def inner(self, tag: str, shape: tuple[Size, ...], dtype: str, role: str = "value") -> Value:
        """A tensor between two ops that this one node becomes, or (with a role) a weight kept in its attributes."""
        name = self.builder.tensor(f"{self.label}.{tag}", shape, dtype, role)
        return Value(name, tuple(shape), dtype, fixed=role != "value")

    def emit(
        self,
        kind: str,
        *,
        ins: tuple[Value | None, ...] | None = None,
        outs: tuple[Value, ...] | None = None,
        **attrs: Any,
    ) -> None:
        """Adds the op that makes `outs` or all declared results (those not folded), from `ins` or from all inputs."""
        declared = [v for v in self.results if v is not None]
        if declared and all(v.fixed for v in declared):
            return
        made = declared if outs is None else outs
        outs_used = tuple(v.name for v in made if not v.fixed)
        if not outs_used:
            return
        used = [v for v in (self.ins if ins is None else ins) if v is not None]
        names = tuple(v.name for v in used if v.items is None)
        source = self.op if self.domain in ("", "ai.onnx") else f"{self.domain}.{self.op}"
        self.builder.op(kind, names, outs_used, name=self.label, source=source, times=self.times, **attrs)

    def constant(self, index: int) -> None:
        """Says that a fixed input is a buffer, not a parameter (running statistics, scales, zero points)."""
        found = self.ins[index] if index < len(self.ins) else None
        if found is not None and found.fixed:
            self.context.mark_constant(found)

    def warn(self, line: str) -> None:
        self.builder.warn(f"{self.label} ({self.op}): {line}")

    def fail(self, found: str, expected: str, todo: str = "") -> NoReturn:
        """Refuses the node: where, what, expected, what to do."""
        where = f"{self.builder.name}: node {self.label!r} ({self.op})"
        raise UnsupportedError(f"{where}: {found}; expected {expected}" + (f"; {todo}" if todo else ""))

    def _fixed_role(self, present: list[Value], dtype: str) -> str:
        """A weight's role stays with what is made of it, but not with its shape and the like."""
        roles = {self.builder.tensors[v.name].role for v in present if v.name in self.builder.tensors}
        return "weight" if "weight" in roles and dtype not in ("int64", "int32", "bool", "string") else "constant"


Rule = Callable[[Node], None]
RULES: dict[tuple[str, str], Rule] = {}


def rule(*ops: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Registers a rule for ops of a domain; registering an op twice is an error."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if (domain, op) in RULES:
                raise ValueError(f"two rules for {domain or 'ai.onnx'}.{op}")
            RULES[(domain, op)] = function
        return function

    return register
