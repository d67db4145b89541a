"""From sums over kernels to the joules and seconds of one pass: on plain floats, like `wattir.roofline`.

Called as it is for one setting; the numba engine compiles these very functions for batches.
"""

from __future__ import annotations

from typing import Any

from wattir.interval import width_of

SUMS = ("energy_j", "time_s", "spread", "widened_j", "host_s", "held_s", "excess_j", "room_j")
"""What is summed over kernels: joules, seconds, spread (`interval.width_of`), joules times `interval.widening`, and
what the host needs to launch them. Of kernels that the power limit holds alone: the seconds by which it slows them
down, and the joules that they would draw beyond it were they not; of all others the joules by which they stay under it.
"""


def totals(
    energy: float, time: float, spread: float, widened: float,
    host_s: float, held_s: float, excess_j: float, room_j: float,
    static_w: float, network_width: float, more_width: float, limit_w: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Joules of a pass, the half-width of their 90 % interval in log space, and seconds. While the device waits for the
    host to launch ops one by one (eager) it draws its static power. `more_width` is what a what-if clock adds."""
    joules, seconds = under_limit(energy, time, held_s, excess_j, room_j, limit_w)
    waiting_s = max(host_s - seconds, 0.0)
    waiting = static_w * waiting_s
    width = width_of(energy, spread, widened, waiting, network_width) + more_width
    return joules + waiting, width, seconds + waiting_s


def under_limit(
    energy: Any, time: Any, held_s: Any, excess_j: Any, room_j: Any, limit_w: float
) -> tuple[Any, Any]:  # fmt: skip
    """Joules and seconds of kernels that run one after the other under one power limit; of floats or arrays.

    The sums `energy` and `time` are of kernels that each hold the limit alone. A board's governor holds it on average
    over some 10 to 100 ms, and that is over many kernels of less than a millisecond: while some draw less, others may
    draw more. So a network draws on average what it draws without a limit where that is below it, and else the limit:

        E = sum of E_i + relief (excess - limit_w held)      relief = min(room / excess, 1)
        T = sum of T_i - relief held

    With a relief of 1 nothing is held; with less, E = limit_w T but for kernels whose learned correction leaves them
    below the limit. A kernel that runs alone for long, as those are measured that fits learn from, has no room. Whole
    networks are measured over seconds of passes back to back, hundreds of the governor's averages, so the mean over a
    pass is what it sees; a pass that itself takes seconds, with phases of one kind of kernel each longer than the
    average, would be held phase by phase.

    Left out by model (300 rows of each table of kernels), mean error of power: H100 6.4 % and 4.2 so, A30 4.5 and 4.1,
    GTX 1070 4.2 and 3.3, A100 at up to 11 clocks 5.9 and 6.0; energy 8.1 and 7.1 on the H100, 3.2 and 1.3 on the GTX
    1070, 5.9 and 5.7 on the A100 at 11 clocks, 14.6 and 13.5 on networks of the H200, which no fit saw. The
    A30's networks, at their limit and 5 % too long, had made up for it by too little power: energy 8.1 and 9.5 in tf32,
    14.7 and 15.4 in fp32.
    """
    relief = relief_of(excess_j, room_j)
    return energy + relief * (excess_j - limit_w * held_s), time - relief * held_s


def relief_of(excess_j: Any, room_j: Any) -> Any:
    """The lesser of room and excess as a share of the excess; 0 where there is none. Of floats or arrays."""
    used_j = room_j + (excess_j - room_j) * (room_j > excess_j)
    return used_j / (excess_j + (excess_j <= 0.0))


def ends(energy: Any, factor: Any) -> tuple[Any, Any]:
    """The ends of an interval whose half-width in log space is the logarithm of `factor`. Of floats or arrays."""
    return energy / factor, energy * factor
