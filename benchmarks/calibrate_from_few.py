"""How good a machine's file is that was fitted to few networks: ``python -m benchmarks.calibrate_from_few --data DIR``.

Of every machine of the NAS-Bench-201 sets, `--count` networks are chosen and fitted as ``wattir fit --rows`` fits them,
held by the nearest known machine or the one that `--like` names; all others are predicted. Chosen are networks at
random (the median over `--seeds` draws), and by design: those that tell most of the coefficients, as the lender
predicts them. Networks that compute the same as a chosen one are neither chosen nor judged.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import errors_and_near, parsed, parser_of, printed, say
from wattir.backends.fit.datasets_nas import COLUMNS, nas_bench_201, nas_latency
from wattir.backends.fit.model import kernel_costs, predict
from wattir.backends.fit.own_plan import nearest_measured, plan_of, with_relative
from wattir.backends.fit.plan import Source, as_run, fit_once
from wattir.backends.fit.priors import limits_of
from wattir.backends.fit.rows import Array, Rows
from wattir.backends.fit.sets import PI_5
from wattir.backends.fit.write import without_fit
from wattir.cli.console import Sheet, make_console
from wattir.device import Device, device_folder, device_from_text

CANDIDATES = 1500
JUDGED = 4000


@dataclass(frozen=True)
class Machine:
    """A device file, what its rows are called, and the rows."""

    device: str
    what: str
    rows: Rows


def machines(data: str, wanted: Sequence[str]) -> Iterator[Machine]:
    """The machines of the two sets; of `wanted` ids alone where there are any."""
    pi_5, latency = (os.path.join(data, name) for name in ("nas_bench_201_pi5", "nas_latency_27_devices"))
    readers = {}
    if os.path.isdir(pi_5):
        readers |= {name: (device, partial(nas_bench_201, pi_5, "pi5", name)) for name, device in PI_5.items()}
    if os.path.isdir(latency):
        readers |= {name: (column.device, partial(nas_latency, latency, name)) for name, column in COLUMNS.items()}
    for name, (device, read) in readers.items():
        if not wanted or device in wanted:
            yield Machine(device, name, read())


def calibrated(machine: Machine, like: str, chosen: Array) -> Device:
    """The machine as ``wattir fit --rows`` would write it from the chosen networks."""
    text, where = head_of(machine.device, like)
    rows = machine.rows.take(chosen)
    families = tuple(dict.fromkeys(family for family, _ in rows.kinds))
    source = Source(machine.what, "", lambda _: rows, families, "network", network=True)
    plan = plan_of([(source, rows)], text, where, "")
    return fit_once(plan, text, where, as_run(rows, source, limits_of(text, where)), lambda line: None)


def head_of(device: str, like: str) -> tuple[str, str]:
    """The limits of a device file, and as its one relative the machine `like`."""
    where = os.path.join(device_folder(), f"{device}.toml")
    lines = without_fit(Path(where).read_text(encoding="utf-8")).splitlines()
    head = "\n".join(line for line in lines if not line.startswith("relatives")) + "\n"
    return with_relative(head.replace("\n\n[", f'\nrelatives = ["{like}"]\n\n[', 1), where), where


def at_random(machine: Machine, count: int, seed: int) -> Array:
    """Networks that compute different things, drawn by a seed."""
    order = np.random.default_rng(seed).permutation(machine.rows.samples)
    _, first = np.unique(machine.rows.group[order], return_index=True)
    return np.asarray(order[np.sort(first)[:count]])


def by_design(machine: Machine, count: int, lender: Device) -> Array:
    """Networks of which the shares of seconds by kind of kernel have the largest determinant, one after the other."""
    some = at_random(machine, CANDIDATES, 0)
    shares = _shares(lender, machine.rows.take(some))
    spread = 1e-3 * np.eye(shares.shape[1])
    chosen: list[int] = []
    for _ in range(count):
        gain = np.einsum("ij,jk,ik->i", shares, np.linalg.inv(spread), shares)
        gain[chosen] = -1.0
        chosen.append(int(np.argmax(gain)))
        spread += np.outer(shares[chosen[-1]], shares[chosen[-1]])
    return np.asarray(some[chosen])


def _shares(device: Device, rows: Rows) -> Array:
    """Of every sample the share of its seconds by kind of kernel [samples, kinds]."""
    seconds = kernel_costs(device, rows)[0] * rows.times
    table = np.zeros((rows.samples, len(rows.kinds)))
    np.add.at(table, (rows.sample, rows.kind_index), seconds)
    found: Array = table / table.sum(axis=1, keepdims=True)
    return found


def judged(machine: Machine, device: Device, chosen: Array) -> dict[str, float]:
    """Errors on networks that compute something else than all chosen ones."""
    others = np.flatnonzero(~np.isin(machine.rows.group, machine.rows.group[chosen]))
    some = np.random.default_rng(0).permutation(others)[:JUDGED]
    source = Source("", "", lambda _: machine.rows, (), "", network=True)
    rows = as_run(machine.rows.take(np.sort(some)), source, device)
    time_s, energy_j = predict(device, rows)
    found = _errors("time", time_s, rows.time_s)
    seen = np.isfinite(rows.energy_j)
    return found | (_errors("energy", energy_j[seen], rows.energy_j[seen]) if seen.any() else {})


def _errors(name: str, predicted: Array, measured: Array) -> dict[str, float]:
    errors = errors_and_near(predicted, measured)
    return {f"{name}_{which}": errors[which] for which in ("median_ape", "tau", "near")}


def report(machine: Machine, count: int, seeds: int, like: str | None) -> Iterator[dict[str, Any]]:
    """A line for networks at random and one for networks by design."""
    text, where = head_of(machine.device, machine.device)
    bare = limits_of(text, where)
    lender = like or nearest_measured(bare)
    lent = replace(device_from_text(head_of(machine.device, lender)[0], where), id=machine.device)
    head = {"device": machine.device, "rows_of": machine.what, "like": lender, "count": count}
    draws = [at_random(machine, count, seed) for seed in range(seeds)]
    for name, choices in (("random", draws), ("design", [by_design(machine, count, lent)])):
        found = [judged(machine, calibrated(machine, lender, chosen), chosen) for chosen in choices]
        yield head | {"choice": name} | {key: float(np.median([each[key] for each in found])) for key in found[0]}


SHOWN = ("time_median_ape", "time_near", "time_tau", "energy_median_ape", "energy_near", "energy_tau")


def show(found: Sequence[dict[str, Any]]) -> None:
    """One table: errors, shares within a tenth, ranks."""
    columns = (">time error", ">within 10 %", ">tau", ">energy error", ">within 10 %", ">tau")
    sheet = Sheet(make_console(), "Fitted to few networks, judged on others", "machine", "rows of", "like", "chosen",
                  *columns)  # fmt: skip
    for each in found:
        cells = [_cell(each.get(name), name) for name in SHOWN]
        sheet.row(each["device"], each["rows_of"], each["like"], each["choice"], *cells)
    sheet.show()


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if name.endswith("tau") else f"{value:.1%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits, judges and prints; 2 where the folder is not there."""
    parser = parser_of("calibrate_from_few", __doc__)
    parser.add_argument("--count", type=int, default=20, help="networks that are fitted to (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="draws at random (default: %(default)s)")
    parser.add_argument("--like", help="the machine that holds what the networks do not tell (default: the nearest)")
    parser.add_argument("--hw", nargs="*", default=(), help="ids of machines (default: all of the sets)")
    options = parsed(parser, arguments)
    if options is None:
        return 2
    found = []
    for machine in machines(options.data, options.hw):
        say(f"{machine.what} ({machine.device})")
        found += list(report(machine, options.count, options.seeds, options.like))
    return printed(found, options.json, lambda: show(found))


if __name__ == "__main__":
    sys.exit(main())
