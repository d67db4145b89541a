"""How well a machine's file predicts measured layers: errors of time and energy, and whether the interval covers.

The rows are one layer each, with the columns of benchmarks/measurements/h200_sxm/layers.csv. Needs wattir[fit].
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

HELP = "a machine's predictions beside your own measured rows"
EXAMPLES = """\
examples:
  wattir validate layers.csv --hw h200_sxm
  wattir validate layers.csv --hw my_machine.toml --json
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `validate` accepts."""
    parser.add_argument("rows", metavar="ROWS.csv", help="measured layers, with time_s and energy_j")
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
    """`evaluate_rows` of the rows in a file, as plain numbers, with `dropped`: reason -> count."""
    import os

    from wattir.device import load_device
    from wattir.errors import InputError

    device = load_device(hw)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; expected a table of measured layers")
    try:
        from wattir.backends.fit.datasets_own import OWN_SOURCE, own_layers
        from wattir.backends.fit.evaluate import evaluate_rows, plain
        from wattir.backends.fit.plan import as_run
    except ImportError as error:
        raise InputError(f"validate needs {error.name}, which is not installed; pip install 'wattir[fit]'") from None
    rows = own_layers(os.path.dirname(path), os.path.basename(path))
    dropped = {reason: count for reason, count in rows.dropped.items() if count}
    if not rows.samples:
        raise InputError(f"{path}: no row that can be predicted ({dropped or 'it is empty'})")
    return {"rows_from": path, "device": device.id, **plain(evaluate_rows(device, as_run(rows, OWN_SOURCE, device))),
            "dropped": dropped}  # fmt: skip


def _show(report: dict[str, Any]) -> None:
    from wattir.cli import printable

    print(f"{printable(report['rows_from'])} on {report['device']}: {report['rows']} rows in {report['groups']} groups")
    for name in ("time", "energy", "energy_given_time"):
        if name in report:
            each = report[name]
            print(
                f"  {name.replace('_', ' '):18} median error {each['median_ape']:.1%}, mean {each['mape']:.1%}, "
                f"bias {each['bias']:+.1%}"
            )
    if "energy" in report:
        energy = report["energy"]
        print(
            f"  90 % interval      covers {energy['coverage']:.1%}, median half-width {energy['median_half_width']:.3f}"
        )
    for reason, count in report["dropped"].items():
        print(f"  not predicted: {count} {reason}")
