"""Composed estimates of NAS-Bench-201 beside measurements: ``python -m benchmarks.nas_spaces --data DIR [--json]``.

The blocks (each operation of a cell at each of the three stages, and the frame around the cells) are lowered once, and
`wattir.spaces` puts them together as a space whose names say how often a cell runs each operation; nothing is looked up
by architecture. A line per machine and task: error, share within 10 % and Kendall's tau of the composed estimates, on
every architecture of the set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import errors_and_near, parsed, parser_of, printed
from wattir.backends.fit.datasets_nas import COLUMNS, GPUS, LATENCY, SHORT_S, TABLE
from wattir.backends.fit.nas_bench_201 import CELLS, CHANNELS, RUNTIMES, cell, depends_on_input, frame, operations
from wattir.backends.fit.rows import Array
from wattir.backends.fit.sets import PI_5
from wattir.backends.fit.tables import read_table
from wattir.cli.console import Sheet, make_console
from wattir.spaces import Block, Space, composed, symbol

OPERATIONS = tuple(operations("cifar100", 0))
EDGES = 6
"""Of a cell: it runs no operation more often."""


@lru_cache
def space_of(task: str, runtime: str, batch: int) -> Space:
    """The networks of a task, by how often a cell runs each of `OPERATIONS`."""
    stages = [operations(task, stage, batch) for stage in range(len(CHANNELS))]
    cells = [Block(stage[name], CELLS * symbol(name), name) for name in OPERATIONS for stage in stages]
    graph = composed("nas_bench_201", [*frame(task, runtime, batch), *cells])
    return Space(graph, dict.fromkeys(OPERATIONS, range(EDGES + 1)))


@lru_cache
def counts_of(archs: tuple[str, ...], runtime: str) -> Array:
    """How often each candidate's cell runs each operation: rows of sizes of `space_of`."""
    cells = [cell(arch, RUNTIMES[runtime]) for arch in archs]
    return np.array([[found[name] for name in OPERATIONS] for found in cells])


def pi_5(data: str) -> Iterator[tuple[str, str, str, int, Any]]:
    """(device, task, runtime, batch, rows) of the Raspberry Pi 5's tasks and runtimes."""
    table = read_table(data, "data")
    table = table[table.device.eq("pi5") & table.is_measured_rep & (table.latency_s >= SHORT_S)]
    for (runtime, task), rows in table.groupby(["framework", "task"], observed=True):
        yield PI_5[str(runtime)], str(task), str(runtime), 1, rows


def latency(data: str) -> Iterator[tuple[str, str, str, int, Any]]:
    """The same of the machines of which only latencies are known."""
    table = read_table(data, TABLE)
    dependent = table.arch_str.map(depends_on_input)
    for name, column in COLUMNS.items():
        if LATENCY + name in table:
            rows = table.assign(latency_s=table[LATENCY + name], energy_j=np.nan)
            kept = rows.latency_s.gt(0.0) & (dependent | (not RUNTIMES[column.runtime].drops_none))
            yield column.device, "cifar100", column.runtime, column.batch, rows[kept]


def report(device: str, task: str, runtime: str, batch: int, rows: Any) -> dict[str, Any]:
    """Errors of the composed seconds and joules."""
    launching = "eager" if device.startswith(GPUS) else "compiled"
    found = space_of(task, runtime, batch).compile(device, launching, "fp32")(counts_of(tuple(rows.arch_str), runtime))
    line = {"device": device, "task": task, "runtime": runtime, "batch": batch, "rows": len(rows)}
    line |= {"time": errors_and_near(found.time_s, rows.latency_s.to_numpy(float))}
    measured = rows.energy_j.to_numpy(float)
    seen = measured > 0.0
    return line | ({"energy": errors_and_near(found.energy_j[seen], measured[seen])} if seen.any() else {})


def show(found: Sequence[dict[str, Any]]) -> None:
    """One table."""
    columns = (">time error", ">within 10 %", ">tau", ">energy error", ">within 10 %", ">tau")
    sheet = Sheet(make_console(), "Composed from blocks, beside measurements", "machine", "task", "runtime", ">batch",
                  ">rows", *columns)  # fmt: skip
    for each in found:
        cells = [cell for name in ("time", "energy") for cell in _cells(each.get(name))]
        sheet.row(each["device"], each["task"], each["runtime"], str(each["batch"]), str(each["rows"]), *cells)
    sheet.show()


def _cells(errors: dict[str, float] | None) -> list[str]:
    if errors is None:
        return ["", "", ""]
    return [f"{errors['median_ape']:.1%}", f"{errors['near']:.0%}", f"{errors['tau']:.3f}"]


SETS = {"nas_bench_201_pi5": pi_5, "nas_latency_27_devices": latency}


def main(arguments: Sequence[str] | None = None) -> int:
    """Composes, judges and prints; 2 where the folder is not there."""
    parser = parser_of("nas_spaces", __doc__)
    options = parsed(parser, arguments)
    if options is None:
        return 2
    folders = {os.path.join(options.data, name): read for name, read in SETS.items()}
    found = [report(*case) for folder, read in folders.items() if os.path.isdir(folder) for case in read(folder)]
    return printed(found, options.json, lambda: show(found))


if __name__ == "__main__":
    sys.exit(main())
