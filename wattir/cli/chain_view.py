"""The chain from the accelerators to the grid as text: every factor, then its source."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from wattir.chain import Link
from wattir.cli.console import Sheet, clean, make_grid
from wattir.cli.units import prefixed

GRAMS = 1000.0


def show_chain(console: Console, links: Sequence[Link]) -> None:
    """Prints it, one row a link, and the sources below."""
    sheet = Sheet(console, "From the accelerators to the grid", "at", ">value", "factor")
    sources = make_grid()
    for link in links:
        sheet.row(link.name, _value(link), clean(link.factor))
        sources.add_row(link.name, clean(link.source))
    sheet.show()
    console.print(sources)
    console.print()


def _value(link: Link) -> str:
    return prefixed(link.value * GRAMS, "g") if link.unit == "kg" else prefixed(link.value, link.unit)
