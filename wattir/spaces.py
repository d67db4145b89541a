"""Search spaces: names with their allowed values, and one graph whose sizes and trip counts are formulas in them.

    from wattir import layers
    from wattir.spaces import Choice, Space, composed, equal, supernet, symbol

    width = symbol("width")
    space = Space(layers.matmul(64, width, width), {"width": (64, 128, 256)})

    convs = {"none": None, "3x3": layers.conv(1, 16, 16, (32, 32), (3, 3))}
    cell = supernet("cell", [stem, *(Choice(f"edge{i}", convs) for i in range(6)), head])

    price = cell.compile("h100_sxm")
    price(range(cell.size)).energy_j

A candidate is a value for each name: a row of a matrix of sizes, or one index in which the last name counts fastest.
How often a part runs may be a formula too: ``symbol("depth")``, or ``equal(symbol("edge0"), 2)`` where it is chosen.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from wattir.api import lower
from wattir.costmodel import check_size
from wattir.dims import Dim, Size, bounds, equal, symbol
from wattir.errors import SizeError, SpaceError, suggestion
from wattir.ir import Graph, GraphBuilder, replace_graph

if TYPE_CHECKING:
    import numpy as np

    from wattir.device import Device
    from wattir.priced import PricedSpace

MOST_VALUES = 65535
"""Values of one name."""
MOST_INDEXED = 2**51
"""A space this large or larger has no indices: its candidates are rows of sizes. Smaller ones are taken apart in
doubles."""


@dataclass(frozen=True)
class Space:
    """A graph and the values of the names in its formulas.

    `values` maps each searched name to its distinct values, in the order that indices count them; the graph's other
    sizes keep their defaults. `labels` says what 0 1 2 ... stand for where they are values of some names. SpaceError
    names what is wrong.
    """

    graph: Graph
    values: Mapping[str, tuple[int, ...]]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Graph):
            raise SpaceError(f"a space of {type(self.graph).__name__}; expected a graph, as of wattir.lower(model)")
        checked = {name: _checked(self.graph, name, values) for name, values in self.values.items()}
        object.__setattr__(self, "values", checked)
        ordered = {name: self.graph.sizes[name] for name in (*checked, *self.graph.sizes)}  # tables are by this order
        object.__setattr__(self, "graph", replace_graph(self.graph, sizes=ordered))
        open_names = sorted(n for n, value in self.graph.sizes.items() if value is None and n not in checked)
        if open_names:
            raise SpaceError(f"{self.graph.name}: no values for size {', '.join(open_names)}; expected values for each")
        for name, labels in self.labels.items():
            most = max(checked.get(name, (0,)))
            if most >= len(labels):
                raise SpaceError(
                    f"{self.graph.name}: {name} = {most}; expected 0 to {len(labels) - 1}: {', '.join(labels)}"
                )

    def __repr__(self) -> str:
        return f"<Space {self.graph.name}: {self.size} candidates of {', '.join(self.names)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The searched names: the columns of a matrix of candidates."""
        return tuple(self.values)

    @property
    def size(self) -> int:
        """How many candidates there are."""
        return math.prod(len(values) for values in self.values.values())

    @property
    def fixed(self) -> dict[str, int]:
        """The sizes that are not searched."""
        return {n: value for n, value in self.graph.sizes.items() if n not in self.values and value is not None}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, int]:
        """The candidate of an index, as a value for each name: what `CostModel` takes."""
        at = operator.index(index)
        if not 0 <= at < self.size:
            raise SpaceError(f"{self.graph.name}: index {at}; expected from 0 to {self.size - 1}")
        found = {}
        for name in reversed(self.names):
            at, place = divmod(at, len(self.values[name]))
            found[name] = self.values[name][place]
        return {name: found[name] for name in self.names}

    def __iter__(self) -> Iterator[dict[str, int]]:
        return (self[index] for index in range(self.size))

    def index(self, candidate: Mapping[str, int | str]) -> int:
        """The index of a candidate given as a value or a label for each name."""
        at = 0
        for name, value in self.candidate(candidate).items():
            at = at * len(self.values[name]) + self.values[name].index(value)
        return at

    def candidate(self, given: Mapping[str, int | str]) -> dict[str, int]:
        """A value for each name, from values or labels; SpaceError where one is missing, unknown or not allowed."""
        for name in given:
            if name not in self.values:
                raise SpaceError(f"{self.graph.name}: no name {name!r}; {_expected(name, self.names)}")
        missing = [name for name in self.names if name not in given]
        if missing:
            raise SpaceError(f"{self.graph.name}: no value for {', '.join(missing)}; expected one for each name")
        return {name: self._value(name, given[name]) for name in self.names}

    def _value(self, name: str, value: int | str) -> int:
        values, labels = self.values[name], self.labels.get(name, ())
        found = labels.index(value) if isinstance(value, str) and value in labels else value
        if isinstance(found, str) or found not in values:
            allowed = [labels[known] if labels else str(known) for known in values]
            raise SpaceError(f"{self.graph.name}: {name} = {value!r}; {_expected(str(value), allowed)}")
        return int(found)

    def label(self, candidate: Mapping[str, int]) -> dict[str, int | str]:
        """A candidate with the labels of its values, where there are any."""
        return {n: self.labels[n][value] if n in self.labels else value for n, value in candidate.items()}

    def rows(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Sizes [n, names] of indices [n]."""
        import numpy as np

        given = np.asarray(indices)
        if given.dtype.kind not in "iu" or given.ndim != 1:
            raise SpaceError(f"{self.graph.name}: indices {given.dtype}{list(given.shape)}; expected whole numbers [n]")
        wrong = np.flatnonzero((given < 0) | (given >= self.size))
        if len(wrong):
            self[given[wrong[0]]]  # says why
        places = np.unravel_index(given, [len(values) for values in self.values.values()])
        columns = [np.array(values)[place] for values, place in zip(self.values.values(), places, strict=True)]
        return np.stack(columns, axis=1)

    def sample(self, count: int, seed: int | Sequence[int] = 0) -> np.ndarray[Any, Any]:
        """Sizes [count, names] of candidates drawn independently and uniformly."""
        import numpy as np

        if not hasattr(count, "__index__") or count < 0:
            raise SpaceError(f"{self.graph.name}: a sample of {count!r}; expected a whole number from 0 on")
        rng = np.random.default_rng(seed)
        return np.stack([rng.choice(np.array(values), count) for values in self.values.values()], axis=1)

    def compile(
        self, device: str | Device, runtime: str = "compiled", dtype: str | None = None, clock_hz: float | None = None
    ) -> PricedSpace:
        """The space on a machine: a function of candidates. See `wattir.compile` for what is accepted."""
        from wattir.priced import price_space

        return price_space(self, device, runtime, dtype, clock_hz)


def _checked(graph: Graph, name: str, values: Iterable[int]) -> tuple[int, ...]:
    where = f"{graph.name}: {name}"
    if name not in graph.sizes:
        raise SpaceError(f"{where}: not a size of the graph; {_expected(name, graph.sizes)}")
    try:
        found = tuple(values)
    except TypeError:
        raise SpaceError(f"{where} = {values!r}; expected a list of its values") from None
    if not 1 <= len(found) <= MOST_VALUES:
        raise SpaceError(f"{where}: {len(found)} values; expected from 1 to {MOST_VALUES}")
    try:
        for value in found:
            check_size(name, value)
    except SizeError as error:
        raise SpaceError(f"{graph.name}: {error}") from None
    if len(set(found)) < len(found):
        twice = next(value for place, value in enumerate(found) if value in found[:place])
        raise SpaceError(f"{where}: {twice} stands twice among its values; expected each once")
    return tuple(map(int, found))


def _expected(word: str, known: Iterable[str]) -> str:
    known = tuple(known)
    shown = ", ".join(known[:12]) + (f", ... ({len(known)})" if len(known) > 12 else "")
    return f"expected one of {shown or 'none'}{suggestion(word, known)}"


@dataclass(frozen=True)
class Block:
    """A part that runs `times` times: a number, or a formula in the space's names, such as ``symbol("depth")``.

    `model` is whatever `wattir.lower` takes, a pair of that and its inputs, or None where nothing runs.
    """

    model: Any
    times: Size = 1
    label: str = ""


@dataclass(frozen=True)
class Choice:
    """A position at which one of several blocks runs, `times` times.

    `blocks` maps a label to what `Block.model` may be. Choices of the same name are one decision: an edge of a cell
    that stands in several stages has a Choice with that stage's blocks in each.
    """

    name: str
    blocks: Mapping[str, Any]
    times: Size = 1

    def parts(self) -> Iterator[Block]:
        """The blocks, each as often as it is chosen."""
        _check_times(f"choice {self.name!r}", self.times)
        for place, (label, model) in enumerate(self.blocks.items()):
            yield Block(model, equal(symbol(self.name), place) * self.times, label)


def composed(name: str, parts: Iterable[Block | Any]) -> Graph:
    """Parts beside each other as one graph: what is not a `Block` runs once. Sizes of the same name are the same size.

    A model that stands in several parts is lowered once. Parts are fused each on their own, never across their borders.
    """
    every = [part if isinstance(part, Block) else Block(part) for part in parts]
    for part in every:
        _check_times(f"{name}: {part.label or 'a part'}", part.times)
    blocks: dict[int, Block] = {}
    for part in every:
        if part.model is not None:
            known = blocks.get(id(part.model), replace(part, times=0))
            blocks[id(part.model)] = replace(known, times=known.times + part.times)
    builder = GraphBuilder(name)
    graphs = [(block, _lowered(block.model)) for block in blocks.values()]
    if not graphs:
        raise SpaceError(f"{name}: no part runs anything; expected at least one block")
    inputs: list[str] = []
    outputs: list[str] = []
    for block, graph in graphs:
        renamed = _add(builder, graph, block)
        inputs += [renamed[tensor] for tensor in graph.inputs]
        outputs += [renamed[tensor] for tensor in graph.outputs]
    params = sum((graph.params * block.times for block, graph in graphs), start=0)
    found = builder.finish(tuple(inputs), tuple(outputs), _defaults(graphs), _batch(graphs), params)
    return replace_graph(found, warnings=tuple(dict.fromkeys(line for _, graph in graphs for line in graph.warnings)))


def _check_times(who: str, times: Any) -> None:
    if not isinstance(times, Dim | int) or isinstance(times, bool) or bounds(times)[1] < 0:
        raise SpaceError(f"{who} runs {times!r} times; expected a number or a formula")


def _lowered(model: Any) -> Graph:
    return lower(*model) if isinstance(model, tuple) else lower(model)


def _add(builder: GraphBuilder, graph: Graph, block: Block) -> dict[str, str]:
    """Adds a graph's tensors and ops under its label; gives the tensors' new names."""
    path = block.label or graph.name
    renamed = {
        name: builder.tensor(f"{path}/{name}", tensor.shape, tensor.dtype, tensor.role)
        for name, tensor in graph.tensors.items()
    }
    for op in graph.ops:
        ins, outs = (tuple(renamed[name] for name in names) for names in (op.ins, op.outs))
        times = op.times * block.times
        builder.ops.append(replace(op, ins=ins, outs=outs, name=f"{path}/{op.name}", times=times))
    return renamed


def _defaults(graphs: Iterable[tuple[Block, Graph]]) -> dict[str, int | None]:
    """The default of each size: None where the parts' differ."""
    found: dict[str, int | None] = {}
    for _, graph in graphs:
        for name, value in graph.sizes.items():
            found[name] = value if found.get(name, value) == value else None
    return found


def _batch(graphs: Iterable[tuple[Block, Graph]]) -> str | None:
    batches = {graph.batch for _, graph in graphs}
    return batches.pop() if len(batches) == 1 else None


def supernet(
    name: str, parts: Iterable[Choice | Block | Any], values: Mapping[str, Iterable[int]] | None = None
) -> Space:
    """The space of all ways to choose: its names are those of the Choices, then those of `values` for other sizes.

    `parts` that are no Choice run in every candidate (`composed`).
    """
    listed = list(parts)
    labels: dict[str, tuple[str, ...]] = {}
    for choice in (part for part in listed if isinstance(part, Choice)):
        if not choice.name.isidentifier():
            raise SpaceError(f"{name}: choice {choice.name!r}; expected a name such as edge0")
        if not isinstance(choice.blocks, Mapping) or not choice.blocks:
            raise SpaceError(f"{name}: choice {choice.name!r} of {choice.blocks!r}; expected blocks by label")
        found = labels.setdefault(choice.name, tuple(choice.blocks))
        if found != tuple(choice.blocks):
            theirs = ", ".join(choice.blocks)
            raise SpaceError(f"{name}: choice {choice.name!r} is among {', '.join(found)}, then among {theirs}")
    blocks = [block for part in listed for block in (part.parts() if isinstance(part, Choice) else (part,))]
    graph = composed(name, blocks)
    counted = {choice: range(len(found)) for choice, found in labels.items()}
    unused = {choice: None for choice in counted if choice not in graph.sizes}  # all its blocks are nothing
    graph = replace_graph(graph, sizes={**graph.sizes, **unused})
    searched: dict[str, Any] = {**counted, **(values or {})}
    return Space(graph, searched, labels)


__all__ = ["Block", "Choice", "Space", "composed", "equal", "supernet", "symbol"]
