"""Work on all cores: compiled code that lets go of the interpreter's lock, called from a few threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from itertools import pairwise
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

WORTH_S = 0.01
"""Work that takes less than this on one thread is not worth a second one."""
PIECE = 2**16
"""Candidates that one thread answers in one go, at most."""
LEAST = 2**13
"""And at least."""

_most: ContextVar[int | None] = ContextVar("most_threads", default=None)


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Batches inside use at most so many threads. Without it: ``NUMBA_NUM_THREADS``, or as many as there are cores."""
    token = _most.set(threads)
    try:
        yield
    finally:
        _most.reset(token)


def thread_count() -> int:
    """How many threads a batch may use."""
    from numba import config

    most = _most.get()
    return int(vars(config)["NUMBA_NUM_THREADS"]) if most is None else max(1, most)


def spread(work: Callable[[Piece], Result], pieces: Sequence[Piece], seconds: float) -> list[Result]:
    """The results of `work` for each piece, in order; on several threads where about so many `seconds` are worth it.

    Threads are made for each call and end with it: nothing is left that a forked process would wait for. What a piece
    spreads in turn, its own thread does.
    """
    threads = min(thread_count(), len(pieces)) if seconds >= WORTH_S else 1
    if threads < 2:
        return [work(piece) for piece in pieces]
    with at_most(1):
        alone = [copy_context() for _ in pieces]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda context, piece: context.run(work, piece), alone, pieces))


def ranges(count: int) -> list[tuple[int, int]]:
    """`count` candidates cut into ranges (first, end) of at most `PIECE`, about equally many a thread, of whole blocks;
    few are one."""
    from wattir.backends.gather import LANES

    rounds = math.ceil(count / (PIECE * thread_count()))
    pieces = max(1, min(rounds * thread_count(), count // LEAST))
    ends = [count * piece // pieces // LANES * LANES for piece in range(pieces)]
    return list(pairwise([*ends, count]))
