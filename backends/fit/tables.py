"""Measured tables as files: ``NAME.csv`` or ``NAME.parquet``, whichever a folder holds."""

from __future__ import annotations

import os
from typing import Any

from wattir.errors import InputError

ENDINGS = (".csv", ".parquet")
JOULES = ("energy_j", "gpu_energy_j", "power_w")
"""Columns that a set may lack: its rows then have seconds alone."""


def read_table(folder: str, name: str, system: str | None = None) -> Any:
    """The table of this name in a folder, or its rows whose column ``system`` is this; columns of joules that it lacks
    are NaN. InputError where there is none or it is damaged."""
    return with_joules(read_file(table_path(folder, name), system))


def with_joules(table: Any) -> Any:
    """The table with columns of nothing for the joules that it lacks."""
    absent = [column for column in JOULES if column not in table]
    return table.assign(**dict.fromkeys(absent, float("nan"))) if absent else table


def table_path(folder: str, name: str) -> str:
    """Where the table of this name lies."""
    paths = [os.path.join(folder, name + ending) for ending in ENDINGS]
    found = [path for path in paths if os.path.isfile(path)]
    if not found:
        raise InputError(f"{os.path.join(folder, name)}: no such table; expected {name}.csv or {name}.parquet")
    return found[0]


def read_file(path: str, system: str | None = None) -> Any:
    """A file's table; with `system`, its rows of that one. InputError where it cannot be read."""
    import pandas as pd

    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; expected a table of measured rows, as `wattir measure` writes")
    try:
        if path.endswith(".parquet"):
            return _numbers(pd.read_parquet(path, filters=None if system is None else [("system", "==", system)]))
        table = _numbers(pd.read_csv(path, low_memory=False))
    except (ValueError, OSError, LookupError, NotImplementedError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); expected a table") from None
    return table if system is None else table[table.system == system]


def _numbers(table: Any) -> Any:
    """The table with columns that hold more numbers than words as numbers: one odd cell is one number less."""
    import pandas as pd

    for column in table.columns[[pd.api.types.is_string_dtype(dtype) for dtype in table.dtypes]]:
        numbers = pd.to_numeric(table[column].astype(str), errors="coerce")  # some whole ones are too large for floats
        if 2 * numbers.notna().sum() > table[column].notna().sum():
            table[column] = numbers
    return table


def one_line(error: BaseException) -> str:
    """What an error says, on one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
