"""The command line of the benchmarks that read the measured sets, and the errors that several of them show."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wattir.backends.fit.evaluate import errors_of
from wattir.backends.fit.rows import Array

NEAR = 0.1


def parser_of(benchmark: str, doc: str | None) -> argparse.ArgumentParser:
    """Of ``python -m benchmarks.NAME``, with ``--data`` and ``--json``."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=doc)
    default = os.environ.get("WATTIR_DATA", "../shared/data")
    parser.add_argument("--data", default=default, help="folder of the measured sets (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, folder: str = ""
) -> argparse.Namespace | None:
    """The options; None, having said so, where the folder of the sets, or this one in it, is not there."""
    options = parser.parse_args(arguments)
    if os.path.isdir(os.path.join(options.data, folder)):
        return options
    missing = f"no folder {folder} in it" if folder else "no such folder"
    say(f"--data {options.data}: {missing}; expected the measured sets, one folder each")
    return None


def printed(found: Any, as_json: bool, show: Callable[[], None]) -> int:
    """Prints what was found as JSON, or by `show`; the exit code."""
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        show()
    return 0


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def errors_and_near(predicted: Array, measured: Array) -> dict[str, float]:
    """`errors_of`, and `near`: the share of rows within a tenth."""
    return errors_of(predicted, measured) | {"near": float(np.mean(np.abs(predicted / measured - 1.0) <= NEAR))}
