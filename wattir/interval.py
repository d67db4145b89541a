"""The 90 % interval of a total, from how its parts are known."""

from __future__ import annotations

import math
from typing import Any

from wattir.device import Device

LEVEL = 0.9
MODELLED_WIDTH = 0.3
"""Added in log space if all energy came from kernels whose family was not fitted on an otherwise fitted machine."""
UNKNOWN_WIDTH = 1.0
"""Added in log space if all energy came from unknown ops: a factor e either way."""


WAITING_WIDTH = 0.25
"""Added in log space if all energy were of waiting for the host: how fast a host launches differs by machine, by
library and by the day; hosts of one H200 took 12 to 34 us an op over 44 networks."""


def half_width(
    device: Device, energy: Any, squares: Any, modelled: Any, unknown: Any, np: Any = math, waiting: Any = 0.0
) -> Any:
    """Half-width h in log space: the interval is [E exp(-h), E exp(h)].

    `energy` is the sum over layers, `squares` the sum of their squared energies, `modelled` and `unknown` the parts
    that come from such kernels, `waiting` what the device draws besides while it waits for the host. Errors of layers
    have a part in common (the device's `interval_network`) and a part of their own that averages out over the effective
    number of layers n = energy^2 / squares:

        h^2 = network^2 + max(layer^2 - network^2, 0) / n
    """
    own = max(device.interval_layer**2 - device.interval_network**2, 0.0)
    total = energy + waiting + (energy <= 0)  # a network without energy has no shares; the interval is then of no width
    h = np.sqrt(device.interval_network**2 + own * squares / total**2)
    modelled_width = MODELLED_WIDTH if device.measured else 0.0
    return h + (modelled_width * modelled + UNKNOWN_WIDTH * unknown + WAITING_WIDTH * waiting) / total
