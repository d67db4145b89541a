"""NAS-Bench-201 networks on small machines: ``nas_bench_201_pi5``, ``nas_latency_27_devices``.

Every sample is one network, batch 1 unless said, in fp32, grouped by architecture.
"""

from __future__ import annotations

from dataclasses import replace

from .nas_bench_201 import network
from .rows import Rows, network_rows
from .tables import read_table

SHORT_S = 1e-4


def nas_bench_201(folder: str, device: str, framework: str) -> Rows:
    """Networks on one core of a Raspberry Pi 5 under one of three frameworks, or on a phone (seconds only)."""
    table = read_table(folder, "data")
    table = table[table.device.eq(device) & table.framework.eq(framework)]
    copies, short = ~table.is_measured_rep, table.latency_s < SHORT_S
    table = table[~copies & ~short]
    works = [network(arch, task, framework) for arch, task in zip(table.arch_str, table.task, strict=True)]
    rows = network_rows(
        works, time_s=table.latency_s, energy_j=table.energy_j, group=table.arch_idx.astype(str), label=table.task
    )
    return replace(rows, dropped={"isomorphic copies": int(copies.sum()), "under 0.1 ms": int((short & ~copies).sum())})
