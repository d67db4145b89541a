"""`Report`: what one estimate says, as an object, as JSON and as text for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wattir import __version__
from wattir.costmodel import WAITING, Answer, CostModel, in_network, origin_of
from wattir.dims import evaluate
from wattir.interval import LEVEL
from wattir.machine import Row
from wattir.roofline import kernel_cost
from wattir.work import Work, cells_of

ORIGINS = ("measured", "modelled", "unknown")
BOUNDS = ("compute", "vector", "memory", "launch")


@dataclass(frozen=True, slots=True)
class Layer:
    """One kernel of a report. Joules, seconds, FLOP and bytes are totals over its `times` runs.

    `bound` is the roof it hits: compute, vector, memory, launch, power where alone it throttles the chip at its limit,
    or host where it waits.
    `origin` is where its joules come from: measured, modelled or unknown.
    """

    name: str
    kind: str
    source_op: str
    times: int
    energy_j: float
    time_s: float
    flop: int
    bytes: int
    bound: str
    known: bool
    origin: str

    def to_dict(self) -> dict[str, Any]:
        """The fields of the JSON contract, and `origin`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Report:
    """An estimate for one setting. `totals` and `coverage` are described in `to_dict`."""

    model: str
    device: str
    energy_scope: str
    clock_hz: float | None
    runtime: str
    dtype: str | None
    sizes: Mapping[str, int]
    totals: Mapping[str, Any]
    layers: tuple[Layer, ...]
    coverage: Mapping[str, Any]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The object that ``wattir estimate --json`` prints. Layers add up to the totals.

        `energy_scope`: what the joules cover (board, package, rail, wall, node). `clock_hz`: the core clock asked for.
        `totals`: energy_j and time_s with their 90 % intervals, power_w, flop (2 per multiply-add) with and without the
        causal half, macs, vector_ops (additions, exponentials and the like outside contractions), params, bytes by
        stream, kernels. `coverage`: shares of energy that are measured, modelled and unknown, and the unknown ops with
        counts.
        """
        return {
            "wattir_version": __version__,
            "model": self.model,
            "device": self.device,
            "energy_scope": self.energy_scope,
            "clock_hz": self.clock_hz,
            "runtime": self.runtime,
            "dtype": self.dtype,
            "sizes": dict(self.sizes),
            "totals": dict(self.totals),
            "layers": [layer.to_dict() for layer in self.layers],
            "coverage": dict(self.coverage),
            "warnings": list(self.warnings),
        }

    def folded(self, depth: int) -> Report:
        """The same report with the layers of each module summed: one layer for each path of `depth` parts.

        The parts of a path stand between dots and slashes. A folded layer has the kind, roof and origin of its dearest
        member's, and is known if all of its members are.
        """
        groups: dict[str, list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault(module_of(layer.name, depth), []).append(layer)
        return replace(self, layers=tuple(_sum(name, members) for name, members in groups.items()))

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2)


def module_of(path: str, depth: int) -> str:
    """The first `depth` parts of a module path: ``layer1.0.conv1/Conv`` at depth 2 is ``layer1.0``."""
    ends = [found.start() for found in re.finditer(r"[./]", path)]
    return path[: ends[depth - 1]] if 0 < depth <= len(ends) else path


def _sum(name: str, members: list[Layer]) -> Layer:
    if len(members) == 1:
        return members[0]
    dearest = max(members, key=lambda layer: layer.energy_j)
    totals = {
        field: sum(getattr(layer, field) for layer in members) for field in ("energy_j", "time_s", "flop", "bytes")
    }
    known = all(layer.known for layer in members)
    source = f"{len(members)} layers"
    return replace(dearest, name=name, source_op=source, times=1, known=known, **totals)


def make_report(model: CostModel, sizes: dict[str, int]) -> Report:
    """The report of a cost model at checked sizes (`CostModel.bind`)."""
    answer, (time_low_s, time_high_s) = model(**sizes), model.time_interval(**sizes)
    kernels = _kernels(model, sizes)
    layers = (*(layer for layer in kernels if layer.times), *_waiting(answer, kernels))
    return Report(
        model=model.graph.name,
        device=model.device.id,
        energy_scope=model.device.scope,
        clock_hz=model.device.clock_hz,
        runtime=model.runtime,
        dtype=model.dtype,
        sizes=sizes,
        totals={
            "energy_j": answer.energy_j,
            "energy_low_j": answer.energy_low_j,
            "energy_high_j": answer.energy_high_j,
            "interval_level": LEVEL,
            "time_s": answer.time_s,
            "time_low_s": time_low_s,
            "time_high_s": time_high_s,
            "power_w": answer.energy_j / answer.time_s if answer.time_s else 0.0,
            **_work_totals(model, sizes),
        },
        layers=layers,
        coverage=_coverage(layers),
        warnings=(*model.graph.warnings, *_device_warnings(model)),
    )


def _kernels(model: CostModel, sizes: dict[str, int]) -> tuple[Layer, ...]:
    costs = [_cost(model, work, row, sizes) for work, row in zip(model.kernels, model.rows, strict=True)]
    times = [evaluate(work.times, sizes) for work in model.kernels]
    more_j, longer = in_network(list(zip(costs, times, strict=True)), model.device.power_w)
    return tuple(
        Layer(
            work.name, work.kind, work.source, count, more_j * joules * count, longer * seconds * count,
            2 * evaluate(work.macs, sizes) * count, evaluate(work.bytes, sizes) * count,
            _bound(model, seconds, joules, roofs[:4]), work.known, ORIGINS[origin_of(work, row)],
        )
        for work, row, count, (seconds, joules, *roofs) in zip(model.kernels, model.rows, times, costs, strict=True)
    )  # fmt: skip


def _cost(model: CostModel, work: Work, row: Row, sizes: dict[str, int]) -> tuple[float, ...]:
    """What `kernel_cost` says of a kernel alone."""
    taken: tuple[Any, ...] = (*(evaluate(cell, sizes) for cell in cells_of(work)), *row.constants, model.trees)
    return kernel_cost(*taken)


def _waiting(answer: Answer, kernels: tuple[Layer, ...]) -> Iterator[Layer]:
    """What a pass takes beyond its kernels: the device idles while the host launches ops one by one (eager)."""
    seconds = answer.time_s - sum(layer.time_s for layer in kernels)
    joules = answer.energy_j - sum(layer.energy_j for layer in kernels)
    if seconds > 1e-9 * answer.time_s:
        yield Layer(WAITING, "host", "", 1, joules, seconds, 0, 0, "host", True, "modelled")


def _bound(model: CostModel, seconds: float, joules: float, roofs: list[float]) -> str:
    if seconds > 0 and joules / seconds >= model.device.power_w * 0.999:
        return "power"
    return BOUNDS[roofs.index(max(roofs))]


def _work_totals(model: CostModel, sizes: dict[str, int]) -> dict[str, int]:
    def total(*columns: str) -> int:
        parts = (getattr(work, column) * work.times for work in model.kernels for column in columns)
        return int(evaluate(sum(parts, start=0), sizes))

    return {
        "flop": 2 * total("macs"),
        "flop_causal": 2 * total("macs_causal"),
        "macs": total("macs"),
        "vector_ops": total("ops", "special"),
        "params": int(evaluate(model.graph.params, sizes)),
        "weight_bytes": total("weight_bytes"),
        "activation_bytes": total("in_bytes", "out_bytes"),
        "state_bytes": total("state_bytes"),
        "kernels": total("launches"),
    }


def _coverage(layers: tuple[Layer, ...]) -> dict[str, Any]:
    whole = sum(layer.energy_j for layer in layers) or 1.0
    shares = {o: sum(layer.energy_j for layer in layers if layer.origin == o) / whole for o in ORIGINS}
    counts: dict[str, int] = {}
    for layer in layers:
        if not layer.known:
            counts[layer.source_op] = counts.get(layer.source_op, 0) + 1
    return {**shares, "unknown_ops": sorted(counts), "unknown_op_counts": counts}


def _device_warnings(model: CostModel) -> list[str]:
    device = model.device
    if device.measured:
        return []
    return [f"{device.id}: no measurements of this machine; coefficients borrowed from {device.borrowed_from}"]
