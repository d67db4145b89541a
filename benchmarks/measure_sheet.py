"""The CSV files of a measurement: their columns, and rows that are on disk as soon as they are made."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from measure_meter import METER_COLUMNS

RESULT_COLUMNS = ("calls", "time_s", "energy_j", *METER_COLUMNS[:4], "window_s", *METER_COLUMNS[4:])
LAYER_NAMES = """
case_id kind op function mode dtype math m n k batch_count n_batch c_in c_out depth h w kernel_d kernel_h kernel_w
stride pad dilation groups layout b s_q s_kv heads kv_heads head_dim causal rows cols elements operands fused
table_rows indices hidden layers flop bytes_min copies footprint_bytes cold
"""
NETWORK_NAMES = "case_id model library config phase mode dtype math layout batch image seq context params"
LAYER_COLUMNS = (*LAYER_NAMES.split(), *RESULT_COLUMNS, "measured_at")
NETWORK_COLUMNS = (*NETWORK_NAMES.split(), *RESULT_COLUMNS, "measured_at")
ERROR_COLUMNS = ("case_id", "stage", "error", "measured_at")


@dataclass
class Sheet:
    """A CSV file that is complete after every row."""

    path: pathlib.Path
    columns: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Append one row; the header comes with the first."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow({key: short(value) for key, value in row.items()})
        self.rows.append(row)

    def ids(self) -> set[str]:
        """Case ids already in the file."""
        if not self.path.exists():
            return set()
        with self.path.open(newline="") as file:
            return {row["case_id"] for row in csv.DictReader(file)}


def short(value: Any) -> Any:
    """Numbers at seven digits, whole ones without a point."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return ""
    return int(value) if value.is_integer() and abs(value) < 1e15 else f"{value:.7g}"
