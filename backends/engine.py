"""The numba engine: the very functions of `wattir.roofline`, compiled, over rows and over blocks of candidates."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numba import njit, prange
from numba.extending import register_jitable

from wattir import roofline
from wattir.dims import CHANCE
from wattir.machine import ROW_CONSTANTS
from wattir.roofline import kernel_cost
from wattir.work import CELLS

PARTS = tuple(part for part in vars(roofline).values() if getattr(part, "__module__", "") == roofline.__name__)
"""The plain functions of the formula; registered so that compiled code may call them as they are."""

for _part in PARTS:
    register_jitable(_part)

LANES = 64
"""Candidates that go through a tape together: their registers stay in the first-level cache."""

SUMS = 5
"""energy, time, spread of the energy, energy of modelled kernels, energy of unknown ops."""


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


@njit
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
        else:
            out[lane] = math.floor(CHANCE * (1.0 - a[lane] / CHANCE) ** b[lane] + 0.5)


@njit
def _row(
    w: Any, cells: Any, constants: Any, trees: Any, r: int, times: Any, spread: float, origin: float, sums: Any
) -> None:
    """Adds the cost of kernel r to the sums of a block. w: registers [registers, lanes]."""
    values = np.empty((1, cells.shape[1]))
    for lane in range(sums.shape[1]):
        for place in range(cells.shape[1]):
            values[0, place] = w[cells[r, place], lane]
        found = row_cost(values, 0, constants, r, trees)
        joules = found[1] * w[times, lane]
        sums[0, lane] += joules
        sums[1, lane] += found[0] * w[times, lane]
        sums[2, lane] += found[1] * joules * spread
        if origin == 1.0:
            sums[3, lane] += joules
        if origin == 2.0:
            sums[4, lane] += joules


def _make_run(stamp: int) -> Any:
    @njit(parallel=True, cache=True)
    def run(
        sizes: Any, numbers: Any, steps: Any, cells: Any, times: Any, constants: Any, trees: Any, spreads: Any,
        origins: Any,
    ) -> Any:  # fmt: skip
        _ = stamp  # in numba's cache key: code compiled from older formulas is not used again
        count = sizes.shape[1]
        sums = np.zeros((SUMS, count))
        for block in prange((count + LANES - 1) // LANES):
            start = block * LANES
            width = min(LANES, count - start)
            w = np.empty((sizes.shape[0] + numbers.shape[0] + steps.shape[0], width))
            w[: sizes.shape[0]] = sizes[:, start : start + width]
            for i in range(numbers.shape[0]):
                w[sizes.shape[0] + i] = numbers[i]
            for i in range(steps.shape[0]):
                target = sizes.shape[0] + numbers.shape[0] + i
                _step(steps[i, 0], w[steps[i, 1]], w[steps[i, 2]], w[target])
            for r in range(cells.shape[0]):
                part = sums[:, start : start + width]
                _row(w, cells, constants, trees, r, times[r], spreads[r], origins[r], part)
        return sums

    return run


def _source_stamp() -> int:
    """A checksum of the text of the formulas and of what they take."""
    with open(roofline.__file__, "rb") as file:
        return zlib.crc32(file.read() + repr((CELLS, ROW_CONSTANTS)).encode())


run_blocks = _make_run(_source_stamp())
"""Sums [5, candidates] over all kernels, from sizes [names, candidates] and a tape as arrays; on all cores."""
