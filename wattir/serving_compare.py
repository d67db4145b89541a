"""The joules of a served request as terms that `wattir.compare` takes apart.

    E = tokens * [  flop  * (j_per_flop + rest_w * s_per_flop * slowness)      and so for bytes of weights, of the cache
                  + gap_s * rest_w + link_s * link_w + waiting_s * rest_w + idle_s * rest_w ]

Volumes and seconds are per output token, prompts in them, on all devices; `s_per_*` at the machine's peaks; `slowness`
is the seconds that kernels run over those that all volumes would take at the peaks, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from wattir.compare import Terms
from wattir.serving_report import ServingReport

STREAMS = {
    "flop": ("flop", "compute volume", "compute"),
    "weights": ("weight_bytes", "memory traffic", "weights"),
    "cache": ("cache_bytes", "memory traffic", "kv_cache"),
}
"""Term to the work it is of, the factor of that work's volume, and the joules that it takes."""


def serving_terms(report: ServingReport) -> Terms:
    """The terms of a request; their products add up to its joules."""
    seconds, tokens = report.device_s, report.request.osl
    unasked_j = report.engine.static_w * seconds["idle"]
    at_work_s = seconds["kernels"] + seconds["gaps"] + seconds["exchange"]
    rest_w = (report.factors["idle"] - unasked_j) / at_work_s
    terms: dict[str, Mapping[str, float]] = {
        "gaps": _waiting(tokens, "launches", seconds["gaps"], rest_w * seconds["gaps"]),
        "links": _waiting(tokens, "communication", seconds["exchange"],
                          rest_w * seconds["exchange"] + report.factors["communication"]),
        "host": _waiting(tokens, "host", seconds["host"], report.factors["host"]),
        "unasked": _waiting(tokens, "utilisation", seconds["idle"], unasked_j),
    }  # fmt: skip
    return {**terms, **_streams(report, rest_w)}


def _waiting(tokens: float, factor: str, seconds: float, joules: float) -> Mapping[str, float]:
    return {"tokens": tokens, factor: seconds / tokens, "machine power": joules / (seconds or 1.0)}


def _streams(report: ServingReport, rest_w: float) -> Terms:
    tokens, byte_s = report.request.osl, 1.0 / report.device.memory_bytes_per_s
    volumes = {name: report.work[work] for name, (work, _, _) in STREAMS.items()}
    peak_s = {name: report.work["flop_s"] if name == "flop" else volumes[name] * byte_s for name in STREAMS}
    slowness = report.device_s["kernels"] / sum(peak_s.values())
    terms: dict[str, Mapping[str, float]] = {}
    for name, (_, factor, joules) in STREAMS.items():
        each = volumes[name] or 1.0
        work = {"tokens": tokens, factor: volumes[name] / tokens}
        terms[name] = {**work, "machine energy": report.factors[joules] / each}
        terms[f"{name}, time"] = {
            **work, "machine speed": peak_s[name] / each, "utilisation": slowness, "machine power": rest_w
        }  # fmt: skip
    return terms
