"""The device under the meter: capture, settle, and one metered window of repeated calls."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from measure_cases import LayerCase
from measure_layers import BUILDERS, DTYPES, Maker, Params, Plan, flop
from measure_meter import Meter

Step = Callable[[], Any]
COLD_BYTES = 150e6
COPIES_MAX = 64
MEMORY_MAX_BYTES = 40e9
GRAPH_CALLS_MAX = 200
GRAPH_MIN_S = 2e-3
HOST_LIMIT_S = 100e-6
WARM_CALLS = 3
STEPS_MAX = 200_000


class CaseTimeoutError(Exception):
    """A case ran past the time given to it."""


@dataclass(frozen=True)
class Rig:
    """One device, its meter, and how long to look: settle and window times in s."""

    device: str
    meter: Meter
    window_s: float
    settle_s: float
    dry: bool

    def sync(self) -> None:
        """Wait until the device has finished all work."""
        if not self.dry:
            torch.cuda.synchronize()

    def release(self) -> None:
        """Give cached memory back, and see that random data can still be made (a failed capture may prevent it)."""
        if self.dry:
            return
        torch.cuda.empty_cache()
        torch.randn(1, device=self.device)
        torch.cuda.synchronize()

    def timed(self, step: Step, count: int) -> float:
        """Wall time of `count` steps, s."""
        self.sync()
        start_s = time.perf_counter()
        for _ in range(count):
            step()
        self.sync()
        return time.perf_counter() - start_s

    def capture(self, step: Step) -> tuple[Step, Any]:
        """A replay of everything one step launches, and the graph to keep alive."""
        if self.dry:
            return step, None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay, graph

    def settle(self, step: Step) -> float:
        """Run for at least the settle time so that power and clocks are steady; time per step in s."""
        spent_s, each_s, count = 0.0, 0.0, 1
        while spent_s <= self.settle_s:
            took_s = self.timed(step, count)
            spent_s += took_s
            each_s = took_s / count
            count = clamp((self.settle_s - spent_s) / max(each_s, 1e-7), 3, STEPS_MAX)
        return each_s

    def observe(self, step: Step, calls_per_step: int) -> dict[str, Any]:
        """Settle, then meter a window of back-to-back steps; time in s and energy in J of one call."""
        count = clamp(self.window_s / max(self.settle(step), 1e-7), 1, STEPS_MAX)
        start = self.meter.mark()
        elapsed_s = self.timed(step, count)
        readings = self.meter.window(start, self.meter.mark())
        calls = count * calls_per_step
        time_s = elapsed_s / calls
        energy = {"calls": calls, "time_s": time_s, "energy_j": readings["power_w"] * time_s, "window_s": elapsed_s}
        return energy | readings | {"measured_at": utc_now()}

    def idle(self, wait_s: float) -> dict[str, Any]:
        """Meter the device doing nothing for `wait_s`."""
        self.sync()
        start = self.meter.mark()
        time.sleep(wait_s)
        end = self.meter.mark()
        readings = self.meter.window(start, end)
        return {"window_s": end.time_s - start.time_s, "measured_at": utc_now()} | readings


def clamp(value: float, low: int, high: int) -> int:
    """The next whole number, held inside [low, high]."""
    return int(min(high, max(low, math.ceil(value))))


def utc_now() -> str:
    """ISO time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextlib.contextmanager
def deadline(limit_s: float) -> Iterator[None]:
    """Raise CaseTimeoutError in the body once `limit_s` has passed."""

    def expire(*_: Any) -> None:
        raise CaseTimeoutError(f"over {limit_s:.0f} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(0.5, limit_s))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def set_math(math_name: str) -> None:
    """Let fp32 products use the tf32 unit, or not."""
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


def copies_for(copy_bytes: float, cold: bool) -> int:
    """How many copies of the operands to rotate through."""
    if not cold:
        return 1
    affordable = max(1, int(MEMORY_MAX_BYTES / copy_bytes))
    return clamp(COLD_BYTES * 1.02 / copy_bytes, 1, min(COPIES_MAX, affordable))


def calls_for(call_s: float, copies: int) -> int:
    """Calls in one graph: whole rounds of the copies, long enough that a replay hides its own launch."""
    wanted = GRAPH_CALLS_MAX if call_s < HOST_LIMIT_S else clamp(GRAPH_MIN_S / call_s, 1, GRAPH_CALLS_MAX)
    rounds = min(math.ceil(wanted / copies), max(1, GRAPH_CALLS_MAX // copies))
    return rounds * copies


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


def layer_plan(case: LayerCase, rig: Rig) -> Plan:
    """The operands and the call of a case."""
    maker = Maker(rig.device, DTYPES[case.dtype], compiled=not rig.dry)
    return BUILDERS[case.op](case.params, maker)


def rotate(plan: Plan, rig: Rig, cold: bool) -> tuple[Rotation, dict[str, Any]]:
    """Enough copies for the residency asked for; and the bytes a call must move."""
    first = plan.make()
    written = bytes_of(plan.run(*first))
    copy_bytes = bytes_of(first) + written
    copies = copies_for(copy_bytes, cold)
    rotation = Rotation(plan, [first, *(plan.make() for _ in range(copies - 1))])
    read = bytes_of(first) if plan.bytes_read is None else plan.bytes_read
    is_cold = int(copies * copy_bytes > COLD_BYTES)
    sizes = {"bytes_min": read + written, "copies": copies, "footprint_bytes": copies * copy_bytes, "cold": is_cold}
    return rotation, sizes


def layer_row(case: LayerCase) -> Params:
    """The columns a case has before it is measured."""
    names = {"case_id": case.case_id, "kind": case.kind, "op": case.op, "dtype": case.dtype, "math": case.math}
    return names | case.params | {"flop": flop(case.op, case.params)}


def measure_layer(case: LayerCase, rig: Rig, note: Callable[[str, Exception], None]) -> dict[str, Any]:
    """One row: the layer replayed from a captured graph, or called eagerly where it cannot be captured."""
    set_math(case.math)
    rotation, sizes = rotate(layer_plan(case, rig), rig, case.cold)
    rig.timed(rotation, WARM_CALLS)
    rotation.calls = 2 if rig.dry else calls_for(rig.timed(rotation, WARM_CALLS) / WARM_CALLS, sizes["copies"])
    graph, mode = None, "graph"
    try:
        step, graph = rig.capture(rotation)
    except Exception as failure:
        note("capture", failure)
        step, mode = rotation, "eager"
    row = layer_row(case) | sizes | {"mode": mode} | rig.observe(step, rotation.calls)
    del graph
    return row


def measure_network(call: Step, mode: str, rig: Rig) -> dict[str, Any]:
    """Meter columns of a network called eagerly, compiled, or replayed from a captured graph."""
    each_s = rig.timed(call, WARM_CALLS) / WARM_CALLS
    if mode != "graph":
        return rig.observe(call, 1)
    each_s = min(each_s, rig.timed(call, 1))
    calls = 1 if rig.dry else clamp(GRAPH_MIN_S / each_s, 1, 8)
    replay, graph = rig.capture(lambda: [call() for _ in range(calls)] and None)
    readings = rig.observe(replay, calls)
    del graph
    return readings
