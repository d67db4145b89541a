"""Machines as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wattir.cli.console import Sheet, clean, make_console, make_grid
from wattir.cli.units import prefixed
from wattir.device import Device
from wattir.generation_engine import Stack
from wattir.serving_engine import Engine

GIB = 2.0**30


def show_devices(devices: Iterable[Device]) -> None:
    """One row a machine."""
    columns = ("id", "?name", ">power", ">memory", ">bandwidth", ">16-bit rate", "?joules of", "coefficients")
    sheet = Sheet(make_console(), "", *columns)
    for device in devices:
        rate = device.flop_per_s.get("bf16", device.flop_per_s.get("fp16"))
        sheet.row(
            device.id, clean(device.name.partition(" (")[0]), prefixed(device.power_w, "W"),
            f"{device.memory_bytes / GIB:.3g} GiB", prefixed(device.memory_bytes_per_s, "B/s"),
            prefixed(rate, "FLOP/s") if rate else "-", device.scope, origin(device),
        )  # fmt: skip
    sheet.show()


def origin(device: Device) -> str:
    """Whether a machine's coefficients were fitted to measurements of it."""
    return "measured" if device.measured else f"from {device.borrowed_from}"


def show_device(device: Device) -> None:
    """Everything a device file holds or borrows."""
    console = make_console()
    console.print(Text(f"{device.name} ({device.id})", style="bold"))
    if not device.measured:
        found = f"no measurements of this machine; coefficients borrowed from {device.borrowed_from}"
        console.print(Text.assemble(("BORROWED  ", "bold red"), found))
    console.print(_about(device))
    console.print()
    for show in (_show_limits, _show_coefficients, _show_families, _show_fits):
        show(console, device)


def _about(device: Device) -> Table:
    low, high = device.interval_network, device.interval_layer
    return _rows({
        "kind": device.kind,
        "aliases": ", ".join(device.aliases) or "none",
        "relatives": ", ".join(device.relatives) or "none",
        "joules of": device.scope,
        "coefficients": origin(device),
        "interval": f"a network {_factor(low)}, a layer {_factor(high)} (90 %): {device.interval_source}",
        **_of_seconds(device),
        "source of limits": "; ".join(device.sources),
    })  # fmt: skip


def _of_seconds(device: Device) -> dict[str, str]:
    own = device.time_interval
    if own is None:
        return {}
    return {"interval of seconds": f"a network {_factor(own.network)}, a layer {_factor(own.layer)} (90 %)"}


def _factor(half_width: float) -> str:
    return f"within a factor {2.718281828459045**half_width:.2f}"


def _show_limits(console: Console, device: Device) -> None:
    rates = {f"{math} rate": prefixed(rate, "FLOP/s") for math, rate in device.flop_per_s.items()}
    sheet = Sheet(console, "Limits", "limit", ">value")
    for label, value in {
        "power": prefixed(device.power_w, "W"),
        "memory": f"{device.memory_bytes / GIB:.1f} GiB",
        "memory bandwidth": prefixed(device.memory_bytes_per_s, "B/s"),
        "last-level cache": prefixed(device.cache_bytes, "B"),
        "units": f"{device.units:g}",
        **{
            f"{name} clock": f"{1e-6 * hz:.0f} MHz"
            for name, hz in (("boost", device.boost_hz), ("nominal", device.nominal_hz))
            if hz
        },
        **rates,
    }.items():
        sheet.row(label, value)
    sheet.show()


def _show_coefficients(console: Console, device: Device) -> None:
    c = device.coefficients
    sheet = Sheet(console, "Coefficients", "coefficient", ">value")
    for label, value in {
        "static power": prefixed(c.static_w, "W"),
        **{f"energy per {math} FLOP": prefixed(joules, "J") for math, joules in c.j_per_flop.items()},
        "energy per vector operation": prefixed(c.j_per_op, "J"),
        "energy per byte of memory": prefixed(c.j_per_byte, "J"),
        "energy per byte of cache": prefixed(c.j_per_cache_byte, "J"),
        "cache bandwidth": prefixed(c.cache_bytes_per_s, "B/s"),
        "host time per op (eager)": prefixed(c.host_op_s, "s"),
    }.items():
        sheet.row(label, value)
    sheet.show()


def _show_families(console: Console, device: Device) -> None:
    sheet = Sheet(
        console, "Families of kernels", "family", ">of peak", ">of bandwidth", ">fixed per launch", "fitted here"
    )
    for name, family in device.coefficients.families.items():
        fitted = device.measured and name.partition(".")[0] in device.measured_families
        sheet.row(
            name, f"{family.compute_efficiency:.1%}", f"{family.memory_efficiency:.1%}", prefixed(family.fixed_s, "s"),
            "yes" if fitted else "no",
        )  # fmt: skip
    sheet.show()


def _show_fits(console: Console, device: Device) -> None:
    fits = list(device.fits)
    stacks: tuple[Engine | Stack, ...] = (*device.engines.values(), *device.stacks.values())
    for stack in stacks:
        fits += [{**fit, "data_set": f"{stack.name}: {fit['data_set']}"} for fit in stack.fits]
    sheet = Sheet(
        console, "Fits, with median errors on groups left out (--json: all of their records)",
        "data set", ">rows", "?left out", ">seconds", ">joules", "date",
    )  # fmt: skip
    for fit in fits:
        texts = [clean(str(fit[name])) for name in ("data_set", "rows", "grouped_by")]
        sheet.row(*texts, _errors(fit, "time"), _errors(fit, "energy"), clean(str(fit["date"])))
    if fits:
        sheet.show()


def _errors(fit: Mapping[str, Any], what: str) -> str:
    found = [fit.get(f"{phase}{what}_median_ape") for phase in ("", "prefill_", "decode_")]
    return " and ".join(f"{error:.1%}" for error in found if isinstance(error, float)) or "-"


def _rows(values: Mapping[str, str]) -> Table:
    grid = make_grid()
    for label, value in values.items():
        grid.add_row(label, value)
    return grid
