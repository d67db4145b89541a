"""The numba engine: the very functions of `wattir.roofline` and `wattir.totals`, compiled, over points in blocks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable

from wattir import interval, roofline
from wattir import totals as totals_module
from wattir.costmodel import EXACT, LAUNCHES
from wattir.dims import CHANCE
from wattir.graph_check import MAX_DIM
from wattir.machine import ROW_CONSTANTS
from wattir.roofline import kernel_cost
from wattir.totals import SUMS
from wattir.work import CELLS

FORMULAS = (roofline, interval, totals_module)

for _module in FORMULAS:
    for _part in vars(_module).values():
        if getattr(_part, "__module__", "") == _module.__name__ and not isinstance(_part, type):
            register_jitable(_part)  # compiled code may call the plain functions as they are

LANES = 64
"""Points that go through a tape together: their registers stay in the first-level cache."""


def _row_cost() -> Any:
    """The call of `kernel_cost` written out for as many cells and constants as there are."""
    cells = ", ".join(f"cells[i, {place}]" for place in range(len(CELLS)))
    constants = ", ".join(f"constants[j, {place}]" for place in range(len(ROW_CONSTANTS)))
    scope: dict[str, Any] = {"kernel_cost": kernel_cost}
    exec(f"def row_cost(cells, i, constants, j, trees):\n    return kernel_cost({cells}, {constants}, trees)", scope)
    return scope["row_cost"]


row_cost = njit(inline="always")(_row_cost())
"""``row_cost(cells, i, constants, j, trees)``: `kernel_cost` of row i of `cells` [rows, `CELLS`] with row j of
`constants` [rows, `ROW_CONSTANTS`], compiled. Written out, because compiled code is half as fast with tuples made from
arrays."""


@njit(error_model="numpy")
def _step(op: int, a: Any, b: Any, out: Any) -> None:
    """One step of a tape over a block; the numbers are those of `wattir.tape`."""
    for lane in range(out.shape[0]):
        if op == 0:
            out[lane] = a[lane] + b[lane]
        elif op == 1:
            out[lane] = a[lane] * b[lane]
        elif op == 2:
            out[lane] = a[lane] // b[lane]
        elif op == 3:
            out[lane] = a[lane] % b[lane]
        elif op == 4:
            out[lane] = min(a[lane], b[lane])
        elif op == 5:
            out[lane] = max(a[lane], b[lane])
        elif op == 7:
            out[lane] = 1.0 if a[lane] == b[lane] else 0.0
        else:
            out[lane] = math.floor(CHANCE * (1.0 - a[lane] / CHANCE) ** b[lane] + 0.5)


@njit(error_model="numpy")
def _refuse(w: Any, checked: Any, sums: Any) -> None:
    """NaN joules for points whose formulas leave what a double counts exactly, or whose sizes leave 0 to 2^40."""
    for lane in range(sums.shape[0]):
        for register in range(w.shape[0]):
            if not abs(w[register, lane]) <= EXACT:
                sums[lane, 0] = np.nan
        for register in checked:
            if not 0.0 <= w[register, lane] <= MAX_DIM:
                sums[lane, 0] = np.nan


@njit(error_model="numpy")
def _row(
    w: Any,
    cells: Any,
    constants: Any,
    trees: Any,
    r: int,
    times: Any,
    spread: float,
    widening: float,
    host_op_s: float,
    sums: Any,
) -> None:
    """Adds the cost of kernel r to the sums of a block. w: registers [registers, lanes]."""
    values = np.empty((1, cells.shape[1]))
    for lane in range(sums.shape[0]):
        count = w[times, lane]
        if count == 0.0 or sums[lane, 0] != sums[lane, 0]:
            continue
        for place in range(cells.shape[1]):
            values[0, place] = w[cells[r, place], lane]
        found = row_cost(values, 0, constants, r, trees)
        joules = found[1] * count
        sums[lane, 0] += joules
        sums[lane, 1] += found[0] * count
        sums[lane, 2] += found[1] * joules * spread
        sums[lane, 3] += joules * widening
        sums[lane, 4] += values[0, LAUNCHES] * count * host_op_s
        sums[lane, 5] += found[6] * count
        sums[lane, 6] += found[7] * count
        sums[lane, 7] += found[8] * count


def compiled(function: Callable[..., Any]) -> Any:
    """A function compiled when it is first called, and kept on disk where there is a place for it: beside its module or
    in the user's cache. It lets go of the interpreter's lock."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither can be written to, as in a container without a home
        return njit(**options)(function)


def _make_run(stamp: int) -> Any:
    @compiled
    def run(
        sizes: Any, numbers: Any, steps: Any, checked: Any, cells: Any, times: Any, constants: Any, spreads: Any,
        widening: Any, trees: Any, host_op_s: float, sums: Any, first: int, end: int,
    ) -> None:  # fmt: skip
        _ = stamp  # in numba's cache key: code compiled from older formulas is not used again
        free, fixed = sizes.shape[0], numbers.shape[0]
        w = np.empty((free + fixed + steps.shape[0], LANES))
        for i in range(fixed):
            w[free + i] = numbers[i]
        for start in range(first, end, LANES):
            width = min(LANES, end - start)
            w[:free, :width] = sizes[:, start : start + width]
            for i in range(steps.shape[0]):
                _step(steps[i, 0], w[steps[i, 1], :width], w[steps[i, 2], :width], w[free + fixed + i, :width])
            found = sums[start : start + width]
            found[:] = 0.0
            _refuse(w, checked, found)
            for r in range(cells.shape[0]):
                _row(w, cells, constants, trees, r, times[r], spreads[r], widening[r], host_op_s, found)

    return run


def source_stamp() -> int:
    """A checksum of the text of the formulas and of what they take."""
    text = repr((CELLS, ROW_CONSTANTS, SUMS, EXACT, MAX_DIM, CHANCE)).encode()
    for module in FORMULAS:
        assert module.__file__
        with open(module.__file__, "rb") as file:
            text += file.read()
    return zlib.crc32(text)


run_points = _make_run(source_stamp())
"""Writes `wattir.totals.SUMS` over all kernels to `sums` [points, sums] from sizes [names, points] and a program as
arrays, for the points from `first` to before `end`. NaN joules where a point is refused."""
