"""A user's own rows, as ``wattir measure`` writes them: the layers and whole models of one file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from wattir.api import lower
from wattir.costs import tabulate
from wattir.device import Device
from wattir.dims import evaluate
from wattir.errors import InputError, WattirError
from wattir.ir import Graph
from wattir.machine import MATH_OF_FAMILY
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision
from wattir.work import Work

from .datasets_networks import at_sizes
from .datasets_own import WRONG_JOULES, own_layers, own_table
from .evaluate import usable
from .plan import Source, as_run
from .rows import NO_JOULES, Rows, network_rows, together


def own_sources(path: str) -> tuple[tuple[Source, Rows], ...]:
    """What a file of rows holds, each with its rows; InputError where it holds none that can be predicted."""
    folder, file = os.path.split(os.path.abspath(path))
    found = []
    for what, rows, grouped_by in (
        ("layers", own_layers(folder, file), "kind and type of layer"),
        ("models", own_models(folder, file), "model"),
    ):
        families = tuple(dict.fromkeys(family for family, _ in rows.kinds))
        load = partial(_as_read, rows)
        source = Source(f"{file}: {what}", folder, load, families, grouped_by, network=what == "models")
        found.append((source, rows))
    if not any(rows.samples for _, rows in found):
        raise _nothing(path, [rows for _, rows in found])
    return tuple(found)


def _as_read(rows: Rows, folder: str) -> Rows:
    return rows


def judged(path: str, device: Device) -> Rows:
    """All rows of a file as they run on a device, without those that cannot be judged."""
    found = own_sources(path)
    check_watts(found, device)
    rows = usable(device, together([as_run(part, source, device) for source, part in found if part.samples]))
    everything = [part for _, part in found if not part.samples] + [rows]
    if not rows.samples:
        raise _nothing(path, everything)
    return replace(rows, dropped=dropped(everything))


def check_watts(parts: Sequence[tuple[Source, Rows]], device: Device) -> None:
    """InputError where joules over seconds are no power that the machine could draw: then the units are others."""
    watts = np.concatenate([part.energy_j / part.time_s for _, part in parts])
    if not np.isfinite(watts).any():
        return
    share = float(np.nanmedian(watts)) / device.power_w
    if not LEAST_SHARE <= share <= MOST_SHARE:
        raise InputError(
            f"{parts[0][0].data_set}: joules over seconds are {share * device.power_w:.3g} W in the median, and the "
            f"machine's power_w is {device.power_w:g}; expected `time_s` in seconds and `energy_j` in joules of a call"
        )


LEAST_SHARE, MOST_SHARE = 1.0 / 300.0, 3.0
"""Of the power limit: joules above idle may be few, those of a whole node several times a board's."""


def dropped(parts: Sequence[Rows]) -> dict[str, int]:
    """Why rows were left out, and how many."""
    counts: Counter[str] = Counter()
    for rows in parts:
        counts.update(rows.dropped)
    return {reason: count for reason, count in counts.items() if count}


def _nothing(path: str, parts: Sequence[Rows]) -> InputError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped(parts).items()) or "it is empty"
    return InputError(f"{path}: no row that can be predicted ({reasons}); see `wattir measure --help`")


def own_models(folder: str, file: str) -> Rows:
    """Whole models of a file of rows, each lowered again from its model file or name, grouped by model."""
    table = own_table(folder, file)
    table = table[table.kind.eq("model")]
    works: list[tuple[Work, ...]] = []
    kept: list[int] = []
    reasons = {"models without seconds": int(table.time_s.isna().sum())}
    table = table[table.time_s.notna()]
    reasons[NO_JOULES] = int(table[WRONG_JOULES].sum())
    for place, row in enumerate(table.to_dict("records")):
        try:
            works.append(_works(folder, row))
            kept.append(place)
        except WattirError as error:
            reason = f"model that cannot be lowered: {error}"
            reasons[reason] = reasons.get(reason, 0) + 1
    table = table.iloc[kept]
    hosted = (table.runtime.eq("eager") if kept else table.time_s.gt(0.0)).tolist()
    rows = network_rows(
        works, time_s=table.time_s, energy_j=table.energy_j, group=table.model.astype(str) if kept else [],
        label="model", host_ops=[_launches(work) * host for work, host in zip(works, hosted, strict=True)],
    )  # fmt: skip
    return replace(rows, dropped=reasons)


def _launches(works: tuple[Work, ...]) -> float:
    return float(sum(evaluate(work.times * work.launches, {}) for work in works))


def _works(folder: str, row: Mapping[str, Any]) -> tuple[Work, ...]:
    """The kernels of a row's model at its sizes; WattirError where the model is not there or the row is odd."""
    name, runtime = str(row.get("model")), str(row.get("runtime"))
    beside = os.path.join(folder, name)
    graph, dtype = _graph(beside if os.path.exists(beside) else name), row.get("dtype")
    sizes = {size: value for size, value in graph.sizes.items() if value is not None} | _sizes(row.get("sizes"), name)
    missing = [size for size in graph.sizes if size not in sizes]
    if missing:
        raise InputError(f"{name}: no value for size {', '.join(missing)}; expected sizes such as batch=8")
    kernels = tabulate(lower_to_kernels(with_precision(graph, dtype if isinstance(dtype, str) else None), runtime))
    return tuple(at_sizes(work if dtype == "fp32" else _by_default(work), sizes) for work in kernels)


def _by_default(work: Work) -> Work:
    """In the math that frameworks take for fp32 unless they are told otherwise."""
    return replace(work, math=MATH_OF_FAMILY.get(work.family, "fp32")) if work.math == "fp32" else work


def _sizes(text: Any, name: str) -> dict[str, int]:
    """``batch=8 seq=128`` of a cell; an empty one is none."""
    pairs = [pair.partition("=") for pair in text.split()] if isinstance(text, str) else []
    if not all(value.isascii() and value.isdigit() and len(value) < 13 for _, _, value in pairs):
        raise InputError(f"{name}: sizes {text!r}; expected sizes such as batch=8 seq=128")
    return {size: int(value) for size, _, value in pairs}


@lru_cache
def _graph(model: str) -> Graph:
    return lower(model)
