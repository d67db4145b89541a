"""The sides of a comparison: from an answer to what is compared of it."""

from __future__ import annotations

from collections.abc import Mapping

from wattir.cli.estimate_view import energy_text, time_text
from wattir.cli.generation_view import asked_text, devices_text
from wattir.cli.serving_view import deployed, load_text, request_text
from wattir.cli.units import prefixed
from wattir.cli.waterfall import Side
from wattir.compare import terms_of
from wattir.costmodel import CostModel
from wattir.generation_compare import generation_terms
from wattir.generation_report import GenerationReport
from wattir.serving_compare import serving_terms
from wattir.serving_report import ServingReport


def side_of_pass(question: str, model: CostModel, sizes: Mapping[str, int]) -> Side:
    """A forward pass: ``resnet50 on h100_sxm, compiled, batch=8``."""
    report = model.report(**sizes)
    parts = (report.runtime, report.dtype, *(f"{name}={value}" for name, value in report.sizes.items()))
    label = f"{report.model} on {report.device}, {', '.join(part for part in parts if part)}"
    said = f"a pass {energy_text(report.totals)} in {time_text(report.totals)}"
    facts = {
        "model": report.model, "device": report.device, "runtime": report.runtime, "dtype": report.dtype,
        "sizes": dict(report.sizes), "totals": dict(report.totals),
    }  # fmt: skip
    return Side(question, "pass", label, said, facts, terms_of(model, sizes))


def side_of_request(question: str, report: ServingReport) -> Side:
    """A served request: ``Qwen/Qwen3-8B on h100_sxm, 8 devices (tp 8), 512 tokens in, 300 out, 64 at a time``."""
    where = f"{report.model} on {report.device.id}, {deployed(report.deployment)}"
    label = f"{where}, {request_text(report.request)}, {load_text(report)}"
    said = f"a request {prefixed(report.request_j, 'J')}, TPOT {prefixed(report.tpot_s, 's')}"
    return Side(question, "request", label, said, report.to_dict(), serving_terms(report))


def side_of_call(question: str, report: GenerationReport) -> Side:
    """A call of a generator: ``FLUX.1-dev on h100_sxm, 1 device, 1024 x 1024, 28 steps``."""
    label = f"{report.model} on {report.device.id}, {devices_text(report)}, {asked_text(report)}"
    said = f"a call {prefixed(report.call_j, 'J')} in {prefixed(report.time_s, 's')}"
    return Side(question, "call", label, said, report.to_dict(), generation_terms(report))
