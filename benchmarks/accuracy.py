"""How good the shipped coefficients are on measured rows: ``python -m benchmarks.accuracy --data DIR [--cv] [--json]``.

Evaluates every device file on whatever rows DIR holds: the folders and columns of the sets that the fits name, which
may be missing or hold other models, shapes and machines. A line per folder, machine and kind of row, and one of all
kinds together (``all``): errors of time, of energy, of energy given the measured time; coverage and width of the 90 %
interval. Rows that nothing predicts are counted and named; a damaged file is one line and stops no other. With ``--cv``
the machines are fitted again with groups of rows left out, and judged on those; their intervals are those that a device
file would have from the other groups.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import parsed, parser_of, printed, say
from wattir.backends.fit.cross_validate import fold_of
from wattir.backends.fit.evaluate import covered, errors_of, evaluate_rows, plain, usable, widths
from wattir.backends.fit.plan import Fitted, Plan, Source, as_run, fit, interval_of, with_interval
from wattir.backends.fit.plan_generation import GENERATION
from wattir.backends.fit.plan_serving import SERVING
from wattir.backends.fit.plans import PLANS
from wattir.backends.fit.rows import JOULES_OF, Array, Rows, together
from wattir.backends.fit.sets import Case, Judged, Left, cases, guarded
from wattir.cli.accuracy_view import COLUMNS, show_accuracy
from wattir.cli.console import Sheet, make_console
from wattir.device import Device, device_folder, load_device, physics_only
from wattir.interval import of_seconds

Found = dict[str, Any]


def evaluate(data: str, say: Any, load: Callable[[str], Device] = load_device) -> Iterator[Found | Left]:
    """A report per case, then one of all cases of a folder and machine, and what is left."""
    ready: dict[tuple[str, str], list[Rows]] = {}
    for case in cases(data):
        if isinstance(case, Left):
            yield case
            continue
        say(f"{case.folder}: {case.what} ({case.device})")
        what = f"{case.what} ({case.device})"
        judge = partial(_judged, case) if isinstance(case, Judged) else partial(_case, case, load(case.device), ready)
        yield from guarded(case.folder, what, judge, case.raw)
    for (folder, device_id), parts in ready.items():
        yield _report(folder, load(device_id), "all", together(parts))


def _case(case: Case, device: Device, ready: dict[tuple[str, str], list[Rows]]) -> Iterator[Found | Left]:
    found = case.load()
    rows = usable(device, as_run(found, case.source, device)) if found.samples else found
    gone = sum(count for reason, count in rows.dropped.items() if not reason.startswith(JOULES_OF))
    merged = case.raw - rows.samples - gone
    for reason, count in {**rows.dropped, "repeats merged, or of a fallback or another server": merged}.items():
        if count > 0:
            yield Left(case.folder, f"{case.what} ({case.device})", count, reason)
    if rows.samples:
        yield _report(case.folder, device, case.what, rows)
        ready.setdefault((case.folder, case.device), []).append(rows)


def _judged(case: Judged) -> Iterator[Found | Left]:
    measured = load_device(case.device).measured
    for each in case.judge():
        if isinstance(each, Left):
            yield each
            continue
        what, report = each
        yield {
            "folder": case.folder,
            "device": case.device,
            "what": f"{case.what} {what}",
            "measured": measured,
            **report,
        }


def _report(folder: str, device: Device, what: str, rows: Rows) -> Found:
    head = {"folder": folder, "device": device.id, "what": what, "measured": device.measured}
    return {**head, **plain(evaluate_rows(device, rows))}


def cross_validate(data: str, say: Any) -> Iterator[Found | Left]:
    """A report per source of every plan whose rows are there, each group predicted by a fit without it; a set that
    nothing can be fitted to is named, and stops no other."""
    for plan in PLANS.values():
        folders = " and ".join(dict.fromkeys(source.folder for source in plan.sources))
        yield from guarded(folders, f"fit of {plan.device}", partial(_crossed, plan, data, say))
    for plans in (SERVING, GENERATION):
        for device, fits in plans.items():
            for one in fits:
                folder = os.path.join(data, one.folder)
                if one.crossed is not None and os.path.isdir(folder):
                    judge = partial(_whole_runs, one, device, folder, say)
                    yield from guarded(one.folder, f"fit of {device}", judge)


def _crossed(plan: Plan, data: str, say: Any) -> Iterator[Found | Left]:
    path = os.path.join(device_folder(), f"{plan.device}.toml")
    found = fit(plan, Path(path).read_text(encoding="utf-8"), path, data, say)
    if found is None:
        return
    sources, whole, fitted = found
    width = dict(zip(("time", "energy"), _widths(sources, fitted, plan), strict=True))
    for i, (source, rows) in enumerate(zip(sources, whole, strict=True)):
        for why, count in rows.dropped.items():
            if count > 0:
                yield Left(source.folder, f"{source.data_set} ({plan.device})", count, why)
        head = {"folder": source.folder, "device": plan.device, "what": source.data_set}
        yield {**head, **plain(_left_out(i, fitted, width))}


def _whole_runs(one: Any, device: str, folder: str, say: Any) -> Iterator[Found]:
    """The same of served models, of their phases, and of images and video."""
    for what, report in one.crossed(folder, say):
        yield {"folder": one.folder, "device": device, "what": what, **report}


def _left_out(index: int, fitted: Fitted, width: Mapping[str, Array]) -> Found:
    mask = fitted.source == index
    rows, errors = fitted.rows.take(mask), fitted.errors
    report: Found = {"rows": rows.samples, "groups": len(set(rows.group.tolist()))}
    for name, measured in (("time", rows.time_s), ("energy", rows.energy_j), ("energy_given_time", rows.energy_j)):
        ratio = np.exp(getattr(errors, name)[mask])
        seen = np.isfinite(ratio)
        if seen.any():
            predicted, truth = (ratio * measured)[seen], measured[seen]
            report[name] = errors_of(predicted, truth)
            if name in width:
                report[name] |= covered(predicted, truth, width[name][mask][seen])
    return report


def _widths(sources: Sequence[Source], fitted: Fitted, plan: Plan) -> Array:
    """Half-widths of every sample's time and energy, by the intervals that a device file would have without its fold of
    groups [2, samples]."""
    rows, found = fitted.rows, np.full((2, fitted.rows.samples), np.nan)
    fold = fold_of(rows.group, rows.label, min(FOLDS, len(set(rows.group.tolist()))))
    for number in range(int(fold.max()) + 1 if len(set(fold.tolist())) > 1 else 0):
        table = interval_of(sources, fitted.take(fold != number), plan)
        device, part = with_interval(fitted, table), rows.take(fold == number)
        found[:, fold == number] = widths(of_seconds(device), part), widths(device, part)
    return found


FOLDS = 5


def show(found: Sequence[Found], left: Sequence[Left]) -> None:
    """Two tables: errors, and what was not predicted."""
    lines = [([each["folder"], each["device"], each["what"]], each) for each in found]
    show_accuracy("Predicted beside measured", ["folder", "machine", "rows of"], lines)
    if left:
        _show_left(left)


def _show_left(left: Sequence[Left]) -> None:
    sheet = Sheet(make_console(COLUMNS), "Not predicted", "folder", "what", ">rows", "why")
    for each in left:
        why = shorten(each.why, MOST_WHY, placeholder=" ...")  # else the other columns would be cut
        sheet.row(each.folder, each.what, "not known" if each.rows is None else str(each.rows), why)
    sheet.show()


MOST_WHY = 110
"""Characters of a reason; the JSON has all of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates and prints; 2 where the folder is not there."""
    parser = parser_of("accuracy", __doc__)
    parser.add_argument("--cv", action="store_true", help="fit again with groups left out, and judge on those")
    parser.add_argument("--physics", action="store_true", help="without the learned corrections")
    options = parsed(parser, arguments)
    if options is None:
        return 2
    load = _without_corrections if options.physics else load_device
    every = list(cross_validate(options.data, say) if options.cv else evaluate(options.data, say, load))
    found = [each for each in every if isinstance(each, dict)]
    left = [each for each in every if isinstance(each, Left)]
    whole = {"cross_validated": options.cv, "sets": found, "not_predicted": [asdict(each) for each in left]}
    return printed(whole, options.json, lambda: show(found, left))


def _without_corrections(device_id: str) -> Device:
    return physics_only(load_device(device_id))


if __name__ == "__main__":
    sys.exit(main())
