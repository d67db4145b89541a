"""Why B costs other joules than A: their difference by latent factors, in a waterfall that adds up exactly.

A pass's joules are a sum of terms, and every term a product of factors:

    E = samples * [  flop  * (j_per_flop + running_w / (flop_rate * utilisation))      and so for vector operations,
                   + bytes * (j_per_byte + running_w / (byte_rate * utilisation))      and for bytes of the cache
                   + launch_s * static_w + link_s * static_w + waiting_s * static_w ]

Volumes and seconds are per sample; rates are the machine's peaks; `utilisation` is the seconds that all volumes would
take at the peaks, one after the other, over the seconds that the kernels run. The difference of two such sums goes to
the factors by the logarithmic mean Divisia index, term by term:

    d(factor) = L(e_A, e_B) ln(x_B / x_A),      L(a, b) = (b - a) / ln(b / a)

It leaves no residual and does not depend on any order of the factors: Ang, Energy Policy 32 (2004) 1131 and 33 (2005)
867. Where a term is zero on one side its whole change goes to the factors that are zero there (Ang and Liu 2007).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wattir.costmodel import CostModel, in_network
from wattir.dims import evaluate
from wattir.machine import ROW_CONSTANTS, Row
from wattir.roofline import SPECIAL_OPS, cached_bytes, kernel_cost
from wattir.work import CELLS, cells_of

Terms = Mapping[str, Mapping[str, float]]
"""Term to its factors, whose product is the term's joules."""

FACTORS = {
    "samples": "how many samples the pass is of",
    "tokens": "how many tokens the answer has",
    "steps": "passes of the denoiser, two a step under guidance",
    "compute volume": "FLOP and vector operations of each",
    "memory traffic": "bytes of each",
    "utilisation": "how near to its peaks the machine runs",
    "launches": "fixed seconds of kernels for each, at rest power",
    "communication": "seconds of exchange among devices for each",
    "host": "seconds of waiting for the host for each, at rest power",
    "machine energy": "joules per FLOP and per byte",
    "machine speed": "peak rates at the precision of the kernels",
    "machine power": "watts at rest and of running units",
}
"""All factors in the order of a waterfall, with what each means; "each" is a sample, or an output token."""

COUNTS = ("samples", "tokens")
"""The factors that say how many there are."""

STREAMS = ("flop", "ops", "bytes", "cache bytes")
VOLUMES = dict(zip(STREAMS, ("compute volume", "compute volume", "memory traffic", "memory traffic"), strict=True))
COEFFICIENTS = dict(zip(STREAMS, ("j_per_flop", "j_per_op", "j_per_byte", "j_per_cache_byte"), strict=True))
DYNAMIC = (*COEFFICIENTS.values(), "busy_w")
LINK_BYTES = CELLS.index("link_bytes")


@dataclass(frozen=True, slots=True)
class Kernel:
    """Totals of a kernel over its runs: volumes and their seconds at peak by stream, joules by coefficient, seconds.

    A learned correction scales all of its seconds or all of its joules alike.
    """

    volume: Mapping[str, float]
    peak_s: Mapping[str, float]
    joules: Mapping[str, float]
    busy_s: float
    launch_s: float
    link_s: float


def terms_of(model: CostModel, sizes: Mapping[str, int]) -> Terms:
    """The terms of one pass at these sizes; their products add up to its joules."""
    bound = model.bind(sizes)
    batch = bound.get(model.graph.batch, 1) if model.graph.batch else 1
    cells = [[evaluate(cell, bound) for cell in cells_of(work)] for work in model.kernels]
    times = [evaluate(work.times, bound) for work in model.kernels]
    costs = [kernel_cost(*_taken(each, row, model)) for each, row in zip(cells, model.rows, strict=True)]
    more_j, longer = in_network(list(zip(costs, times, strict=True)), model.device.power_w)
    kernels = [_kernel(model, row, each, count, longer * cost[0], more_j * cost[1])
               for row, each, count, cost in zip(model.rows, cells, times, costs, strict=True)]  # fmt: skip
    running_s = sum(k.busy_s + k.launch_s + k.link_s for k in kernels)
    waiting_s = max(evaluate(model.host_ops, bound) * model.host_op_s - running_s, 0)
    return _terms(kernels, float(batch), model.device.coefficients.static_w, float(waiting_s))


def _taken(cells: Sequence[float], row: Row, model: CostModel) -> tuple[Any, ...]:
    return *cells, *row.constants, model.trees


def _kernel(
    model: CostModel, row: Row, cells: Sequence[float], times: float, seconds: float, joules: float
) -> Kernel:  # fmt: skip
    """The totals of a kernel that takes these seconds and joules each time."""
    constants = dict(zip(ROW_CONSTANTS, row.constants, strict=True)) | {"time_at": -1.0, "power_at": -1.0}
    plain: tuple[Any, ...] = (*cells, *constants.values(), ())
    plain_s, *_, launch_s = kernel_cost(*plain)[:6]
    parts = {name: _joules_of(cells, constants, name) for name in DYNAMIC}
    parts["static_w"] = constants["static_w"] * plain_s
    scale, slower = (
        over / whole if whole else 0.0 for over, whole in ((joules, sum(parts.values())), (seconds, plain_s))
    )
    link_s = cells[LINK_BYTES] * constants["s_per_link_byte"]
    volume, peaks = _volumes(cells, constants), _peaks(model, row)
    return Kernel(
        {name: times * value for name, value in volume.items()},
        {name: times * value / peaks[name] for name, value in volume.items()},
        {name: times * scale * value for name, value in parts.items()},
        times * slower * (plain_s - launch_s - link_s), times * slower * launch_s, times * slower * link_s,
    )  # fmt: skip


def _joules_of(cells: Sequence[float], constants: Mapping[str, float], coefficient: str) -> float:
    """The joules that one coefficient alone gives: energy is linear in them where no limit binds."""
    alone = {name: value if name == coefficient else 0.0 for name, value in constants.items() if name in DYNAMIC}
    free = {**constants, **alone, "static_w": 0.0, "limit_w": math.inf}
    given: tuple[Any, ...] = (*cells, *free.values(), ())
    return float(kernel_cost(*given)[1])


def _volumes(cells: Sequence[float], constants: Mapping[str, float]) -> dict[str, float]:
    of = dict(zip(CELLS, cells, strict=True))
    hot = cached_bytes(of["activation_bytes"], constants["cache_bytes"])
    hot += constants["hot_weights"] * of["weight_bytes"]
    cold = of["weight_bytes"] + of["activation_bytes"] + of["state_bytes"] - hot
    ops = of["ops"] + SPECIAL_OPS * of["special"]
    return dict(zip(STREAMS, (2.0 * of["macs_causal"], ops, cold, hot), strict=True))


def _peaks(model: CostModel, row: Row) -> dict[str, float]:
    device = model.device
    rates = (device.flop_per_s[row.math], 0.5 * device.flop_per_s["fp32"], device.memory_bytes_per_s,
             device.coefficients.cache_bytes_per_s)  # fmt: skip
    return dict(zip(STREAMS, rates, strict=True))


def _terms(kernels: Sequence[Kernel], batch: float, static_w: float, waiting_s: float) -> Terms:
    busy_s, launch_s, link_s = (
        sum(getattr(kernel, name) for kernel in kernels) for name in ("busy_s", "launch_s", "link_s")
    )
    volume, peak_s = ({s: sum(getattr(k, name)[s] for k in kernels) for s in STREAMS} for name in ("volume", "peak_s"))
    joules = {name: sum(kernel.joules[name] for kernel in kernels) for name in (*DYNAMIC, "static_w")}
    rest_w = joules["static_w"] / ((busy_s + launch_s + link_s) or 1.0)
    running_w = rest_w + (joules["busy_w"] / busy_s if busy_s else 0.0)
    slowness = busy_s / (sum(peak_s.values()) or 1.0)
    terms: dict[str, Mapping[str, float]] = {
        "launches": {"samples": batch, "launches": launch_s / batch, "machine power": rest_w},
        "links": {"samples": batch, "communication": link_s / batch, "machine power": rest_w},
        "waiting": {"samples": batch, "host": waiting_s / batch, "machine power": static_w},
    }
    for name in STREAMS:
        count = volume[name]
        work = {"samples": batch, VOLUMES[name]: count / batch}
        each = count or 1.0
        terms[name] = {**work, "machine energy": joules[COEFFICIENTS[name]] / each}
        terms[f"{name}, time"] = {
            **work, "machine speed": peak_s[name] / each, "utilisation": slowness, "machine power": running_w
        }  # fmt: skip
    return terms


def per_one(terms: Terms) -> Terms:
    """The same terms for one sample or one token."""
    return {
        name: {factor: 1.0 if factor in COUNTS else value for factor, value in factors.items()}
        for name, factors in terms.items()
    }


def joules_of(terms: Terms) -> float:
    """The sum of the products."""
    return sum(math.prod(factors.values()) for factors in terms.values())


def difference(a: Terms, b: Terms) -> dict[str, float]:
    """Joules of B less joules of A by factor, in the order of `FACTORS`; they add up to the difference."""
    found = dict.fromkeys(FACTORS, 0.0)
    for name in dict.fromkeys((*a, *b)):
        for factor, joules in _of_term(a.get(name, {}), b.get(name, {})).items():
            found[factor] = found.get(factor, 0.0) + joules
    return {factor: joules for factor, joules in found.items() if joules}


def _of_term(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    names = tuple(dict.fromkeys((*a, *b)))
    before, after = (math.prod(x.values()) if x else 0.0 for x in (a, b))
    if before > 0.0 and after > 0.0:
        logs = {name: math.log(b[name] / a[name]) for name in names}
        mean = log_mean(before, math.fsum(logs.values()))
        return {name: mean * log for name, log in logs.items()}
    empty = a if before <= 0.0 else b
    gone = [name for name in names if empty.get(name, 0.0) <= 0.0] or list(names)
    return {name: (after - before) / len(gone) for name in gone}


def log_mean(a: float, log_ratio: float) -> float:
    """L(a, a exp(r)) = a (exp(r) - 1) / r, and a where r is 0."""
    return a * math.expm1(log_ratio) / log_ratio if log_ratio else a
