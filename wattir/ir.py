"""The layer IR: `Tensor`, `Op`, `Graph`. All frozen; a pass gives a new graph.

Ops are in runnable order and name their tensors. A tensor has one producer at most; views are ops of kind ``view``.
Loops are not nested graphs: an op inside a loop has its trip count in `times`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from wattir.dims import Dim, Size, names, product
from wattir.errors import GraphError
from wattir.kinds import DTYPE_BYTES

MAX_RANK = 64

Attr = Any  # Size | str | bool | tuple[Size, ...]


@lru_cache(maxsize=4096)
def _elements(shape: tuple[Size, ...]) -> Size:
    return product(shape)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array: `shape` of Sizes, `dtype` of `wattir.kinds.DTYPE_BYTES`, `role` of `wattir.kinds.ROLES`."""

    shape: tuple[Size, ...]
    dtype: str
    role: str = "value"

    @property
    def elements(self) -> Size:
        """The product of the shape; 1 for a scalar."""
        return _elements(self.shape)

    @property
    def bytes(self) -> Size:
        """Bytes of the whole tensor; halves of a byte (4-bit types) are rounded up."""
        width = DTYPE_BYTES[self.dtype]
        return self.elements * int(width) if width >= 1 else -(-self.elements // int(1 / width))


@dataclass(frozen=True, slots=True)
class Op:
    """One layer.

    `kind` and `attrs` are those of `wattir.kinds.KINDS`; `ins` and `outs` are tensor names (an absent optional input
    is left out); `name` is the path a user knows; `source` is the framework's op; `times` is how often it runs.
    """

    kind: str
    ins: tuple[str, ...]
    outs: tuple[str, ...]
    name: str
    source: str
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    times: Size = 1


@dataclass(frozen=True)
class Graph:
    """A network.

    `sizes` maps every free dim to its default, or to None where the caller must give one; `batch` names the free dim
    that counts samples. `params` counts the elements of the weights as the model's author would: each once however
    often it is shared, running statistics and other constants not. `warnings` are lines for the reader of a report.
    """

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    batch: str | None = None
    params: Size = 0
    warnings: tuple[str, ...] = ()

    @cached_property
    def readers(self) -> dict[str, tuple[Op, ...]]:
        """The ops that read each tensor, in order."""
        found: dict[str, list[Op]] = {name: [] for name in self.tensors}
        for op in self.ops:
            for name in dict.fromkeys(op.ins):
                found[name].append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    @cached_property
    def producers(self) -> dict[str, Op]:
        """The op that makes each tensor; graph inputs and weights have none."""
        return {name: op for op in self.ops for name in op.outs}


def free_names(graph: Graph) -> frozenset[str]:
    """The free names that the tensors, attributes and trip counts of a graph depend on."""
    found: set[str] = set()
    for tensor in graph.tensors.values():
        for size in tensor.shape:
            found |= names(size)
    for op in graph.ops:
        for value in (op.times, *op.attrs.values()):
            for size in value if isinstance(value, tuple) else (value,):
                found |= names(size) if isinstance(size, Dim) else frozenset()
    return frozenset(found)


class GraphBuilder:
    """What a frontend fills: tensors and ops in order, then `finish`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.warnings: list[str] = []

    def tensor(self, name: str, shape: tuple[Size, ...], dtype: str, role: str = "value") -> str:
        """Adds a tensor under `name`, made unique by a suffix if it is taken; gives the name it got.

        GraphError for more than `MAX_RANK` axes, which only a damaged file has.
        """
        if len(shape) > MAX_RANK:
            raise GraphError(f"{self.name}: tensor {name!r} has {len(shape)} axes; expected at most {MAX_RANK}")
        unique, count = name, 1
        while unique in self.tensors:
            count += 1
            unique = f"{name}~{count}"
        self.tensors[unique] = Tensor(tuple(shape), dtype, role)
        return unique

    def op(
        self,
        kind: str,
        ins: tuple[str, ...],
        outs: tuple[str, ...],
        *,
        name: str,
        source: str,
        times: Size = 1,
        **attrs: Attr,
    ) -> None:
        """Adds an op; its tensors must have been added."""
        self.ops.append(Op(kind, tuple(ins), tuple(outs), name, source, attrs, times))

    def warn(self, line: str) -> None:
        """A line for the reader of a report; the same line twice is said once."""
        if line not in self.warnings:
            self.warnings.append(line)

    def finish(
        self,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        sizes: Mapping[str, int | None] | None = None,
        batch: str | None = None,
        params: Size | None = None,
    ) -> Graph:
        """The graph; free dims not in `sizes` have no default; `params` is counted where it is not given."""
        count = self._weight_elements() if params is None else params
        graph = Graph(self.name, self.tensors, tuple(self.ops), inputs, outputs, {}, batch, count, tuple(self.warnings))
        every = {name: None for name in sorted(free_names(graph))}
        known = {name: value for name, value in (sizes or {}).items() if name in every}
        return replace_graph(graph, sizes={**every, **known})

    def _weight_elements(self) -> Size:
        used = {name for op in self.ops for name in op.ins}
        return sum((t.elements for name, t in self.tensors.items() if t.role == "weight" and name in used), start=0)


def live_ops(ops: Sequence[Op], outputs: Iterable[str], tensors: Mapping[str, Tensor]) -> list[bool]:
    """Of each op, whether an output depends on it. State and collectives are live: they act on the world."""
    wanted, live = set(outputs), [False] * len(ops)
    for place in range(len(ops) - 1, -1, -1):
        op = ops[place]
        acts = op.kind == "collective" or any(tensors[name].role == "state" for name in op.outs)
        if acts or not wanted.isdisjoint(op.outs):
            live[place] = True
            wanted.update(op.ins)
    return live


def _fields(graph: Graph) -> dict[str, Any]:
    return {name: getattr(graph, name) for name in Graph.__dataclass_fields__}


def replace_graph(graph: Graph, **changes: Any) -> Graph:
    """A new graph with some fields changed (`dataclasses.replace` without the cached properties)."""
    return Graph(**{**_fields(graph), **changes})
