"""What a device is fitted to: sources of rows, free parameters, and how one fit of all of it is run and recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wattir.device import Device, device_folder, device_from_text

from .cross_validate import LeftOut, left_out
from .priors import limits_of, priors_from, priors_of
from .rows import Array, Rows, thinned, together
from .solve import Prior, log_residuals, solve, with_values
from .write import with_fit, without_fit

DATE = "2026-11-20"
NETWORK = "network"


@dataclass(frozen=True)
class Source:
    """One measured set: its `folder`, how its rows are read from there, and what is said of it in the file.

    `copies`: of how many weights the rows rotate, where the last-level cache may hold them all.
    """

    data_set: str
    folder: str
    load: Callable[[str], Rows]
    families: tuple[str, ...]
    grouped_by: str
    most: int = 4000
    network: bool = False
    copies: int = 0
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """One device. `families`, `maths`: what gets parameters; `given`: priors other than those of the limits.

    `tiles`: candidates, of which the one with the least cost on the rows is taken. `energies_from`: the relative whose
    powers and energies are the priors, in proportion to the limits, with this `energy_spread` (0: taken as they are).
    """

    device: str
    sources: tuple[Source, ...]
    families: tuple[str, ...]
    maths: tuple[str, ...]
    tiles: tuple[tuple[float, ...], ...]
    given: Mapping[str, Prior] = field(default_factory=dict)
    folds: int = 5
    energies_from: str = ""
    energy_spread: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Fitted:
    """A fitted device, the rows it was fitted to with the source of each, and its errors on left-out groups."""

    device: Device
    rows: Rows
    source: Array
    errors: LeftOut


def fixed(value: float) -> Prior:
    """A parameter that is known and not fitted."""
    return Prior(value, 0.0, 0.0, np.inf)


def run(plan: Plan, text: str, where: str, data: str, say: Callable[[str], None]) -> str | None:
    """The device file's new text, or None where the data are not there."""
    loaded = [(source, *_load(source, data, say)) for source in plan.sources if _present(source, data, say)]
    loaded = [each for each in loaded if each[1].samples]
    if not loaded:
        return None
    device = limits_of(text, where)
    sources = [source for source, _, _ in loaded]
    parts = [(whole, part) for _, whole, part in loaded]
    ready = [_as_run(part, source, device) for source, (_, part) in zip(sources, parts, strict=True)]
    rows = together(ready)
    index = np.repeat(np.arange(len(parts)), [part.samples for _, part in parts])
    families, maths = informed(plan, rows)
    given = {**_lent(plan, text, where), **plan.given}
    priors = priors_of(
        device, maths, families, {name: given[name] for name in given if _applies(name, maths, families)}
    )
    fitted = fit_and_validate(plan, device, priors, rows, index, say)
    records = [
        _record(source, i, whole, fitted, plan)
        for i, (source, (whole, _)) in enumerate(zip(sources, parts, strict=True))
    ]
    return with_fit(text, fitted.device.coefficients, _interval(sources, fitted), records)


def informed(plan: Plan, rows: Rows) -> tuple[list[str], list[str]]:
    """The plan's families and maths that occur in the rows: what no row informs gets no coefficient."""
    seen = {f"{family}.{math}" if f"{family}.{math}" in plan.families else family for family, math in rows.kinds}
    maths = {math for _, math in rows.kinds} | ({"fp32"} if "depthwise" in seen else set())
    families = [family for family in plan.families if family in seen or family == "matmul"]
    return families, [math for math in plan.maths if math in maths]


def _applies(name: str, maths: Sequence[str], families: Sequence[str]) -> bool:
    head, _, tail = name.partition(" ")
    return tail in maths if head == "j_per_flop" else not tail or head in families


def _lent(plan: Plan, text: str, where: str) -> dict[str, Prior]:
    """Powers and energies of the relative, of the maths that this device has."""
    if not plan.energies_from:
        return {}
    relatives = f'relatives = ["{plan.energies_from}"]'
    own = re.sub(r"^relatives = .*$", relatives, without_fit(text), count=1, flags=re.MULTILINE)
    lender = device_from_text(own, where).coefficients
    return priors_from(lender, plan.energy_spread)


def fit_and_validate(
    plan: Plan, device: Device, priors: Mapping[str, Prior], rows: Rows, source: Array, say: Callable[[str], None]
) -> Fitted:
    """The best tiles, all parameters on all rows, and the errors with groups left out."""
    choices = [(tiles, *_solved(device, rows, priors, tiles)) for tiles in plan.tiles]
    tiles, values, cost = min(choices, key=lambda choice: choice[2])
    say(f"  {rows.samples} samples, tiles {list(tiles)}, cost {cost:.4f}")

    def fit(part: Rows) -> Device:
        return with_values(device, solve(device, part, priors, tiles, start=values, most_evaluations=12), tiles)

    errors = left_out(rows, fit, plan.folds)
    say(f"  left out: {errors.summary(np.ones(rows.samples, bool))}")
    return Fitted(with_values(device, values, tiles), rows, source, errors)


def _solved(
    device: Device, rows: Rows, priors: Mapping[str, Prior], tiles: Sequence[float]
) -> tuple[dict[str, float], float]:
    values = solve(device, rows, priors, tiles)
    return values, float(np.mean(np.abs(log_residuals(with_values(device, values, tiles), rows, 1.0))))


def _present(source: Source, data: str, say: Callable[[str], None]) -> bool:
    path = _path(source, data)
    if not os.path.exists(path):
        say(f"  skipped {source.data_set}: {path} is not there")
    return os.path.exists(path)


def _path(source: Source, data: str) -> str:
    """Where a source lies: first-party measurements in the checkout, all others in the data folder."""
    own = source.folder.startswith("benchmarks/")
    return os.path.join(CHECKOUT if own else data, source.folder)


CHECKOUT = os.path.dirname(os.path.dirname(device_folder()))


def _load(source: Source, data: str, say: Callable[[str], None]) -> tuple[Rows, Rows]:
    """All rows of a source, and those of them that are fitted to."""
    rows = source.load(_path(source, data))
    dropped = ", ".join(f"{count} {reason}" for reason, count in rows.dropped.items() if count)
    say(f"  {source.data_set}: {rows.samples} rows" + (f"; dropped {dropped}" if dropped else ""))
    return rows, thinned(rows, source.most)


def _as_run(part: Rows, source: Source, device: Device) -> Rows:
    """Weighted; weights that all fit in the last-level cache stay there, as in `compile_graph`."""
    weights = np.bincount(part.sample, part.work[:, 7] * part.times, part.samples)
    copies = 1 if source.network else source.copies
    hot = bool(copies) * (copies * weights <= device.cache_bytes)[part.sample]
    return replace(part, weight=_weight(part), hot=np.maximum(part.hot, hot))


def _weight(part: Rows) -> Array:
    """A small set counts as `LEAST_SAMPLES` at least, in time as in energy, or the large ones would drown it."""
    counts = np.array([part.samples, max(int(np.isfinite(part.energy_j).sum()), 1)])
    return np.tile(np.sqrt(np.maximum(1.0, LEAST_SAMPLES / counts)), (part.samples, 1))


LEAST_SAMPLES = 600


def _record(source: Source, index: int, whole: Rows, fitted: Fitted, plan: Plan) -> dict[str, Any]:
    mask = fitted.source == index
    used = int(mask.sum())
    record: dict[str, Any] = {
        "data_set": source.data_set, "rows": whole.samples, "rows_used": used, "grouped_by": source.grouped_by,
        "groups": len(set(whole.group.tolist())), "families": list(source.families), **fitted.errors.summary(mask),
        "dropped": [f"{count} {reason}" for reason, count in whole.dropped.items() if count], "date": DATE,
        "command": f"python -m wattir.backends.fit --device {plan.device}",
    }  # fmt: skip
    notes = " ".join(text for text in (source.note, plan.note) if text)
    return record | ({"note": notes} if notes else {})


def _interval(sources: Sequence[Source], fitted: Fitted) -> dict[str, Any]:
    network = np.isin(fitted.source, [i for i, source in enumerate(sources) if source.network])
    layer, whole = (fitted.errors.half_width(mask, fitted.source) for mask in (~network, network))
    if layer is None and whole is None:
        time = np.quantile(np.abs(fitted.errors.time), 0.9)
        return {
            "layer": float(time) + BORROWED_ENERGY, "network": 0.5 * float(time) + BORROWED_ENERGY,
            "source": f"90 % quantile of the left-out rows' log error of time, plus {BORROWED_ENERGY} for energies "
            "that were borrowed; network: half of the former, as errors of layers partly cancel",
        }  # fmt: skip
    said = "90 % quantile of |log E - log E_hat| over rows whose groups were left out whole, all sets counting the same"
    if layer is None:
        layer, rule = 2.0 * (whole or 0.0), "layer: twice that of networks (no layers measured)"
    elif whole is None:
        whole, rule = max(0.5 * layer, 0.1), "network: half that of layers, at least 0.1 (no networks measured)"
    else:
        rule = "layers and whole networks apart"
    return {"layer": layer, "network": whole, "source": f"{said}; {rule}"}


BORROWED_ENERGY = 0.25
"""What energies borrowed from a relative add to an interval in log space."""


def renamed(source: Source, **changes: Any) -> Source:
    """A source with other words or limits."""
    return replace(source, **changes)
