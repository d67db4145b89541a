"""Which rows a runtime is fitted to, what its file records, and the judgement of what ships on rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import numpy as np

from wattir.chain import built_node
from wattir.device import load_device
from wattir.errors import DeviceError
from wattir.runtime import load_runtime, suits, under

from .datasets_mlperf import Runs, mlperf_table, runs_of
from .evaluate import covered, errors_of, plain
from .fit_mlperf import FAMILIES, NODES, TILES, Plant, left_out, median_ape, predict, priors_of_runtime, solve
from .intervals import half_width
from .priors import limits_of
from .rows import Array
from .solve import with_values
from .write import rounded, with_fit

FOLDER = "mlperf_power"
ACCELERATORS = {
    "NVIDIA A100-PCIe": "a100_pcie_40gb", "NVIDIA A100-PCIe-40GB": "a100_pcie_40gb",
    "NVIDIA A100-PCIE-40GB": "a100_pcie_40gb", "NVIDIA A100-SXM-80GB": "a100_sxm",
}  # fmt: skip
"""What the table calls boards that no alias names."""
CHIPS = {"a100_pcie": "a100_pcie_40gb", "a100_sxm_40gb": "a100_sxm"}
"""Boards left out together, being hardly different."""
RUNTIMES = ("tensorrt",)


def board_of(accelerator: str) -> str | None:
    """The id of a GPU that the runtime's kernels are for; None for others."""
    try:
        device = load_device(ACCELERATORS.get(accelerator, accelerator))
    except DeviceError:
        return None
    return device.id if suits(device) else None


def gpu_runs(table: Any) -> tuple[Runs, Any]:
    """Runs that can be predicted, and the rows of the table that cannot."""
    boards = np.array([board_of(str(name)) or "" for name in table.accelerator])
    known = (boards != "") & table.task.ne("") & table.division.eq("closed") & table.math.isin(("int8", "fp16"))
    return runs_of(table[known], boards[known]), table[~known]


def why_not(rest: Any) -> Any:
    """Why each row that `gpu_runs` left cannot be predicted."""
    open_ones, unknown = rest.division.ne("closed"), rest.task.eq("")
    found = np.where(
        unknown, "no built-in model of benchmark " + rest.benchmark.astype(str), "no device file with its kernels"
    )
    found = np.where(~unknown & ~rest.math.isin(("int8", "fp16")), "a number type without rows", found)
    return np.where(open_ones, "open division: CPUs of boards without a device file", found)


def run_runtime(runtime: str, text: str, path: str, data: str, say: Callable[[str], None]) -> str | None:
    """The text of a runtime's file with its kernels fitted; None where the data are not there. What nodes draw is
    said, and recorded: it belongs into `wattir/chain.toml`."""
    folder = os.path.join(data, FOLDER)
    if not os.path.isdir(folder):
        say(f"  skipped {FOLDER}: {folder} is not there")
        return None
    runs, _ = gpu_runs(mlperf_table(folder))
    reference = limits_of(text, path)
    priors = priors_of_runtime(reference)
    values = solve(reference, runs, priors)
    nodes = {name: rounded(values[name]) for name in NODES}
    say(f"  {runs.rows.samples} rows; nodes: {nodes}")
    system = left_out(reference, runs, priors, values, runs.rows.group, say)
    chips = np.array([CHIPS.get(name, name) for name in runs.device])
    chip = left_out(reference, runs, priors, values, chips, say)
    width = half_width(system[1], runs.rows.group) or 0.0
    fitted = with_values(reference, {name: value for name, value in values.items() if name not in NODES}, TILES)
    interval = {"layer": 2.0 * width, "network": width,
                "source": "90 % quantile of |log E - log E_hat| of nodes, every system left out whole and counting the "
                "same; layer: twice that"}  # fmt: skip
    return with_fit(text, fitted, interval, [_record(runtime, runs, system, chip, nodes)])


def _record(runtime: str, runs: Runs, system: Array, chip: Array, nodes: Mapping[str, float]) -> dict[str, Any]:
    return {
        "data_set": f"{FOLDER}: closed division, v1.0 to v2.0", "rows": runs.rows.samples, "grouped_by": "system",
        "groups": len(set(runs.rows.group.tolist())), "families": list(FAMILIES),
        "machines": sorted(set(runs.device.tolist())),
        "time_median_ape": round(median_ape(system[0]), 4), "energy_median_ape": round(median_ape(system[1]), 4),
        "gpu_left_out_time_median_ape": round(median_ape(chip[0]), 4),
        "gpu_left_out_energy_median_ape": round(median_ape(chip[1]), 4),
        "data_centre_energy_median_ape": round(median_ape(system[1][runs.central]), 4),
        "data_centre_gpu_left_out_energy_median_ape": round(median_ape(chip[1][runs.central]), 4),
        "nodes": [f"{name} = {value:g}" for name, value in nodes.items()],
        "date": date.today().isoformat(), "command": f"wattir fit --device {runtime}",
        "note": "Seconds and joules of whole nodes; those of a board follow by wattir/chain.toml's parts of nodes.",
    }  # fmt: skip


def server_busy(runtime: str) -> float:
    """The share of its time that a server was found busy."""
    lines = (line for fit in load_runtime(runtime).fits for line in fit.get("nodes", ()))
    return next((float(line.partition(" = ")[2]) for line in lines if line.startswith("server busy")), 1.0)


def shipped(runtime: str) -> Plant:
    """What users get."""
    return Plant(lambda name: under(load_device(name), runtime), built_node, server_busy(runtime))


def judge_runs(runs: Runs, runtime: str = RUNTIMES[0]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what, report) of one machine's runs: by benchmark and scenario, in data centres and in all."""
    found = predict(shipped(runtime), runs)
    picks = {label: runs.rows.label == label for label in sorted(set(runs.rows.label.tolist()))}
    picks |= {"data centre": runs.central, "all": np.ones(runs.rows.samples, bool)}
    for what, mask in picks.items():
        if mask.any():
            yield what, _report(runs.take(mask), found.time_s[mask], found.energy_j[mask], str(runs.device[0]), runtime)


def _report(runs: Runs, time_s: Array, energy_j: Array, device: str, runtime: str) -> dict[str, Any]:
    rows = runs.rows
    width = np.full(rows.samples, under(load_device(device), runtime).interval_network)
    return plain({
        "rows": rows.samples, "groups": len(set(rows.group.tolist())),
        "time": errors_of(time_s, rows.time_s) | covered(time_s, rows.time_s, width),
        "energy": errors_of(energy_j, rows.energy_j) | covered(energy_j, rows.energy_j, width),
    })  # fmt: skip
