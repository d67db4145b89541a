"""Sizes of many candidates as indices into the distinct values of each size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wattir.errors import SizeError
from wattir.graph_check import MAX_DIM
from wattir.threads import spread

Array = np.ndarray[Any, np.dtype[Any]]

DIRECT_ADDRESSES = 2**16
"""Sizes below this are told apart by a table of addresses, larger ones by sorting."""

LEARN_S = 1e-9
"""About how long one thread takes for one value."""

TABLE_SHARE = 0.5
"""A table, and so the values of a size, may have at most so many rows for each candidate."""


FILLED = 1.125
"""Values are numbered in steps where so many of these for each value suffice."""


class Codes:
    """Columns of sizes, and an index for every value seen so far.

    `given` holds all sizes by name, broadcast to [candidates]; `columns` those that are arrays or, of a size with large
    values, indices in their place; `steps` and `maps` lead from a column's value to its index, as
    `wattir.backends.gather` says; and `values` from an index to a size, without the names that have too many values for
    a table.
    """

    def __init__(self, arrays: Mapping[str, Array], scalars: Mapping[str, int]) -> None:
        self.arrays = arrays
        self.shape = _shape(arrays)
        self.count = math.prod(self.shape)
        self.columns = alike({name: np.broadcast_to(array, self.shape).reshape(-1) for name, array in arrays.items()})
        self.names = tuple(self.columns)
        self.given = {n: self.columns.get(n, np.broadcast_to(scalar, self.count)) for n, scalar in scalars.items()}
        self.maps, self.steps = no_maps(len(self.names)), np.zeros((len(self.names), 3), np.uint16)
        self.known: dict[str, int] = {}
        self.seen = {name: np.empty(DIRECT_ADDRESSES, np.uint16) for name in self.names}
        self.values = {name: np.array([scalar]) for name, scalar in scalars.items() if name not in self.columns}

    def as_arguments(self) -> tuple[Array, ...]:
        """What `gather_sizes` takes first: addresses, jumps, an array of the columns' dtype, maps, steps."""
        return (*as_addresses(tuple(self.columns.values())), self.maps, self.steps)

    def learn(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Gives the values in these ranges of candidates indices."""
        names = list(self.seen)
        seconds = LEARN_S * len(names) * sum(end - first for first, end in ranges)
        spread(lambda name: self._learn(name, ranges), names, seconds)

    def _learn(self, name: str, ranges: Sequence[tuple[int, int]]) -> None:
        from wattir.backends.gather import learn

        addresses, jumps, like = as_addresses((self.columns[name],))
        place, seen, known = self.names.index(name), self.seen[name], self.known.get(name, 0)
        for piece in ranges:
            known = learn(addresses[0], jumps[0], like, self.maps[place], seen, known, *piece)
            if known < 0:
                return self._sort_out(name)
        seen[:known].sort()  # the same values have the same indices, in whatever order they come
        self.maps[place, seen[:known]] = np.arange(1, known + 1)
        self.known[name] = known
        self.steps[place], self.values[name] = stepwise(seen[:known].astype(np.int64))

    def _sort_out(self, name: str) -> None:
        """The column becomes its own indices; those of a size with too many values for a table are of no use."""
        from wattir.backends.gather import ABSENT

        given, column = self.arrays[name], self.columns[name]
        wrong = (given < 0) | (given > MAX_DIM)
        if wrong.any():
            raise out_of_range(name, given, wrong)
        values, found = np.unique(column, return_inverse=True)
        del self.seen[name]
        self.values.pop(name, None)
        few = len(values) <= min(ABSENT, TABLE_SHARE * self.count)
        if few:
            self.values[name] = values
        self.columns[name] = found.astype(column.dtype) if few else np.broadcast_to(column.dtype.type(0), self.count)
        self.steps[self.names.index(name)] = 0, 0, len(values) if few else 1


def stepwise(values: Array) -> tuple[tuple[int, int, int], Array]:
    """Distinct values, ascending, as (first, shift, count): so many from the first one on, 2^shift apart; and all of
    these, most of which must be among the values. Otherwise the count is 0, and the values stay as they are."""
    first, apart = int(values[0]), int(np.bitwise_or.reduce(values - values[0]))
    shift = (apart & -apart).bit_length() - 1 if apart else 0
    steps = np.arange(first, int(values[-1]) + 1, 1 << shift)
    return ((first, shift, len(steps)), steps) if len(steps) <= FILLED * len(values) else ((0, 0, 0), values)


def _shape(arrays: Mapping[str, Array]) -> tuple[int, ...]:
    """The shape that arrays broadcast to."""
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise SizeError(f"sizes do not broadcast: {shapes}; expected equal lengths or 1") from None


def alike(columns: Mapping[str, Array]) -> dict[str, Array]:
    """The columns in one dtype, each of whole steps of it; as they are where that holds."""
    dtypes = {column.dtype for column in columns.values()}
    dtype = dtypes.pop().newbyteorder("=") if len(dtypes) == 1 else np.dtype(np.int64)
    return {name: column if _plain(column, dtype) else column.astype(dtype) for name, column in columns.items()}


def _plain(column: Array, dtype: Any) -> bool:
    step = column.strides[0]
    return column.dtype == dtype and bool(column.flags.aligned) and step >= 0 and step % column.itemsize == 0


def as_addresses(columns: Sequence[Array]) -> tuple[Array, Array, Array]:
    """Columns as the compiled loops take them: addresses, how many elements lie between the beginnings of two, and an
    array of their dtype."""
    addresses = np.array([column.__array_interface__["data"][0] for column in columns], np.int64)
    jumps = np.array([column.strides[0] // column.itemsize for column in columns], np.int64)
    return addresses, jumps, columns[0][:0] if columns else np.empty(0, np.int64)


def no_maps(count: int) -> Array:
    """Maps [count, values] from values to what is one more than their index: 0 where there is none."""
    return np.zeros((count, DIRECT_ADDRESSES), np.uint16)


def out_of_range(name: str, array: Array, wrong: Array) -> SizeError:
    """The error that names the first of the sizes that are wrong."""
    at = np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape)
    where = f"[{', '.join(str(int(axis)) for axis in at)}]" if at else ""
    return SizeError(f"size {name}{where} = {array[at]}; expected a whole number from 0 to {MAX_DIM}")
