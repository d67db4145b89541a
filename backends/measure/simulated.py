"""A machine that is not there: rows from a known machine's own model, with stated noise, the same for the same names.

For trying the way from `wattir measure` to `wattir fit`, and for tests: nothing is run and nothing is metered.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wattir.backends.fit.datasets_own import rows_of
from wattir.backends.fit.model import predict
from wattir.backends.fit.rows import Rows
from wattir.costmodel import compile_graph
from wattir.device import Device, load_device
from wattir.errors import InputError

from .cases import LayerCase, layer_row
from .models import ModelCase

NOISE = 0.03
"""Standard deviation of the logarithm of seconds, and of watts, unless another is asked for."""


@dataclass(frozen=True)
class SimulatedBench:
    """What `machine` would say of layers and models; `noise` as in `NOISE`, another for each repeat of a case."""

    machine: Device
    noise: float = NOISE
    seen: Counter[str] = field(default_factory=Counter)

    def measure(self, case: LayerCase | ModelCase) -> dict[str, Any]:
        """One row; InputError for a layer that no cost rule covers."""
        if isinstance(case, ModelCase):
            answer = compile_graph(case.graph, self.machine, case.runtime, case.dtype)(**case.sizes)
            return case.row | {"op": "simulated"} | self._row(case.case_id, answer.time_s, answer.energy_j)
        row = layer_row(case) | {"mode": "simulated", "cold": int(case.cold)}
        return row | self._row(case.case_id, *_predicted(row, self.machine))

    def knows(self, case: LayerCase) -> bool:
        """Whether a cost rule covers a layer."""
        return bool(_rows(layer_row(case) | {"cold": int(case.cold)}).samples)

    def idle(self, wait_s: float) -> dict[str, Any]:
        """The static power."""
        return {"power_w": self.machine.coefficients.static_w, "window_s": wait_s}

    @property
    def device(self) -> str:
        """The machine's id."""
        return self.machine.id

    @property
    def labels(self) -> dict[str, str]:
        """What all rows say of their meter."""
        return {"meter": "simulated", "scope": self.machine.scope}

    def recover(self) -> None:
        """There is nothing that could fail."""

    def describe(self) -> dict[str, Any]:
        """Marks the rows as simulated."""
        return {"metered": f"simulated {self.machine.name}", "noise": self.noise}

    def _row(self, name: str, time_s: float, energy_j: float) -> dict[str, Any]:
        self.seen[name] += 1
        shifts = np.random.default_rng([zlib.crc32(name.encode()), self.seen[name]]).normal(0.0, self.noise, 2)
        seconds = time_s * math.exp(shifts[0])
        power_w = energy_j / time_s * math.exp(shifts[1])
        return {"calls": 1, "time_s": seconds, "energy_j": power_w * seconds, "power_w": power_w, "window_s": seconds}


def _rows(row: dict[str, Any]) -> Rows:
    import pandas as pd

    columns = dict.fromkeys(("function", "layout")) | row | {"time_s": 1.0, "energy_j": 1.0}
    return rows_of(pd.DataFrame([columns]))


def _predicted(row: dict[str, Any], device: Device) -> tuple[float, float]:
    rows = _rows(row)
    if not rows.samples:
        reason = next((reason for reason, count in rows.dropped.items() if count), "no such layer")
        raise InputError(f"cannot be simulated ({reason})")
    time_s, energy_j = predict(device, rows)
    return float(time_s[0]), float(energy_j[0])


def simulated(text: str) -> SimulatedBench:
    """``simulated:h100_sxm``, or with another noise ``simulated:h100_sxm:0.1``."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[1]:
        raise InputError(f"--meter {text}: expected simulated:ID such as simulated:h100_sxm, or simulated:ID:NOISE")
    try:
        noise = float(parts[2]) if len(parts) == 3 else NOISE
    except ValueError:
        noise = math.nan
    if not 0.0 <= noise <= 1.0:
        raise InputError(f"--meter {text}: noise {parts[2]!r}; expected a number from 0 to 1")
    return SimulatedBench(load_device(parts[1]), noise)
