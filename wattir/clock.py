"""A machine at another clock than the one that its coefficients stand for.

    V(f) / V(boost) = floor                                                    up to the knee
                    = floor + (1 - floor) ((f - knee) / (boost - knee))^BEND   above it
    arithmetic, the last-level cache              as fast as f
    energy per FLOP, per operation, in the cache  V^2
    power of running units (it is switching)      V^2 f
    static power                                  V^2 for the share `CORE_STATIC` of it (leakage), the rest constant
    memory                                        it has a clock of its own: as fast, and `CORE_BYTE` of a byte's joules
                                                  is spent on the chip, with V^2

So joules per FLOP fall with the clock down to the knee, and below it the static power of a longer run takes over: the
clock of least energy lies between. `boost` is the clock of the datasheet's rates (`boost_hz` in the device file).

Sources: dynamic energy C V^2 per switch, Chandrakasan, Sheng and Brodersen (1992). `BEND` and `CORE_STATIC`: core
voltages and idle watts of two A100s at 81 clocks each, from the artefact of arXiv 2604.20105.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from wattir.device import Coefficients, Device, Family
from wattir.errors import DeviceError

BEND = 1.4
CORE_STATIC = 0.8
CORE_BYTE = 0.5

CLOCK_WIDTH = 0.2
"""Added in log space per factor e between a clock and the nearest that rows were measured at. The A100 fitted to the
first source of its plan alone, at 900 MHz, and judged on the second: 90 % quantiles of its log error of joules are 0.10
at 870 and 960, 0.12 at 510, 0.17 at 1410 MHz (13 to 15 workloads each, 2026-11-25)."""

LEAST_CLOCK, MOST_CLOCK = 0.1, 1.2
"""Clocks accepted, as shares of boost."""


def at_clock(device: Device, clock_hz: float | None) -> Device:
    """The machine with its core at this clock; None leaves it as it is.

    DeviceError where its file names no `boost_hz`, the clock is far from anything that it could run at, or another one
    was set before.
    """
    if clock_hz is None or clock_hz == device.clock_hz:
        return device
    if device.clock_hz is not None:
        raise DeviceError(
            f"{device.id}: {1e-6 * clock_hz:g} MHz were asked for, but this machine is compiled for "
            f"{1e-6 * device.clock_hz:g} MHz; compile the model again with the other clock"
        )
    if device.boost_hz is None:
        raise DeviceError(f"{device.id}: a clock was given, but its file names none; expected boost_hz in [limits]")
    share = clock_hz / device.boost_hz
    if not LEAST_CLOCK <= share <= MOST_CLOCK:
        low, high = (f"{1e-6 * edge * device.boost_hz:.0f}" for edge in (LEAST_CLOCK, MOST_CLOCK))
        raise DeviceError(f"{device.id}: a clock of {1e-6 * clock_hz:g} MHz; expected one from {low} to {high} MHz")
    rates = {math: rate * share for math, rate in device.flop_per_s.items()}
    return replace(device, flop_per_s=rates, coefficients=_scaled(device.coefficients, share), clock_hz=clock_hz)


def at_limit(device: Device, limit_w: float) -> Device:
    """The machine under a power limit of its owner's, at the clock at which running flat out draws just that.

        P(f) = static power at V(f) + (power limit of the machine - static power) V^2 f = limit_w

    A limit above the machine's own (of another edition of it) leaves the clock, as does a file without `boost_hz`.
    Where a kernel still draws more than the limit, the roofline slows it as at the machine's own.
    """
    if limit_w >= device.power_w or device.boost_hz is None:
        return replace(device, power_w=limit_w)
    low, high = LEAST_CLOCK, 1.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if flat_out_w(device, middle) > limit_w else (middle, high)
    return replace(at_clock(device, low * device.boost_hz), power_w=limit_w)


def flat_out_w(device: Device, share: float) -> float:
    """What a machine that draws its power limit at the boost clock draws at this share of it."""
    static_w, square = device.coefficients.static_w, voltage(device.coefficients, share) ** 2
    return static_w * (1.0 - CORE_STATIC + CORE_STATIC * square) + (device.power_w - static_w) * square * share


def voltage(coefficients: Coefficients, share: float) -> float:
    """Voltage as a share of that at boost, at this share of the boost clock."""
    floor, knee = coefficients.voltage_floor, coefficients.voltage_knee
    return floor + (1.0 - floor) * math.pow(max(share - knee, 0.0) / (1.0 - knee), BEND)


def clock_width(device: Device) -> float:
    """What a clock far from those of the device's rows adds to the half-width of its interval, in log space."""
    clock_hz = device.clock_hz or device.boost_hz
    measured = [hz for fit in device.fits for hz in fit.get("clocks_hz", ())]
    if clock_hz is None or not measured:
        return 0.0
    nearest = min(max(clock_hz, min(measured)), max(measured))
    return CLOCK_WIDTH * abs(math.log(clock_hz / nearest))


def _scaled(c: Coefficients, share: float) -> Coefficients:
    square = voltage(c, share) ** 2
    return replace(
        c,
        static_w=c.static_w * (1.0 - CORE_STATIC + CORE_STATIC * square),
        busy_w=c.busy_w * square * share,
        j_per_flop={math: joules * square for math, joules in c.j_per_flop.items()},
        j_per_op=c.j_per_op * square,
        j_per_byte=c.j_per_byte * (1.0 - CORE_BYTE + CORE_BYTE * square),
        j_per_cache_byte=c.j_per_cache_byte * square,
        cache_bytes_per_s=c.cache_bytes_per_s * share,
        families=_families(c.families, share),
    )


def _families(families: Mapping[str, Family], share: float) -> Mapping[str, Family]:
    return {
        name: replace(family, wave_s=family.wave_s / share, step_s=family.step_s / share)
        for name, family in families.items()
    }
