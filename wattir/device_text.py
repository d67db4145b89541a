"""A `Device` as TOML: its file with everything borrowed filled in, for `.wattir` files and ``wattir devices ID``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from wattir.device import Device
from wattir.device_schema import COEFFICIENTS, LIMITS, OPTIONAL_LIMITS
from wattir.generation_engine import stack_tables
from wattir.serving_engine import engine_tables
from wattir.trees import text_of


def device_text(device: Device) -> str:
    """TOML that `wattir.device.device_from_text` reads back to an equal device."""
    return "\n".join(_lines(device)) + "\n"


def _lines(device: Device) -> Iterator[str]:
    c = device.coefficients
    top = {"id": device.id, "name": device.name, "aliases": list(device.aliases), "kind": device.kind}
    top |= {"scope": device.scope, "relatives": list(device.relatives)}
    told = {name: getattr(device, name) or None for name in ("vendor", "architecture", "memory", "borrowed_from")}
    yield from _values(top | told)
    limits = {name: getattr(device, name) for name in (*LIMITS, *OPTIONAL_LIMITS)}
    yield from _table("limits", {"source": device.sources[0], **limits})
    yield from _table("limits.flop_per_s", device.flop_per_s)
    tables = (engine_tables(engine) for engine in device.engines.values())
    stacks = (stack_tables(stack) for stack in device.stacks.values())
    for heading, values in chain.from_iterable((*tables, *stacks)):
        yield f"\n{heading}"
        yield from _values(values)
    yield from _table("coefficients", {**{name: getattr(c, name) for name in COEFFICIENTS}, "tiles": list(c.tiles)})
    yield from _table("coefficients.j_per_flop", c.j_per_flop)
    for name, family in c.families.items():
        values = {field: getattr(family, field) for field in family.__slots__}
        yield from _table(f'coefficients.families."{name}"', values)
    interval = {"layer": device.interval_layer, "network": device.interval_network, "source": device.interval_source}
    yield from _table("interval", interval)
    if device.interval_families:
        yield from _table("interval.families", device.interval_families)
    for key, learned in device.corrections.items():
        yield "\n[[correction]]"
        texts = {"family": key, "time": text_of(learned.time), "power": text_of(learned.power)}
        yield from _values({name: text for name, text in texts.items() if text})
    for fit in device.fits:
        yield "\n[[fit]]"
        yield from _values(fit)


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n[{name}]"
    yield from _values(values)


def _values(values: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(name)} = {_value(value)}" for name, value in values.items() if value is not None)


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)


def _value(value: Any) -> str:
    """Numbers, texts and lists are written alike in JSON and TOML."""
    return json.dumps(value, ensure_ascii=False)
