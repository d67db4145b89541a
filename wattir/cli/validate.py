"""How well a machine's file predicts measured rows: errors of time and energy, and whether the interval covers.

The rows are those that `wattir measure` writes, layers and whole models; or calls of image and video generators, a row
each, with the columns model, steps, time_s and energy_j of the call on all boards, and where they are not the
pipeline's own resolution (or height and width), frames, batch, guidance, ulysses, ring and stack. For every kind of
them and for all together:
rows and groups of alike ones; median and mean absolute percentage error (%, mape), median signed error (bias) and order
(Kendall's tau) of time and of energy; the share of rows in their 90 % interval, and its median half-width in log space;
and the error of energy were the time known. What cannot be predicted is counted and named. Needs wattir[fit].
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

HELP = "a machine's predictions beside your own measured rows"
EXAMPLES = """\
examples:
  wattir validate rows.csv --hw h200_sxm
  wattir validate rows.csv --hw my_machine.toml --json
  wattir validate images.csv --hw h100_sxm
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `validate` accepts."""
    parser.add_argument(
        "rows", metavar="ROWS.csv", help="measured rows, as `wattir measure` writes them, or calls of generators"
    )
    parser.add_argument(
        "--hw", metavar="ID", required=True, help="a machine's id, alias or device file (wattir devices)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: Namespace) -> int:
    """Prints the errors, and what was not predicted."""
    from wattir.cli.progress import progress

    with progress(f"predicting {arguments.rows}"):
        report = validate(arguments.rows, arguments.hw)
    if arguments.json:
        import json

        print(json.dumps(report, indent=2))
    else:
        _show(report)
    return 0


def validate(path: str, hw: str) -> dict[str, Any]:
    """`evaluate_rows` of the rows in a file, as plain numbers; in `kinds` of each kind of row alone, and in `dropped`
    why rows were left out, with their counts."""
    from wattir.device import load_device
    from wattir.errors import InputError

    device = load_device(hw)
    try:
        from wattir.backends.fit import own_generation
        from wattir.backends.fit.evaluate import by_label, evaluate_rows, plain
        from wattir.backends.fit.own_rows import dropped, judged
    except ImportError as error:
        raise InputError(f"validate needs {error.name}, which is not installed; pip install 'wattir[fit]'") from None
    if own_generation.is_generation(path):
        return {"rows_from": path, "device": device.id, **own_generation.validate(path, device)}
    rows = judged(path, device)
    return {"rows_from": path, "device": device.id, **plain(evaluate_rows(device, rows)),
            "kinds": plain(by_label(device, rows)), "dropped": dropped([rows])}  # fmt: skip


def _show(report: dict[str, Any]) -> None:
    from wattir.cli.accuracy_view import show_accuracy, show_left_out

    lines = [([kind], each) for kind, each in report["kinds"].items()]
    show_accuracy(f"{report['rows_from']} on {report['device']}", ["kind"], [*lines, (["all"], report)])
    show_left_out("not predicted", report["dropped"])
