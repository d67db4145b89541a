"""The 90 % interval of a total, from how its parts are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wattir.device import Device

LEVEL = 0.9
MODELLED_WIDTH = 0.3
"""Added in log space if all energy came from kernels whose family was not fitted: neither on the machine itself
nor on those that it borrows from."""
UNKNOWN_WIDTH = 1.0
"""Added in log space if all energy came from unknown ops: a factor e either way."""


WAITING_WIDTH = 0.25
"""Added in log space if all energy were of waiting for the host: how fast a host launches differs by machine, by
library and by the day; hosts of one H200 took 12 to 34 us an op over 44 networks."""


def widening(fitted: bool, known: bool) -> float:
    """Width in log space that each joule of a kernel adds: whether its family was `fitted`, and its op is `known`."""
    return UNKNOWN_WIDTH if not known else 0.0 if fitted else MODELLED_WIDTH


def half_width(device: Device, energy: Any, spread: Any, modelled: Any, unknown: Any, waiting: Any = 0.0) -> Any:
    """`width_of` a machine's own estimates, of which `modelled` and `unknown` joules come from such kernels."""
    widened = MODELLED_WIDTH * modelled + UNKNOWN_WIDTH * unknown
    return width_of(energy, spread, widened, waiting, device.interval_network)


def of_seconds(device: Device) -> Device:
    """The machine with the interval of its seconds where that of its joules is; as it is where it has none."""
    own = device.time_interval
    if own is None:
        return device
    return replace(device, interval_layer=own.layer, interval_network=own.network, interval_families=own.families)


def width_of(energy: Any, spread: Any, widened: Any, waiting: Any, network_width: float) -> Any:
    """Half-width h in log space: the interval is [E exp(-h), E exp(h)]. Of floats or arrays.

    `energy` is the sum over layers, `widened` the sum of each one's joules times its `widening`, `waiting` what the
    device draws besides while it waits for the host. A layer alone is as uncertain as its family of kernels; many have
    an error in common, the device's `interval_network`, and errors of their own that average out:

        h^2 = (sum of (E_i w_i)^2 + (E^2 - sum of E_i^2) network^2) / E^2 = network^2 + spread / E^2

    with `spread` = sum of E_i^2 (w_i^2 - network^2) over layers of energy E_i and half-width w_i.
    """
    share = 1.0 / (energy + waiting + (energy <= 0.0))  # a network without energy has no shares: no width either
    h = (network_width**2 + spread * share * share) ** 0.5
    return h + (widened + WAITING_WIDTH * waiting) * share
