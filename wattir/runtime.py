"""Runtimes with kernels of their own: ``backends/runtimes/ID.toml``.

Such a file has the form of a device file, of a machine that the fit pooled others' rows on: its `[limits]` are those of
that machine, its efficiencies shares of them. So its coefficients carry over to every GPU in proportion to the limits,
as a relative's do, and say the same of all of them. What a `[[fit]]` lists as `machines` it was fitted on; others are
told that it is borrowed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache

from wattir.clock import at_clock
from wattir.device import Device, device_folder, load_device
from wattir.errors import DeviceError
from wattir.lending import scaled

OWN_KERNELS = ("tensorrt",)
"""Runtimes with a file. On boards and NPUs, whose own files were fitted so, they only say what is fused."""
MAKERS = ("NVIDIA",)
UNSEEN_WIDTH = 0.2
"""What the half-width of the interval grows by, in log space, on machines that the fit has not seen: the 90 % quantile
of its error on GPUs left out whole (all systems with one) is that much above the one on systems left out."""


def under(device: Device, runtime: str) -> Device:
    """The machine as it runs under a runtime; DeviceError where it cannot."""
    if runtime not in OWN_KERNELS or device.kind in ("board", "npu"):
        return device
    if not suits(device):
        raise DeviceError(f"{device.id}: --runtime {runtime} was asked for; expected a GPU of {' or '.join(MAKERS)}")
    if device.clock_hz is not None:
        return at_clock(under(_at_boost(device, device.clock_hz), runtime), device.clock_hz)
    own = load_runtime(runtime)
    seen = any(device.id in fit.get("machines", ()) for fit in own.fits)
    wider = 0.0 if seen else UNSEEN_WIDTH
    return replace(
        device, coefficients=scaled(own, device), corrections={}, interval_families={},
        time_interval=own.time_interval, fits=own.fits,
        measured=seen, borrowed_from=None if seen else runtime, measured_families=own.measured_families,
        interval_layer=own.interval_layer + wider, interval_network=own.interval_network + wider,
        interval_source=own.interval_source,
    )  # fmt: skip


def suits(device: Device) -> bool:
    """Whether the runtimes with a file run on a machine."""
    return device.kind == "gpu" and device.vendor in MAKERS


def _at_boost(device: Device, clock_hz: float) -> Device:
    """The limits at the boost clock again; the coefficients are not, and are replaced."""
    share = clock_hz / (device.boost_hz or clock_hz)
    rates = {math: rate / share for math, rate in device.flop_per_s.items()}
    return replace(device, flop_per_s=rates, clock_hz=None)


@lru_cache
def load_runtime(runtime: str) -> Device:
    """The machine of a runtime's file."""
    return load_device(runtime_path(runtime))


def runtime_path(runtime: str) -> str:
    """Where a runtime's file lies."""
    return os.path.join(os.path.dirname(device_folder()), "runtimes", f"{runtime}.toml")
