"""A `Device` as TOML: its file with everything borrowed filled in, for `.wattir` files and ``wattir devices ID``.

`wattir fit` writes the same tables, with rounded numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from wattir.device import Coefficients, Device
from wattir.device_schema import COEFFICIENTS, LIMITS, OPTIONAL_LIMITS
from wattir.generation_engine import stack_tables
from wattir.serving_engine import engine_tables
from wattir.trees import text_of

Tables = Iterator[tuple[str, Mapping[str, Any]]]
"""Each with its heading."""


def device_text(device: Device) -> str:
    """TOML that `wattir.device.device_from_text` reads back to an equal device, as a `complete` one."""
    tables = (table_text(heading, values) for heading, values in _tables(device))
    return "\n\n".join((*tables, *correction_texts(device))) + "\n"


def _tables(device: Device) -> Tables:
    top = {"id": device.id, "name": device.name, "aliases": list(device.aliases), "kind": device.kind}
    top |= {"scope": device.scope, "relatives": list(device.relatives)}
    told = {name: getattr(device, name) or None for name in ("vendor", "architecture", "memory", "borrowed_from")}
    if not device.measured:
        told["lent_families"] = sorted(device.measured_families)
    yield "", top | told
    limits = {name: getattr(device, name) for name in (*LIMITS, *OPTIONAL_LIMITS)}
    yield "[limits]", {"source": device.sources[0], **limits}
    yield "[limits.flop_per_s]", device.flop_per_s
    for engine in device.engines.values():
        yield from engine_tables(engine)
    for stack in device.stacks.values():
        yield from stack_tables(stack)
    interval = {"layer": device.interval_layer, "network": device.interval_network, "source": device.interval_source}
    interval |= {"families": device.interval_families, "time": device.time_interval and asdict(device.time_interval)}
    yield from fitted_tables(device.coefficients, interval, device.fits)


def fitted_tables(c: Coefficients, interval: Mapping[str, Any], fits: Sequence[Mapping[str, Any]]) -> Tables:
    """What a fit of kernels gives; of the `interval` the `families` and the `time` may be missing."""
    yield "[coefficients]", {**{name: getattr(c, name) for name in COEFFICIENTS}, "tiles": list(c.tiles)}
    yield "[coefficients.j_per_flop]", c.j_per_flop
    for name, family in c.families.items():
        yield f"[coefficients.families.{_key(name)}]", {field: getattr(family, field) for field in family.__slots__}
    yield from _interval_tables("interval", interval)
    for fit in fits:
        yield "[[fit]]", fit


def _interval_tables(heading: str, interval: Mapping[str, Any]) -> Tables:
    """Of joules, and those of seconds in it; what there is not is left out."""
    yield f"[{heading}]", {name: value for name, value in interval.items() if name not in ("families", "time")}
    if interval.get("families"):
        yield f"[{heading}.families]", interval["families"]
    if interval.get("time"):
        yield from _interval_tables(f"{heading}.time", interval["time"])


def correction_texts(device: Device) -> Iterator[str]:
    """A table for each correction; as literal strings, which are read six times as fast."""
    for family, learned in device.corrections.items():
        texts = {"time": text_of(learned.time), "power": text_of(learned.power)}
        lines = (f"{name} = '{text}'" for name, text in texts.items() if text)
        yield "\n".join(("[[correction]]", f"family = {json.dumps(family)}", *lines))


def value_text(value: Any) -> str:
    """Numbers, texts and lists are written alike in JSON and TOML."""
    return json.dumps(value, ensure_ascii=False)


def table_text(heading: str, values: Mapping[str, Any], written: Callable[[Any], str] = value_text) -> str:
    """A table's lines; what is None is left out."""
    lines = (f"{_key(name)} = {written(value)}" for name, value in values.items() if value is not None)
    return "\n".join((heading, *lines) if heading else lines)


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)
