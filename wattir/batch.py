"""Many settings at once: arrays of sizes through the numba engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wattir.costmodel import Answer, CostModel
from wattir.errors import SizeError
from wattir.graph_check import MAX_DIM
from wattir.program import Program
from wattir.tables import MERGED_ROWS, Array, laid_out, merged, run_program, table_of
from wattir.threads import spread
from wattir.totals import SUMS

TABLE_SHARE = 0.5
"""A table is made where it has at most this many rows for each candidate."""

DIRECT_ADDRESSES = 2**16
"""Sizes below this are told apart by a table of addresses, larger ones by sorting."""
MOST_INDICES = 65535


def evaluate_arrays(model: CostModel, sizes: Mapping[str, Any]) -> Answer:
    """Arrays of joules and seconds for sizes given as arrays that broadcast; plain ints stay as they are.

    SizeError names the size and the first index that is not a whole number from 0 to 2^40, or shapes that do not fit.
    """
    scalars = model.bind({name: _first(name, value) for name, value in sizes.items()})
    columns, shape = _flat(sizes)
    count = math.prod(shape)
    values, index = _encoded(columns, scalars, count)
    counts = [len(values[name]) if name in values else 0 for name in scalars]
    known = {name: values.get(name, np.empty(0)) for name in scalars}
    small = [program for program in model.programs if _fits(program, values, count)]
    tables = spread(lambda program: table_of(program, known, model.trees, model.host_op_s), small, count)
    direct = np.empty((0, len(SUMS)))
    for program in model.programs:
        if _fits(program, values, count):
            continue
        points = np.array([np.broadcast_to(columns.get(name, scalars[name]), count) for name in program.tape.names])
        found = run_program(program, points, model.trees, model.host_op_s)
        direct = found if not len(direct) else direct + found
    fewer = merged(tables, counts, min(MERGED_ROWS, count // 16))
    ask = laid_out(fewer, counts, model.interval_constants, model.host_op_s > 0.0, checked=False)
    answers = ask(index.T, direct)
    if answers.refused:
        _say_why(model, answers.energy_j, {name: columns.get(name, scalars[name]) for name in scalars})
    return Answer(*(np.reshape(getattr(answers, name), shape) for name in Answer.__slots__))


def _say_why(model: CostModel, energy_j: Array, sizes: Mapping[str, Any]) -> None:
    """Asks for the first refused candidate alone, which raises; SizeError with its index."""
    at = int(np.flatnonzero(np.isnan(energy_j))[0])
    alone = {name: value if isinstance(value, int) else int(value[at]) for name, value in sizes.items()}
    try:
        model(**alone)
    except SizeError as error:
        raise SizeError(f"candidate [{at}]: {error}") from None
    raise SizeError(f"candidate [{at}]: a formula passes 2^53 at {alone}; give smaller sizes")


def _fits(program: Program, values: Mapping[str, Array], count: int) -> bool:
    """Whether a table over the values is small beside the candidates."""
    if any(name not in values for name in program.tape.names):
        return False
    rows = math.prod(len(values[name]) for name in program.tape.names)
    return rows <= max(TABLE_SHARE * count, 1)


def _flat(sizes: Mapping[str, Any]) -> tuple[dict[str, Array], tuple[int, ...]]:
    """The sizes that are arrays as flat columns of one length, and the shape they broadcast to."""
    arrays = {name: _whole(name, np.asarray(value)) for name, value in sizes.items() if np.ndim(value)}
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise SizeError(f"sizes do not broadcast: {shapes}; expected equal lengths or 1") from None
    return {name: np.broadcast_to(array, shape).ravel() for name, array in arrays.items()}, shape


def _encoded(columns: Mapping[str, Array], scalars: Mapping[str, int], count: int) -> tuple[dict[str, Array], Array]:
    """The values of each size, and the candidates as indices into them [names, candidates].

    A size with too many values for a table has none; its column of indices is of no use.
    """
    index = np.empty((len(scalars), count), np.uint16)

    def encoded(piece: tuple[int, str]) -> Array | None:
        place, name = piece
        if name in columns:
            return _encode(columns[name], index[place], name)
        index[place] = 0
        return np.array([scalars[name]])

    found = spread(encoded, list(enumerate(scalars)), count)
    return {name: values for name, values in zip(scalars, found, strict=True) if values is not None}, index


def _encode(column: Array, places: Array, name: str) -> Array | None:
    """The distinct values of a column, whose indices go to `places`; None where there are too many."""
    from wattir.backends.gather import ABSENT, encode

    indices = np.full(DIRECT_ADDRESSES, ABSENT, np.uint16)
    known = encode(column, indices, places)
    if known < 0:
        return _sorted_out(column, places, name)
    values = np.empty(known, np.int64)
    used = np.flatnonzero(indices != ABSENT)
    values[indices[used]] = used
    return values


def _sorted_out(column: Array, places: Array, name: str) -> Array | None:
    wrong = (column < 0) | (column > MAX_DIM)
    if wrong.any():
        raise _out_of_range(name, column, wrong)
    values, found = np.unique(column, return_inverse=True)
    if len(values) > min(MOST_INDICES, TABLE_SHARE * len(column)):
        return None
    places[:] = found
    return values


def _first(name: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.size == 0:
        raise SizeError(f"size {name} is an empty array; expected at least one value")
    return array.flat[0].item()


def _whole(name: str, array: Array) -> Array:
    """An array of sizes as int64, whole numbers that fit; their range is checked where they are encoded."""
    if array.dtype.kind not in "iuf":
        raise SizeError(f"size {name} has dtype {array.dtype}; expected whole numbers")
    if array.dtype.kind == "f" or array.dtype == np.uint64:
        with np.errstate(invalid="ignore"):
            wrong = ~((array >= 0) & (array <= MAX_DIM) & (array == np.floor(array)))
        if wrong.any():
            raise _out_of_range(name, array, wrong)
    return np.ascontiguousarray(array, np.int64)


def _out_of_range(name: str, array: Array, wrong: Array) -> SizeError:
    at = np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape)
    where = ", ".join(str(int(axis)) for axis in at)
    return SizeError(f"size {name}[{where}] = {array[at]}; expected a whole number from 0 to {MAX_DIM}")
