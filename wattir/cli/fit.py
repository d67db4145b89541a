"""Device files from measurements: your own rows, or the measured sets that the known machines come from.

Your own rows are those that `wattir measure` writes; some twenty are enough, because the coefficients of the nearest
known machine hold what they do not tell. The file records rows, errors on rows left out, date and command.
Needs wattir[fit].
"""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from wattir.errors import InputError

HELP = "a device file from measured rows"
EXAMPLES = """\
examples:
  wattir fit --rows rows.csv --device my_machine.toml --like h100_sxm
  wattir fit --rows rows.csv --device my_machine.toml
  wattir fit --data ../shared/data --device a10 --device a30
  wattir fit --data ../shared/data --serving --device h100_sxm
  wattir fit --data ../shared/data --generation --device h100_sxm
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `fit` accepts."""
    default = os.environ.get("WATTIR_DATA", "../shared/data")
    parser.add_argument("--rows", metavar="ROWS.csv", help="your own rows, as `wattir measure` writes them")
    parser.add_argument(
        "--device", metavar="FILE.toml|ID", action="append", default=[],
        help="with --rows the device file to write, which must hold the machine's [limits] unless --like is given; "
        "with --data the id of a known machine, or tensorrt (default: all that have a plan)",
    )  # fmt: skip
    parser.add_argument("--like", metavar="ID", help="with --rows: begin a new device file with this machine's limits")
    parser.add_argument("--data", metavar="DIR", default=default, help=f"folder of measured sets (default: {default})")
    parser.add_argument(
        "--serving", dest="what", action="store_const", const="serving", default="kernels",
        help="with --data: the serving engines alone, on top of the kernels' fit",
    )  # fmt: skip
    parser.add_argument(
        "--generation",
        dest="what",
        action="store_const",
        const="generation",
        help="with --data: the stacks for images and video alone, likewise",
    )
    parser.add_argument("--out", metavar="DIR", help="with --data: write the files there instead of in place")


def run(arguments: Namespace) -> int:
    """Fits, saying what it does; every file is written as soon as its fit is done."""
    try:
        from wattir.backends.fit import run as fits
    except ImportError as error:
        raise InputError(f"fit needs {error.name}, which is not installed; pip install 'wattir[fit]'") from None
    if arguments.rows is None:
        if arguments.like is not None:
            raise InputError(f"--like {arguments.like}: only with --rows; the known machines have their own files")
        if arguments.out is not None:
            _make_folder(arguments.out)
        return _fit_known(arguments, arguments.device or list(fits.FITS[arguments.what]))
    if len(arguments.device) != 1:
        found = ", ".join(arguments.device) or "none"
        raise InputError(f"--rows {arguments.rows}: expected one --device FILE.toml to write; found {found}")
    try:
        device = fits.fit_rows(arguments.rows, arguments.device[0], arguments.like, _say)
    except KeyboardInterrupt:
        return _interrupted(f"{arguments.device[0]} is as it was before; the same command begins again")
    print(f"{arguments.device[0]}: {device.name}; try: wattir estimate resnet50 --hw {arguments.device[0]}")
    return 0


def _fit_known(arguments: Namespace, devices: Sequence[str]) -> int:
    """Fits one machine after the other; 130 after Ctrl-C, with all files in place whose fit was done."""
    from wattir.backends.fit import run as fits

    for place, device in enumerate(devices):
        try:
            fits.fit_device(device, arguments.data, arguments.out, _say, what=arguments.what)
        except KeyboardInterrupt:
            kept = f"{', '.join(devices[:place]) or 'no machine'} done, all other files as they were"
            return _interrupted(f"{kept}; go on with: {_rest_of(arguments, devices[place:])}")
    return 0


def _rest_of(arguments: Namespace, devices: Sequence[str]) -> str:
    """The command that fits these of the machines that were asked for."""
    what = () if arguments.what == "kernels" else (f"--{arguments.what}",)
    out = () if arguments.out is None else ("--out", arguments.out)
    named = [word for device in devices for word in ("--device", device)]
    return shlex.join(("wattir", "fit", "--data", arguments.data, *what, *out, *named))


def _interrupted(said: str) -> int:
    from wattir.cli import INTERRUPTED

    print(f"interrupted; {said}", file=sys.stderr)
    return INTERRUPTED


def _make_folder(path: str) -> None:
    """Before the first fit: some take an hour, which would be lost without it."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {path}: no folder, and none can be made ({error.strerror})") from None


def _say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)
