"""What a machine without measurements takes from measured relatives, and what that cost where it could be checked.

    efficiencies, fixed seconds                     as they are: shares of the limits, and of the library
    powers                                          in proportion to the power limits
    energies per FLOP and per operation             in proportion to power limit over rate
    energies per byte                               in proportion to power limit over bandwidth
    corrections by library (``family.math@library``)  as they are: the same library launches the same kernels
    all other corrections                           not: they did no better than the physics on other machines
    the interval                                    the nearest relative's, and `WIDTHS` of the kind of relation: as
                                                    errors that know nothing of each other, their squares add up

Of several relatives of one kind the coefficients are the geometric mean, the nearest counting twice: each fit has
errors of its own, and fewer are passed on so. A variant takes those of the nearest alone. All others give what those
before them lack: number types, families of kernels, corrections by library.

B200 from H200 alone comes out 28.0 % off in seconds and 30.4 % in joules, H200 from B200 18.8 and 24.6 % (medians over
kernels_power, 2026-11-28). The physics fitted to B200's own rows is 17.4 and 29.0 % off: 71 % of them ran in libraries
of which the H200 has no row, and where both ran one, its code for the new generation is not as far (experts 0.8 to 1.07
of the H200's seconds, where the limits' ratio is 0.44 to 0.62). Tried, without a gain that held both ways and between
A100, H100 and L40S: shares that fall as limits grow (of A100 to H100 they rise), features of corrections over units and
roofs, corrections as of the lender's own units, at half strength, or the mean of several, three and four relatives,
`wave_s` by the rate of a unit. Watts as the lender's share of its limit at that shape take 3 points off joules.
Energies that fall by less than rates and bandwidths grow (to the power 0.7, and busy watts by the limit's to 1.3) take
2 and 7 points off these two, and add 2 to the mean over 34 sets of pairs of GPUs: left.

Where both machines ran one library B200's seconds come out 17 % off. By kind of kernel: products in bf16 11 and 9 %
(B200, H200), latent attention 10 to 25 and 11 to 21 %, encoders 17 and 14 %, delta nets 12 and 7 %. Beyond 20 % are
Mamba-2 (27 % on B200, of whose library the H200 has no row), experts (25 to 58, 29 to 59 %: the same Triton kernels
take 1.3 times what limits say), number types and servers that the lender has not (fp4 40 %, TensorRT-LLM's attention
34 %: its launches take 14 us where vLLM's take 9), and products of 8 bit numbers in blocks, which are slower on B200
than on H200.

A relative is the nearer the more of these it shares, in this order: maker, class of memory (HBM, GDDR, DDR), and
architecture. The relatives of a device file stand in that order; of GPUs of one kind, those with joules come first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from math import exp, hypot, log
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wattir.device import Coefficients, Device, TimeInterval

VARIANT, GENERATION, OTHER, PROCESSOR = "variant", "generation", "other", "processor"
RELATIONS: Mapping[str, str] = {
    VARIANT: "of its architecture and class of memory",
    GENERATION: "of another architecture with its class of memory",
    OTHER: "of another class of memory",
    PROCESSOR: "of another make, under another library",
}
"""Kinds of relation, nearest first, as sentences about the relative. The last is that of all processors and boards, and
of GPUs of other makers, of which none was measured."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Half-widths in log space that borrowing adds to the relative's own: of a layer whose library's correction comes
    along, of any other layer, and of a network."""

    library: float
    layer: float
    network: float


WIDTHS: Mapping[str, Widths] = {
    VARIANT: Widths(0.56, 0.71, 0.49), GENERATION: Widths(0.56, 0.71, 0.49), OTHER: Widths(0.81, 0.81, 0.73),
    PROCESSOR: Widths(3.84, 3.84, 1.67),
}  # fmt: skip
"""By kind of relation, by ``python -m benchmarks.transfer`` of 2026-11-28: what 90 % of the rows took with each machine
left out whole and predicted from two relatives, where there were two; every set of every pair counts the same, and in
it every family (or model). 65 pairs of GPUs and 22 of processors and boards; layers of kernels_power, kernels_latency,
torch_layers_a30_2080ti, irene_transformers, gpu_power_anchors, getzner_cpu_layers, willowec_cpu_layers and the H200's
own, networks of whole_models_eager, irene_transformers, torch_layers_a30_2080ti, hw_gpt_bench_latency,
nas_latency_27_devices, nas_bench_201_pi5, mlperf_power and the H200's own. Variants took no less than other
generations: they are one.

Of 93 sets 77 are then covered to 85 % and more, 58 to 95 % and more. One width a kind cannot be right for all: the
Xeon 5120's layers from other Xeons' networks are covered to 49 %, the Raspberry Pi 5's networks under LiteRT
from the Raspberry Pi 4's under an older runtime not at all.
"""

NEAREST = 2.0
"""What the nearest of several relatives counts. Of five server GPUs left out whole (kernels_power, kernels_latency,
2026-11-27), each from two others, the median error of time was 27.3 % from the nearest alone, 24.2 % from its mean with
the second, and 24.7 % where both counted the same; the 90 % quantiles in log space 1.09, 0.85 and 0.81."""
AVERAGED = ("static_w", "busy_w", "j_per_op", "j_per_byte", "j_per_cache_byte", "cache_bytes_per_s", "host_op_s")


def relation(own: Device, lender: Device) -> str:
    """The kind of relation between two machines: one of `RELATIONS`."""
    if own.kind != "gpu" or (lender.kind, lender.vendor) != (own.kind, own.vendor):
        return PROCESSOR
    if _memory_class(own) != _memory_class(lender):
        return OTHER
    return VARIANT if own.architecture and own.architecture == lender.architecture else GENERATION


def distance(device: Device, other: Device) -> float:
    """Of the limits that both machines have, the mean difference in log space; 0 where all are the same."""
    pairs = [(device.power_w, other.power_w), (device.memory_bytes_per_s, other.memory_bytes_per_s)]
    pairs += [(rate, other.flop_per_s[name]) for name, rate in device.flop_per_s.items() if name in other.flop_per_s]
    return sum(abs(log(a / b)) for a, b in pairs) / len(pairs)


def nearest(own: Device, others: Sequence[Device]) -> list[Device]:
    """The others by kind of relation and then by limits, the nearest first; of GPUs those with joules come before.

    GPUs with seconds alone were mostly measured on few kinds of kernels. With every machine left out whole (57 sets of
    GPUs, 2026-11-27) those with joules were the better relatives of another class of memory: in the mean of all sets
    time came out 38 % off instead of 55 %, energy 33 % instead of 53 %; of one class it made no difference. Processors
    with seconds alone are phones, and phones are like phones.
    """
    ranks = list(RELATIONS)

    def key(one: Device) -> tuple[int, bool, float, str]:
        return ranks.index(relation(own, one)), own.kind == "gpu" and not one.metered, distance(own, one), one.id

    return sorted(others, key=key)


def unlike(devices: Sequence[Device]) -> list[Device]:
    """These machines, each once under whatever runtimes it was measured: the first of those with the same limits."""
    found: list[Device] = []
    for device in devices:
        if all(distance(device, one) > 0.0 for one in found):
            found.append(device)
    return found


def _memory_class(device: Device) -> str:
    """Letters before the first digit: HBM of HBM3e; a machine whose file does not say is in a class of its own."""
    found = re.match(r"[A-Z]+", device.memory)
    return found.group() if found else device.id


def lent(own: Device, lenders: Sequence[Device], widths: Mapping[str, Widths] = WIDTHS) -> Device:
    """The machine `own`, of which only the limits are known, with what it takes from `lenders`, the nearest first."""
    first = lenders[0]
    kind = relation(own, first)
    added = widths[kind]
    counts = shares([relation(own, lender) for lender in lenders])
    fitted = [lender.measured_families for lender in lenders]
    named = " and ".join(lender.id for lender, count in zip(lenders, counts, strict=True) if count)
    return replace(
        own,
        coefficients=mean([scaled(lender, own) for lender in lenders], counts, fitted),
        corrections=_by_library(lender.corrections for lender in lenders),
        measured=False,
        measured_families=frozenset().union(*fitted),
        borrowed_from=named,
        time_interval=first.time_interval and _lent_time(first.time_interval, lenders, added),
        interval_layer=hypot(first.interval_layer, added.layer),
        interval_network=hypot(first.interval_network, added.network),
        interval_families=_lent_widths([lender.interval_families for lender in lenders], added),
        interval_source=f"that of {first.id}, a machine {RELATIONS[kind]}, and in log space {added.layer:g} for a "
        f"layer, {added.network:g} for a network: what it took where machines were measured (benchmarks/transfer.py)",
        fits=(),
    )


def _lent_time(first: TimeInterval, lenders: Sequence[Device], added: Widths) -> TimeInterval:
    """The nearest relative's of seconds, as wide as lending took joules: seconds were no nearer."""
    families = _lent_widths([lender.time_interval.families for lender in lenders if lender.time_interval], added)
    return replace(
        first, layer=hypot(first.layer, added.layer), network=hypot(first.network, added.network), families=families
    )


def _lent_widths(tables: Sequence[Mapping[str, float]], added: Widths) -> dict[str, float]:
    return {key: hypot(width, added.library) for key, width in _by_library(tables).items()}


def shares(kinds: Sequence[str]) -> list[float]:
    """What each relative counts in the mean, by its kind of relation: 0 where it gives only what those before lack."""
    return [NEAREST, *(float(kind == kinds[0] != VARIANT) for kind in kinds[1:])]


def mean(given: Sequence[Coefficients], counts: Sequence[float], fitted: Sequence[Set[str]]) -> Coefficients:
    """The geometric mean of what several machines give, each counting so much, in the first one's tiles.

    Families of kernels are of those that fitted them.
    """

    def counts_of(name: str) -> list[float]:
        return [count * (name.partition(".")[0] in own) for count, own in zip(counts, fitted, strict=True)]

    names = dict.fromkeys(name for c in given for name in c.families)
    maths = dict.fromkeys(math for c in given for math in c.j_per_flop)
    averaged: Coefficients = _over(given, counts, AVERAGED)
    return replace(
        averaged,
        j_per_flop={math: _mean(_counted([c.j_per_flop.get(math) for c in given], counts)) for math in maths},
        families={name: _over([c.families.get(name) for c in given], counts_of(name)) for name in names},
    )


def _over(found: Sequence[Any], counts: Sequence[float], names: Sequence[str] = ()) -> Any:
    """The first object of those that count, with the means of these of its fields, or of all."""
    kept = _counted(found, counts)
    first = kept[0][0]
    names = names or [each.name for each in fields(first)]
    return replace(first, **{name: _mean([(getattr(one, name), count) for one, count in kept]) for name in names})


def _counted(found: Sequence[Any], counts: Sequence[float]) -> list[tuple[Any, float]]:
    """What there is of those that count, or else of the first that has any."""
    known = [(one, count) for one, count in zip(found, counts, strict=True) if one is not None]
    return [(one, count) for one, count in known if count] or [(known[0][0], 1.0)]


def _mean(found: Sequence[tuple[float, float]]) -> float:
    """The geometric mean of values that count so much; the first where one of them is 0."""
    if len(found) == 1 or not all(value for value, _ in found):
        return found[0][0]
    return exp(sum(count * log(value) for value, count in found) / sum(count for _, count in found))


def _by_library(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What is kept by library, of the first machine that has it."""
    return {key: value for table in reversed(list(tables)) for key, value in table.items() if "@" in key}


def scaled(lender: Device, own: Device) -> Coefficients:
    """The lender's coefficients with powers and energies in proportion to the two machines' limits."""
    c = lender.coefficients
    power = own.power_w / lender.power_w
    bandwidth = own.memory_bytes_per_s / lender.memory_bytes_per_s
    rates = {m: own.flop_per_s[m] / lender.flop_per_s[m] for m in own.flop_per_s if m in lender.flop_per_s}
    fitted = [m for m in rates if m in c.j_per_flop] or list(rates)
    vector = rates.get("fp32", 1.0)
    return replace(
        c,
        static_w=c.static_w * power,
        busy_w=c.busy_w * power,
        j_per_flop={m: lender.j_per_flop(m) * power / rates[m] for m in fitted},
        j_per_op=c.j_per_op * power / vector,
        j_per_byte=c.j_per_byte * power / bandwidth,
        j_per_cache_byte=c.j_per_cache_byte * power / bandwidth,
        cache_bytes_per_s=c.cache_bytes_per_s * bandwidth,
    )
