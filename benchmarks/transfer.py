"""Machines predicted from a relative alone: ``python -m benchmarks.transfer --data DIR [--json] [--only ID ...]``.

Every measured machine is left out whole, and predicted from its limits and the coefficients of relatives, as a device
file without measurements is (`wattir.lending`): of each kind of relation the two nearest. A line for each set; where
kernels name their library, one for those that a relative knows and one for all others. Coverage is that of the 90 %
interval, widened by what it took on the *other* machines. Then what it takes on all of them, which
`wattir.lending.WIDTHS` holds, and the A100 at clocks that its coefficients were not fitted at. A minute of one core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import parsed, parser_of, printed, say
from wattir.backends.fit.evaluate import evaluate_rows, plain
from wattir.backends.fit.plan import fit, interval_of, with_interval
from wattir.backends.fit.plans import PLANS
from wattir.backends.fit.rows import drawn
from wattir.backends.fit.transfer import ALIKE, Pair, Part, judged, measured_rows, pairs, predicted, widening
from wattir.cli.accuracy_view import COLUMNS, show_accuracy
from wattir.cli.console import Sheet, make_console
from wattir.device import device_folder
from wattir.lending import RELATIONS, WIDTHS, Widths

Found = dict[str, Any]
LEAST = 500
"""Rows of a set that are judged at least, however small a share of them was asked for."""
ONE_CLOCK = "a100_pcie_40gb"
"""Its first source is at one clock, its second at eleven."""


def transfers(data: str, only: Sequence[str], most: int, share: float, say: Any) -> list[Part]:
    """All rows of all pairs, predicted."""
    sources = measured_rows(data)
    found: list[Part] = []
    devices = only or sorted(sources)
    for number, device in enumerate(devices, 1):
        wanted = pairs([device], most)
        for what, source, load in sources.get(device, ()) if wanted else ():
            say(f"{number} of {len(devices)}, {device}: {what}")
            rows = load()
            rows = rows.take(drawn(rows.samples, max(LEAST, int(share * rows.samples))))
            if rows.samples:
                found += (predicted(pair, what, source, rows) for pair in wanted)
    return [part for part in found if len(part.time_s)]


def reports(parts: Sequence[Part]) -> Iterator[Found]:
    """A report of every set of every pair, then of kinds of rows in it."""
    by_pair = {pair: widening(parts, pair.relation, pair.device) for pair in dict.fromkeys(part.pair for part in parts)}
    for pair, folder in dict.fromkeys((part.pair, part.folder) for part in parts):
        widths = by_pair[pair]
        own = [part for part in parts if (part.pair, part.folder) == (pair, folder)]
        yield _report(widths, pair, folder, "all", own)
        for label, wanted in (("libraries that it knows", "library"), ("other libraries", "other")):
            some = [part.take(part.widens == wanted) for part in own]
            if any(len(part.widens) for part in some):
                yield _report(widths, pair, folder, label, some)
        for what in dict.fromkeys(part.what for part in own):
            yield _report(widths, pair, folder, what, [part for part in own if part.what == what])


def _report(widths: Widths, pair: Pair, folder: str, what: str, own: Sequence[Part]) -> Found:
    head = {"folder": folder, "device": pair.device, "from": ", ".join(pair.lenders), "relation": pair.relation}
    return head | {"what": what} | plain(judged(own, widths))


def measured_widths(parts: Sequence[Part]) -> Iterator[Found]:
    """What each kind of relation takes, beside what device files get."""
    for kind, shipped in WIDTHS.items():
        used = [part for part in parts if part.pair.relation in ALIKE[kind]]
        pairs_of = sorted({f"{part.pair.device} from {' and '.join(part.pair.lenders)}" for part in used})
        found = {name: round(value, 2) or None for name, value in asdict(widening(used, kind)).items()}
        yield {"relation": kind, **found, "shipped": list(astuple(shipped)), "pairs": pairs_of}


def other_clocks(data: str, say: Any) -> Iterator[Found]:
    """The A100 fitted at its first source's clock alone, judged at every clock of the second."""
    plan = PLANS[ONE_CLOCK]
    base, many = plan.sources
    path = os.path.join(device_folder(), f"{ONE_CLOCK}.toml")
    if not os.path.exists(os.path.join(data, many.folder)):
        return
    voltage = {name: prior for name, prior in plan.given.items() if not name.startswith("voltage")}
    one = replace(plan, sources=(base,), given=voltage)
    found = fit(one, Path(path).read_text(encoding="utf-8"), path, data, say)
    rows = many.load(os.path.join(data, many.folder))
    if found is None or not rows.samples:
        return
    device = replace(with_interval(found[2], interval_of(found[0], found[2], one)), fits=({"clocks_hz": [9e8]},))
    for clock_hz in (None, *np.unique(rows.clock_hz)):
        part = rows if clock_hz is None else rows.take(rows.clock_hz == clock_hz)
        name = "all clocks" if clock_hz is None else f"{1e-6 * clock_hz:.0f} MHz"
        yield {"device": ONE_CLOCK, "fitted_at": "900 MHz", "what": name, **plain(evaluate_rows(device, part))}


def show(found: Sequence[Found], widths: Sequence[Found], clocks: Sequence[Found]) -> None:
    """Three tables."""
    names = ["folder", "machine", "from", "relation", "rows of"]
    lines = [([each["folder"], each["device"], each["from"], each["relation"], each["what"]], each) for each in found]
    show_accuracy("Left out whole, predicted from a relative", names, lines)
    sheet = Sheet(make_console(COLUMNS), "What borrowing adds to the interval", "relation", ">library", ">layer",
                  ">network", ">shipped", ">pairs")  # fmt: skip
    for each in widths:
        shipped = ", ".join(f"{width:g}" for width in each["shipped"])
        widths_of = (str(each[name] or "-") for name in ("library", "layer", "network"))
        sheet.row(RELATIONS[each["relation"]], *widths_of, shipped, f"{len(each['pairs'])}")
    sheet.show()
    show_accuracy("Fitted at one clock", ["machine", "at"], [([each["device"], each["what"]], each) for each in clocks])


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates and prints; 2 where the folder is not there."""
    parser = parser_of("transfer", __doc__)
    parser.add_argument("--only", nargs="*", default=(), metavar="ID", help="these machines alone")
    parser.add_argument("--relatives", type=int, default=2, metavar="N", help="how many lend at most (%(default)s)")
    parser.add_argument("--share", type=float, default=0.05, metavar="S", help="of a large set's rows (%(default)s)")
    options = parsed(parser, arguments)
    if options is None:
        return 2
    parts = transfers(options.data, options.only, options.relatives, options.share, say)
    found, widths, clocks = list(reports(parts)), list(measured_widths(parts)), list(other_clocks(options.data, say))
    every = {"transfers": found, "widths": widths, "clocks": clocks}
    return printed(every, options.json, lambda: show(found, widths, clocks))


if __name__ == "__main__":
    sys.exit(main())
