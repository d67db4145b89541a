"""NAS-Bench-201 networks as the kernels that a runtime makes of them, from the text of their cell alone.

A network is a stem, three stages of `CELLS` equal cells with a residual block between them, and a classifier (Dong and
Yang, ICLR 2020). A cell has four nodes; an edge of it is ReLU, convolution and batch norm, an average pooling, the
identity, or `none`, which multiplies by zero. What a runtime does with that differs, see `RUNTIMES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

INPUTS = {"cifar100": (3, 32, 32, 100), "ninapro": (1, 52, 16, 18), "darcy": (1, 88, 88, 1)}
"""Channels, height, width and classes of each task."""
CELLS = 5
CHANNELS = (16, 32, 64)
CONVS = ("nor_conv_3x3", "nor_conv_1x1")
ZERO = "zero"
INPUT = "input"


@dataclass(frozen=True)
class Runtime:
    """What a runtime does with a cell.

    `compiles`: has batch norms in the weights of convolutions; else each op is launched, and the sum of a node begins
    with zero, as Python's does. `merges`: computes a function of a value once, however many edges ask for it.
    `drops_none`: runs nothing for `none`, nor what nothing uses. `folds_zeros`: nor what only zeros reach.
    """

    compiles: bool = True
    merges: bool = True
    drops_none: bool = False
    folds_zeros: bool = False


RUNTIMES = {
    "litert": Runtime(drops_none=True, folds_zeros=True),
    "tflite": Runtime(merges=False, drops_none=True),
    "onnx": Runtime(),
    "torchmobile": Runtime(),
    "eager": Runtime(compiles=False, merges=False),
}
"""As the times show. On the Raspberry Pi 5 a sum over the edges alone leaves 2, 1.5 and 6.8 % of LiteRT, ONNX Runtime
and PyTorch Mobile unexplained, one over these operations 1.3, 0.5 and 0.4 %. In the older `tflite` of HW-NAS-Bench a
sum over LiteRT's operations leaves 5.9 % on a Pixel 3 and 8.1 % on a Raspberry Pi 4, one over these 1.6 and 4.4 %."""


def cell(arch: str, runtime: Runtime) -> Counter[str]:
    """How often a runtime runs each operation of a cell."""
    values, last = _values(arch, runtime)
    used = values.leading_to(last) if runtime.drops_none else values.made
    return Counter(values.made[value][0] for value in used)


def depends_on_input(arch: str) -> bool:
    """Whether anything but zeros and functions of zeros leads from a cell's input to its output."""
    return structure(arch) != ZERO


@lru_cache(maxsize=2**15)
def structure(arch: str) -> str:
    """What a cell computes, the same for cells that compute the same: its output as a formula, sums in order."""
    nodes = [INPUT]
    for edges in _edges(arch):
        terms = sorted(_term(name, nodes[source]) for name, source in edges)
        terms = [term for term in terms if term != ZERO]
        nodes.append(terms[0] if len(terms) == 1 else f"({' + '.join(terms)})" if terms else ZERO)
    return nodes[-1]


def _term(name: str, x: str) -> str:
    if name == "none" or x == ZERO:
        return ZERO
    return x if name == "skip_connect" else f"{name}({x})"


def _values(arch: str, runtime: Runtime) -> tuple[_Values, str]:
    """The values of a cell, and the name of its output."""
    values = _Values(runtime)
    nodes = [INPUT]
    for edges in _edges(arch):
        nodes.append(values.sum([values.edge(name, nodes[source]) for name, source in edges]))
    return values, nodes[-1]


def _edges(arch: str) -> Iterator[list[tuple[str, int]]]:
    """(operation, node it comes from) of each edge, node by node: ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+...``."""
    for node in arch.split("+"):
        pairs = (edge.split("~") for edge in node.strip("|").split("|"))
        yield [(name, int(source)) for name, source in pairs]


@dataclass
class _Values:
    """The values of a cell, numbered: `made` has the operation and the operands of each."""

    runtime: Runtime
    made: dict[str, tuple[str, ...]] = field(default_factory=dict)
    known: dict[tuple[str, ...], str] = field(default_factory=dict)

    def edge(self, name: str, x: str) -> str:
        """The value at the end of an edge; every convolution has weights of its own."""
        if name == "skip_connect":
            return x
        if (self.runtime.drops_none and name == "none") or (self.runtime.folds_zeros and x == ZERO):
            return ZERO
        if name not in CONVS:
            return self.of(name, x)
        x = self.of(name, self.of("relu", x), f"weights {len(self.made)}")
        return x if self.runtime.compiles else self.of("batch_norm", x)

    def sum(self, terms: list[str]) -> str:
        """The value of a node."""
        terms = [term for term in terms if term != ZERO] if self.runtime.compiles else [ZERO, *terms]
        total = terms[0] if terms else ZERO
        for term in terms[1:]:
            total = self.of("add", total, term)
        return total

    def of(self, *key: str) -> str:
        """The value of an operation on values, made once where the runtime merges."""
        if not (self.runtime.merges and key in self.known):
            self.known[key] = f"value {len(self.made)}"
            self.made[self.known[key]] = key
        return self.known[key]

    def leading_to(self, value: str) -> set[str]:
        """The values that one is made of, with itself."""
        found, waiting = set[str](), [value]
        while waiting:
            value = waiting.pop()
            if value in self.made and value not in found:
                found.add(value)
                waiting += self.made[value][1:]
        return found


@lru_cache(maxsize=2**17)
def network(arch: str, task: str, runtime: str, batch: int = 1) -> tuple[Work, ...]:
    """The Work of one network, in fp32."""
    counts = cell(arch, RUNTIMES[runtime])
    return (*_frame(task, runtime, batch), *_cells(task, batch, tuple(sorted(counts.items()))))


@lru_cache(maxsize=2048)
def _cells(task: str, batch: int, counts: tuple[tuple[str, int], ...]) -> tuple[Work, ...]:
    """The Work of all cells that run each operation so often: thousands of architectures do."""
    stages = [_stage(task, stage, batch) for stage in range(len(CHANNELS))]
    return tuple(replace(kernels[name], times=CELLS * count) for kernels in stages for name, count in counts)


@lru_cache
def _stage(task: str, stage: int, batch: int) -> dict[str, Work]:
    """The Work of each operation of a cell."""
    return {name: tabulate(graph)[0] for name, graph in operations(task, stage, batch).items()}


def operations(task: str, stage: int, batch: int = 1) -> dict[str, Graph]:
    """Each operation of a cell as a graph of its own, at the sizes of a stage."""
    channels, height, width = CHANNELS[stage], *_spatial(task, stage)
    shape = (batch, channels, height, width)
    elements = batch * channels * height * width
    return {
        "nor_conv_3x3": layers.conv(batch, channels, channels, (height, width), (3, 3), "fp32"),
        "nor_conv_1x1": layers.conv(batch, channels, channels, (height, width), (1, 1), "fp32"),
        "avg_pool_3x3": layers.pooling(shape, shape, 9, "fp32"),
        "relu": layers.pointwise(elements, "fp32"),
        "none": layers.pointwise(elements, "fp32"),
        "add": layers.pointwise(elements, "fp32", operands=2),
        "batch_norm": _batch_norm(elements, channels),
    }


def _batch_norm(elements: int, channels: int) -> Graph:
    return layers.norm(elements // channels, channels, "fp32", function="batch_norm")


@lru_cache
def _frame(task: str, runtime: str, batch: int) -> tuple[Work, ...]:
    """The Work of what all networks of a task share."""
    return tuple(tabulate(graph)[0] for graph in frame(task, runtime, batch))


def frame(task: str, runtime: str, batch: int = 1) -> list[Graph]:
    """What all networks of a task share: stem, the residual blocks before the second and third stage, classifier."""
    c_in, height, width, classes = INPUTS[task]
    apart = not RUNTIMES[runtime].compiles
    graphs = [layers.conv(batch, c_in, CHANNELS[0], (height, width), (3, 3), "fp32")]
    norms = [(batch * CHANNELS[0] * height * width, CHANNELS[0])]
    for stage in (1, 2):
        graphs += _block(task, stage, batch)
        norms += [(batch * CHANNELS[stage] * _points(task, stage), CHANNELS[stage])] * 2
    last = _spatial(task, 2)
    norms += [(batch * CHANNELS[2] * _points(task, 2), CHANNELS[2])]
    relus = [layers.pointwise(elements, "fp32") for elements, _ in norms[1:]]
    graphs += [
        layers.pooling((batch, CHANNELS[2], *last), (batch, CHANNELS[2], 1, 1), last[0] * last[1], "fp32"),
        layers.matmul(batch, classes, CHANNELS[2], "fp32"),
        *([_batch_norm(*sizes) for sizes in norms] + relus if apart else []),
    ]
    return graphs


def _block(task: str, stage: int, batch: int) -> list[Graph]:
    """The kernels of a residual block that halves the image, without its norms and ReLUs."""
    before, after = CHANNELS[stage - 1], CHANNELS[stage]
    large, small = _spatial(task, stage - 1), _spatial(task, stage)
    return [
        layers.conv(batch, before, after, large, (3, 3), "fp32", stride=2),
        layers.conv(batch, after, after, small, (3, 3), "fp32"),
        layers.pooling((batch, before, *large), (batch, before, *small), 4, "fp32"),
        layers.conv(batch, before, after, small, (1, 1), "fp32"),
        layers.pointwise(batch * after * _points(task, stage), "fp32", operands=2),
    ]


def _points(task: str, stage: int) -> int:
    height, width = _spatial(task, stage)
    return height * width


def _spatial(task: str, stage: int) -> tuple[int, int]:
    _, height, width, _ = INPUTS[task]
    return -(-height // 2**stage), -(-width // 2**stage)
