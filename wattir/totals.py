"""From sums over kernels to the joules and seconds of one pass: on plain floats, like `wattir.roofline`.

Called as it is for one setting; the numba engine compiles these very functions for batches.
"""

from __future__ import annotations

from typing import Any

from wattir.interval import width_of

SUMS = ("energy_j", "time_s", "spread", "widened_j", "host_s")
"""What is summed over kernels: joules, seconds, spread (`interval.width_of`), joules times `interval.widening`, and
what the host needs to launch them."""


def totals(
    energy: float, time: float, spread: float, widened: float, host_s: float,
    static_w: float, network_width: float, more_width: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Joules of a pass, the half-width of their 90 % interval in log space, and seconds. While the device waits for the
    host to launch ops one by one (eager) it draws its static power. `more_width` is what a what-if clock adds."""
    waiting_s = max(host_s - time, 0.0)
    waiting = static_w * waiting_s
    return energy + waiting, width_of(energy, spread, widened, waiting, network_width) + more_width, time + waiting_s


def ends(energy: Any, factor: Any) -> tuple[Any, Any]:
    """The ends of an interval whose half-width in log space is the logarithm of `factor`. Of floats or arrays."""
    return energy / factor, energy * factor
