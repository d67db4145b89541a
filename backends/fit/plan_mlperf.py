"""Which nodes a runtime and a card are fitted to, what their files record, and the judgement of what ships on rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from wattir.chain import built_node
from wattir.device import Device, load_device
from wattir.errors import DeviceError
from wattir.runtime import load_runtime, suits, under

from .datasets_mlperf import MATHS, Runs, mlperf_table, runs_of
from .fit_mlperf import FAMILIES, NODES, TILES, Plant, errors_without, predict, priors_of_runtime, solve
from .intervals import half_width
from .plan import fixed
from .priors import limits_of
from .rows import Array
from .solve import Prior, with_values
from .whole_runs import FromSet, Say, record, report_of
from .write import rounded, with_fit

FOLDER = "mlperf_power"
ACCELERATORS = {
    "NVIDIA A100-PCIe": "a100_pcie_40gb", "NVIDIA A100-PCIe-40GB": "a100_pcie_40gb",
    "NVIDIA A100-PCIE-40GB": "a100_pcie_40gb", "NVIDIA A100-SXM-80GB": "a100_sxm",
}  # fmt: skip
"""What the table calls boards that no alias names."""
CHIPS = {"a100_pcie": "a100_pcie_40gb", "a100_sxm_40gb": "a100_sxm"}
"""Boards left out together, being hardly different."""
TENSORRT, CLOUD_AI = "tensorrt", "cloud_ai_100_pcie"
CARDS = dict.fromkeys(("QUALCOMM Cloud AI 100 PCIe HHHL", "QUALCOMM Cloud AI 100 PCIe/HHHL Pro"), CLOUD_AI)


def board_of(accelerator: str, pool: str = TENSORRT) -> str | None:
    """The id of a board of a pool; None for others."""
    if pool == CLOUD_AI:
        return CARDS.get(accelerator)
    accelerator = accelerator.removesuffix("-CTS").partition(" (")[0]
    try:
        device = load_device(ACCELERATORS.get(accelerator, accelerator))
    except DeviceError:
        return None
    return device.id if suits(device) else None


def pooled(table: Any, pool: str = TENSORRT) -> tuple[Runs, Any]:
    """Runs on boards of a pool that can be predicted, and the rows of the table that cannot."""
    boards = np.array([board_of(str(name), pool) or "" for name in table.accelerator])
    known = (boards != "") & table.task.ne("") & table.division.eq("closed") & table.math.isin(MATHS)
    return runs_of(table[known], boards[known]), table[~known]


def why_not(rest: Any) -> Any:
    """Why each row that `pooled` left cannot be predicted."""
    open_ones, unknown = rest.division.ne("closed"), rest.task.eq("")
    found = np.where(
        unknown, "no built-in model of benchmark " + rest.benchmark.astype(str), "no device file with its kernels"
    )
    found = np.where(~unknown & ~rest.math.isin(MATHS), "a number type without rows", found)
    return np.where(open_ones, "open division: a board, framework or network without a device file or a builder", found)


def _fitted(pool: str, text: str, path: str, folder: str, say: Say) -> str:
    """What nodes draw is fitted with the runtime's, said and recorded: it belongs into `wattir/chain.toml`."""
    runs, _ = pooled(mlperf_table(folder), pool)
    reference = limits_of(text, path)
    priors = priors_of_runtime(reference) | (as_known() if pool == CLOUD_AI else {})
    values = solve(reference, runs, priors)
    say(f"  {runs.rows.samples} rows; nodes: { {name: rounded(values[name]) for name in NODES} }")
    errors = {"": errors_without(reference, runs, priors, values, runs.rows.group, say)}
    chips = np.array([CHIPS.get(name, name) for name in runs.device])
    if len(set(chips.tolist())) > 1:
        errors["gpu_left_out_"] = errors_without(reference, runs, priors, values, chips, say)
    width = half_width(errors[""][1], runs.rows.group) or 0.0
    fitted = with_values(reference, {name: value for name, value in values.items() if name not in NODES}, TILES)
    interval = {"layer": 2.0 * width, "network": width, "source": RULE}
    return with_fit(text, fitted, interval, [_record(pool, runs, errors, values)])


POOLS = {pool: (FromSet(FOLDER, partial(_fitted, pool)),) for pool in (TENSORRT, CLOUD_AI)}
"""Files fitted to nodes of several boards: that of a runtime, to all GPUs, and that of a card."""
RULE = ("90 % quantile of |log E - log E_hat| of nodes, every system left out whole and counting the same; layer: "
        "twice that")  # fmt: skip


def as_known() -> dict[str, Prior]:
    """What the runtime's fit found of nodes, but for the parts of those around half-length cards."""
    found = {name: fixed(value) for name, value in recorded(TENSORRT).items()}
    return found | {"socket_w": Prior(60.0, 0.3, 5.0, 400.0), "hhhl slot_w": NODES["hhhl slot_w"]}


def recorded(runtime: str) -> dict[str, float]:
    """What a runtime's fit found of nodes."""
    lines = (line.split(" = ") for fit in load_runtime(runtime).fits for line in fit.get("nodes", ()))
    return {name: float(value) for name, value in lines}


def _record(pool: str, runs: Runs, errors: Mapping[str, Array], values: Mapping[str, float]) -> dict[str, Any]:
    kinds = {
        f"{what}{part}": found[at][mask] for what, found in errors.items()
        for part, at, mask in (("time", 0, slice(None)), ("energy", 1, slice(None)),
                               ("data_centre_energy", 1, runs.central))
    }  # fmt: skip
    return record(
        f"{FOLDER}: closed division, v1.0 to v2.0", runs.rows.group, "system", kinds, f"--device {pool}",
        families=list(FAMILIES), machines=sorted(set(runs.device.tolist())),
        nodes=[f"{name} = {rounded(values[name]):g}" for name in NODES],
        note="Seconds and joules of whole nodes; those of a board follow by wattir/chain.toml's parts of nodes.",
    )  # fmt: skip


def shipped() -> Plant:
    """What users get."""
    return Plant(_as_shipped, built_node, recorded(TENSORRT)["server busy"])


def _as_shipped(name: str) -> Device:
    device = load_device(name)
    return under(device, TENSORRT) if suits(device) else device


def judge_runs(runs: Runs) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what, report) of one machine's runs: by benchmark and scenario, in data centres and in all."""
    found = predict(shipped(), runs)
    picks = {label: runs.rows.label == label for label in sorted(set(runs.rows.label.tolist()))}
    picks |= {"data centre": runs.central, "all": np.ones(runs.rows.samples, bool)}
    for what, mask in picks.items():
        if mask.any():
            yield what, _report(runs.take(mask), found.time_s[mask], found.energy_j[mask], str(runs.device[0]))


def _report(runs: Runs, time_s: Array, energy_j: Array, device: str) -> dict[str, Any]:
    rows, width = runs.rows, _as_shipped(device).interval_network
    return report_of(rows.group, width, time=(time_s, rows.time_s), energy=(energy_j, rows.energy_j))
