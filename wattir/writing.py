"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from wattir.errors import InputError


def write_whole(path: str, text: str) -> None:
    """Writes a text file; what stood at `path` stays as it was if that fails. InputError says why it does."""
    try:
        _write(path, text)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path}: cannot be written ({reason}); expected a file in a folder you may write to"
        ) from None


def _write(path: str, text: str) -> None:
    if os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):  # /dev/stdout is not to be replaced
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        return
    with replacing(path) as partial, open(partial, "x", encoding="utf-8", newline="", errors="surrogateescape") as file:
        file.write(text)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, in which files are written that belong together."""
    if threading.current_thread() is not threading.main_thread():  # Python tells no other of it
        yield
        return
    waiting: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *given: waiting.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting and callable(before):
        before(*waiting[0])


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """The name of a file to write, which becomes `path` when the block ends; nothing is left of it if that fails."""
    partial = f"{path}.{os.getpid()}.part"
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
