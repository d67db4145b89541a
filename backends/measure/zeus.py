"""What Zeus covers beside NVIDIA: AMD GPUs, Jetson boards, Apple silicon (https://ml.energy/zeus)."""

from __future__ import annotations

import math
import time
from typing import Any

from wattir.errors import InputError

from .meter import Sample

PARTS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "ane_mj", "dram_mj")
"""Of an Apple chip; a Jetson board tells its total itself."""


class ZeusCounter:
    """A GPU's counter, or a whole chip's where there is no GPU that Zeus knows."""

    name, poll_s = "zeus", 0.01

    def __init__(self, index: int = 0) -> None:
        self.gpu, self.chip = _devices(index)
        self.scope = "package" if self.gpu is None else "board"
        if self.gpu is not None and not self.gpu.supports_get_total_energy_consumption():
            raise InputError("zeus: this GPU has no energy counter; expected one of AMD's MI series or NVIDIA's")

    def energy_j(self) -> float:
        """Joules since some moment."""
        if self.gpu is not None:
            return float(self.gpu.get_total_energy_consumption()) * 1e-3
        found = self.chip.get_total_energy_consumption()
        whole = getattr(found, "total_energy_mj", None)
        parts = [getattr(found, name, None) or 0.0 for name in PARTS]
        return float(sum(parts) if whole is None else whole) * 1e-3

    def sample(self) -> Sample:
        """Power and temperature where they are told."""
        if self.gpu is None:
            return Sample(time.perf_counter())
        power_w, temperature_c = _told(self.gpu.get_instant_power_usage), _told(self.gpu.get_gpu_temperature)
        return Sample(time.perf_counter(), power_w=power_w * 1e-3, temperature_c=temperature_c)

    def describe(self) -> dict[str, Any]:
        """The name of what is metered."""
        return {"metered": type(self.chip).__name__ if self.gpu is None else str(self.gpu.get_name())}


def _devices(index: int) -> tuple[Any, Any]:
    """The GPU of this index, or else the chip; InputError says why there is neither."""
    try:
        from zeus.device import get_gpus, get_soc
    except ImportError:
        raise InputError("zeus: not installed; pip install 'wattir[zeus]'") from None
    failures = []
    for find in (lambda: (get_gpus().gpus[index], None), lambda: (None, get_soc())):
        try:
            return find()
        except Exception as error:  # drivers of any maker fail in their own ways
            failures.append(" ".join(str(error).split()))
    raise InputError(f"zeus: neither a GPU nor a chip that it can meter ({'; '.join(failures)})")


def _told(read: Any) -> float:
    try:
        return float(read())
    except Exception:  # as above: what is not told is not known
        return math.nan
