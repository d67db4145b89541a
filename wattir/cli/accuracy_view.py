"""Predicted beside measured: one table of errors, for `wattir validate` and benchmarks/accuracy.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wattir.cli.console import Sheet, clean, make_console

ERRORS = ("median_ape", "mape", "bias", "tau", "coverage", "median_half_width")
HEADS = ("%", "mape", "bias", "tau", "?in 90 %", "?width")
COLUMNS = 220
PLAIN = ("tau", "median_half_width")
"""Errors that are no shares of 1."""


def show_accuracy(title: str, names: Sequence[str], reports: Iterable[tuple[Sequence[str], Mapping[str, Any]]]) -> None:
    """A row for each report of `evaluate_rows`, with the texts that name it under `names`."""
    columns = [head for what in ("time", "energy") for head in _heads(what)]
    sheet = Sheet(make_console(COLUMNS), title, *names, ">rows", ">groups", *columns, ">energy given time %")
    for texts, report in reports:
        cells = [_cell(report.get(what, {}), name) for what in ("time", "energy") for name in ERRORS]
        given = _cell(report.get("energy_given_time", {}), "median_ape")
        sheet.row(*map(clean, texts), str(report["rows"]), str(report["groups"]), *cells, given)
    sheet.show()


def _heads(what: str) -> list[str]:
    first, *rest = HEADS
    return [f">{what} {first}", *(f"?>{head[1:]}" if head.startswith("?") else f">{head}" for head in rest)]


def _cell(errors: Mapping[str, float | None], name: str) -> str:
    value = errors.get(name)
    if value is None:
        return "-"
    return f"{value:.3f}" if name in PLAIN else f"{100 * value:.1f}"


def show_left_out(title: str, counts: Mapping[str, int]) -> None:
    """What was not predicted: reasons with how many rows each."""
    for reason, count in counts.items():
        print(f"{title}: {count} {clean(reason).plain}")
