"""A comparison as text for people: both sides, and a bar a factor from the one's level to the other's."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from wattir.cli.console import Sheet, clean, make_console, make_grid
from wattir.cli.units import percent, prefixed
from wattir.cli.waterfall import Comparison, meaning

BAR_COLUMNS = 40


def show_waterfall(found: Comparison) -> None:
    """Prints everything."""
    console = make_console()
    ratio = found.b_j / found.a_j if found.a_j else float("inf")
    console.print(Text(f"B takes {ratio:.3g} times the joules of A per {found.per}", style="bold"))
    console.print(_sides(found))
    console.print()
    _show_steps(console, found)


def _sides(found: Comparison) -> object:
    grid = make_grid()
    for name, side, joules in (("A", found.a, found.a_j), ("B", found.b, found.b_j)):
        grid.add_row(name, clean(f"{side.label}: {prefixed(joules, 'J')}; {side.said}"))
    return grid


def _show_steps(console: Console, found: Comparison) -> None:
    top = found.top_j
    sheet = Sheet(console, f"From A to B, per {found.per}", "factor", ">joules", ">of A", "", "?meaning")
    sheet.row("A", prefixed(found.a_j, "J"), "", _bar(0.0, found.a_j / top, console), "")
    for step in found.shown:
        low, high = sorted((step.before_j / top, step.after_j / top))
        sheet.row(step.factor, *_change(step.energy_j, found.a_j), _bar(low, high, console), meaning(step.factor))
    sheet.row("B", prefixed(found.b_j, "J"), "", _bar(0.0, found.b_j / top, console), "")
    sheet.show()


def _change(joules: float, whole: float) -> tuple[str, str]:
    sign = "+" if joules >= 0.0 else "-"
    return sign + prefixed(abs(joules), "J"), sign + percent(abs(joules) / whole) if whole else "-"


def _bar(low: float, high: float, console: Console) -> str:
    mark = "\u2501" if console.encoding.startswith("utf") else "#"
    first, last = round(BAR_COLUMNS * max(low, 0.0)), round(BAR_COLUMNS * max(high, 0.0))
    return " " * first + mark * max(last - first, 1)
