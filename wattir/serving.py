"""Seconds and joules of a served model: from the demands of its steps to tokens, requests and watt-hours.

    device = sum over parts of time[part] * seconds[part] + gaps between kernels + exchanges among devices
    host   = host_step_s + (host_layer_s + eager_layer_s if launched kernel by kernel) * layers + host_text_s * texts
    step   = (device^overlap + host^overlap)^(1 / overlap)
    J      = devices * (static_w * step + sum of energy[part] * dynamic joules[part] + gap_w * gaps + link_w * links)

Every step decodes one token of each running text; with `arriving` prompts a step, a share of the steps holds prompts
beside them. In the steady state a request of L tokens costs L steps' share and one prompt. The formulas work on numbers
and on arrays alike; the fit calls them with arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from wattir.device import Device, load_device
from wattir.errors import DeviceError, suggestion
from wattir.lending import WIDTHS, relation
from wattir.serving_engine import BULK_BYTES, PARTS, Engine, borrowed
from wattir.serving_steps import Demand

FACTORS = ("weights", "kv_cache", "compute", "communication", "idle", "host")
"""What a step's joules go to. idle: static power while the devices work; host: the same while they wait for it."""

J_PER_WH = 3600.0
POWER_SHARE = 0.985
"""Of the board's limit: what boards at their limit draw on average (mlenergy_v3_llm)."""
THROTTLED = 0.5
"""Seconds grow by the excess of power to this power where a board is at its limit (`wattir.roofline.THROTTLE`)."""


ENGINE = "vllm"
"""The engine that is meant where none is named: vLLM 0.11."""


def engine_on(device: Device, name: str = ENGINE) -> Engine:
    """An engine on a machine: its own, or that of the nearest of its relatives in proportion to the limits."""
    engine, lender = own_or_lent(device, name, ENGINES)
    return engine if lender is device else _scaled(engine, lender, device)


@dataclass(frozen=True, slots=True)
class Held:
    """What a machine may hold of its own or take from another: `of` a machine, by name; `what` it is."""

    of: Callable[[Device], Mapping[str, Any]]
    what: str


LENDER = "h100_sxm"
"""Whose engines and stacks machines take that have none, nor a relative with one."""
ENGINES = Held(lambda device: device.engines, "serving engine")


def own_or_lent(device: Device, name: str, held: Held) -> tuple[Any, Device]:
    """What a machine or the nearest of its relatives holds under a name, or without any of these `LENDER`, and whose it
    is; DeviceError if nobody's."""
    nearest, tried = [device], {device.id}
    for one in nearest:
        if name in held.of(one):
            return held.of(one)[name], one
        new = [relative for relative in one.relatives if relative not in tried]
        tried.update(new)
        nearest += [load_device(relative) for relative in new]
    lender = load_device(LENDER)
    if name in held.of(lender):
        return held.of(lender)[name], lender
    known = sorted({found for one in (*nearest, lender) for found in held.of(one)})
    raise DeviceError(f"{device.id}: no {held.what} {name!r} on it or a machine that could lend it; expected one of "
                      f"{', '.join(known)}{suggestion(name, known)}")  # fmt: skip


def _scaled(engine: Engine, lender: Device, device: Device) -> Engine:
    """The interval is as wide as borrowing took networks, or as the machine's own of networks if that is wider. In 90 %
    of ``mlenergy_v3_llm``, B200's joules by H100's engine were within exp(0.41), H100's by B200's within exp(0.40)."""
    power = device.power_w / lender.power_w
    width = max(WIDTHS[relation(device, lender)].network, device.interval_network)
    return borrowed(engine, lender.id, power, device.memory_bytes_per_s / lender.memory_bytes_per_s, width)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model the engine's own costs depend on: layers, those with a recurrent state; whether experts are held
    in 4 bits (1 or 0), and `busiest`: by how many standard deviations the busiest of their devices stands out;
    `sharing`: devices that share every layer."""

    layers: Any
    scan_layers: Any
    packed: Any
    busiest: Any
    sharing: Any = 1


def busiest(devices: int) -> float:
    """The expected largest of so many standard normal numbers (Blom 1958)."""
    return NormalDist().inv_cdf((devices - 0.375) / (devices + 0.25))


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of a step, of which `device_s` the devices work, with `gap_s` between kernels and `link_s` of exchanges;
    joules of one device by factor."""

    time_s: Any
    device_s: Any
    gap_s: Any
    link_s: Any
    energy_j: Mapping[str, Any]

    @property
    def joules(self) -> Any:
        """All of them."""
        return sum(self.energy_j.values())

    def times(self, seconds: Any, joules: Any) -> StepCost:
        """With all seconds and all joules multiplied."""
        energy = {name: joules * value for name, value in self.energy_j.items()}
        return StepCost(
            seconds * self.time_s, seconds * self.device_s, seconds * self.gap_s, seconds * self.link_s, energy
        )

    def plus(self, other: StepCost) -> StepCost:
        """Both, one after the other."""
        energy = {name: self.energy_j[name] + other.energy_j[name] for name in FACTORS}
        return StepCost(
            self.time_s + other.time_s, self.device_s + other.device_s, self.gap_s + other.gap_s,
            self.link_s + other.link_s, energy,
        )  # fmt: skip


def step_cost(engine: Engine, device: Device, shape: Shape, demand: Demand, texts: Any, stall_s: Any = 0.0) -> StepCost:
    """What one step costs one device; `stall_s`: how much longer its host takes because others share it."""
    packed_s, packed_j = (1.0 + (packed - 1.0) * shape.packed for packed in (engine.packed_experts, engine.packed_j))
    busiest_s = 1.0 + engine.uneven * shape.busiest
    factor = {**engine.time, "experts": engine.time["experts"] * packed_s * busiest_s}
    joules = {**engine.energy, "experts": engine.energy["experts"] * packed_j}
    gap_s = engine.layer_s * shape.layers + engine.scan_layer_s * shape.scan_layers
    link_s = exchange_s(engine, shape, demand)
    device_s = sum(factor[part] * demand.time_s[part] for part in PARTS) + gap_s + link_s
    host_layer_s = engine.host_layer_s + engine.eager_layer_s * demand.eager
    host_s = engine.host_step_s + host_layer_s * shape.layers + engine.host_text_s * texts + stall_s
    time_s = hidden(device_s, host_s, engine.overlap)
    energy = {
        "weights": sum(joules[part] * demand.weights_j[part] for part in PARTS),
        "kv_cache": sum(joules[part] * demand.cache_j[part] for part in PARTS),
        "compute": sum(joules[part] * demand.compute_j[part] for part in PARTS),
        "communication": engine.link_w * link_s,
        "idle": engine.static_w * device_s + engine.gap_w * gap_s,
        "host": engine.static_w * (time_s - device_s),
    }
    step = StepCost(time_s, device_s, gap_s, link_s, energy)
    return step.times(*at_limit(step.joules, time_s, device))


def exchange_s(engine: Engine, shape: Shape, demand: Demand) -> Any:
    """Seconds of the exchanges among the devices that share layers: of n, each sends 2 (n - 1) / n of a message."""
    hops = shape.sharing - 1
    bulk = demand.link_bytes * shape.sharing >= BULK_BYTES * 2.0 * hops * demand.links
    bytes_s = demand.link_bytes / engine.link_bytes_per_s * (1.0 + (engine.bulk_link - 1.0) * bulk)
    return (engine.link_s + engine.ring_s * hops) * demand.links + bytes_s


def hidden(device_s: Any, host_s: Any, overlap: Any) -> Any:
    """Seconds of devices and their host that hide behind each other; their sum where `overlap` is 1."""
    return (device_s**overlap + host_s**overlap) ** (1.0 / overlap)


def at_limit(energy_j: Any, time_s: Any, device: Device) -> tuple[Any, Any]:
    """What seconds and joules are multiplied by: at the power limit the clock falls, and joules are those of the limit.

    1 and 1 below it; else the excess to the power of `THROTTLED`, and that over the excess.
    """
    excess = energy_j / (POWER_SHARE * device.power_w * time_s)
    over = excess * (excess > 1.0) + (excess <= 1.0)
    slower = over**THROTTLED
    return slower, slower / over


def mixed_cost(pure: StepCost, mixed: StepCost, share: Any) -> StepCost:
    """An average step where this share holds prompts."""
    rest = (1.0 - share) * (share < 1.0)
    return pure.times(rest, rest).plus(mixed.times(share, share))
