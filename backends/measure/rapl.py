"""The energy counters of Intel and AMD packages: Linux powercap (RAPL)."""

from __future__ import annotations

import math
import os
import re
import time
from glob import glob
from typing import Any

from wattir.errors import InputError

from .meter import Sample

POWERCAP = "/sys/class/powercap"
CLOCKS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq"
THERMAL = "/sys/class/thermal/thermal_zone*"
THERMAL_TYPES = ("x86_pkg_temp", "k10temp", "cpu-thermal", "cpu_thermal")


class RaplCounter:
    """All packages of a machine together. A package counts to `max_energy_range_uj` and starts again at 0: the counter
    adds up what came between two readings, so it must be read at least once a round (minutes)."""

    name, scope, poll_s = "rapl", "package", 0.02

    def __init__(self, powercap: str = POWERCAP) -> None:
        self.zones = _packages(powercap)
        self.ranges = [_number(os.path.join(zone, "max_energy_range_uj")) for zone in self.zones]
        self.last = [_energy_uj(zone) for zone in self.zones]
        self.total_uj = 0.0

    def energy_j(self) -> float:
        """Joules of all packages since this counter was made."""
        now = [_energy_uj(zone) for zone in self.zones]
        for before, after, most in zip(self.last, now, self.ranges, strict=True):
            self.total_uj += after - before if after >= before else after - before + most
        self.last = now
        return self.total_uj * 1e-6

    def sample(self) -> Sample:
        """The mean clock of the cores and the package's temperature, where they are told."""
        clocks = [_number(path) for path in glob(CLOCKS)]
        known = [clock for clock in clocks if not math.isnan(clock)]
        clock_hz = 1e3 * sum(known) / len(known) if known else math.nan
        return Sample(time.perf_counter(), sm_clock_hz=clock_hz, temperature_c=_temperature_c())

    def describe(self) -> dict[str, Any]:
        """The processor's name and how many packages are metered."""
        return {"metered": _processor(), "packages": len(self.zones)}


def _packages(powercap: str) -> list[str]:
    """The folders of the packages: no parts of one (cores, memory), and no second door to one (mmio)."""
    zones = [zone for zone in sorted(glob(os.path.join(powercap, "*"))) if re.search(r"/intel-rapl:\d+$", zone)]
    found = [zone for zone in zones if _line(os.path.join(zone, "name")).startswith("package")]
    if not found:
        raise InputError(
            f"rapl: no package in {powercap} (intel-rapl:0); expected Linux on an Intel or AMD processor, not in a "
            "virtual machine, with the kernel module intel_rapl_common"
        )
    return found


def _energy_uj(zone: str) -> float:
    path = os.path.join(zone, "energy_uj")
    try:
        with open(path, encoding="ascii") as file:
            return float(file.read())
    except PermissionError:
        raise InputError(
            f"rapl: {path} is readable by root alone; allow it with: sudo chmod a+r {POWERCAP}/intel-rapl:*/energy_uj"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"rapl: {path} cannot be read ({error}); expected microjoules") from None


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _number(path: str) -> float:
    text = _line(path)
    return float(text) if text.isdigit() else math.nan


def _temperature_c() -> float:
    for zone in sorted(glob(THERMAL)):
        if _line(os.path.join(zone, "type")) in THERMAL_TYPES:
            return _number(os.path.join(zone, "temp")) * 1e-3
    return math.nan


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        named = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(named, "processor")
