"""How to serve a model: all configurations of some machines, which keep the latency targets, and at what joules.

A configuration is a machine, how weights and cache are held, how the devices of a replica share the model, and how many
replicas there are. From the load follows how many texts each of them runs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wattir.device import Device
from wattir.errors import InputError
from wattir.pareto import pareto_front
from wattir.serving import ENGINE, engine_on
from wattir.serving_engine import Engine
from wattir.serving_model import Deployment, Request, Served, described, whole
from wattir.serving_report import Load, Running, ServingReport, assembled, run_lane

MOST_DEVICES = 64
STAGES = (1, 2, 4)
GRID = 4
"""Batches at which seconds are asked for grow by this."""


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
    """Of `tried` configurations, `every` one that fits and differs from others, the least joules of a token first.

    `kept`: those that keep the targets; `front`: of these, the ones that none beats in both joules and seconds between
    tokens, the fastest first.
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
        coefficients, placed = engine_on(device, engine), dict[Deployment, Served]()
        for deployment in deployments(config, targets.devices, weights, kv_caches):
            try:
                served = _placed(placed, config, device, deployment)
                found += _configurations(served, coefficients, request, load, targets)
            except InputError as error:  # heads or experts that do not divide, weights that do not fit
                refused = str(error)
    fitting = [each for each in found if each is not None]
    if not fitting:
        why = f"{len(found)} fit the memory, but not so large a load; raise --max-devices" if found else refused
        raise InputError(f"{config.name}: no configuration of at most {targets.devices} devices serves it; {why}")
    every = tuple(sorted(distinct(fitting), key=lambda each: each.token_j))
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


def _placed(placed: dict[Deployment, Served], config: Any, device: Device, deployment: Deployment) -> Served:
    """The model in a deployment; stages run the kernels of the whole, so these are made once."""
    one = replace(deployment, pp_size=1)
    if one not in placed:
        placed[one] = Served(config, device, one)
    return placed[one].of(deployment)


def _configurations(
    served: Served, engine: Engine, request: Request, load: Load, targets: Targets
) -> Iterator[ServingReport | None]:
    """One for each number of replicas; None where these are too few for the load."""
    request = served.seen(request)
    most, lanes = served.most_texts(request), served.deployment.lanes
    step_s = _step_seconds(served, engine, request, most)
    for replicas in range(1, targets.devices // served.deployment.ranks + 1):
        lane, idle = None, 0.0
        if load.concurrency is not None:
            texts = load.concurrency / (replicas * lanes)
            lane = run_lane(served, engine, request, texts) if texts <= most else None
        elif load.rate is not None:
            lane, idle = _at_rate(served, engine, request, load.rate / (replicas * lanes), step_s)
        if lane is None:
            yield None
            continue
        placed = served.of(replace(served.deployment, dp_size=replicas))
        yield assembled(placed, engine, request, load, lane, idle, most)


def _step_seconds(served: Served, engine: Engine, request: Request, most: int) -> dict[float, float]:
    """Seconds of an average step by batch: powers of `GRID`, and the most that the memory holds."""
    batches = {float(min(GRID**i, most)) for i in range(12)}
    return {batch: run_lane(served, engine, request, batch).step.time_s for batch in sorted(batches)}


def _at_rate(
    served: Served, engine: Engine, request: Request, rate: float, step_s: dict[float, float]
) -> tuple[Running | None, float]:  # fmt: skip
    """The lane that `rate` requests per second keep busy, and for how much of the time it has none; None where they are
    too many.

    By Little's law texts = rate osl / gain step_s(texts); step_s is interpolated in logarithms to find them.
    """
    steps = request.osl / request.gain * rate
    batches = list(step_s)
    if steps * step_s[batches[-1]] > batches[-1]:
        return None, 0.0
    if steps * step_s[1.0] <= 1.0:
        lane = run_lane(served, engine, request, 1.0)
        return lane, 1.0 - steps * lane.step.time_s
    at = next(i for i, batch in enumerate(batches) if steps * step_s[batch] <= batch)
    low, high = batches[at - 1], batches[at]
    gap = [math.log(steps * step_s[batch] / batch) for batch in (low, high)]  # linear between: from above 0 to below
    texts = low * (high / low) ** (gap[0] / (gap[0] - gap[1]))
    lane = run_lane(served, engine, request, texts)
    return replace(lane, texts=steps * lane.step.time_s), 0.0


def distinct(found: Sequence[ServingReport]) -> tuple[ServingReport, ...]:
    """Of those that answer the same, the one of fewest stages: as often as not stages do as replicas would."""
    simplest: dict[Any, ServingReport] = {}
    for each in sorted(found, key=lambda each: each.deployment.pp_size):
        simplest.setdefault(_answer(each), each)
    return tuple(simplest.values())


def _answer(found: ServingReport) -> Any:
    laid = found.deployment
    lanes = replace(laid, pp_size=1, dp_size=laid.pp_size * laid.dp_size)
    return found.device.id, lanes, *(f"{value:.9g}" for value in (found.token_j, found.tpot_s, found.ttft_s))


def front(found: Sequence[ServingReport]) -> tuple[ServingReport, ...]:
    """Those that no other beats in both joules of a token and seconds between tokens, the fastest first."""
    kept = pareto_front(tpot_s=[one.tpot_s for one in found], token_j=[one.token_j for one in found])
    return tuple(found[place] for place in kept)
