"""One case after the other into a file of rows; a run that was cut off goes on where it ended."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wattir import __version__
from wattir.errors import InputError, WattirError
from wattir.writing import write_whole

from .sheet import COLUMNS, Sheet

CASE_LIMIT_S = 90.0
IDLE_S = 3.0


class Case(Protocol):
    """What is measured; its id is unique in a file of rows."""

    @property
    def case_id(self) -> str:
        """A name."""


class Bench(Protocol):
    """What runs cases on its `device`: `TorchBench`, `ModelBench` or `SimulatedBench`."""

    @property
    def device(self) -> str:
        """Where: ``cuda:0``, ``cpu``, or the id of what is simulated."""

    @property
    def labels(self) -> dict[str, str]:
        """Columns that all rows have: `meter` and `scope`."""

    def measure(self, case: Any) -> dict[str, Any]:
        """One row."""

    def idle(self, wait_s: float) -> dict[str, Any]:
        """The meter's columns with nothing running."""

    def recover(self) -> None:
        """After every case: what must hold before the next."""

    def describe(self) -> dict[str, Any]:
        """Fixed facts of the device, the meter and the software."""


@dataclass(frozen=True)
class Outcome:
    """How many rows a run added, how many were there before, and what failed: case -> why."""

    added: int
    before: int
    failed: dict[str, str]


class CaseTimeoutError(Exception):
    """A case ran past the time given to it."""


def run_cases(
    bench: Bench, cases: Sequence[Case], path: str, say: Callable[[str], None], repeats: int = 1,
    columns: tuple[str, ...] = COLUMNS,
) -> Outcome:  # fmt: skip
    """Measures what is not in the file yet, `repeats` times each; every row is on disk as soon as it is made.

    InputError where the file is of another machine.
    """
    sheet = Sheet(path, columns)
    _same_machine(path, bench.describe())
    cases = list({case.case_id: case for case in cases}.values())
    done = sheet.done()
    todo = [(case, str(i)) for i in range(1, repeats + 1) for case in cases if (case.case_id, str(i)) not in done]
    before = len(cases) * repeats - len(todo)
    if not todo:
        return Outcome(0, before, {})
    idle = bench.idle(IDLE_S)
    shared = bench.labels | {"idle_w": idle["power_w"]}
    sheet.add({"case_id": f"idle-{len(done):03d}", "kind": "idle", "mode": "idle"} | idle | shared | _now())
    failed: dict[str, str] = {}
    for number, (case, repeat) in enumerate(todo, 1):
        place = f"{number} of {len(todo)}  {case.case_id}"
        try:
            with deadline(CASE_LIMIT_S):
                row = bench.measure(case)
            sheet.add(row | shared | {"case_id": case.case_id, "repeat": repeat} | _now())
            say(f"{place}: {_said(row)}")
        except Exception as error:  # one layer's failure, of whatever kind, must not cost the others
            failed[case.case_id] = _reason(error)
            say(f"{place}: failed ({failed[case.case_id]})")
        bench.recover()
    return Outcome(len(todo) - len(failed), before, failed)


def add_row(bench: Bench, case_id: str, row: dict[str, Any], path: str) -> None:
    """Adds one more row of a case, the next of its repeats."""
    sheet = Sheet(path)
    earlier = sum(case == case_id for case, _ in sheet.done())
    _same_machine(path, bench.describe())
    sheet.add(row | {"case_id": case_id, "repeat": earlier + 1} | _now())


def _said(row: dict[str, Any]) -> str:
    return f"{1e3 * row['time_s']:.4g} ms, {row['power_w']:.4g} W"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:160]
    return text if isinstance(error, WattirError) else f"{type(error).__name__}: {text}"


def _now() -> dict[str, str]:
    return {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _same_machine(path: str, facts: dict[str, Any]) -> None:
    """Writes what holds for all rows beside them; InputError where rows of another machine are there."""
    beside = os.path.splitext(path)[0] + "_meta.json"
    if os.path.exists(path) and os.path.exists(beside):
        with open(beside, encoding="utf-8") as file:
            earlier = json.load(file).get("metered")
        if earlier != facts.get("metered"):
            raise InputError(
                f"{path}: has rows of {earlier}, and this is {facts.get('metered')}; expected one file for each machine"
            )
    known = {key: value for key, value in facts.items() if not (isinstance(value, float) and math.isnan(value))}
    write_whole(beside, json.dumps({**known, "wattir": __version__, **_now()}, indent=1, default=str) + "\n")


@contextlib.contextmanager
def deadline(limit_s: float) -> Iterator[None]:
    """Raises CaseTimeoutError in the body once `limit_s` has passed; only the main thread can be stopped so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_: Any) -> None:
        raise CaseTimeoutError(f"over {limit_s:.0f} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
