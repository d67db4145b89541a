"""Whole networks, predicted and measured: ``python -m benchmarks.networks [--hw ID] [--models FOLDER] [--json]``.

Reads ``benchmarks/measurements/ID/networks.csv`` and predicts every row that a built-in model covers (or a ``.wattir``
file in ``--models``, as ``benchmarks/make_models.py --out FOLDER`` writes them). Nothing but the host's seconds an op
and the interval's width was fitted to these rows. Rows in a known trap are listed apart, with the reason; networks that
no model covers are counted by name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from wattir.backends.fit.datasets_networks import Networks, covered, trap_of
from wattir.backends.fit.evaluate import evaluate_rows, plain, widths
from wattir.backends.fit.model import predict
from wattir.backends.fit.plan import Source, as_run
from wattir.backends.fit.rows import Rows
from wattir.device import Device, load_device
from wattir.models import FOLDER

MEASUREMENTS = Path(__file__).parent / "measurements"
AS_NETWORK = Source("networks", "", lambda folder: covered(folder).rows, (), "model", network=True)
COLUMNS = (
    "network",
    "phase",
    "mode",
    "math",
    "batch",
    "size",
    "ms",
    "ms est.",
    "ratio",
    "J",
    "J est.",
    "ratio",
    "inside",
)


@dataclass(frozen=True)
class Line:
    """One measured network beside its prediction; `trap` says why it should not be judged, if so."""

    network: str
    phase: str
    mode: str
    math: str
    batch: int
    size: str
    time_s: float
    predicted_time_s: float
    energy_j: float
    predicted_energy_j: float
    inside: bool
    trap: str


def lines_of(found: Networks, rows: Rows, device: Device) -> list[Line]:
    """A line for every row, in the table's order."""
    time_s, energy_j = predict(device, rows)
    inside = np.abs(np.log(energy_j / rows.energy_j)) <= widths(device, rows)
    return [
        Line(
            row.model, row.phase, row.mode, row.math, int(row.batch), _size(row), float(rows.time_s[i]),
            float(time_s[i]), float(rows.energy_j[i]), float(energy_j[i]), bool(inside[i]), trap_of(row),
        )
        for i, row in enumerate(found.table.itertuples())
    ]  # fmt: skip


def _size(row: Any) -> str:
    if row.phase == "decode":
        return f"context {int(row.context)}"
    return str(int(row.image if np.isnan(row.seq) else row.seq))


def summaries(lines: Sequence[Line], rows: Rows, device: Device) -> dict[str, dict[str, Any]]:
    """By mode, by mode and batch, by phase, and of all: `evaluate_rows` over the rows that count."""
    kinds = {"all": [True] * len(lines)}
    for mode in dict.fromkeys(line.mode for line in lines):
        kinds[mode] = [line.mode == mode for line in lines]
        kinds[f"{mode}, batch 1"] = [line.mode == mode and line.batch == 1 for line in lines]
        kinds[f"{mode}, larger batches"] = [line.mode == mode and line.batch > 1 for line in lines]
    for phase in dict.fromkeys(line.phase for line in lines):
        kinds[phase] = [line.phase == phase for line in lines]
    good = np.array([not line.trap for line in lines])
    found = {name: good & np.array(mask) for name, mask in kinds.items()}
    found["in a known trap"] = ~good
    return {name: plain(evaluate_rows(device, rows.take(mask))) for name, mask in found.items() if mask.any()}


def report(hw: str, models: Sequence[str]) -> dict[str, Any]:
    """All lines, summaries and what no model covers."""
    device = load_device(hw)
    found = covered(str(MEASUREMENTS / device.id), (*models, FOLDER))
    rows = as_run(found.rows, AS_NETWORK, device)
    lines = lines_of(found, rows, device)
    return {
        "device": device.id, "summary": summaries(lines, rows, device), "lines": lines, "uncovered": found.uncovered,
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """Three tables: networks, networks in a trap, medians."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    lines: list[Line] = found["lines"]
    console.print(_table(f"Networks on {found['device']}", (line for line in lines if not line.trap)))
    for trap in dict.fromkeys(line.trap for line in lines if line.trap):
        console.print(_table(f"Not judged: {trap}", (line for line in lines if line.trap == trap)))
    uncovered = ", ".join(f"{name} ({count})" for name, count in found["uncovered"].items())
    console.print(f"No built-in model covers {sum(found['uncovered'].values())} rows: {uncovered or 'none'}\n")
    console.print(_medians(found["summary"]))


def _table(title: str, lines: Iterable[Line]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:4] else "right")
    for line in lines:
        table.add_row(
            line.network, line.phase, line.mode, line.math, str(line.batch), line.size, f"{1e3 * line.time_s:.3g}",
            f"{1e3 * line.predicted_time_s:.3g}", f"{line.predicted_time_s / line.time_s:.2f}", f"{line.energy_j:.3g}",
            f"{line.predicted_energy_j:.3g}", f"{line.predicted_energy_j / line.energy_j:.2f}",
            "yes" if line.inside else "no",
        )  # fmt: skip
    return table


def _medians(summary: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title="Medians of absolute percentage errors, and signed bias", title_justify="left")
    columns = ("rows", "models", "time %", "bias %", "energy %", "bias %", "energy given time %", "covered %", "tau")
    for name in ("of", *columns):
        table.add_column(name, justify="left" if name == "of" else "right")
    for name, each in summary.items():
        energy = each["energy"]
        shares = (
            each["time"]["median_ape"], each["time"]["bias"], energy["median_ape"], energy["bias"],
            each["energy_given_time"]["median_ape"], energy["coverage"],
        )  # fmt: skip
        tau = "-" if energy["tau"] is None else f"{energy['tau']:.3f}"
        table.add_row(name, str(each["rows"]), str(each["groups"]), *(f"{100 * share:.1f}" for share in shares), tau)
    return table


def main() -> int:
    """Reads, predicts, prints; 2 where the device has no measured networks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--hw", default="h200_sxm", help="a device with measured networks (default: %(default)s)")
    parser.add_argument("--models", action="append", default=[], help="a folder of more .wattir files")
    parser.add_argument("--json", action="store_true", help="print one object instead")
    options = parser.parse_args()
    if not (MEASUREMENTS / options.hw / "networks.csv").exists():
        print(f"--hw {options.hw}: no networks.csv in {MEASUREMENTS / options.hw}; measure some first", file=sys.stderr)
        return 2
    found = report(options.hw, options.models)
    if options.json:
        print(
            json.dumps(found, default=lambda line: {n: getattr(line, n) for n in line.__dataclass_fields__}, indent=1)
        )
    else:
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
