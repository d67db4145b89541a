"""MLPerf Inference power submissions: ``mlperf_power``, joules of whole systems at the wall.

A row becomes one batch of its network on one accelerator: the seconds that it takes there, and its share of the
system's joules. What a row says of its system is read (accelerators, sockets, declared power limits); its watts and its
throughput are only compared with. What it does not say is one number a benchmark, in `TASKS`, or a device, in `MAXQ_W`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from wattir.costs import tabulate
from wattir.models import load_model
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision
from wattir.work import Work

from . import mobile_networks
from .datasets_networks import at_sizes
from .rows import Array, Rows, network_rows
from .tables import read_table


@dataclass(frozen=True)
class Task:
    """A benchmark: its built-in model, how much of the model's batch a sample is, and the model's batches in the
    scenarios of a data centre, as in the submitters' published configurations (mlcommons/inference_results).
    `on_chip`: the batch of both, on all cores of a chip that keeps activations in its own memory."""

    model: str
    offline: int
    server: int
    per_sample: float = 1.0
    on_chip: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)

    def batch(self, scenario: str, accelerator: str) -> int:
        """Of the model, in a scenario; a query of MultiStream is 8 samples."""
        known = {"Offline": self.offline, "Server": self.server, "MultiStream": round(8 * self.per_sample)}
        if self.on_chip and ON_CHIP in accelerator:
            known |= dict.fromkeys(DATACENTER, self.on_chip)
        return known.get(scenario, max(min(round(self.per_sample), MOST_WINDOWS), 1))


MOST_WINDOWS = 300
ON_CHIP = "Cloud AI 100"
TASKS = {
    "resnet50": Task("resnet50", 2048, 64, on_chip=128),
    "ssd-resnet34": Task("ssd_resnet34", 64, 8, on_chip=16),
    "ssd-mobilenet": Task("ssd_mobilenet", 1024, 64, on_chip=128),
    "retinanet": Task("retinanet_resnext50", 16, 8),
    "bert": Task("bert_large", 1024, 48, on_chip=16, sizes={"seq": 180}),
    "rnnt": Task("rnnt", 2048, 2048, 1.06),
    "dlrm": Task("dlrm", 262_100, 262_100, 270),
    "3d-unet": Task("unet3d_brats", 2, 2),
    "3d-unet of kidneys": Task("unet3d_kits", 8, 8, 72),
}
"""Tokens of a question with its paragraph (SQuAD 1.1, unpadded, as submitters run it), seconds of speech over the 6 of
the model (LibriSpeech dev-clean up to 15 s), pairs of a DLRM sample (100 to 700, 270 on average), windows of a CT scan:
72 makes KiTS19 agree with BraTS, whose scans are one window."""
KIDNEYS_FROM = "v2.0"

MAXQ_W = {"a100_sxm": 250.0, "a100_sxm_40gb": 275.0, "a100_pcie": 210.0, "a100_pcie_40gb": 225.0, "h100_pcie": 275.0,
          "h100_sxm": 350.0}  # fmt: skip
"""Power limits of submissions called MaxQ, where the row does not say: 225 to 275 W on A100 SXM, 195 to 225 W on A100
PCIe, 200 to 310 W on H100 PCIe by benchmark, 350 W on H100 SXM (configurations of NVIDIA and SMC in v1.1 to v4.1)."""
DATACENTER = ("Offline", "Server")


@dataclass(frozen=True)
class Runs:
    """`rows`: as above, grouped by system; `label`: benchmark, number type and scenario. Beside each row: `device`,
    `limit_w` (NaN: the device's own), `form` and `sockets` of the node, its `accelerators`, how many of these are
    `busy`, whether it is a `server` that keeps up with arrivals, and `standby_w`, what the node drew just beside the
    run with the network loaded (for fits alone)."""

    rows: Rows
    device: Array
    limit_w: Array
    form: Array
    sockets: Array
    accelerators: Array
    busy: Array
    server: Array
    standby_w: Array

    @property
    def central(self) -> Array:
        """Where the scenario is one of data centres."""
        return np.array([label.endswith(DATACENTER) for label in self.rows.label.tolist()])

    def take(self, wanted: Array) -> Runs:
        """Those where a mask is true."""
        beside = {each.name: getattr(self, each.name)[wanted] for each in fields(self) if each.name != "rows"}
        return replace(self, rows=self.rows.take(wanted), **beside)


def mlperf_table(folder: str) -> Any:
    """The table, with the `task` of each row (empty: none of `TASKS`) and its `math`, what it computes in."""
    table = read_table(folder, "data")
    task = table.benchmark.astype(str).str.replace(r"-99(\.9)?$", "", regex=True)
    task = task.where(~(task.eq("3d-unet") & table["round"].astype(str).ge(KIDNEYS_FROM)), "3d-unet of kidneys")
    math = table.weight_dtype.astype(str).str.partition(",")[0]
    runtime = table.reindex(columns=["framework"])["framework"].astype(str)
    exported = math.eq("fp32") & runtime.str.contains("TensorRT")
    math = math.where(~exported, table.benchmark.map(ENGINES).fillna("int8"))
    return table.assign(task=task.where(task.isin(list(TASKS)), ""), math=math)


def runs_of(table: Any, device: Array) -> Runs:
    """The rows of a table (as of `mlperf_table`) of known tasks, on the devices of these ids."""
    tasks = [TASKS[name] for name in table.task]
    asked = zip(tasks, table.scenario, table.accelerator.astype(str), strict=True)
    batch = np.array([task.batch(scenario, accelerator) for task, scenario, accelerator in asked])
    samples = batch / np.array([task.per_sample for task in tasks])
    count = np.maximum(table.accelerators_per_node.to_numpy(float), 1.0)
    busy = np.where(table.scenario.isin(DATACENTER), count, 1.0)
    works = [
        _works(task.model, math, (*task.sizes.items(), ("batch", int(size))))
        for task, math, size in zip(tasks, table.math, batch, strict=True)
    ]
    rows = network_rows(
        works, time_s=samples * busy / table.samples_per_s.to_numpy(float),
        energy_j=samples * table.energy_j_per_sample.to_numpy(float), group=table.system,
        label=table.benchmark.astype(str) + " " + table.math + " " + table.scenario.astype(str),
    )  # fmt: skip
    limit_w = [
        _limit_w(str(row.hw_notes), str(row.system), name) for row, name in zip(table.itertuples(), device, strict=True)
    ]
    return Runs(
        rows, device, np.array(limit_w, float), np.array([_form(row) for row in table.itertuples()]),
        np.maximum(table.host_cpus_per_node.to_numpy(float), 1.0), count, busy, table.scenario.eq("Server").to_numpy(),
        table.power_w_min_outside_window.to_numpy(float),
    )  # fmt: skip


def board_rows(folder: str, accelerator: str) -> Rows:
    """Runs of small systems around one accelerator, as rows of a device that is the whole system at the wall."""
    table = mlperf_table(folder)
    found = table[of_kit(table, accelerator)]
    return replace(runs_of(found, np.full(len(found), "")).rows, group=found.task.to_numpy(str))


def mobile_rows(folder: str, systems: str) -> Rows:
    """The open division's small networks, and ResNet-50, on the CPUs of the systems that a pattern names: one image at
    a time."""
    table = mlperf_table(folder)
    found = table[of_cpu(table, systems)]
    works = [
        _works(name, math, (("batch", 1),)) if name == "resnet50" else mobile_networks.network(name, math) or ()
        for name, math in zip(found.benchmark, found.math, strict=True)
    ]
    return network_rows(
        works, time_s=1.0 / found.samples_per_s.to_numpy(float), energy_j=found.energy_j_per_sample.to_numpy(float),
        group=found.benchmark.str.extract(f"{MOBILE}|(resnet50)").bfill(axis=1)[0], label=found.math,
    )  # fmt: skip


KITS = {
    "jetson_agx_xavier": "NVIDIA AGX Xavier", "jetson_xavier_nx": "NVIDIA Xavier NX", "jetson_agx_orin": "NVIDIA Orin",
    "cloud_ai_100_dm2e": "QUALCOMM Cloud AI 100 DM.2e",
}  # fmt: skip
"""Device to the accelerator of small systems that are it as a whole."""
CPUS = {
    "raspberry_pi_4_tflite": r"^rpi4.*-tflite", "raspberry_pi_4_armnn": r"^rpi4.*-armnn",
    "odroid_n2_tflite": r"^odroid-tflite", "odroid_n2_armnn": r"^odroid-armnn.*-neon",
    "jetson_agx_xavier_cpu_tflite": r"^xavier-power.0.*-tflite",
    "jetson_agx_xavier_cpu_armnn": r"^xavier-power.0.*-armnn.*-neon",
}  # fmt: skip
"""Device to the systems that are its board under its framework."""
MOBILE = r"^(mobilenet-v[12]-[\d.]+|mobilenet-v3-\w+|efficientnet-lite\d)"
"""What names a network apart from the side of its image."""


def of_cpu(table: Any, systems: str) -> Any:
    """Which rows of a table `mobile_rows` reads."""
    small = table.benchmark.astype(str).str.contains(MOBILE.replace("(", "(?:", 1)) & table.division.eq("open")
    whole = table.benchmark.eq("resnet50") & table.math.eq("fp32")
    known = (small & table.math.isin(("fp32", "int8"))) | whole
    return known & table.system.astype(str).str.contains(systems)


def of_kit(table: Any, accelerator: str) -> Any:
    """Which rows of a table `board_rows` reads."""
    whole = table.accelerator.eq(accelerator) & table.division.eq("closed") & table.accelerators_per_node.eq(1)
    return whole & table.task.ne("") & table.math.isin(MATHS)


MATHS = ("int8", "fp16", "fp8")
ENGINES = {"bert-99.9": "fp16", "rnnt": "fp16"}
"""What NVIDIA's engines compute a benchmark in, if not int8, where a row under TensorRT says fp32, as its ONNX file is:
as all rows of v1.0 to v2.0 say of themselves."""


@lru_cache
def _works(model: str, math: str, sizes: tuple[tuple[str, int], ...]) -> tuple[Work, ...]:
    return tuple(at_sizes(work, dict(sizes)) for work in _kernels(model, math))


@lru_cache
def _kernels(model: str, math: str) -> tuple[Work, ...]:
    return tabulate(lower_to_kernels(with_precision(load_model(model), math), "tensorrt"))


def _limit_w(notes: str, system: str, device: str) -> float:
    """What the row declares, unless that is the board's own and the submission is called MaxQ."""
    declared = re.search(r"(\d+)\s?W\b", notes)
    found = float(declared[1]) if declared else np.nan
    usual = MAXQ_W.get(device, np.nan) if "maxq" in system.lower() else np.nan
    return float(np.nanmin([found, usual])) if declared or usual == usual else np.nan


def _form(row: Any) -> str:
    """Servers of SXM boards move far more air than those of PCIe cards, these more than of half-length ones."""
    if "HHHL" in str(row.accelerator):
        return "hhhl"
    return "sxm" if "SXM" in str(row.accelerator) and "Station" not in str(row.system) else "pcie"
