"""The layers of reports as CSV: one row a layer, SI units, the names of the JSON fields."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from wattir.report import Layer, Report

COLUMNS = ("model", "device", "runtime", *Layer.__slots__)


def layer_csv(reports: Iterable[Report]) -> str:
    """The text of the file, with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        head = (report.model, report.device, report.runtime)
        writer.writerows((*head, *layer.to_dict().values()) for layer in report.layers)
    return text.getvalue()
