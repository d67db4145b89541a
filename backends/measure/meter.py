"""The energy meter: polls a monotonic energy counter and keeps the instants at which it changed.

A counter advances in steps (a GPU's by 20 to 100 ms). A plain difference of two readings is off by up to one step at
each end, so the power of a window is the slope between the first and the last *edge* (change) seen inside it.
"""

from __future__ import annotations

import bisect
import math
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Mark:
    """One reading of the counter: host time in s, energy in J."""

    time_s: float
    energy_j: float


@dataclass(frozen=True)
class Sample:
    """One slow reading: power in W, clocks in Hz, temperature in C, bits of what holds the clocks down; NaN (or 0) for
    what the device does not tell."""

    time_s: float
    power_w: float = math.nan
    sm_clock_hz: float = math.nan
    mem_clock_hz: float = math.nan
    temperature_c: float = math.nan
    throttle_bits: int = 0


class Counter(Protocol):
    """What a meter reads. `scope`: what its joules cover; `poll_s`: how often it is worth reading."""

    name: str
    scope: str
    poll_s: float

    def energy_j(self) -> float:
        """Joules since some fixed moment, never less than before; NaN where there is no such counter."""

    def sample(self) -> Sample:
        """All slow readings."""

    def describe(self) -> dict[str, Any]:
        """Fixed facts: what is metered, its driver, its limits."""


@dataclass
class Meter:
    """Background polling of one counter: its edges, and slower samples. A context manager that polls while open."""

    counter: Counter
    sample_s: float = 0.05
    edges: list[Mark] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Meter:
        for loop in (self._poll_edges, self._poll_samples):
            threading.Thread(target=loop, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()

    def _poll_edges(self) -> None:
        """Keeps the midpoint between the last old and the first new value, whenever the counter changed."""
        last = self.mark()
        while not self.stopping.wait(self.counter.poll_s):
            now = self.mark()
            if now.energy_j > last.energy_j:
                self.edges.append(Mark((last.time_s + now.time_s) / 2, now.energy_j))
            last = now

    def _poll_samples(self) -> None:
        while not self.stopping.wait(self.sample_s):
            self.samples.append(self.counter.sample())

    def mark(self) -> Mark:
        """Reads the counter now."""
        return Mark(time.perf_counter(), self.counter.energy_j())

    def window(self, start: Mark, end: Mark) -> dict[str, float]:
        """The meter's columns for the time between two marks."""
        edges = between(self.edges, start.time_s, end.time_s)
        samples = between(self.samples, start.time_s, end.time_s) or self.samples[-1:]
        naive_w = slope_w(start, end)
        sampled_w = mean([sample.power_w for sample in samples])
        power_w = slope_w(edges[0], edges[-1]) if len(edges) > 1 else naive_w
        return {
            "power_w": sampled_w if math.isnan(power_w) else power_w,
            "power_naive_w": naive_w,
            "power_sample_w": sampled_w,
            "energy_edges": len(edges),
            "sm_clock_hz": mean([sample.sm_clock_hz for sample in samples]),
            "mem_clock_hz": mean([sample.mem_clock_hz for sample in samples]),
            "temperature_c": mean([sample.temperature_c for sample in samples]),
            "throttle_bits": any_bits(samples),
        }


def between(marks: list[Any], start_s: float, end_s: float) -> list[Any]:
    """The time-ordered marks inside [start_s, end_s]."""
    low = bisect.bisect_left(marks, start_s, key=lambda mark: mark.time_s)
    high = bisect.bisect_right(marks, end_s, key=lambda mark: mark.time_s)
    return marks[low:high]


def slope_w(start: Mark, end: Mark) -> float:
    """Mean power between two marks, W."""
    elapsed_s = end.time_s - start.time_s
    return (end.energy_j - start.energy_j) / elapsed_s if elapsed_s > 0 else math.nan


def mean(values: list[float]) -> float:
    """Mean of the numbers that are not NaN."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def any_bits(samples: list[Sample]) -> int:
    """OR of the event bits."""
    bits = 0
    for sample in samples:
        bits |= sample.throttle_bits
    return bits
