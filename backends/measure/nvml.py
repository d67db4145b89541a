"""The energy counter of an NVIDIA GPU, by nvidia-ml-py."""

from __future__ import annotations

import contextlib
import ctypes
import math
import pathlib
import time
from typing import Any

from wattir.errors import InputError

from .meter import Sample

LIBRARY = "libnvidia-ml.so.1"
POWER_INSTANT = 186
"""NVML_FI_DEV_POWER_INSTANT: what `nvmlDeviceGetPowerUsage` gives is an average over a second on recent boards."""


class NvmlCounter:
    """Readings of one GPU; a call that the driver refuses reads as NaN (or 0 bits)."""

    name, scope, poll_s = "nvml", "board", 0.003

    def __init__(self, index: int = 0) -> None:
        self.nvml = _library()
        self.handle = self._require("nvmlDeviceGetHandleByIndex", index)
        self.instant = not math.isnan(self._instant_w())
        if math.isnan(self.energy_j()) and math.isnan(self._power_w()):
            raise InputError(
                "nvml: this GPU tells neither energy nor power; expected one that nvidia-smi shows watts of"
            )

    def _require(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.nvml, name)(*arguments)
        except self.nvml.NVMLError as error:
            raise InputError(f"nvml: {name} fails ({error}); expected a GPU that nvidia-smi lists") from None

    def _number(self, name: str, *arguments: Any, scale: float = 1.0) -> float:
        try:
            return float(getattr(self.nvml, name)(self.handle, *arguments)) * scale
        except (self.nvml.NVMLError, AttributeError):
            return math.nan

    def energy_j(self) -> float:
        """Joules since the driver was loaded (Volta and later)."""
        return self._number("nvmlDeviceGetTotalEnergyConsumption", scale=1e-3)

    def _instant_w(self) -> float:
        try:
            (found,) = self.nvml.nvmlDeviceGetFieldValues(self.handle, [POWER_INSTANT])
        except (self.nvml.NVMLError, AttributeError, ValueError):
            return math.nan
        return math.nan if found.nvmlReturn else found.value.uiVal * 1e-3

    def _power_w(self) -> float:
        return self._instant_w() if self.instant else self._number("nvmlDeviceGetPowerUsage", scale=1e-3)

    def _throttle_bits(self) -> int:
        bits = self._number("nvmlDeviceGetCurrentClocksEventReasons")
        bits = self._number("nvmlDeviceGetCurrentClocksThrottleReasons") if math.isnan(bits) else bits
        return 0 if math.isnan(bits) else int(bits)

    def sample(self) -> Sample:
        """All slow readings, one after the other."""
        nvml = self.nvml
        return Sample(
            time.perf_counter(),
            self._power_w(),
            self._number("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM, scale=1e6),
            self._number("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM, scale=1e6),
            self._number("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            self._throttle_bits(),
        )

    def describe(self) -> dict[str, Any]:
        """Names, driver, power limit in W, highest clocks in Hz."""
        nvml = self.nvml
        return {
            "metered": _text(self._require("nvmlDeviceGetName", self.handle)),
            "driver": _text(self._require("nvmlSystemGetDriverVersion")),
            "power_limit_w": self._number("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
            "max_sm_clock_hz": self._number("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM, scale=1e6),
            "max_mem_clock_hz": self._number("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM, scale=1e6),
            "power_field": "instant" if self.instant else "average",
        }


def _library() -> Any:
    """nvidia-ml-py, begun; InputError where it or the driver is not there."""
    try:
        import pynvml
    except ImportError:
        raise InputError("nvml: nvidia-ml-py is not installed; pip install 'wattir[measure]'") from None
    _load_beside_cuda()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise InputError(
            f"nvml: no NVIDIA driver answers ({error}); expected a machine where nvidia-smi runs"
        ) from None
    return pynvml


def _load_beside_cuda() -> None:
    """Loads the library from where the CUDA driver came from: containers keep both off the loader's path, and a library
    that is loaded is found by its name."""
    maps = pathlib.Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    for folder in sorted({pathlib.Path(line.split(maxsplit=5)[5]).parent for line in lines if "libcuda.so" in line}):
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(folder / LIBRARY))


def _text(found: Any) -> str:
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)
