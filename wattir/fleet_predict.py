"""A fleet's queries bottom-up: throughput and node power predicted from the models' configurations, beside top-down.

    top-down    E = PUE * P_nameplate * u * L_out / TPS_law
    bottom-up   E = PUE * P_node * L_out / TPS,       P_node = overhead * boards + host     (`wattir.chain`)

Both at the medians of lengths, utilisation and PUE. What the one lacks is then a product of three factors: the power of
a nameplate for that of a node at work, a throughput law for decoding alone, and the prefill that nobody counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wattir.chain import node_of
from wattir.device import load_device
from wattir.errors import FleetError
from wattir.fleet import Fleet, ServedModel, Workload
from wattir.serving_model import Deployment, Request
from wattir.serving_report import Load, ServingReport, serve


@dataclass(frozen=True, slots=True)
class Side:
    """Joules of a query at the meter of the site, watts of the node, output tokens per second of it."""

    query_j: float
    node_w: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Beside:
    """A model both ways. `decode_tokens_per_s`: predicted without prefill; `low`, `high`: what the 90 % interval of the
    accelerators' joules multiplies `bottom_up` by; `prefill_share`: of these joules."""

    model: str
    workload: str
    where: str
    top_down: Side
    bottom_up: Side
    decode_tokens_per_s: float
    prefill_share: float
    low: float
    high: float

    @property
    def factors(self) -> dict[str, float]:
        """What leads from top-down to bottom-up: power, throughput of decoding, prefill; their product is the ratio."""
        return {
            "power": self.bottom_up.node_w / self.top_down.node_w,
            "decode": self.top_down.tokens_per_s / self.decode_tokens_per_s,
            "prefill": self.decode_tokens_per_s / self.bottom_up.tokens_per_s,
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, in SI units."""
        return asdict(self) | {"factors": self.factors}


def beside(fleet: Fleet, concurrency: float) -> tuple[Beside, ...]:
    """Every model of a fleet file that says how it is served, both ways, at so many requests at a time on its node."""
    found = [one for model in fleet.models if model.served for one in _both(fleet, model, concurrency)]
    if not found:
        raise FleetError("no model says how it is served; expected [models.NAME.served] with model and device")
    return tuple(found)


def _both(fleet: Fleet, model: ServedModel, concurrency: float) -> Iterator[Beside]:
    for name, work in fleet.workloads.items():
        whole, decode = (_report(model, work, concurrency, cached) for cached in (False, True))
        low, high = whole.ends
        tokens_per_s = whole.requests_per_s * work.output_tokens
        node_w = _node_w(whole)
        prefill = sum(whole.energy_j["prefill"].values()) / whole.request_j
        yield Beside(
            model.id, name, f"{whole.deployment.devices} {whole.device.id}", _top_down(model, work),
            Side(work.pue.median * node_w / whole.requests_per_s, node_w, tokens_per_s),
            decode.requests_per_s * work.output_tokens, prefill, low, high,
        )  # fmt: skip


def _top_down(model: ServedModel, work: Workload) -> Side:
    node_w = model.node_w * work.utilisation.median
    tokens_per_s = float(model.tokens_per_s(work.input_tokens, np.array([work.output_tokens]))[0])
    return Side(work.pue.median * node_w * work.output_tokens / tokens_per_s, node_w, tokens_per_s)


def _report(model: ServedModel, work: Workload, concurrency: float, cached: bool) -> ServingReport:
    """Served at the medians; `cached`: every prompt is in the cache but for its last token."""
    assert model.served is not None
    how: Mapping[str, Any] = {key: value for key, value in model.served.items() if key not in ("model", "device")}
    isl = round(work.input_tokens)
    request = Request(isl, work.output_tokens, prefix=isl - 1 if cached else 0)
    device = load_device(model.served["device"])
    return serve(model.served["model"], device, request, Load(concurrency), Deployment(**how))


def _node_w(report: ServingReport) -> float:
    node = node_of(report.device.id, report.device.scope)
    if node is None:
        return report.power_w
    return node.to_plug(report.deployment.devices).joules(report.power_w, time_s=1.0)
