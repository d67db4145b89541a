"""A machine predicted from a relative alone, as a file without measurements is: its own are left out whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wattir.device import Device, device_folder, device_from_text, device_ids, load_device
from wattir.interval import of_seconds
from wattir.lending import (
    GENERATION,
    OTHER,
    PROCESSOR,
    RELATIONS,
    VARIANT,
    Widths,
    distance,
    lent,
    nearest,
    relation,
    unlike,
)

from .evaluate import covered, errors_of, usable
from .evaluate import widths as half_widths
from .intervals import half_width
from .model import predict
from .plan import CHECKOUT, Source, as_run, keys_of, main_family
from .plans import PLANS
from .priors import limits_of
from .rows import Array, Rows
from .sets import Case, cases

NOTHING: Mapping[str, Widths] = dict.fromkeys(RELATIONS, Widths(0.0, 0.0, 0.0))
LEAST_ROWS = 50
"""Measured on fewer, a machine mostly holds what it borrowed itself."""
ALIKE: Mapping[str, tuple[str, ...]] = {
    VARIANT: (VARIANT, GENERATION), GENERATION: (VARIANT, GENERATION), OTHER: (OTHER,), PROCESSOR: (PROCESSOR,),
}  # fmt: skip
"""Kinds of relation that cost alike: taken apart, variants came out no nearer than other generations (2026-11-27)."""
LEAST_WIDTH = 0.05
"""What borrowing costs at least: a kind of relation with few pairs may show nothing by luck."""


@dataclass(frozen=True)
class Pair:
    """A measured machine and the relatives that it is predicted from, the nearest first; `joules`: whether their own
    energies are from other machines than the first."""

    device: str
    lenders: tuple[str, ...]
    relation: str
    joules: bool


@dataclass(frozen=True)
class Part:
    """Rows of one set of a pair's machine: measured and predicted seconds and joules (NaN: not measured), half-widths
    of the interval (of seconds where no joules were measured) before it is widened, the number of the cell that counts
    as one, and of every row what widens its interval: a field of `wattir.lending.Widths` (`widens`)."""

    pair: Pair
    folder: str
    what: str
    network: bool
    group: Array
    cell: Array
    widens: Array
    time_s: Array
    energy_j: Array
    predicted_s: Array
    predicted_j: Array
    width: Array

    @property
    def errors(self) -> Array:
        """Absolute log errors of joules, or of seconds where no joules were measured."""
        joules = np.abs(np.log(self.predicted_j / self.energy_j))
        return np.where(np.isfinite(joules), joules, np.abs(np.log(self.predicted_s / self.time_s)))

    def take(self, mask: Array) -> Part:
        """The rows where the mask is true."""
        columns = ("group", "cell", "widens", "time_s", "energy_j", "predicted_s", "predicted_j", "width")
        return replace(self, **{name: getattr(self, name)[mask] for name in columns})


def pairs(devices: Sequence[str], most: int = 2) -> list[Pair]:
    """For every machine, of each kind of relation the nearest measured machines, at most so many."""
    known = [load_device(name) for name in device_ids()]
    known = [device for device in known if device.measured and sum(fit["rows"] for fit in device.fits) >= LEAST_ROWS]
    return [pair for name in devices for pair in _pairs_of(load_device(name), known, most)]


def _pairs_of(device: Device, known: Sequence[Device], most: int) -> Iterator[Pair]:
    others = [other for other in known if (other.kind, other.scope) == (device.kind, device.scope)]
    others = [other for other in others if distance(device, other) > 0.0]  # the same machine under another runtime
    for kind in RELATIONS:
        alike = [other for other in others if relation(device, other) == kind]
        if alike:
            lenders = tuple(other.id for other in unlike(nearest(device, alike))[:most])
            plans = [PLANS[name] for name in lenders if name in PLANS]
            yield Pair(device.id, lenders, kind, all(plan.energies_from != device.id for plan in plans))


def left_out(device: str, lenders: Sequence[str]) -> Device:
    """The machine as its limits and the lenders make it, none of them with anything measured on the machine."""
    return lent(limits_of(_text(device), device), [_without(device, lender) for lender in lenders], NOTHING)


def _without(device: str, lender: str) -> Device:
    """The lender without what it has from the device itself."""
    text = re.sub(rf'(?m)^(relatives = .*)"{device}"(, )?', r"\1", _text(lender))
    return device_from_text(text, _path(lender))


def _text(device: str) -> str:
    with open(_path(device), encoding="utf-8") as file:
        return file.read()


def _path(device: str) -> str:
    return os.path.join(device_folder(), f"{device}.toml")


def measured_rows(data: str) -> dict[str, list[tuple[str, Source, Any]]]:
    """By measured machine: (what, source, a function that reads the rows) of the data folder and of the checkout."""
    found: dict[str, list[tuple[str, Source, Any]]] = {}
    for case in cases(data):
        if isinstance(case, Case) and load_device(case.device).measured:
            found.setdefault(case.device, []).append((case.what, case.source, case.load))
    for device in found:
        for source in PLANS[device].sources if device in PLANS else ():
            if source.folder.startswith("benchmarks/"):
                path = os.path.join(CHECKOUT, source.folder)
                found[device].append((os.path.basename(source.data_set), source, partial(source.load, path)))
    return found


def predicted(pair: Pair, what: str, source: Source, rows: Rows) -> Part:
    """The rows as the pair's lender predicts them."""
    device = left_out(pair.device, pair.lenders)
    rows = usable(device, as_run(rows, source, device))
    seconds, joules = predict(device, rows)
    keys, kind = np.unique(keys_of(device, rows), return_inverse=True)
    kinds = np.array(["library" if key in device.corrections else "other" if "@" in key else "layer" for key in keys])
    widens = np.full(rows.samples, "network") if source.network else kinds[kind]
    cell = _numbered(rows.group if source.network else main_family(rows))
    energy_j = rows.energy_j if pair.joules else np.full(rows.samples, np.nan)
    width = half_widths(device if np.isfinite(energy_j).any() else of_seconds(device), rows)
    return Part(
        pair, source.folder, what, source.network, _numbered(rows.group), cell, widens, rows.time_s, energy_j, seconds,
        joules, width,
    )  # fmt: skip


def _numbered(names: Array) -> Array:
    return np.unique(names, return_inverse=True)[1]


def widening(parts: Sequence[Part], kind: str, without: str = "") -> Widths:
    """What intervals take besides the relatives' own, in log space, to hold 90 % of the rows of pairs of this relation:
    every set of every pair counts the same, and in it every family (or model). Machine `without` is left out."""
    parts = [part for part in parts if part.pair.device != without]
    used = [part for part in parts if part.pair.relation in ALIKE[kind]] or parts
    layer = _widening(used, ("layer", "other"))
    return Widths(_widening(used, ("library",)) or layer, layer, _widening(used, ("network",)))


def _widening(parts: Sequence[Part], what: Sequence[str]) -> float:
    used = [part for part in (part.take(np.isin(part.widens, what)) for part in parts) if len(part.cell)]
    if not used:
        return 0.0
    excess = np.concatenate([np.sqrt(np.maximum(part.errors**2 - part.width**2, 0.0)) for part in used])
    cells = np.concatenate([part.cell + len(excess) * i for i, part in enumerate(used)])
    sets = np.repeat(np.arange(len(used)), [len(part.cell) for part in used])
    return max(half_width(excess, cells, sets) or 0.0, LEAST_WIDTH)


def judged(parts: Sequence[Part], widths: Widths) -> dict[str, Any]:
    """Errors and coverage of parts whose intervals are widened by so much."""

    def column(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    more = {"library": widths.library, "layer": widths.layer, "other": widths.layer, "network": widths.network}
    width = np.hypot(column("width"), np.vectorize(more.__getitem__)(column("widens")))
    found: dict[str, Any] = {"rows": len(width), "groups": sum(len(np.unique(part.group)) for part in parts)}
    for name, seen, measured in (("time", "predicted_s", "time_s"), ("energy", "predicted_j", "energy_j")):
        truth, guess = column(measured), column(seen)
        ok = np.isfinite(truth)
        if ok.any():
            found[name] = errors_of(guess[ok], truth[ok]) | covered(guess[ok], truth[ok], width[ok])
    return found
