"""What one lowering knows, whichever text it reads: the tensors, which parameters are behind them, the names given."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from wattir.dims import Size, product, symbol
from wattir.errors import SizeError, suggestion
from wattir.frontends.jax.node import Node, Shape, Value
from wattir.ir import Graph, GraphBuilder, Op, Tensor
from wattir.kinds import DTYPE_BYTES

TYPICAL = 64
"""What a free size counts as where two branches of a `cond` are compared."""


class Program:
    """Fills a GraphBuilder.

    roots    tensor made of parameters alone -> the parameters it is made of
    axes     name of a mesh axis -> its size, inside `shard_map`
    """

    def __init__(self, name: str, trip_counts: Mapping[str, Size] | None = None) -> None:
        load_rules()
        self.builder = GraphBuilder(name)
        self.roots: dict[str, tuple[str, ...]] = {}
        self.axes: dict[str, Size] = {}
        self.inputs: list[str] = []
        self._labels: dict[str, int] = {}
        self._free: dict[str, str] = {}
        self._trip_counts = dict(trip_counts or {})
        self._loops: list[str] = []
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

    def trip_count(self, label: str) -> Size:
        """How often a loop runs that the program does not say: the caller's count, else a free size of that name."""
        self._loops.append(label)
        given = self._trip_counts.get(label)
        if given is not None:
            return given
        size = symbol(f"trip_count.{label}")
        self.builder.warn(f"{label}: how often it runs depends on data; give it with --set {size}=N")
        return size

    # ---- the end ---------------------------------------------------------------------------------------------------

    def finish(self, outputs: Iterable[Value], batch: str | None) -> Graph:
        """The graph."""
        for label in self._trip_counts.keys() - set(self._loops):
            listed = ", ".join(self._loops) or "none"
            where = f"{self.builder.name}: trip count for {label!r}; expected one of its open loops: {listed}"
            raise SizeError(where + suggestion(label, self._loops))
        for op, count in self._unknown.items():
            self.builder.warn(f"{op} has no mapping ({count} times): its bytes are counted, its work is not known")
        last = tuple(dict.fromkeys(value.name for value in outputs))
        inputs = tuple(self.inputs)
        return self.builder.finish(inputs, last, {batch: 1} if batch else {}, batch, self._params(last))

    def _params(self, outputs: Iterable[str]) -> Size:
        used = dict.fromkeys(name for op in self.builder.ops for name in op.ins) | dict.fromkeys(outputs)
        roots = dict.fromkeys(root for name in used for root in self.roots.get(name, ()))
        tensors = (self.builder.tensors[root] for root in roots)
        return sum((tensor.elements for tensor in tensors if tensor.role == "weight"), start=0)


def rough_cost(ops: Iterable[Op], tensors: Mapping[str, Tensor]) -> float:
    """FLOP of contractions plus bytes, with every free size at `TYPICAL`."""
    return sum((2 * _macs(op) + _bytes(op, tensors)) * typical(op.times) for op in ops)


def typical(size: Any) -> float:
    """A size with all its names at `TYPICAL`."""
    from wattir.dims import evaluate, names

    return float(evaluate(size, dict.fromkeys(names(size), TYPICAL)))


def _macs(op: Op) -> float:
    a = op.attrs
    if op.kind == "matmul":
        return typical(a["groups"]) * typical(a["m"]) * typical(a["n"]) * typical(a["k"])
    if op.kind == "conv":
        points = a["in_spatial"] if a.get("transposed") else a["out_spatial"]
        sizes = (a["batch"], *points, a["c_in"], a["c_out"], *a["kernel"])
        return typical(product(sizes)) / typical(a["groups"])
    return 0.0


def _bytes(op: Op, tensors: Mapping[str, Tensor]) -> float:
    return sum(typical(tensors[name].elements) * DTYPE_BYTES[tensors[name].dtype] for name in (*op.ins, *op.outs))


@cache
def load_rules() -> None:
    """Imports every `rules_*` module of this package, which registers its rules."""
    package = importlib.import_module("wattir.frontends.jax")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("rules_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
