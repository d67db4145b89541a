"""What a serving engine adds to the kernels it launches: coefficients fitted per machine, in its file's `[serving.*]`.

The kernels of one step come from the model's graphs; an engine leaves gaps between them, exchanges results among
devices, waits for its host, and runs them at other efficiencies than a loop over one kernel does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import hypot
from typing import Any

PARTS = ("dense", "experts", "padding", "attention", "prefill", "scan", "other")
"""Parts of a step: products by weights that every token needs; routed experts; rows that only fill their blocks;
attention of decoding; attention of prompts; recurrent states; all other kernels."""

Range = tuple[float, float]

NUMBERS: dict[str, Range] = {
    "layer_s": (0.0, 1e-2),
    "scan_layer_s": (0.0, 1e-2),
    "link_s": (0.0, 1e-2),
    "link_bytes_per_s": (1e8, 1e14),
    "host_step_s": (0.0, 1.0),
    "host_layer_s": (0.0, 1e-1),
    "host_text_s": (0.0, 1e-1),
    "overlap": (1.0, 16.0),
    "static_w": (0.0, 1e5),
    "gap_w": (0.0, 1e5),
    "link_w": (0.0, 1e5),
    "uneven": (0.0, 2.0),
    "packed_experts": (0.1, 10.0),
    "packed_j": (0.1, 10.0),
    "interval": (0.0, 5.0),
}
"""The coefficients of an engine and their plausible ranges; `Engine` says what each is."""

OPTIONAL: dict[str, Range] = {"ring_s": (0.0, 1e-2), "bulk_link": (1.0, 20.0), "eager_layer_s": (0.0, 1e-1)}
"""Coefficients that only some engines have."""
UNUSED = {"ring_s": 0.0, "bulk_link": 1.0, "eager_layer_s": 0.0}
"""What they are in the others."""
BULK_BYTES = 2.0**26
"""From this size on NCCL 2.1x sent what vLLM of 2023 exchanged at less than half the speed (splitwise_phase_times)."""

FACTOR: Range = (0.02, 20.0)
"""Plausible range of a part's factor of seconds or joules."""

FIT_KEYS = ("data_set", "rows", "grouped_by", "date", "command")
"""What every record of a fit says."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A serving engine on a machine.

    `time`, `energy`: by part, what its kernels' seconds and dynamic joules are multiplied by. `layer_s`,
    `scan_layer_s`: seconds between kernels for each layer, and more for each layer with a recurrent state. `link_s`,
    `link_bytes_per_s`: of an exchange among devices; `ring_s`: more for each device past the first, where they pass it
    on in a ring; `bulk_link`: how much longer the bytes of messages from `BULK_BYTES` on take. `host_step_s`,
    `host_layer_s`, `host_text_s`: what the host needs for each step, for each layer of it and for each text in it;
    `eager_layer_s`: more for each layer where a step is too large to be replayed from a graph, so that the host
    launches every kernel. `overlap`: how well host and devices hide behind each other (1: not at all). `static_w`,
    `gap_w`, `link_w`: what a device draws always, and besides between kernels and while it exchanges. `uneven`: how
    much longer the busiest of the devices that experts lie on takes, per standard deviation among them.
    `packed_experts`, `packed_j`: factors of seconds and joules where experts are held in 4 bits. `interval`: half-width
    of the 90 % interval of joules, in log space.
    """

    name: str
    time: Mapping[str, Any]
    energy: Mapping[str, Any]
    layer_s: Any
    scan_layer_s: Any
    link_s: Any
    link_bytes_per_s: Any
    host_step_s: Any
    host_layer_s: Any
    host_text_s: Any
    overlap: Any
    static_w: Any
    gap_w: Any
    link_w: Any
    uneven: Any
    packed_experts: Any
    packed_j: Any
    interval: float
    ring_s: Any = 0.0
    bulk_link: Any = 1.0
    eager_layer_s: Any = 0.0
    borrowed_from: str = ""
    fits: tuple[Mapping[str, Any], ...] = field(default=())


def engine_of(name: str, table: Mapping[str, Any]) -> Engine:
    """The engine that a checked table of a device file describes."""
    numbers: dict[str, Any] = {key: float(table[key]) for key in (*NUMBERS, *OPTIONAL) if key in table}
    return Engine(name, dict(table["time"]), dict(table["energy"]), **numbers, fits=tuple(table["fit"]))


def engine_tables(engine: Engine) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables of a device file that `engine_of` reads back, each with its heading."""
    more = [name for name, least in UNUSED.items() if getattr(engine, name) != least]
    return tables_under(f"serving.{engine.name}", engine, (*NUMBERS, *more))


def tables_under(heading: str, found: Any, names: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables of an engine or a stack: its coefficients of these names, its factors, its records."""
    yield f"[{heading}]", {name: getattr(found, name) for name in names}
    yield f"[{heading}.time]", found.time
    yield f"[{heading}.energy]", found.energy
    for fit in found.fits:
        yield f"[[{heading}.fit]]", fit


def borrowed(engine: Engine, lender: str, power: float, bandwidth: float, width: float) -> Engine:
    """An engine's coefficients for another machine: watts in proportion to the power limits, links to bandwidths.

    The errors that borrowing adds (`width`, in log space) know nothing of the engine's own: their squares add up.
    """
    return replace(
        engine, static_w=engine.static_w * power, gap_w=engine.gap_w * power, link_w=engine.link_w * power,
        link_bytes_per_s=engine.link_bytes_per_s * bandwidth, interval=hypot(engine.interval, width),
        borrowed_from=lender,
    )  # fmt: skip
