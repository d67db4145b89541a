"""Many settings at once: arrays of sizes through the numba engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wattir.costmodel import MAX_SIZE, Answer, CostModel
from wattir.dims import evaluate
from wattir.errors import SizeError
from wattir.graph_check import check_sizes


def evaluate_arrays(model: CostModel, sizes: Mapping[str, Any]) -> Answer:
    """Arrays of joules and seconds for sizes given as arrays that broadcast; plain ints stay as they are.

    SizeError names the size and the first index that is not a whole number from 0 to 2^40, or shapes that do not fit.
    """
    from wattir.backends.engine import run_blocks

    scalars = model.bind({name: _first(name, value) for name, value in sizes.items()})
    columns = {name: _column(name, sizes.get(name, scalars[name])) for name in scalars}
    try:
        grid = np.broadcast_arrays(*columns.values())
    except ValueError:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items() if column.ndim)
        raise SizeError(f"sizes do not broadcast: {shapes}; expected equal lengths or 1") from None
    shape = grid[0].shape
    candidates = {name: column.ravel() for name, column in zip(columns, grid, strict=True)}
    check_sizes(model.graph, candidates)
    flat = np.array([column.ravel() for column in grid], dtype=np.float64)
    energy, time, spread, modelled, unknown = run_blocks(flat, *_arrays(model))
    host_ops = evaluate(model.host_ops, candidates)
    answer = model.totals(energy, time, spread, modelled, unknown, host_ops, np)
    return Answer(*(np.reshape(getattr(answer, name), shape) for name in Answer.__slots__))


def _arrays(model: CostModel) -> tuple[Any, ...]:
    tape, rows, origins = model.program
    return (
        np.array(tape.numbers, dtype=np.float64),
        np.array(tape.steps, dtype=np.int64).reshape(-1, 3),
        np.array([row.cells for row in rows], dtype=np.int64),
        np.array([row.times for row in rows], dtype=np.int64),
        np.array([row.constants for row in rows], dtype=np.float64),
        np.array(model.trees),
        np.array([row.spread for row in rows], dtype=np.float64),
        np.array(origins),
    )


def _first(name: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.size == 0:
        raise SizeError(f"size {name} is an empty array; expected at least one value")
    return array.flat[0].item()


def _column(name: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise SizeError(f"size {name} has dtype {array.dtype}; expected whole numbers")
    with np.errstate(invalid="ignore"):
        wrong = ~((array >= 0) & (array <= MAX_SIZE) & (array == np.floor(array)))
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        raise SizeError(f"size {name}[{index}] = {array.flat[index]}; expected a whole number from 0 to {MAX_SIZE}")
    return array.astype(np.int64)
