"""A user's own measured calls of image and video generators: a row a call, beside what is predicted of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from wattir.device import Device
from wattir.errors import InputError, suggestion
from wattir.generation import stack_on

from .datasets_generation import SIZES, GenerationRows, generation_rows
from .fit_generation import predict
from .rows import Array
from .tables import read_file
from .whole_runs import report_of

MEASURED = ("time_s", "energy_j")
DEFAULTS = {**dict.fromkeys((*SIZES, "guidance", "stack", *MEASURED), np.nan), "ulysses": 1, "ring": 1}
"""Columns that a table may lack, and what they then are: NaN is the pipeline's own, or not measured."""
COLUMNS = ("model", "resolution", *DEFAULTS)


def is_generation(path: str) -> bool:
    """Whether a table's rows are calls of generators: they have denoising steps."""
    return {"model", "steps"} <= set(read_file(path).columns)


def validate(path: str, device: Device) -> dict[str, Any]:
    """Errors of the rows of each model, in `kinds`, and of all; in `dropped` why rows were left out. `time_s` and
    `energy_j` are those of a call, on all boards. InputError where nothing can be judged."""
    rows = generation_rows(own_table(path), device)
    if not len(rows):
        why = "; ".join(f"{count} rows: {reason}" for reason, count in list(rows.dropped.items())[:3])
        raise InputError(
            f"{path}: no row can be predicted ({why or 'it has none'}); expected models of `wattir models`"
        )
    time_s, energy_j, width = _predicted(rows, device)
    kinds = {name: rows.model == name for name in sorted(set(rows.model.tolist()))}

    def report(seen: Array) -> dict[str, Any]:
        pairs = {"time": (time_s[seen], rows.time_s[seen]), "energy": (energy_j[seen], rows.energy_j[seen])}
        return report_of(rows.group[seen], width[seen], **pairs)

    return {**report(np.ones(len(rows), bool)), "kinds": {name: report(seen) for name, seen in kinds.items()},
            "dropped": dict(rows.dropped)}  # fmt: skip


def _predicted(rows: GenerationRows, device: Device) -> tuple[Array, Array, Array]:
    """Seconds of a call, joules of an output, and half of the interval in log space, of every row."""
    found = np.full((3, len(rows)), np.nan)
    for name in set(rows.stack.tolist()):
        seen, stack = rows.stack == name, stack_on(device, name)
        found[0, seen], found[1, seen] = predict(device, stack, rows.take(seen))
        found[2, seen] = stack.interval
    return found[0], found[1], found[2]


def own_table(path: str) -> Any:
    """The table with every column of `generation_rows`; InputError names a column that is none of them, or that a row
    is without."""
    table = read_file(path)
    unknown = [str(name) for name in table.columns if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"{path}: column {unknown[0]!r}; expected {', '.join(COLUMNS)}{suggestion(unknown[0], COLUMNS)}"
        )
    if not any(name in table for name in MEASURED):
        raise InputError(f"{path}: nothing measured; expected a column {' or '.join(MEASURED)}")
    if "resolution" in table:
        table = table.assign(height=table.resolution, width=table.resolution)
    table = table.assign(**{name: value for name, value in DEFAULTS.items() if name not in table})
    alone = {name: table[name].fillna(1) for name in ("ulysses", "ring")}
    energy_j = _numbers(path, table, "energy_j") / _numbers(path, table, "batch").fillna(1)
    return _positive(path, table.assign(**alone, energy_j=energy_j))


def _numbers(path: str, table: Any, name: str) -> Any:
    import pandas as pd

    found = pd.to_numeric(table[name], errors="coerce")
    wrong = table[name][found.isna() & table[name].notna()]
    if len(wrong):
        raise InputError(f"{path}: row {wrong.index[0] + 1}: {name} = {wrong.iloc[0]!r}; expected a number")
    return found


def _positive(path: str, table: Any) -> Any:
    for name in MEASURED:
        wrong = table.index[_numbers(path, table, name) <= 0.0]
        if len(wrong):
            value = table[name][wrong[0]]
            raise InputError(f"{path}: row {wrong[0] + 1}: {name} = {value}; expected more than 0, or nothing")
    return table
