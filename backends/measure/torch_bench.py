"""Layers by PyTorch on one device: operands rotated through memory, calls captured in a graph, then metered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .cases import LayerCase, layer_row
from .torch_layers import BUILDERS, DTYPES, Maker, Plan
from .window import Call, Row, Window, clamp

COLD_BYTES = 150e6
"""Operands that take up more than this are read from memory, not from the last-level cache."""
COPIES_MAX = 64
MEMORY_SHARE = 0.3
"""Of a GPU's memory, for copies of a layer's operands."""
HOST_MEMORY_BYTES = 2e9
"""The same where the memory is the host's, which others use too."""
GRAPH_CALLS_MAX = 200
GRAPH_MIN_S = 2e-3
HOST_LIMIT_S = 100e-6
WARM_CALLS = 3
CUDNN_PLANS = 5


@dataclass(frozen=True)
class TorchBench:
    """Layers on one device, in the window of a meter."""

    device: str
    window: Window

    @property
    def is_cuda(self) -> bool:
        """Whether calls are launched, and can be captured in a graph."""
        return self.device.startswith("cuda")

    @property
    def labels(self) -> dict[str, str]:
        """What all rows say of their meter."""
        return self.window.labels

    def measure(self, case: LayerCase) -> Row:
        """One row of a layer: replayed from a captured graph where there are graphs, else called eagerly."""
        set_math(case.math)
        with torch.inference_mode():
            rotation, sizes = self._rotate(self._plan(case), case.cold)
            self.window.timed(rotation, WARM_CALLS)
            rotation.calls = calls_for(self.window.timed(rotation, WARM_CALLS) / WARM_CALLS, sizes["copies"])
            step, mode, graph = self.captured(rotation)
            row = layer_row(case) | sizes | {"mode": mode} | self.window.observe(step, rotation.calls)
        del graph
        return row

    def idle(self, wait_s: float) -> Row:
        """The meter's columns with nothing running."""
        return self.window.idle(wait_s)

    def recover(self) -> None:
        """Gives cached memory back, and sees that the device still answers (a failed capture may prevent it)."""
        if self.is_cuda:
            torch.cuda.empty_cache()
            torch.randn(1, device=self.device)
            self.window.sync()

    def describe(self) -> Row:
        """The device, the framework and its settings."""
        facts: Row = {"torch": torch.__version__, "device": self.device, "threads": torch.get_num_threads()}
        if self.is_cuda:
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.benchmark_limit = CUDNN_PLANS
            found = torch.cuda.get_device_properties(self.device)
            facts |= {"memory_bytes": found.total_memory, "multiprocessors": found.multi_processor_count}
            facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]  # torch has no types for it
        return facts | self.window.meter.counter.describe()

    def captured(self, step: Call) -> tuple[Call, str, Any]:
        """A replay of everything one step launches and the graph to keep alive; the step itself where there is none."""
        if not self.is_cuda:
            return step, "eager", None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                step()
        except RuntimeError:  # not all kernels can be captured
            self.recover()
            return step, "eager", None
        return graph.replay, "graph", graph

    def _plan(self, case: LayerCase) -> Plan:
        maker = Maker(self.device, DTYPES[case.dtype])
        return BUILDERS[case.op](case.params, maker)

    def _rotate(self, plan: Plan, cold: bool) -> tuple[Rotation, Row]:
        """Enough copies for the residency asked for; and the bytes a call must move."""
        first = plan.make()
        written = bytes_of(plan.run(*first))
        copy_bytes = bytes_of(first) + written
        copies = self._copies(copy_bytes) if cold else 1
        rotation = Rotation(plan, [first, *(plan.make() for _ in range(copies - 1))])
        read = bytes_of(first) if plan.bytes_read is None else plan.bytes_read
        is_cold = int(copies * copy_bytes > COLD_BYTES)
        sizes = {"bytes_min": read + written, "copies": copies, "footprint_bytes": copies * copy_bytes, "cold": is_cold}
        return rotation, sizes

    def _copies(self, copy_bytes: float) -> int:
        most = HOST_MEMORY_BYTES
        if self.is_cuda:
            most = MEMORY_SHARE * torch.cuda.get_device_properties(self.device).total_memory
        return clamp(COLD_BYTES * 1.02 / copy_bytes, 1, min(COPIES_MAX, max(1, int(most / copy_bytes))))


@dataclass
class Rotation:
    """Repeated calls of a layer, each on the next copy of its operands and into memory of its own."""

    plan: Plan
    operands: list[tuple[Any, ...]]
    calls: int = 1

    def __post_init__(self) -> None:
        self.outputs: list[Any] = [None] * len(self.operands)

    def __call__(self) -> None:
        """One step: `calls` calls; an output lives until its slot comes round again."""
        for index in range(self.calls):
            slot = index % len(self.operands)
            self.outputs[slot] = self.plan.run(*self.operands[slot])


def sync_of(device: str) -> Callable[[], None]:
    """What waits until the device has finished all work."""
    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device == "mps" else lambda: None


def has_device(device: str) -> bool:
    """Whether PyTorch finds this device."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return int(index or 0) < torch.cuda.device_count()
    return kind == "cpu" or torch.backends.mps.is_available()


def best_device() -> str:
    """The device that PyTorch would run a network on here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def set_math(math_name: str) -> None:
    """Lets fp32 products use the tf32 unit, or not."""
    allowed = math_name == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def bytes_of(value: Any) -> float:
    """Bytes of every tensor and module inside a value."""
    if isinstance(value, torch.Tensor):
        return float(value.numel() * value.element_size())
    if isinstance(value, torch.nn.Module):
        return sum(bytes_of(weight) for weight in value.parameters())
    if isinstance(value, (tuple, list)):
        return sum(bytes_of(part) for part in value)
    return 0.0


def calls_for(call_s: float, copies: int) -> int:
    """Calls in one step: whole rounds of the copies, long enough that a replay hides its own launch."""
    wanted = GRAPH_CALLS_MAX if call_s < HOST_LIMIT_S else clamp(GRAPH_MIN_S / call_s, 1, GRAPH_CALLS_MAX)
    rounds = min(math.ceil(wanted / copies), max(1, GRAPH_CALLS_MAX // copies))
    return rounds * copies
