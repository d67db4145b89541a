"""One metered window of repeated calls, of anything that can be called."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .meter import Meter

Call = Callable[[], Any]
Row = dict[str, Any]
CALLS_MAX = 200_000
TRIES = 4


def _nothing() -> None:
    """What is called has finished when it returns."""


@dataclass(frozen=True)
class Window:
    """How long to look: seconds to settle and seconds in the window; `sync` waits until all calls have finished."""

    meter: Meter
    window_s: float = 1.0
    settle_s: float = 0.25
    sync: Callable[[], None] = _nothing

    def observe(self, call: Call, calls_per_call: int = 1) -> Row:
        """Settles, then meters a window of back-to-back calls: time in s and energy in J of one, where one `call` makes
        `calls_per_call`. A window that comes out much too short, because settling was disturbed, is done again."""
        each_s = self._settle(call)
        for _ in range(TRIES):
            count = clamp(self.window_s / max(each_s, 1e-7), 1, CALLS_MAX)
            start = self.meter.mark()
            elapsed_s = self.timed(call, count)
            readings = self.meter.window(start, self.meter.mark())
            if elapsed_s >= 0.5 * self.window_s or count == CALLS_MAX:
                break
            each_s = elapsed_s / count
        calls = count * calls_per_call
        time_s = elapsed_s / calls
        energy = {"calls": calls, "time_s": time_s, "energy_j": readings["power_w"] * time_s, "window_s": elapsed_s}
        return energy | readings

    def idle(self, wait_s: float) -> Row:
        """The meter's columns with nothing running for `wait_s`."""
        self.sync()
        start = self.meter.mark()
        time.sleep(wait_s)
        end = self.meter.mark()
        return {"window_s": end.time_s - start.time_s} | self.meter.window(start, end)

    @property
    def labels(self) -> dict[str, str]:
        """The meter's name and what its joules cover."""
        return {"meter": self.meter.counter.name, "scope": self.meter.counter.scope}

    def timed(self, call: Call, count: int) -> float:
        """Seconds of `count` calls."""
        self.sync()
        start_s = time.perf_counter()
        for _ in range(count):
            call()
        self.sync()
        return time.perf_counter() - start_s

    def _settle(self, call: Call) -> float:
        """Calls for at least the settling time, so that power and clocks are steady; seconds of one."""
        spent_s, each_s, count = 0.0, 0.0, 1
        while spent_s <= self.settle_s:
            took_s = self.timed(call, count)
            spent_s += took_s
            each_s = took_s / count
            count = clamp((self.settle_s - spent_s) / max(each_s, 1e-7), 3, CALLS_MAX)
        return each_s


def clamp(value: float, low: int, high: int) -> int:
    """The next whole number, held inside [low, high]."""
    return int(min(high, max(low, math.ceil(value))))
