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


class Codes:
    """Columns of sizes, and an index for every value seen so far.

    `given` holds the sizes by name, broadcast to [candidates]; `columns` the same or, of a size with large values,
    indices in their place; `maps` [names, values] leads from a column's value to its index, and `values` from an index
    to a size, without the names that have too many values for a table.
    """

    def __init__(self, arrays: Mapping[str, Array], scalars: Mapping[str, int]) -> None:
        from wattir.backends.gather import ABSENT

        self.arrays = arrays
        self.shape = _shape(arrays)
        self.count = math.prod(self.shape)
        self.names = tuple(scalars)
        flat = _alike({name: np.broadcast_to(array, self.shape).reshape(-1) for name, array in arrays.items()})
        self.like = next(iter(flat.values()), np.empty(0, np.int64))[:0]
        self.given = {name: flat.get(name, np.broadcast_to(scalar, self.count)) for name, scalar in scalars.items()}
        self.columns = {name: flat.get(name, self._zeros()) for name in scalars}
        self.maps = np.full((len(scalars), DIRECT_ADDRESSES), ABSENT, np.uint16)
        self.maps[:, 0] = [ABSENT if name in flat else 0 for name in scalars]
        self.values = {name: np.array([scalar]) for name, scalar in scalars.items() if name not in flat}
        self.open = set(flat)

    def as_arguments(self) -> tuple[Array, Array, Array, Array]:
        """What `gather_sizes` takes: addresses, steps, an array of the columns' dtype, maps."""
        columns = [self.columns[name] for name in self.names]
        addresses, steps = (np.array([read(column) for column in columns], np.int64) for read in (_address, _step))
        return addresses, steps, self.like, self.maps

    def learn(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Gives the values in these ranges of candidates indices."""
        names = [name for name in self.names if name in self.open]
        seconds = LEARN_S * len(names) * sum(end - first for first, end in ranges)
        spread(lambda name: self._learn(name, ranges), names, seconds)

    def _learn(self, name: str, ranges: Sequence[tuple[int, int]]) -> None:
        from wattir.backends.gather import ABSENT, learn

        column, indices = self.columns[name], self.maps[self.names.index(name)]
        known = len(self.values.get(name, ()))
        for piece in ranges:
            known = learn(_address(column), _step(column), self.like, indices, known, *piece)
            if known < 0:
                return self._sort_out(name, indices)
        values = np.empty(known, np.int64)
        used = np.flatnonzero(indices != ABSENT)
        values[indices[used]] = used
        self.values[name] = values

    def _sort_out(self, name: str, indices: Array) -> None:
        """The column becomes its own indices; those of a size with too many values for a table are of no use."""
        from wattir.backends.gather import ABSENT

        given = self.arrays[name]
        wrong = (given < 0) | (given > MAX_DIM)
        if wrong.any():
            raise out_of_range(name, given, wrong)
        values, found = np.unique(self.columns[name], return_inverse=True)
        self.open.discard(name)
        self.values.pop(name, None)
        self.columns[name] = self._zeros()
        indices[:ABSENT] = np.arange(ABSENT)
        if len(values) <= min(ABSENT, TABLE_SHARE * self.count):
            self.columns[name], self.values[name] = found.astype(self.like.dtype), values

    def _zeros(self) -> Array:
        return np.broadcast_to(self.like.dtype.type(0), self.count)


def _shape(arrays: Mapping[str, Array]) -> tuple[int, ...]:
    """The shape that arrays broadcast to."""
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise SizeError(f"sizes do not broadcast: {shapes}; expected equal lengths or 1") from None


def _alike(columns: Mapping[str, Array]) -> dict[str, Array]:
    """The columns in one dtype, each of whole steps of it; as they are where that holds."""
    dtypes = {column.dtype for column in columns.values()}
    dtype = dtypes.pop().newbyteorder("=") if len(dtypes) == 1 else np.dtype(np.int64)
    return {name: column if _plain(column, dtype) else column.astype(dtype) for name, column in columns.items()}


def _plain(column: Array, dtype: Any) -> bool:
    step = column.strides[0]
    return column.dtype == dtype and bool(column.flags.aligned) and step >= 0 and step % column.itemsize == 0


def _address(column: Array) -> int:
    return int(column.__array_interface__["data"][0])


def _step(column: Array) -> int:
    """How many elements lie between the beginnings of two."""
    return column.strides[0] // column.itemsize


def out_of_range(name: str, array: Array, wrong: Array) -> SizeError:
    """The error that names the first of the sizes that are wrong."""
    at = np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape)
    where = f"[{', '.join(str(int(axis)) for axis in at)}]" if at else ""
    return SizeError(f"size {name}{where} = {array[at]}; expected a whole number from 0 to {MAX_DIM}")
