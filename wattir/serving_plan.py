"""How to serve a model: all configurations of some machines, which keep the latency targets, and at what joules.

A configuration is a machine, how weights and cache are held, how the devices of a replica share the model, and how many
texts a replica runs at a time. From the load follows how many such replicas there must be; where the last is not full
they wait at static power.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wattir.device import Device
from wattir.errors import InputError
from wattir.serving import ENGINE, engine_on
from wattir.serving_engine import Engine
from wattir.serving_model import Deployment, Request, Served, described, whole
from wattir.serving_report import Load, ServingReport, assembled, run_lane, served_per_s

MOST_DEVICES = 64
STAGES = (1, 2, 4)
STEP_OF_BATCH = math.sqrt(2.0)
"""Batches of a replica's lane grow by this, up to what its memory holds."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What a configuration must keep: seconds to the first token and between tokens, devices in all."""

    ttft_s: float = math.inf
    tpot_s: float = math.inf
    devices: int = 8

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s"):
            if not getattr(self, name) > 0.0:
                raise InputError(f"{name} = {getattr(self, name)}; expected seconds above 0")
        whole("devices", self.devices, 1, MOST_DEVICES)

    def kept_by(self, found: ServingReport) -> bool:
        """Whether a configuration keeps both latencies."""
        return found.ttft_s <= self.ttft_s and found.tpot_s <= self.tpot_s


@dataclass(frozen=True)
class Plan:
    """Of `tried` configurations, `every` one that fits, the least joules of a token first; `kept`: those that keep the
    targets; `front`: of these, the ones that none beats in both joules and seconds between tokens, the fastest first.
    """

    targets: Targets
    tried: int
    every: tuple[ServingReport, ...]
    kept: tuple[ServingReport, ...]
    front: tuple[ServingReport, ...]


def plan(
    model: Any, devices: Sequence[Device], request: Request, load: Load, targets: Targets | None = None,
    weights: Sequence[str | None] = (None,), kv_caches: Sequence[str | None] = (None,), engine: str = ENGINE,
) -> Plan:  # fmt: skip
    """The plan of a model on any of these machines; InputError where nothing fits the memory of so many devices."""
    config, targets = described(model), targets or Targets()
    found: list[ServingReport | None] = []
    refused = ""
    for device in devices:
        coefficients = engine_on(device, engine)
        for deployment in deployments(config, targets.devices, weights, kv_caches):
            try:
                found += _configurations(Served(config, device, deployment), coefficients, request, load, targets)
            except InputError as error:  # heads or experts that do not divide, weights that do not fit
                refused = str(error)
    fitting = [each for each in found if each is not None]
    if not fitting:
        raise InputError(f"{config.name}: no configuration of at most {targets.devices} devices serves it; {refused}")
    every = tuple(sorted(fitting, key=lambda each: each.token_j))
    kept = tuple(each for each in every if targets.kept_by(each))
    return Plan(targets, len(found), every, kept, front(kept))


def deployments(
    config: Any, most: int, weights: Sequence[str | None], kv_caches: Sequence[str | None]
) -> Iterator[Deployment]:  # fmt: skip
    """Ways to lay one replica on at most so many devices: powers of two, experts shared or whole, stages."""
    experts = any(type(layer.feed).__name__ == "Experts" for layer, _ in config.layers)
    sizes = [2**i for i in range(most.bit_length()) if 2**i <= most]
    for held in ((w, c) for w in weights for c in kv_caches):
        for tp in sizes:
            for ep in (1, *(size for size in sizes if size >= max(tp, 2))) if experts else (1,):
                for pp in STAGES:
                    found = Deployment(tp, ep, pp, 1, *held)
                    if found.ranks <= most:
                        yield found


def _configurations(
    served: Served, engine: Engine, request: Request, load: Load, targets: Targets
) -> Iterator[ServingReport | None]:
    """One for each batch, with as many replicas as the load takes; None where these are too many."""
    most, lanes = served.most_texts(request), served.deployment.copies * served.deployment.pp_size
    for texts in _batches(most if load.concurrency is None else min(most, math.ceil(load.concurrency / lanes))):
        lane = run_lane(served, engine, request, texts)
        needed = _replicas(load, texts * lanes, served_per_s(lane, request) * lanes)
        replicas = math.ceil(needed - 1e-9)
        if replicas * served.deployment.ranks > targets.devices:
            yield None
            continue
        placed = served.of(replace(served.deployment, dp_size=replicas))
        yield assembled(placed, engine, request, load, lane, 1.0 - needed / replicas, most)


def _replicas(load: Load, texts: float, served_per_s: float) -> float:
    """How many replicas the load fills, each with so many texts or so many requests per second."""
    return load.concurrency / texts if load.concurrency is not None else (load.rate or 0.0) / served_per_s


def _batches(most: int) -> Iterator[float]:
    """Whole numbers from 1 to `most`, each about `STEP_OF_BATCH` times the one before."""
    batch = 1.0
    while batch < most:
        yield float(round(batch))
        batch = max(batch * STEP_OF_BATCH, batch + 1.0)
    yield float(most)


def front(found: Sequence[ServingReport]) -> tuple[ServingReport, ...]:
    """Those that no other beats in both joules of a token and seconds between tokens, the fastest first."""
    best: list[ServingReport] = []
    for each in sorted(found, key=lambda one: (one.tpot_s, one.token_j)):
        if not best or each.token_j < best[-1].token_j:
            best.append(each)
    return tuple(best)
