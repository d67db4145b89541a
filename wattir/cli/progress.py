"""A sign of life on stderr for what takes over a second, where stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 1.0


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Shows `doing` with a spinner while the block runs, from its second second on."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Lock, Timer

    lock, shown = Lock(), Spinner(doing)

    def show() -> None:
        with lock:
            shown.start()

    timer = Timer(PATIENCE_S, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            shown.stop()


@contextmanager
def counting(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; the block is given the function that counts on."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count: bar.advance(task, count)


class Spinner:
    """rich's spinner, imported when it starts; once stopped it does not start again."""

    def __init__(self, doing: str) -> None:
        self.doing, self.stopped = doing, False
        self.status: Any = None

    def start(self) -> None:
        """Starts it, unless it was stopped before."""
        if self.stopped:
            return
        from rich.console import Console
        from rich.text import Text

        self.status = Console(stderr=True).status(Text(self.doing))
        self.status.start()

    def stop(self) -> None:
        """Takes it off the screen."""
        self.stopped = True
        if self.status is not None:
            self.status.stop()
