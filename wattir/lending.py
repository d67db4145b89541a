"""What a machine without measurements takes from a measured relative, and what that cost where it could be checked.

    efficiencies, fixed seconds                     as they are: shares of the limits, and of the library
    powers                                          in proportion to the power limits
    energies per FLOP and per operation             in proportion to power limit over rate
    energies per byte                               in proportion to power limit over bandwidth
    corrections by library (``family.math@library``)  as they are: the same library launches the same kernels
    all other corrections                           not: they did no better than the physics on other machines
    the interval                                    the relative's, and `WIDTHS` of the kind of relation: as errors
                                                    that know nothing of each other, their squares add up

A relative is the nearer the more of these it shares, in this order: maker, class of memory (HBM, GDDR, DDR), and
architecture. The relatives of a device file stand in that order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import hypot
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wattir.device import Coefficients, Device

VARIANT, GENERATION, OTHER, PROCESSOR = "variant", "generation", "other", "processor"
RELATIONS: Mapping[str, str] = {
    VARIANT: "of its architecture and class of memory",
    GENERATION: "of another architecture with its class of memory",
    OTHER: "of another class of memory",
    PROCESSOR: "of another make, under another library",
}
"""Kinds of relation, nearest first, as sentences about the relative."""

WIDTHS: Mapping[str, tuple[float, float]] = {
    VARIANT: (1.14, 0.42), GENERATION: (1.14, 0.42), OTHER: (1.39, 0.68), PROCESSOR: (3.78, 1.79),
}  # fmt: skip
"""Half-widths in log space, of a layer and of a network, that borrowing adds to the relative's own.

By ``python -m benchmarks.transfer`` of 2026-11-27: what 90 % of the rows took with each machine left out whole; every
set of every pair counts the same, and in it every family (or model). Layers: kernels_power, kernels_latency,
torch_layers_a30_2080ti, irene_transformers, gpu_power_anchors and the H200's own (27 pairs of GPUs with one class of
memory, 15 with another); getzner_cpu_layers and willowec_cpu_layers. Networks: whole_models_eager, irene_transformers,
torch_layers_a30_2080ti, hw_gpt_bench_latency, nas_latency_27_devices and the H200's own; nas_latency_27_devices,
nas_bench_201_pi5 and mlperf_power of processors and boards (22 pairs). Variants took no less than other generations:
they are one.
"""


def relation(own: Device, lender: Device) -> str:
    """The kind of relation between two machines: one of `RELATIONS`."""
    if own.kind != "gpu":
        return PROCESSOR
    if own.vendor != lender.vendor or _memory_class(own) != _memory_class(lender):
        return OTHER
    return VARIANT if own.architecture and own.architecture == lender.architecture else GENERATION


def _memory_class(device: Device) -> str:
    """Letters before the first digit: HBM of HBM3e; a machine whose file does not say is in a class of its own."""
    found = re.match(r"[A-Z]+", device.memory)
    return found.group() if found else device.id


def lent(own: Device, lender: Device, widths: Mapping[str, tuple[float, float]] = WIDTHS) -> Device:
    """The machine `own`, of which only the limits are known, with what it takes from `lender`."""
    kind = relation(own, lender)
    layer, network = widths[kind]
    return replace(
        own,
        coefficients=scaled(lender, own),
        corrections={key: found for key, found in lender.corrections.items() if "@" in key},
        measured=False,
        measured_families=frozenset(),
        borrowed_from=lender.id,
        interval_layer=hypot(lender.interval_layer, layer),
        interval_network=hypot(lender.interval_network, network),
        interval_families={key: hypot(width, layer) for key, width in lender.interval_families.items() if "@" in key},
        interval_source=f"that of {lender.id}, a machine {RELATIONS[kind]}, and in log space {layer} for a layer, "
        f"{network} for a network: what it took where both machines were measured (benchmarks/transfer.py)",
        fits=(),
    )


def scaled(lender: Device, own: Device) -> Coefficients:
    """The lender's coefficients with powers and energies in proportion to the two machines' limits."""
    c = lender.coefficients
    power = own.power_w / lender.power_w
    bandwidth = own.memory_bytes_per_s / lender.memory_bytes_per_s
    rates = {m: own.flop_per_s[m] / lender.flop_per_s[m] for m in own.flop_per_s if m in lender.flop_per_s}
    vector = rates.get("fp32", 1.0)
    return replace(
        c,
        static_w=c.static_w * power,
        busy_w=c.busy_w * power,
        j_per_flop={m: lender.j_per_flop(m) * power / rate for m, rate in rates.items()},
        j_per_op=c.j_per_op * power / vector,
        j_per_byte=c.j_per_byte * power / bandwidth,
        j_per_cache_byte=c.j_per_cache_byte * power / bandwidth,
        cache_bytes_per_s=c.cache_bytes_per_s * bandwidth,
    )
