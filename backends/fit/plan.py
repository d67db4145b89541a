"""What a device is fitted to: sources of rows, free parameters, and how one fit of all of it is run and recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

import numpy as np

from wattir.device import Device, TimeInterval, device_folder, device_from_text
from wattir.machine import row_of

from .cross_validate import LeftOut, left_out, log_errors
from .intervals import BORROWED_ENERGY, beyond_waiting, borrowed_energy, half_width, interval, no_surer, widest
from .learn import learned, taught
from .model import predict, sums
from .priors import limits_of, priors_from, priors_of
from .rows import WEIGHT_BYTES, Array, Rows, drawn, plain, together
from .solve import Prior, log_residuals, solve_in_turn, with_values
from .write import with_fit, without_fit


@dataclass(frozen=True)
class Source:
    """One measured set: its `folder`, how its rows are read from there, and what is said of it in the file.

    `held_out`: rows that nothing is fitted to but the host's seconds an op, and that the interval is judged on.
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
    held_out: bool = False
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """One device. `families`, `maths`: what gets parameters; `given`: priors other than those of the limits.

    `tiles`: candidates, of which the one with the least cost on the rows is taken. `energies_from`: the relative whose
    powers and energies are the priors, in proportion to the limits, with this `energy_spread` (0: taken as they are);
    `energies_beyond`: what they add to the interval where no joules were measured. `lent_widths`: of `layer` and
    `network`, the half-widths of the machine without rows, which few groups of rows do not narrow.
    `command`: what the record says the fit was made by, if not ``wattir fit --device ID``.
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
    energies_beyond: float = BORROWED_ENERGY
    lent_widths: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    command: str = ""


@dataclass(frozen=True)
class Fitted:
    """A fitted device, its rows with the source of each, and its errors on them when their groups were left out.

    `waiting`: the share of each row's joules that the device draws while it waits for the host; `taught`: whether a
    correction learned from it.
    """

    device: Device
    rows: Rows
    source: Array
    errors: LeftOut
    waiting: Array
    taught: Array

    def take(self, mask: Array) -> Fitted:
        """The samples where the mask is true."""
        errors = LeftOut(*(getattr(self.errors, each.name)[mask] for each in fields(LeftOut)))
        return Fitted(
            self.device, self.rows.take(mask), self.source[mask], errors, self.waiting[mask], self.taught[mask]
        )  # fmt: skip


def fixed(value: float) -> Prior:
    """A parameter that is known and not fitted."""
    return Prior(value, 0.0, 0.0, np.inf)


def run(plan: Plan, text: str, where: str, data: str, say: Callable[[str], None]) -> str | None:
    """The device file's new text, or None where the data are not there."""
    found = fit(plan, text, where, data, say)
    if found is None:
        return None
    sources, whole, fitted = found
    records = [
        _record(source, i, rows, fitted, plan) for i, (source, rows) in enumerate(zip(sources, whole, strict=True))
    ]
    table = no_surer(interval_of(sources, fitted, plan), plan.lent_widths, _groups(sources, fitted))
    return with_fit(text, fitted.device, table, records)


def fit(
    plan: Plan, text: str, where: str, data: str, say: Callable[[str], None]
) -> tuple[list[Source], list[Rows], Fitted] | None:
    """The sources that are there, all rows of each, and the fit to them."""
    loaded = [(source, _load(source, data, say)) for source in plan.sources if _present(source, data, say)]
    loaded = [each for each in loaded if each[1].samples]
    if all(source.held_out for source, _ in loaded):
        return None
    device = limits_of(text, where)
    sources = [source for source, _ in loaded]
    rows = together([as_run(part, source, device) for source, part in loaded])
    index = np.repeat(np.arange(len(loaded)), [part.samples for _, part in loaded])
    held = np.isin(index, [i for i, source in enumerate(sources) if source.held_out])
    known = rows.take(~held)
    priors = priors_for(plan, known, device, text, where)
    fitted = with_held_out(fit_and_validate(plan, device, priors, known, say), rows, index, held)
    return sources, [whole for _, whole in loaded], fitted


def fit_once(plan: Plan, text: str, where: str, rows: Rows, say: Callable[[str], None]) -> Device:
    """The fit to these rows (of `as_run`), judged on nothing."""
    device = limits_of(text, where)
    tiles, values = _best(plan, device, priors_for(plan, rows, device, text, where), rows, say)
    return learned(with_values(device, values, tiles), rows)


def priors_for(plan: Plan, rows: Rows, device: Device, text: str, where: str) -> dict[str, Prior]:
    """The priors of all that the rows inform."""
    families, maths = informed(plan, rows, device)
    given = {**_lent(plan, text, where), **plan.given}
    return priors_of(device, maths, families, {name: given[name] for name in given if _applies(name, maths, families)})


def informed(plan: Plan, rows: Rows, device: Device) -> tuple[list[str], list[str]]:
    """The plan's families and maths that the rows run in: what no row informs gets no coefficient."""
    kinds = {(plain(family), math) for family, math in rows.present}
    seen = {f"{family}.{math}" if f"{family}.{math}" in plan.families else family for family, math in kinds}
    maths = {device.math(math) for _, math in rows.kinds} | ({"fp32"} if "depthwise" in seen else set())
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
    plan: Plan, device: Device, priors: Mapping[str, Prior], rows: Rows, say: Callable[[str], None]
) -> tuple[Device, LeftOut]:
    """The best tiles, all parameters on all rows, and the errors with groups left out."""
    tiles, values = _best(plan, device, priors, rows, say)

    def again(part: Rows) -> Device:
        found = solve_in_turn(device, part, priors, tiles, start=values, most_evaluations=12)
        return learned(with_values(device, found, tiles), part)

    errors = left_out(rows, again, plan.folds)
    say(f"  left out: {_said(errors.summary(np.ones(rows.samples, bool)))}")
    return learned(with_values(device, values, tiles), rows), errors


def _said(summary: Mapping[str, float]) -> str:
    """Errors in one line."""
    names = {name: name.removesuffix("_median_ape").replace("_", " ") for name in summary}
    return ", ".join(f"{names[name]} {100 * error:.1f} %" for name, error in summary.items())


def _best(
    plan: Plan, device: Device, priors: Mapping[str, Prior], rows: Rows, say: Callable[[str], None]
) -> tuple[tuple[float, ...], dict[str, float]]:
    """The tiles with the least cost on the rows, and the values of all parameters with them."""
    choices = [(tiles, *_solved(device, rows, priors, tiles)) for tiles in plan.tiles]
    tiles, values, cost = min(choices, key=lambda choice: choice[2])
    say(f"  {rows.samples} samples, tiles {list(tiles)}, cost {cost:.4f}")
    return tiles, values


def with_held_out(found: tuple[Device, LeftOut], rows: Rows, source: Array, held: Array) -> Fitted:
    """The fit, with its errors on the rows that it never saw; `rows` are all of them."""
    device, known = found
    if held.any():
        device = with_host(device, rows.take(held))
    errors = np.full((len(fields(LeftOut)), rows.samples), np.nan)
    errors[:, ~held] = [getattr(known, each.name) for each in fields(LeftOut)]
    errors[:, held] = log_errors(device, rows.take(held))
    lessons = np.zeros(rows.samples, bool)
    lessons[~held] = taught(device, rows.take(~held))
    cost = sums(device, rows)
    return Fitted(device, rows, source, LeftOut(*errors), cost.waiting_j / cost.energy_j, lessons)


def with_host(device: Device, rows: Rows) -> Device:
    """The device with the host's seconds an op: the median over the networks that take twice as long as their kernels.

    Every network counts once, by the median of its rows.
    """
    free = replace(device, coefficients=replace(device.coefficients, host_op_s=0.0))
    bound = (rows.host_ops > 0.0) & (rows.time_s > HOST_BOUND * predict(free, rows)[0])
    if not bound.any():
        return device
    per_op = rows.time_s[bound] / rows.host_ops[bound]
    groups = rows.group[bound]
    host_op_s = float(np.median([np.median(per_op[groups == name]) for name in np.unique(groups)]))
    return replace(device, coefficients=replace(device.coefficients, host_op_s=host_op_s))


HOST_BOUND = 2.0


def _solved(
    device: Device, rows: Rows, priors: Mapping[str, Prior], tiles: Sequence[float]
) -> tuple[dict[str, float], float]:
    values = solve_in_turn(device, rows, priors, tiles)
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


def _load(source: Source, data: str, say: Callable[[str], None]) -> Rows:
    """All rows of a source."""
    rows = source.load(_path(source, data))
    dropped = ", ".join(f"{count} {reason}" for reason, count in rows.dropped.items() if count)
    say(f"  {source.data_set}: {rows.samples} rows" + (f"; dropped {dropped}" if dropped else ""))
    return rows


def as_run(part: Rows, source: Source, device: Device) -> Rows:
    """Weighted, with no weight where the physics is not fitted to a sample; weights of the network that all fit in the
    last-level cache stay there, as in `compile_graph`."""
    weights = np.bincount(part.sample, part.work[:, WEIGHT_BYTES] * part.times, part.samples)
    copies = 1 if source.network else source.copies
    hot = bool(copies) * (copies * weights <= device.cache_bytes)[part.sample]
    return replace(part, weight=_weight(part, source.most), hot=np.maximum(part.hot, hot))


def _weight(part: Rows, most: int) -> Array:
    """0 where the physics is not fitted to a sample, of those that could inform it `most` at most.

    A small set counts as `LEAST_SAMPLES` at least, in time as in energy, or the large ones would drown it.
    """
    used = part.weight > 0.0
    could = np.flatnonzero(used.any(axis=1))
    used[could[~drawn(len(could), most)]] = False
    counts = np.array([used[:, 0].sum(), (np.isfinite(part.energy_j) & used[:, 1]).sum()])
    found: Array = used * np.sqrt(np.maximum(1.0, LEAST_SAMPLES / np.maximum(counts, 1)))
    return found


LEAST_SAMPLES = 600


def _record(source: Source, index: int, whole: Rows, fitted: Fitted, plan: Plan) -> dict[str, Any]:
    mask = fitted.source == index
    used = 0 if source.held_out else int((mask & (fitted.rows.weight[:, 0] > 0.0)).sum())
    record: dict[str, Any] = {
        "data_set": source.data_set, "rows": whole.samples, "rows_used": used,
        "rows_corrections": int(fitted.taught[mask].sum()), "grouped_by": source.grouped_by,
        "groups": len(set(whole.group.tolist())), "families": list(source.families), **fitted.errors.summary(mask),
        "dropped": [f"{count} {reason}" for reason, count in whole.dropped.items() if count], **_clocks(whole),
        "date": date.today().isoformat(), "command": plan.command or f"wattir fit --device {plan.device}",
    }  # fmt: skip
    if source.held_out:
        record["note"] = "Held out: only host_op_s and the interval are from these."
    notes = " ".join(text for text in (source.note, plan.note) if text)
    return record | ({"note": notes} if notes else {})


def _clocks(rows: Rows) -> dict[str, list[float]]:
    """The lowest and the highest core clock that rows were measured at, where they say."""
    known = rows.clock_hz[rows.clock_hz > 0.0]
    return {"clocks_hz": [float(known.min()), float(known.max())]} if len(known) else {}


def interval_of(sources: Sequence[Source], fitted: Fitted, plan: Plan) -> dict[str, Any]:
    """The quantiles of energy, or of time and what energies add where none was measured; in `time` those of time."""
    network = np.isin(fitted.source, [i for i, source in enumerate(sources) if source.network])
    time = _quantiles(fitted, network, fitted.errors.time, fitted.errors.physics_time)
    if np.isfinite(fitted.errors.energy).any():
        found = _quantiles(fitted, network, fitted.errors.energy, fitted.errors.physics_energy)
    else:
        found = borrowed_energy(time, plan.energies_beyond)
    return found | {"time": {name: time[name] for name in ("layer", "network", "families")}}


def _quantiles(fitted: Fitted, network: Array, errors: Array, physics: Array) -> dict[str, Any]:
    """The interval that holds these errors of layers and networks; `physics`: those without corrections."""
    several = (np.bincount(fitted.rows.sample, minlength=fitted.rows.samples) > 1) & _without_library(fitted)
    cells, groups = np.char.add(fitted.source.astype(str), main_family(fitted.rows)), fitted.rows.group
    layers = ~network & ~several
    alone = layers & _without_library(fitted)  # what a family without a width of its own is like
    alone = alone if alone.any() else layers
    layer = half_width(physics[alone], cells[alone], groups=groups[alone])
    families = _family_widths(fitted, layers, errors)
    if not network.any():
        return interval(layer, None) | {"families": families}
    common = _common_width(fitted, errors, layer or 0.0, families)
    models, total = np.where(network, groups, ""), network | several
    whole = widest(common[total], models[total], fitted.source[total], groups[total])
    return interval(layer, whole) | {"families": families}


def _groups(sources: Sequence[Source], fitted: Fitted) -> dict[str, int]:
    """How many groups of layers and of networks were left out."""
    network = np.isin(fitted.source, [i for i, source in enumerate(sources) if source.network])
    return {"layer": len(set(fitted.rows.group[~network])), "network": len(set(fitted.rows.group[network]))}


def with_interval(fitted: Fitted, table: Mapping[str, Any]) -> Device:
    """The fitted device with the interval of a table (`interval_of`), all families of its rows measured."""
    families = frozenset(plain(family) for family, _ in fitted.rows.kinds)
    return replace(
        fitted.device, interval_layer=table["layer"], interval_network=table["network"],
        interval_families=table["families"], time_interval=TimeInterval(**table["time"]), measured_families=families,
    )  # fmt: skip


def _common_width(fitted: Fitted, errors: Array, layer: float, families: Mapping[str, float]) -> Array:
    """Of every sample the least `interval_network` with which the interval holds its error: what its kernels' own
    widths do not explain (`wattir.interval.width_of`, solved for it)."""
    device = replace(fitted.device, interval_layer=layer, interval_network=0.0, interval_families=families)
    alike = replace(device, interval_layer=1.0, interval_families={})
    found, squares = sums(device, fitted.rows), sums(alike, fitted.rows).spread
    wanted = beyond_waiting(errors, fitted.waiting) ** 2 - found.spread / found.energy_j**2
    rest = np.maximum(1.0 - squares / found.energy_j**2, 1e-3)
    common: Array = np.sqrt(np.maximum(wanted, 0.0) / rest)
    return common


def _without_library(fitted: Fitted) -> Array:
    """Samples whose kind names no library."""
    return np.array(["@" not in key for key in keys_of(fitted.device, fitted.rows)])


def _family_widths(fitted: Fitted, layers: Array, errors: Array) -> dict[str, float]:
    """The quantile of every kind of kernel with enough samples, each set counting the same."""
    keys, found = keys_of(fitted.device, fitted.rows), {}
    for key in sorted(set(keys[layers].tolist())):
        mask = layers & (keys == key) & np.isfinite(errors)
        if mask.sum() >= LEAST_OF_FAMILY:
            width = half_width(errors[mask], fitted.source[mask])
            found[key] = max(width or 0.0, LEAST_WIDTH)
    return found


LEAST_OF_FAMILY = 20
LEAST_WIDTH = 0.02


def keys_of(device: Device, rows: Rows) -> Array:
    """What the interval of each sample's first kernel is kept under."""
    keys = [row_of(device, family, math, strict_fp32=True).key for family, math in rows.kinds]
    first = np.searchsorted(rows.sample, np.arange(rows.samples))
    return np.array(keys)[rows.kind_index[first]]


def main_family(rows: Rows) -> Array:
    """The family of each sample's first kernel; a layer has but one."""
    first = np.searchsorted(rows.sample, np.arange(rows.samples))
    return np.array([plain(family) for family, _ in rows.kinds])[rows.kind_index[first]]
