"""NAS-Bench-201 networks on small machines: ``nas_bench_201_pi5``, ``nas_latency_27_devices``.

Every sample is one network in fp32, batch 1 unless said, grouped by what its cell computes: architectures that are
written differently and compute the same are one group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .nas_bench_201 import RUNTIMES, depends_on_input, network, structure
from .rows import Rows, launches, network_rows, one_by_one
from .tables import read_table

SHORT_S = 1e-4


def nas_bench_201(folder: str, device: str, framework: str) -> Rows:
    """Networks on one core of a Raspberry Pi 5 under one of three frameworks, or on a phone (seconds only)."""
    table = read_table(folder, "data")
    table = table[table.device.eq(device) & table.framework.eq(framework)]
    copies, short = table.is_measured_rep.ne(True), table.latency_s < SHORT_S
    table = table[~copies & ~short]
    works, known, odd = one_by_one(table.itertuples(), lambda row: network(row.arch_str, row.task, framework))
    table = table[known]
    rows = network_rows(
        works, time_s=table.latency_s, energy_j=table.energy_j, group=table.arch_str.map(structure), label=table.task
    )
    dropped = {"isomorphic copies": int(copies.sum()), "under 0.1 ms": int((short & ~copies).sum())}
    return replace(rows, dropped={**dropped, **odd})


@dataclass(frozen=True)
class Column:
    """A column of ``nas_latency_27_devices``: on which machine (a device file's id), in which runtime and batch."""

    device: str
    runtime: str = "eager"
    batch: int = 1


COLUMNS = {
    **{
        f"{name}_{batch}": Column(device, batch=batch)
        for name, device in (("1080ti", "gtx_1080_ti_eager"), ("2080ti", "rtx_2080_ti_eager"),
                             ("titan_rtx", "titan_rtx"), ("titanx", "titan_x"), ("titanxp", "titan_xp"))
        for batch in (1, 32, 256)
    },
    **{name: Column(f"xeon_{name}") for name in ("silver_4114", "silver_4210r", "gold_6226", "gold_6240")},
    "essential_ph_1": Column("essential_ph_1"), "pixel2": Column("pixel_2"),
    "samsung_a50": Column("galaxy_a50"), "samsung_s7": Column("galaxy_s7"),
    "pixel3": Column("pixel_3", "tflite"), "raspi4": Column("raspberry_pi_4", "tflite"),
}  # fmt: skip
"""The columns that were measured. The GTX 1080 Ti and RTX 2080 Ti have files of their own here: launching an op takes
2.7 and 1.1 times the seconds of the hosts that `gtx_1080_ti` and `rtx_2080_ti` were fitted with, and the
latter's single layers hold the host's seconds."""
SIMULATED = ("eyeriss", "fpga")
"""Those that are what HW-NAS-Bench's simulators say."""
LATENCY = "latency_s__"
TABLE = "nb201_cifar100_latency"


def nas_latency(folder: str, column: str) -> Rows:
    """Networks for CIFAR-100 on one machine, seconds only; the host counts where a GPU runs them op by op."""
    known = COLUMNS[column]
    table = read_table(folder, TABLE)
    _, cells, odd = one_by_one(table.arch_str, lambda arch: network(arch, "cifar100", known.runtime, known.batch))
    table = table[cells]
    seconds = table[LATENCY + column].to_numpy(float)
    constant = ~table.arch_str.map(depends_on_input).to_numpy(bool) & RUNTIMES[known.runtime].drops_none
    kept = np.flatnonzero(~constant & (seconds > 0.0))
    works = [network(arch, "cifar100", known.runtime, known.batch) for arch in table.arch_str.iloc[kept]]
    rows = network_rows(
        works, time_s=seconds[kept], energy_j=np.full(len(kept), np.nan),
        group=table.arch_str.iloc[kept].map(structure), label="network", host_ops=_host_ops(works, column),
    )  # fmt: skip
    unmeasured = ~(seconds > 0.0) & ~constant
    return replace(rows, dropped={CONSTANT: int(constant.sum()), "no seconds": int(unmeasured.sum()), **odd})


CONSTANT = "of a constant: the output is no function of the input, and the runtime drops nearly all of it"


def _host_ops(works: list[Any], column: str) -> list[float]:
    hosted = COLUMNS[column].device.startswith(GPUS)
    return [launches(work) if hosted else 0.0 for work in works]


GPUS = ("gtx", "rtx", "titan")
