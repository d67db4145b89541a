"""The CSV file of a measurement: its columns, and rows that are on disk as soon as they are made."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wattir.errors import InputError

NAMES = """
case_id repeat kind op function mode dtype math model runtime sizes m n k batch_count n_batch c_in c_out depth h w
kernel_d kernel_h kernel_w stride pad dilation groups layout b s_q s_kv heads kv_heads head_dim causal rows cols
elements operands fused table_rows indices hidden layers flop bytes_min copies footprint_bytes cold
calls time_s energy_j power_w power_naive_w power_sample_w energy_edges window_s
sm_clock_hz mem_clock_hz temperature_c throttle_bits idle_w meter scope measured_at
"""
COLUMNS = tuple(NAMES.split())
"""What is measured and how, its sizes, then what the meter says: seconds and joules of one call, mean power between the
counter's edges (`power_naive_w`, `power_sample_w`: two simpler readings of it), how many edges, clocks, temperature,
what held the clocks down, and the power of the idle device before."""


@dataclass(frozen=True)
class Sheet:
    """A CSV file that is complete after every row; InputError where the file has other columns."""

    path: str
    columns: tuple[str, ...] = COLUMNS

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):
            return
        with open(self.path, newline="", encoding="utf-8", errors="replace") as file:
            found = next(csv.reader(file), list(self.columns))
        if tuple(found) != self.columns:
            raise InputError(
                f"{self.path}: has other columns than `wattir measure` writes (first {found[0]!r}); expected a new "
                "file, or one that it wrote"
            )
        _drop_torn_row(self.path)

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends one row; the header comes with the first."""
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow({key: short(value) for key, value in row.items()})
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); expected a file you may write"
            ) from None

    def done(self) -> set[tuple[str, str]]:
        """(case, repeat) of the rows that are in the file."""
        if not os.path.exists(self.path):
            return set()
        with open(self.path, newline="", encoding="utf-8", errors="replace") as file:
            return {(row["case_id"], row["repeat"]) for row in csv.DictReader(file)}


def _drop_torn_row(path: str) -> None:
    """Cuts off what a killed run left of its last row."""
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def short(value: Any) -> Any:
    """Numbers at seven digits, whole ones without a point."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return ""
    return int(value) if value.is_integer() and abs(value) < 1e15 else f"{value:.7g}"
