"""The answer about a served model: latencies, joules and watt-hours of a request, by phase and by what they go to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wattir.device import Device
from wattir.errors import SizeError
from wattir.interval import LEVEL
from wattir.serving import ENGINE, FACTORS, J_PER_WH, StepCost, engine_on, mixed_cost, step_cost
from wattir.serving_engine import Engine
from wattir.serving_model import MOST_TEXTS, Deployment, Request, Served, between
from wattir.serving_steps import Demand

PHASES = ("prefill", "decode")
SECONDS = ("kernels", "gaps", "exchange", "host", "idle")
"""What devices do with their time: run kernels, wait for the next, exchange results, wait for the host, have nothing
asked of them."""
ROUNDS = 60
"""Halvings of the interval in which the batch of an arrival rate is sought."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked at a time: `concurrency` requests always under way, or `rate` requests per second arriving."""

    concurrency: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            found = "both" if self.rate is not None else "neither"
            raise SizeError(f"concurrency and rate: found {found}; expected one of them")
        if self.concurrency is not None:
            between("concurrency", self.concurrency, 1, MOST_TEXTS)
        if self.rate is not None:
            between("rate", self.rate, 1e-9, 1e9)


@dataclass(frozen=True)
class Running:
    """A lane that runs `texts` texts: an average step, its joules by phase and factor, its work by `VOLUMES`; of one
    device."""

    texts: float
    step: StepCost
    mixed_s: float
    chunks: int
    energy_j: Mapping[str, Mapping[str, float]]
    volume: Mapping[str, float]


@dataclass(frozen=True)
class ServingReport:
    """One deployment under one load. Joules are of all accelerators; `to_dict` has them in SI units.

    `ttft_s`: to the first token, waiting included; `tpot_s`: between tokens; `running`: texts at a time in all;
    `energy_j`: of a request, by phase and by factor; `work`: of a request, by `VOLUMES`; `device_s`: seconds of all
    devices for a request, by `SECONDS`.
    """

    model: str
    device: Device
    engine: Engine
    deployment: Deployment
    request: Request
    load: Load
    running: float
    most_running: int
    memory: Mapping[str, float]
    ttft_s: float
    queue_s: float
    tpot_s: float
    requests_per_s: float
    power_w: float
    energy_j: Mapping[str, Mapping[str, float]]
    work: Mapping[str, float]
    device_s: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def request_j(self) -> float:
        """Joules of a request."""
        return sum(sum(phase.values()) for phase in self.energy_j.values())

    @property
    def factors(self) -> dict[str, float]:
        """Joules of a request by factor, over both phases."""
        return {name: sum(phase[name] for phase in self.energy_j.values()) for name in FACTORS}

    @property
    def token_j(self) -> float:
        """Joules of an output token, with its share of the prompt."""
        return self.request_j / self.request.osl

    @property
    def ends(self) -> tuple[float, float]:
        """What the 90 % interval multiplies joules by."""
        return math.exp(-self.engine.interval), math.exp(self.engine.interval)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, in SI units; watt-hours where their name says so."""
        low, high = self.ends
        joules, wh = self.request_j, self.request_j / J_PER_WH
        return {
            "model": self.model, "device": self.device.id, "engine": self.engine.name,
            "borrowed_from": self.engine.borrowed_from or None,
            "deployment": asdict(self.deployment) | {"devices": self.deployment.devices},
            "request": asdict(self.request), "load": asdict(self.load),
            "running": self.running, "most_running": self.most_running, "memory": dict(self.memory),
            "ttft_s": self.ttft_s, "queue_s": self.queue_s, "tpot_s": self.tpot_s,
            "latency_s": self.ttft_s + self.tpot_s * (self.request.osl - 1),
            "requests_per_s": self.requests_per_s, "tokens_per_s": self.requests_per_s * self.request.osl,
            "power_w": self.power_w,
            "energy_j_per_token": self.token_j, "energy_j_per_token_low": self.token_j * low,
            "energy_j_per_token_high": self.token_j * high,
            "energy_j_per_request": joules, "energy_j_per_request_low": joules * low,
            "energy_j_per_request_high": joules * high,
            "wh_per_query": wh, "wh_per_query_low": wh * low, "wh_per_query_high": wh * high,
            "interval_level": LEVEL, "phases": {name: dict(phase) for name, phase in self.energy_j.items()},
            "factors": self.factors, "work": dict(self.work), "device_s": dict(self.device_s),
            "warnings": list(self.warnings),
        }  # fmt: skip


def serve(
    model: Any, device: Device, request: Request, load: Load, deployment: Deployment | None = None,
    engine: str = ENGINE,
) -> ServingReport:  # fmt: skip
    """What a model costs when it serves this load; `model` is a published name, a ``config.json`` or its description.

    SizeError where the memory does not hold it or the load is more than it can serve.
    """
    return report(Served(model, device, deployment or Deployment()), engine_on(device, engine), request, load)


def report(served: Served, engine: Engine, request: Request, load: Load) -> ServingReport:
    """`serve` for a model that is already in place."""
    request = served.seen(request)
    lanes, most = served.deployment.lanes, served.most_texts(request)
    if load.concurrency is not None:
        lane, idle = run_lane(served, engine, request, min(load.concurrency / lanes, float(most))), 0.0
    else:
        lane, idle = _at_rate(served, engine, request, (load.rate or 0.0) / lanes, most)
    return assembled(served, engine, request, load, lane, idle, most)


def assembled(
    served: Served, engine: Engine, request: Request, load: Load, lane: Running, idle: float, most: int
) -> ServingReport:  # fmt: skip
    """The report of lanes that run like `lane` and have nothing to do for a share `idle` of the time."""
    lanes = served.deployment.lanes
    requests_per_s = served_per_s(lane, request) * lanes * (1.0 - idle)
    running = lane.texts * lanes * (1.0 - idle)
    waiting = max((load.concurrency or 0.0) - running, 0.0)
    steps = _device_steps(served, request, lane)
    energy_j = {phase: _times(joules, steps) for phase, joules in lane.energy_j.items()}
    device_s = _times(_seconds(lane.step), steps) | {"idle": served.deployment.devices * idle / requests_per_s}
    energy_j["decode"]["idle"] += engine.static_w * device_s["idle"]
    queue_s = waiting / requests_per_s
    wait_s = 0.5 * lane.step.time_s if running > 1.0 else 0.0
    joules = sum(sum(phase.values()) for phase in energy_j.values())
    return ServingReport(
        served.config.name, served.device, engine, served.deployment, request, load, running, most * lanes,
        _memory(served, request, lane), queue_s + wait_s + lane.chunks * lane.mixed_s, queue_s,
        lane.step.time_s / request.gain, requests_per_s, joules * requests_per_s, energy_j,
        _times(lane.volume, steps), device_s, _warnings(served, engine, load, waiting, most),
    )  # fmt: skip


def served_per_s(lane: Running, request: Request) -> float:
    """Requests per second of a lane."""
    return float(lane.texts * request.gain / request.osl / lane.step.time_s)


def run_lane(served: Served, engine: Engine, request: Request, texts: float) -> Running:
    """A lane in its steady state."""
    steps = served.steps(texts, request)
    sharing = texts * served.deployment.copies
    pure, mixed = (
        step_cost(engine, served.device, served.shape, demand, sharing) for demand in (steps.pure, steps.mixed)
    )
    drafted = 1.0 + request.draft_cost * (request.draft > 0)
    rest = max(1.0 - steps.share, 0.0)
    step = mixed_cost(pure, mixed, steps.share).times(drafted, drafted)
    decode = {
        name: drafted * (rest * pure.energy_j[name] + steps.share * min(pure.energy_j[name], mixed.energy_j[name]))
        for name in FACTORS
    }
    prefill = {name: step.energy_j[name] - decode[name] for name in FACTORS}
    volume = Demand().add(steps.pure, rest * drafted).add(steps.mixed, steps.share * drafted).volume
    return Running(texts, step, mixed.time_s, steps.chunks, {"prefill": prefill, "decode": decode}, volume)


def _times(table: Mapping[str, float], factor: float) -> dict[str, float]:
    return {name: value * factor for name, value in table.items()}


def _seconds(step: StepCost) -> dict[str, float]:
    """What a device does in a step, by `SECONDS`."""
    kernels_s = step.device_s - step.gap_s - step.link_s
    return {
        "kernels": kernels_s, "gaps": step.gap_s, "exchange": step.link_s, "host": step.time_s - step.device_s,
    }  # fmt: skip


def _device_steps(served: Served, request: Request, lane: Running) -> float:
    """Steps of one device that a request costs a replica: `osl` tokens' share of steps."""
    steps = request.osl / request.gain / lane.texts
    return steps * served.deployment.ranks / (served.deployment.copies * served.deployment.pp_size)


def _at_rate(served: Served, engine: Engine, request: Request, rate: float, most: int) -> tuple[Running, float]:
    """The lane whose batch serves `rate` requests per second, and the share of time in which it has none."""
    alone = run_lane(served, engine, request, 1.0)
    if served_per_s(alone, request) >= rate:
        return alone, 1.0 - rate / served_per_s(alone, request)
    full = run_lane(served, engine, request, float(most))
    if served_per_s(full, request) < rate:
        lanes = served.deployment.lanes
        raise SizeError(
            f"{served.config.name} on {served.device.id}: rate = {rate * lanes:g} requests/s; expected at most "
            f"{served_per_s(full, request) * lanes:.3g}, which {most * lanes} texts at a time reach; add replicas "
            "(--dp-size)"
        )
    low, high = 1.0, float(most)
    for _ in range(ROUNDS):
        middle = 0.5 * (low + high)
        enough = served_per_s(run_lane(served, engine, request, middle), request) >= rate
        low, high = (low, middle) if enough else (middle, high)
        if high - low < 1e-3 * high:
            break
    lane = run_lane(served, engine, request, high)
    return lane, 1.0 - rate / served_per_s(lane, request)


def _memory(served: Served, request: Request, lane: Running) -> dict[str, float]:
    """Bytes of one device."""
    weights = served.weight_bytes
    cache = lane.texts * served.footprint.cache_bytes(round(request.mean_context))
    return {"weight_bytes": weights, "cache_bytes": cache, "limit_bytes": served.limit_bytes}


def _warnings(
    served: Served, engine: Engine, load: Load, waiting: float, most: int
) -> tuple[str, ...]:  # fmt: skip
    described = served.config.vision is not None and served.config.towers == ("vision",)
    found = [] if described else [*served.decode.warnings]
    if engine.borrowed_from:
        found.append(f"{served.device.id}: the engine's coefficients are those of {engine.borrowed_from}")
    if waiting > 0.5:
        found.append(
            f"memory holds {most * served.deployment.lanes} texts at a time of {load.concurrency:g} asked for; "
            f"{waiting:.0f} wait"
        )
    return tuple(found)
