"""``python -m wattir.backends.fit --data DIR [--device ID ...]``: fits device files to measured sets, in place."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from wattir.device import device_folder
from wattir.errors import DeviceError, suggestion

from .plan import run
from .plans import PLANS


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits the devices asked for, one after the other; 0 also where data are absent, which is said."""
    parser = argparse.ArgumentParser(prog="python -m wattir.backends.fit", description=__doc__)
    default = os.environ.get("WATTIR_DATA", "../shared/data")
    parser.add_argument(
        "--data", default=default, help="folder of the measured sets (default: $WATTIR_DATA or %(default)s)"
    )
    parser.add_argument("--device", action="append", metavar="ID", help=f"one of {', '.join(PLANS)}; default: all")
    parser.add_argument("--out", help="folder to write to instead of the device files' own")
    options = parser.parse_args(arguments)
    for device in options.device or PLANS:
        fit_device(device, options.data, options.out)
    return 0


def fit_device(device: str, data: str, out: str | None) -> None:
    """Fits one device and writes its file."""
    if device not in PLANS:
        raise DeviceError(
            f"--device {device}: no plan to fit it; expected one of {', '.join(PLANS)}{suggestion(device, PLANS)}"
        )
    path = os.path.join(device_folder(), f"{device}.toml")
    say(device)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = run(PLANS[device], text, path, data, say)
    if found is None:
        say(f"  {device}.toml stays as it is: none of its data are in {data}")
        return
    with open(os.path.join(out, f"{device}.toml") if out else path, "w", encoding="utf-8") as file:
        file.write(found)


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
