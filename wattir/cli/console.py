"""rich, set up once: plain text in, no colour and no folding in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 160
"""Width of tables that no terminal gives a width to."""
NARROWEST = 80
WIDE = 110
"""A console narrower than this shows the needed columns only."""

Cell = TypeVar("Cell")


class _Console(Console):
    """A console that leaves a pipe closed by its reader to `wattir.cli.main`; rich itself would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise  # rich calls this while it handles the BrokenPipeError


def make_console(pipe_columns: int = PIPE_COLUMNS) -> Console:
    """A console on stdout; names with brackets or colons in them are no markup."""
    width = max(NARROWEST, get_terminal_size().columns) if sys.stdout.isatty() else pipe_columns
    return _Console(width=width, markup=False, emoji=False, highlight=False)


class Sheet:
    """A table whose less needed columns are left out where the console is narrower than `WIDE`.

    A column's name may start with ``?``: less needed; then with ``>``: numbers, set right.
    """

    def __init__(self, console: Console, title: str, *columns: str) -> None:
        self.console = console
        self.kept = [console.width >= WIDE or not column.startswith("?") for column in columns]
        self.table = Table(
            box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", show_edge=False,
            pad_edge=False, collapse_padding=True,
        )  # fmt: skip
        for column in self._kept(columns):
            name = column.removeprefix("?")
            right = name.startswith(">")
            self.table.add_column(name.removeprefix(">"), justify="right" if right else "left", no_wrap=True)

    def row(self, *cells: str | Text) -> None:
        """A row with a cell for every column."""
        self.table.add_row(*self._kept(cells))

    def show(self) -> None:
        """Prints the table and a blank line."""
        self.console.print(self.table)
        self.console.print()

    def _kept(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell, kept in zip(cells, self.kept, strict=True) if kept]


def make_grid() -> Table:
    """Rows of a label and a text."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def clean(text: str) -> Text:
    """A text from a file, without control characters."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def clipped(text: str, width: int) -> Text:
    """A layer's path cut from the left: its end tells layers apart."""
    plain = clean(text).plain
    return Text(plain if len(plain) <= width else "..." + plain[3 - width :])


def bar(share: float, columns: int, console: Console) -> str:
    """A share of 1 as a bar of at most `columns` characters."""
    mark = "\u2501" if console.encoding.startswith("utf") else "#"
    return mark * round(columns * min(max(share, 0.0), 1.0))
