"""What rows a data folder holds, on whatever machines: `Case` for rows that can be predicted, `Left` for all others.

The folders and columns are those of the sets that the device files were fitted to; a folder may be missing, and may
hold other models, shapes and machines than those. Every row of a file is either in a case or in a `Left`; a damaged or
odd file is a `Left` of its own and stops no other.

To add a set: a module ``datasets_NAME`` with a function from the set's folder to `Rows`, reading by
`tables.read_table`; a function here that splits the set by machine and kind of row into `_case(...)` and `Left`, and
its line in `SETS`; a `Source` in the plan of every device that is fitted to it (`plans`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wattir.device import device_ids, load_device
from wattir.errors import DeviceError, WattirError
from wattir.serving import engine_on

from . import datasets_cpu as cpu
from . import datasets_gpt as gpt
from . import datasets_irene as irene
from . import datasets_models as models
from . import datasets_nas as nas
from . import datasets_serving as serving
from . import datasets_torch as torch
from . import phases, plan_generation, plan_mlperf, plan_serving
from .datasets_anchors import anchors, anchors_table
from .datasets_generation import mlenergy
from .datasets_kernels import TABLES, kernels, known_dtype
from .datasets_mlperf import CPUS, KITS, board_rows, mlperf_table, mobile_rows, of_cpu, of_kit
from .plan import Source
from .rows import Rows
from .tables import ENDINGS, one_line, read_table, table_path


@dataclass(frozen=True)
class Case:
    """Rows of one machine and kind. `raw`: how many rows of the file they were read from; `source` as in a fit."""

    folder: str
    what: str
    device: str
    raw: int
    source: Source
    load: Callable[[], Rows]


@dataclass(frozen=True)
class Left:
    """Rows that nothing here predicts, and why; `rows` is None where a file does not let them be counted."""

    folder: str
    what: str
    rows: int | None
    why: str


@dataclass(frozen=True)
class Judged:
    """Rows of one machine that are no kernels: `judge` gives (what, report as of `evaluate_rows`), or what is left."""

    folder: str
    what: str
    device: str
    raw: int
    judge: Callable[[], Iterator[tuple[str, dict[str, Any]] | Left]]


Found = Iterator[Case | Judged | Left]


def cases(data: str) -> Found:
    """All cases of a data folder, set by set; what is no set known here is left, file by file."""
    for folder in sorted(os.listdir(data)):
        path = os.path.join(data, folder)
        if not os.path.isdir(path):
            continue
        for each in guarded(folder, "all", partial(SETS.get(folder, _unknown), path, folder)):
            counted = isinstance(each, Left) and each.rows is None and each.what == "all"
            yield replace(each, rows=_rows_in(path)) if counted else each
        yield from _not_read(path, folder)


def _rows_in(path: str) -> int | None:
    """How many rows the tables of a folder have; None where one of them does not let them be counted."""
    try:
        return sum(len(read_table(path, name)) for name in _names(path) if name not in BESIDE)
    except WattirError:
        return None


def _not_read(path: str, folder: str) -> Iterator[Left]:
    """Tables that lie beside one of the same name, and files that look like tables and are not read."""
    files = sorted(os.listdir(path))
    for name in _names(path):
        for ending in ENDINGS[1:]:
            if table_path(path, name) != os.path.join(path, name + ending) and name + ending in files:
                yield Left(folder, name + ending, None, f"not read: there is {name}{ENDINGS[0]} too")
    for file in files:
        if file.lower().endswith(PACKED):
            yield Left(folder, file, None, f"not read: expected a table as {' or '.join(ENDINGS)}")


BESIDE = ("model_layers",)
"""Tables that describe models and hold no measured rows."""
PACKED = (".csv.gz", ".csv.zip", ".csv.bz2", ".csv.xz", ".csv.zst", ".tsv", ".jsonl", ".feather", ".xlsx")
"""What tables may come as that are not read."""


def guarded(folder: str, what: str, find: Callable[[], Iterator[Any]], rows: int | None = None) -> Iterator[Any]:
    """What `find` yields; where it fails, for damaged files or odd rows, a `Left` of `rows` rows that says so."""
    try:
        yield from find()
    except WattirError as error:
        yield Left(folder, what, rows, str(error))
    except Exception as error:  # readers meet whatever a file holds, and one file must not cost the others
        yield Left(folder, what, rows, f"not as the rows of this set are: {one_line(error)}")


def device_of(hardware: str) -> str | None:
    """The id of a machine from what a table calls it; None where there is no such device."""
    text = hardware.removeprefix("desktop PC, ")
    for name in (text, text.partition(" (")[0].rstrip(", ")):
        try:
            return load_device(name).id
        except DeviceError:
            continue
    return None


def _case(folder: str, what: str, hardware: str, raw: int, load: Callable[[], Rows], **source: Any) -> Case | Left:
    device = device_of(hardware)
    if device is None:
        return Left(folder, what, raw, f"no device file for {hardware}")
    return Case(folder, what, device, raw, Source(what, folder, lambda _: load(), (), "", **source), load)


def _names(path: str) -> list[str]:
    """The tables of a folder."""
    return sorted({os.path.splitext(name)[0] for name in os.listdir(path) if name.endswith(ENDINGS)})


def _kernels(path: str, folder: str) -> Found:
    for name in _names(path):
        yield from guarded(folder, name, partial(_kernel_file, path, folder, name))


def _kernel_file(path: str, folder: str, name: str) -> Found:
    table = read_table(path, name)
    if name not in TABLES:
        yield Left(folder, name, len(table), "no cost rule for this kernel here")
        return
    absent = {"system", TABLES[name].dtype} - {*table, ""}
    if absent:
        yield Left(folder, name, len(table), f"no column {', '.join(sorted(absent))}")
        return
    by = ["system", TABLES[name].dtype] if TABLES[name].dtype else ["system"]
    for key, part in table.groupby(by, dropna=False, observed=True):
        yield _kernel_case(path, folder, name, str(key[0]), "".join(map(str, key[1:])), len(part))


def _kernel_case(path: str, folder: str, name: str, system: str, dtype: str, raw: int) -> Case | Left:
    what = f"{name} {dtype}".strip()
    if not known_dtype(name, dtype):
        return Left(folder, f"{what} ({system})", raw, "a number type without a cost rule here")
    load = partial(kernels, path, name, system, dtype)
    return _case(folder, what, system, raw, load, copies=TABLES[name].copies)


def _whole_models(path: str, folder: str) -> Found:
    table = read_table(path, "data")
    for (which, hardware), part in table.groupby(["set", "hardware"], dropna=False):
        device = device_of(str(hardware))
        peak = load_device(device).flop_per_s[load_device(device).math("bf16")] if device else 0.0
        load = partial(models.whole_models, path, str(which), peak, str(hardware))
        what = "whole models" + (", many clocks" if which == "dvfs" else "")
        yield _case(folder, what, str(hardware), len(part), load, network=True)


def _torch(path: str, folder: str) -> Found:
    table = read_table(path, "data")
    train = table["mode"].ne("inference")
    if train.any():
        yield Left(folder, "training", int(train.sum()), "training")
    for (hardware, precision), part in table[~train].groupby(["hardware", "precision"], dropna=False):
        math = "tf32" if str(precision).startswith("fp32 storage") else "fp32"
        rest = int((~part.scope.isin(("layer", "model"))).sum())
        if rest:
            yield Left(folder, f"other scopes {math} ({hardware})", rest, "neither a layer nor a model")
        for scope, load, network in (("layer", torch.torch_layers, False), ("model", torch.torch_models, True)):
            raw = int(part.scope.eq(scope).sum())
            if raw:
                reader = partial(load, path, str(hardware), math)
                yield _case(folder, f"{scope}s {math}", str(hardware), raw, reader, network=network)


def _irene(path: str, folder: str) -> Found:
    for hardware, part in read_table(path, "data").groupby("hardware", dropna=False):
        name = str(hardware).partition("NVIDIA ")[2].partition(" (")[0] or str(hardware)
        for scope, load in (("primitive_op", irene.primitives), ("module", irene.modules), ("model", irene.models)):
            known = part[part.scope.eq(scope)]
            if len(known):
                yield _case(folder, f"{scope}s", name, len(known), partial(load, path, name), network=scope == "model")
        rest = part[~part.scope.isin(("primitive_op", "module", "model"))]
        if len(rest):
            yield Left(folder, f"other scopes ({name})", len(rest), "neither a primitive, a module nor a model")


def _nas_bench_201(path: str, folder: str) -> Found:
    table = read_table(path, "data")
    for (device, framework), part in table.groupby(["device", "framework"], observed=True, dropna=False):
        machine = PI_5.get(str(framework)) if device == "pi5" else None
        if machine is None:
            yield Left(folder, f"{framework} ({device})", len(part), "seconds alone, and of what is not verified")
            continue
        load = partial(nas.nas_bench_201, path, str(device), str(framework))
        yield _case(folder, f"networks {framework}", machine, len(part), load, network=True)


PI_5 = {
    "litert": "raspberry_pi_5", "onnx": "raspberry_pi_5_onnx", "torchmobile": "raspberry_pi_5_torchmobile",
}  # fmt: skip


def _nas_latency(path: str, folder: str) -> Found:
    table = read_table(path, nas.TABLE)
    for name in table.columns[table.columns.str.startswith(nas.LATENCY)].str.removeprefix(nas.LATENCY):
        column = nas.COLUMNS.get(name)
        if column is None:
            why = "what a simulator says, of no machine" if name in nas.SIMULATED else f"no device file for {name}"
            yield Left(folder, name, len(table), why)
            continue
        what = f"networks {name}"
        yield _case(folder, what, column.device, len(table), partial(nas.nas_latency, path, name), network=True)


def _hw_gpt_bench(path: str, folder: str) -> Found:
    by = ["device", "hardware", "scale"]
    for (device, hardware, scale), part in read_table(path, "data").groupby(by, observed=True, dropna=False):
        load = partial(gpt.hw_gpt_bench, path, str(device), (str(scale),), str(hardware))
        own = f"{device_of(str(hardware))}_autocast"
        machine = own if own in device_ids() else str(hardware)
        yield _case(folder, f"decoders {scale}", machine, len(part), load, network=True)


def _getzner(path: str, folder: str) -> Found:
    raw = len(read_table(path, "data"))
    yield _case(folder, "layers", "xeon_gold_5120", raw, partial(cpu.getzner, path))


def _willowec(path: str, folder: str) -> Found:
    for host, part in read_table(path, "data").groupby("host", dropna=False):
        yield _case(folder, "layers", str(host), len(part), partial(cpu.willowec, path, str(host)))


def _serving(engine: str, load: plan_serving.Load, path: str, folder: str) -> Found:
    for hardware, part in read_table(path, "data").groupby("gpu_model", dropna=False):
        device = device_of(str(hardware))
        if device is None:
            yield Left(folder, str(hardware), len(part), f"no device file for {hardware}")
            continue
        ask = partial(_judge, engine, load, path, folder, str(hardware), device)
        yield Judged(folder, engine, device, len(part), ask)


def _judge(
    engine: str, load: plan_serving.Load, path: str, folder: str, hardware: str, device: str
) -> Iterator[tuple[str, dict[str, Any]] | Left]:
    machine = load_device(device)
    rows = load(path, hardware, machine)
    yield from (Left(folder, f"{engine} ({device})", count, why) for why, count in rows.dropped.items() if count)
    known = np.isin(rows.task, list(plan_serving.conditions_of(engine_on(machine, engine)).prompts))
    for task in sorted(set(rows.task[~known].tolist())):
        count = int((rows.task == task).sum())
        yield Left(folder, f"{task} ({device})", count, "a task whose prompt length no fit has found")
    if known.any():
        yield from plan_serving.judge(machine, engine, rows.take(known))


def _generation(stack: str, path: str, folder: str) -> Found:
    for hardware, part in read_table(path, "data").groupby("gpu_model", dropna=False):
        device = device_of(str(hardware))
        if device is None:
            yield Left(folder, str(hardware), len(part), f"no device file for {hardware}")
            continue
        ask = partial(_judge_generation, stack, path, folder, str(hardware), device)
        yield Judged(folder, stack, device, len(part), ask)


def _judge_generation(
    stack: str, path: str, folder: str, hardware: str, device: str
) -> Iterator[tuple[str, dict[str, Any]] | Left]:
    machine = load_device(device)
    rows = mlenergy(path, hardware, machine)
    yield from (Left(folder, f"{stack} ({device})", count, why) for why, count in rows.dropped.items() if count)
    if len(rows):
        yield from plan_generation.judge(machine, stack, rows)


def _mlperf(path: str, folder: str) -> Found:
    rest = mlperf_table(path)
    for pool in plan_mlperf.POOLS:
        runs, rest = plan_mlperf.pooled(rest, pool)
        for device in sorted(set(runs.device.tolist())):
            own = runs.take(runs.device == device)
            yield Judged(folder, "node", device, own.rows.samples, partial(plan_mlperf.judge_runs, own))
    for device, accelerator in KITS.items():
        kit = of_kit(rest, accelerator)
        if kit.any():
            load = partial(board_rows, path, accelerator)
            yield _case(folder, "whole kit", device, int(kit.sum()), load, network=True)
            rest = rest[~kit]
    for device, systems in CPUS.items():
        cpu = of_cpu(rest, systems)
        if cpu.any():
            load = partial(mobile_rows, path, systems)
            yield _case(folder, "whole board", device, int(cpu.sum()), load, network=True)
            rest = rest[~cpu]
    for why, part in rest.groupby(plan_mlperf.why_not(rest), dropna=False):
        for name, rows in part.groupby("accelerator", dropna=False):
            yield Left(folder, str(name), len(rows), str(why))


def _phases(path: str, folder: str) -> Found:
    for hardware, part in read_table(path, "data").groupby("hardware", dropna=False):
        device = phases.HARDWARE.get(str(hardware))
        if device is None:
            derived = str(hardware).endswith(phases.NOT_MEASURED)
            why = "copied from rows without the cap, times 1.3" if derived else f"no engine of {hardware}"
            yield Left(folder, str(hardware), len(part), why)
            continue
        yield Judged(folder, phases.ENGINE, device, len(part), partial(_judge_phases, folder, device, part))


def _judge_phases(folder: str, device: str, table: Any) -> Iterator[tuple[str, dict[str, Any]] | Left]:
    for each in phases.judge_phases(device, table):
        if isinstance(each, tuple):
            yield each
        else:
            yield from (Left(folder, f"{phases.ENGINE} ({device})", count, why) for why, count in each.items() if count)


def _anchors(path: str, folder: str) -> Found:
    for hardware, part in anchors_table(path).groupby("hardware", dropna=False):
        products = int(part.math.ne("").sum())
        if products:
            yield _case(folder, "products", str(hardware), products, partial(anchors, path, str(hardware)))
        if len(part) > products:
            yield Left(folder, f"other rungs ({hardware})", len(part) - products, "no kernel of a known size")


def _unknown(path: str, folder: str) -> Found:
    for name in _names(path):
        yield from guarded(folder, name, partial(_unknown_file, path, folder, name))


def _unknown_file(path: str, folder: str, name: str) -> Found:
    yield Left(folder, name, len(read_table(path, name)), "no cost model of this kind of row yet")


SETS: dict[str, Callable[[str, str], Found]] = {
    "kernels_power": _kernels,
    "kernels_latency": _kernels,
    "whole_models_eager": _whole_models,
    "torch_layers_a30_2080ti": _torch,
    "irene_transformers": _irene,
    "nas_bench_201_pi5": _nas_bench_201,
    "nas_latency_27_devices": _nas_latency,
    "hw_gpt_bench_latency": _hw_gpt_bench,
    "getzner_cpu_layers": _getzner,
    "willowec_cpu_layers": _willowec,
    "mlperf_power": _mlperf,
    "splitwise_phase_times": _phases,
    "gpu_power_anchors": _anchors,
    "mlenergy_v3_diffusion": partial(_generation, "xdit"),
    "mlenergy_v2_diffusion": partial(_generation, "diffusers"),
    "mlenergy_v3_llm": partial(_serving, "vllm", serving.mlenergy_v3),
    "mlenergy_v2_llm": partial(_serving, "vllm_2024", serving.mlenergy_v2),
}
