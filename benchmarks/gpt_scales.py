"""From small decoders to larger ones: ``python -m benchmarks.gpt_scales --data DIR [--json]``.

Every GPU of ``hw_gpt_bench_latency`` is fitted to some scales of the set (s: 10 to 12 layers, batch 8; m: 22 to 24
layers, batch 4; l: 34 to 36 layers, batch 1) with the plan that its device file was made by, and judged on each scale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import errors_and_near, parsed, parser_of, printed, say
from wattir.backends.fit.datasets_gpt import hw_gpt_bench
from wattir.backends.fit.model import predict
from wattir.backends.fit.plan import Plan, as_run, fit_once
from wattir.backends.fit.plans_gpt import FOLDER, GPT
from wattir.backends.fit.priors import limits_of
from wattir.backends.fit.rows import Rows, drawn, together
from wattir.cli.console import Sheet, make_console
from wattir.device import Device, device_folder

SCALES = ("s", "m", "l")
FROM = (("s",), ("s", "m"))
MOST = 150
"""Rows of a scale, to fit to and to judge by."""


def report(data: str, plan: Plan) -> Iterator[dict[str, Any]]:
    """A line per choice of scales that are fitted to, with the errors on every scale that there are rows of."""
    key = plan.sources[0].data_set.rpartition(" ")[2]
    parts = {scale: _some(hw_gpt_bench(os.path.join(data, FOLDER), key, (scale,))) for scale in SCALES}
    parts = {scale: rows for scale, rows in parts.items() if rows.samples}
    for known in FROM:
        if set(known) < set(parts):
            device = fitted(plan, [parts[scale] for scale in known])
            errors = {scale: judged(device, plan, rows) for scale, rows in parts.items()}
            yield {"device": plan.device, "rows_of": key, "fitted_to": "+".join(known), **errors}


def _some(rows: Rows) -> Rows:
    return rows.take(drawn(rows.samples, MOST))


def fitted(plan: Plan, parts: Sequence[Rows]) -> Device:
    """The plan's machine, fitted to these rows alone."""
    where = os.path.join(device_folder(), f"{plan.device}.toml")
    text = Path(where).read_text(encoding="utf-8")
    rows = as_run(together(parts), plan.sources[0], limits_of(text, where))
    return fit_once(plan, text, where, rows, lambda line: None)


def judged(device: Device, plan: Plan, rows: Rows) -> dict[str, float]:
    """Errors of time, and the share of rows within a tenth."""
    run = as_run(rows, plan.sources[0], device)
    time_s, _ = predict(device, run)
    return errors_and_near(time_s, run.time_s)


def show(found: Sequence[Mapping[str, Any]]) -> None:
    """One table: median error, share within a tenth and rank by scale; a star marks what was not fitted to."""
    sheet = Sheet(make_console(), "Median error of time, within 10 %, tau (* not fitted to)", "machine", "fitted to",
                  *SCALES)  # fmt: skip
    for each in found:
        known = each["fitted_to"].split("+")
        sheet.row(each["device"], each["fitted_to"], *(_cell(each.get(scale), scale in known) for scale in SCALES))
    sheet.show()


def _cell(errors: Mapping[str, float] | None, known: bool) -> str:
    if errors is None:
        return ""
    star = " " if known else "*"
    return f"{star}{errors['median_ape']:.1%}, {errors['near']:.0%}, {errors['tau']:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits, judges and prints; 2 where the set is not there."""
    parser = parser_of("gpt_scales", __doc__)
    options = parsed(parser, arguments, FOLDER)
    if options is None:
        return 2
    found = []
    for plan in GPT:
        say(plan.device)
        found += list(report(options.data, plan))
    return printed(found, options.json, lambda: show(found))


if __name__ == "__main__":
    sys.exit(main())
