"""A task left out whole: ``python -m benchmarks.task_left_out --data DIR [--json]``.

Machines are fitted to rows of some tasks and judged on those of another: a vision transformer from language models and
language models from it (whole_models_eager), and on the H200 from first-party layers: networks of one task, of which
only layers of the kinds that networks of the other tasks have were in the fit, and those layers themselves. Kinds of
layers that the fit never saw get the coefficients of the kind that they fall back to (`FAMILY_FALLBACK`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import parsed, parser_of, printed, say
from wattir.backends.fit.datasets_networks import covered, trap_of
from wattir.backends.fit.evaluate import errors_of, plain
from wattir.backends.fit.model import predict
from wattir.backends.fit.plan import CHECKOUT, Plan, Source, as_run, fit_once, with_host
from wattir.backends.fit.plans import PLANS
from wattir.backends.fit.rows import Array, Rows
from wattir.backends.fit.rows import plain as plain_family
from wattir.cli.accuracy_view import show_accuracy
from wattir.device import Device, device_folder, load_device

Found = dict[str, Any]
EAGER = ("a10", "a100_pcie_40gb", "h100_sxm")
OWN = "h200_sxm"
CAUSAL = 0.75
"""Attention that does less than this share of its products is causal: no vision network has any."""


def eager(data: str, say: Any) -> Iterator[Found]:
    """Language models and the vision transformer of whole_models_eager, each from the other."""
    for name in EAGER:
        plan = PLANS[name]
        source = next(source for source in plan.sources if source.folder == "whole_models_eager")
        path = os.path.join(data, source.folder)
        if not os.path.isdir(path):
            say(f"skipped {name}: {path} is not there")
            continue
        rows = as_run(source.load(path), source, load_device(name))
        task = np.where(rows.group == "vit", "vision", "language")
        for left in ("language", "vision"):
            known, wanted = rows.take(task != left), rows.take(task == left)
            if known.samples and wanted.samples:
                device = _fit(plan, known, say)
                yield _report(name, _others(task, left), left, "networks", device, wanted)


def own(say: Any) -> Iterator[Found]:
    """First-party networks of the H200 by task, each from the layers that the other tasks' networks have."""
    folder = os.path.join(CHECKOUT, "benchmarks", "measurements", OWN)
    layers, networks = (_source(name) for name in ("layers.csv", "networks.csv"))
    rows = as_run(layers.load(folder), layers, load_device(OWN))
    found = covered(folder)
    good = np.array([not trap_of(row) for row in found.table.itertuples()])
    whole = as_run(found.rows.take(good), networks, load_device(OWN))
    task = np.array([task_of(row) for row in found.table[good].itertuples()])
    for left in ("language", "vision"):
        others = task[~np.isin(task, LEFT[left])]
        kinds = _kinds(whole.take(np.isin(task, others)))
        seen = np.isin(_layer_kinds(rows), list(kinds))
        unseen = ~seen & np.isin(_layer_kinds(rows), list(_kinds(whole.take(task == left))))
        device = with_host(_fit(PLANS[OWN], rows.take(seen), say), whole.take(np.isin(task, others)))
        trained = _others(others, left)
        yield _report(OWN, trained, left, "layers of kinds not seen", device, rows.take(unseen))
        for wanted in LEFT[left]:
            yield _report(OWN, trained, wanted, "networks", device, whole.take(task == wanted))


LEFT: Mapping[str, tuple[str, ...]] = {"language": ("language", "generation"), "vision": ("vision",)}
"""What is left out with a task: generation is of the same models as language."""


def task_of(row: Any) -> str:
    """The task of a first-party network."""
    if row.library == "torchvision":
        return "vision"
    if row.model.startswith("whisper"):
        return "audio"
    return "generation" if row.phase == "decode" else "language"


def _source(file: str) -> Source:
    return next(source for source in PLANS[OWN].sources if source.data_set.endswith(file))


def _fit(plan: Plan, rows: Rows, say: Any) -> Device:
    path = os.path.join(device_folder(), f"{plan.device}.toml")
    say(f"{plan.device}: {rows.samples} rows")
    return fit_once(plan, Path(path).read_text(encoding="utf-8"), path, rows, say)


def _kinds(rows: Rows) -> set[str]:
    """The kinds of kernels that networks have."""
    return set(_kernel_kinds(rows).tolist())


def _layer_kinds(rows: Rows) -> Array:
    """The kind of every layer's first kernel."""
    return _kernel_kinds(rows)[np.searchsorted(rows.sample, np.arange(rows.samples))]


def _kernel_kinds(rows: Rows) -> Array:
    work = rows.work[:, 1:5].prod(axis=1)
    causal = (rows.work[:, 0] < CAUSAL * work) & (work > 0.0)
    family = np.array([plain_family(family) for family, _ in rows.kinds])[rows.kind_index]
    return np.char.add(family, np.where(causal, " causal", ""))


def _others(tasks: Array, left: str) -> str:
    return ", ".join(sorted(set(tasks.tolist()) - {left}))


def _report(machine: str, trained: str, wanted: str, level: str, device: Device, rows: Rows) -> Found:
    seconds, joules = predict(device, rows)
    ok = np.isfinite(rows.energy_j)
    found: Found = {"device": machine, "fitted_to": trained, "predicts": wanted, "level": level, "rows": rows.samples}
    found |= {"groups": len(set(rows.group.tolist())), "time": errors_of(seconds, rows.time_s)}
    return plain(found | {"energy": errors_of(joules[ok], rows.energy_j[ok])})


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits, judges and prints; 2 where the folder is not there."""
    parser = parser_of("task_left_out", __doc__)
    options = parsed(parser, arguments)
    if options is None:
        return 2
    found = [*eager(options.data, say), *own(say)]
    return printed({"tasks": found}, options.json, lambda: show(found))


def show(found: Sequence[Found]) -> None:
    """One table."""
    names = ["machine", "fitted to", "predicts", "level"]
    show_accuracy(
        "A task left out whole", names,
        [([each["device"], each["fitted_to"], each["predicts"], each["level"]], each) for each in found],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
