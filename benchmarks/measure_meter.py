"""GPU energy meter: polls a monotonic energy counter and keeps the instants at which it changed.

The counter of a GPU advances in steps. A plain difference of two readings is off by up to one step at each end,
so the power of a window is the slope between the first and the last *edge* (change) seen inside that window.
Everything is SI: seconds, joules, watts, hertz, degrees Celsius.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import math
import pathlib
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

METER_COLUMNS = (
    "power_w",
    "power_naive_w",
    "power_sample_w",
    "energy_edges",
    "sm_clock_hz",
    "mem_clock_hz",
    "temperature_c",
    "throttle_bits",
)
NVML_LIBRARY = "libnvidia-ml.so.1"
CUDA_LIBRARY = "libcuda.so"
SM_CLOCK, MEMORY_CLOCK, GPU_SENSOR = 1, 2, 0
FIELD_POWER_INSTANT = 186
TEXT_BYTES = 96


@dataclass(frozen=True)
class Mark:
    """One reading of the counter: host time in s, energy in J."""

    time_s: float
    energy_j: float


@dataclass(frozen=True)
class Sample:
    """One slow reading: power in W, clocks in Hz, temperature in C, event bits."""

    time_s: float
    power_w: float
    sm_clock_hz: float
    mem_clock_hz: float
    temperature_c: float
    throttle_bits: int


class Backend(Protocol):
    """What a meter needs of a device."""

    def energy_j(self) -> float: ...

    def sample(self) -> Sample: ...

    def describe(self) -> dict[str, Any]: ...


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t."""

    _fields_ = (
        ("field_id", ctypes.c_uint),
        ("scope_id", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency_us", ctypes.c_longlong),
        ("value_type", ctypes.c_int),
        ("status", ctypes.c_int),
        ("value", ctypes.c_ulonglong),
    )


def library_candidates() -> list[str]:
    """The loader's own name first, then the folder the CUDA driver was loaded from."""
    maps = pathlib.Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    folders = {pathlib.Path(line.split(maxsplit=5)[5]).parent for line in lines if CUDA_LIBRARY in line}
    return [NVML_LIBRARY, *(str(folder / NVML_LIBRARY) for folder in sorted(folders))]


def load_nvml() -> ctypes.CDLL:
    """The management library, or OSError naming each failed attempt."""
    failures = []
    for name in library_candidates():
        try:
            return ctypes.CDLL(name)
        except OSError as failure:
            failures.append(str(failure))
    raise OSError("; ".join(failures))


class NvmlBackend:
    """Readings of one GPU through NVML; a call the driver refuses reads as NaN (or 0 bits)."""

    def __init__(self, index: int = 0) -> None:
        self.lib = load_nvml()
        self.require("nvmlInit_v2")
        self.handle = ctypes.c_void_p()
        self.require("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(self.handle))
        self.instant = not math.isnan(self.power_instant_w())

    def require(self, name: str, *arguments: Any) -> None:
        """Call NVML; a status other than 0 is an error."""
        status = getattr(self.lib, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} returned {status}")

    def number(self, name: str, kind: Any, *arguments: Any) -> float:
        """One number from a device query; NaN when the query is refused or absent."""
        function = getattr(self.lib, name, None)
        value = kind()
        if function is None or function(self.handle, *arguments, ctypes.byref(value)) != 0:
            return math.nan
        return value.value

    def text(self, name: str, *arguments: Any) -> str:
        """One string from NVML; empty when refused."""
        buffer = ctypes.create_string_buffer(TEXT_BYTES)
        status = getattr(self.lib, name)(*arguments, buffer, ctypes.c_uint(TEXT_BYTES))
        return buffer.value.decode(errors="replace") if status == 0 else ""

    def energy_j(self) -> float:
        """Energy since driver load, J."""
        return self.number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong) * 1e-3

    def power_instant_w(self) -> float:
        """Instantaneous board power, W."""
        value = FieldValue(field_id=FIELD_POWER_INSTANT)
        function = getattr(self.lib, "nvmlDeviceGetFieldValues", None)
        if function is None or function(self.handle, 1, ctypes.byref(value)) != 0 or value.status != 0:
            return math.nan
        return (value.value & 0xFFFFFFFF) * 1e-3

    def power_w(self) -> float:
        """Instantaneous power where the driver has it, else its averaged power, W."""
        return self.power_instant_w() if self.instant else self.number("nvmlDeviceGetPowerUsage", ctypes.c_uint) * 1e-3

    def throttle_bits(self) -> int:
        """Bit mask of the reasons that hold the clocks down now."""
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            bits = self.number(name, ctypes.c_ulonglong)
            if not math.isnan(bits):
                return int(bits)
        return 0

    def sample(self) -> Sample:
        """All slow readings, one after the other."""
        return Sample(
            time.perf_counter(),
            self.power_w(),
            self.number("nvmlDeviceGetClockInfo", ctypes.c_uint, SM_CLOCK) * 1e6,
            self.number("nvmlDeviceGetClockInfo", ctypes.c_uint, MEMORY_CLOCK) * 1e6,
            self.number("nvmlDeviceGetTemperature", ctypes.c_uint, GPU_SENSOR),
            self.throttle_bits(),
        )

    def describe(self) -> dict[str, Any]:
        """Fixed facts: names, driver, limits in W, highest clocks in Hz."""
        return {
            "gpu_name": self.text("nvmlDeviceGetName", self.handle),
            "driver": self.text("nvmlSystemGetDriverVersion"),
            "nvml": self.text("nvmlSystemGetNVMLVersion"),
            "power_limit_w": self.number("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint) * 1e-3,
            "max_sm_clock_hz": self.number("nvmlDeviceGetMaxClockInfo", ctypes.c_uint, SM_CLOCK) * 1e6,
            "max_mem_clock_hz": self.number("nvmlDeviceGetMaxClockInfo", ctypes.c_uint, MEMORY_CLOCK) * 1e6,
            "power_field": "instant" if self.instant else "average",
        }


class SimulatedBackend:
    """A device that draws a constant power and updates its counter at a fixed period."""

    def __init__(self, power_w: float = 100.0, period_s: float = 0.02) -> None:
        self.draw_w, self.period_s, self.start_s = power_w, period_s, time.perf_counter()

    def energy_j(self) -> float:
        """Energy rounded down to the last update, J."""
        steps = math.floor((time.perf_counter() - self.start_s) / self.period_s)
        return steps * self.period_s * self.draw_w

    def sample(self) -> Sample:
        """Constant readings."""
        return Sample(time.perf_counter(), self.draw_w, 1e9, 2e9, 40.0, 0)

    def describe(self) -> dict[str, Any]:
        """Marks the rows' file as simulated."""
        return {"gpu_name": "simulated", "driver": "", "power_limit_w": self.draw_w, "power_field": "simulated"}


@dataclass
class Meter:
    """Background polling of one backend: edges of the counter, and slower samples."""

    backend: Backend
    poll_s: float = 0.003
    sample_s: float = 0.05
    edges: list[Mark] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    polls: int = 0

    def start(self) -> None:
        """Start both threads; they end with the process."""
        for loop in (self.poll_edges, self.poll_samples):
            threading.Thread(target=loop, daemon=True).start()

    def stop(self) -> None:
        """Ask both threads to end."""
        self.stopping.set()

    def poll_edges(self) -> None:
        """Keep the midpoint between the last old and the first new value, whenever the counter changed."""
        last = self.mark()
        while not self.stopping.wait(self.poll_s):
            now = self.mark()
            self.polls += 1
            if now.energy_j != last.energy_j:
                self.edges.append(Mark((last.time_s + now.time_s) / 2, now.energy_j))
            last = now

    def poll_samples(self) -> None:
        """Keep power, clocks, temperature and event bits."""
        while not self.stopping.wait(self.sample_s):
            self.samples.append(self.backend.sample())

    def mark(self) -> Mark:
        """Read the counter now."""
        return Mark(time.perf_counter(), self.backend.energy_j())

    def window(self, start: Mark, end: Mark) -> dict[str, float]:
        """Meter columns of the time between two marks."""
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

    def period(self, watch_s: float) -> dict[str, float]:
        """Watch the counter: median update period (s), its spread, and the poll period (s)."""
        start, polls = self.mark(), self.polls
        time.sleep(watch_s)
        edges = between(self.edges, start.time_s, time.perf_counter())
        gaps = [after.time_s - before.time_s for before, after in itertools.pairwise(edges)]
        return {
            "counter_period_s": statistics.median(gaps) if gaps else math.nan,
            "counter_period_min_s": min(gaps, default=math.nan),
            "counter_period_max_s": max(gaps, default=math.nan),
            "counter_edges": len(edges),
            "poll_period_s": watch_s / max(1, self.polls - polls),
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
