"""The joules of a call that makes images or video as terms that `wattir.compare` takes apart.

    E = samples * sum over phases of steps * [ flop * (j_per_flop + static_w * s_per_flop * slowness)
                                               + host_s * static_w + link_s * link_w + waiting_s * waiting_w ]

FLOP and seconds are of one output in one pass of a phase, on all devices; `s_per_flop` at the machine's peak in 16
bits; `slowness` is the seconds that devices work over those at that peak. The denoiser runs `steps` passes, twice as
many under guidance; every other phase one.
"""

from __future__ import annotations

from collections.abc import Mapping

from wattir.compare import Terms
from wattir.generation_report import GenerationReport


def generation_terms(report: GenerationReport) -> Terms:
    """The terms of a call; their products add up to its joules."""
    terms: dict[str, Mapping[str, float]] = {}
    for phase in report.phases:
        terms |= _of_phase(report, phase)
    return terms


def _of_phase(report: GenerationReport, phase: str) -> Terms:
    stack, joules = report.stack, report.phases[phase].energy_j
    passes = report.prompt.steps * (2 if report.prompt.guidance else 1) if phase == "denoise" else 1
    count = {"samples": float(report.prompt.batch)} | ({"steps": float(passes)} if phase == "denoise" else {})
    each = float(passes * report.prompt.batch)
    flop, peak_s = report.flop[phase] / each, 1.0 / report.device.flop_per_s[report.device.math("bf16")]
    watts = {"host": stack.static_w, "communication": stack.link_w, "utilisation": stack.static_w + stack.waiting_w}
    spent = {"host": joules["host"], "communication": joules["communication"], "utilisation": joules["waiting"]}
    terms: dict[str, Mapping[str, float]] = {
        f"{phase}, {factor}": {**count, factor: spent[factor] / watts[factor] / each, "machine power": watts[factor]}
        for factor in spent if watts[factor] > 0.0
    }  # fmt: skip
    if flop > 0.0:
        work = {**count, "compute volume": flop}
        slowness = joules["static"] / stack.static_w / (each * flop * peak_s)
        terms[phase] = {**work, "machine energy": joules["work"] / (each * flop)}
        terms[f"{phase}, time"] = {
            **work, "machine speed": peak_s, "utilisation": slowness, "machine power": stack.static_w
        }  # fmt: skip
    return terms
