"""The two ways to fit: known devices to the measured sets of a folder, and one device file to a user's own rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

from wattir.device import Device, device_folder, device_from_text, read_device_file
from wattir.errors import DeviceError, InputError, suggestion
from wattir.reading import toml_of
from wattir.runtime import OWN_KERNELS, runtime_path

from .own_plan import head_like, own_plan, with_relative
from .plan import run
from .plan_generation import GENERATION
from .plan_mlperf import POOLS
from .plan_serving import SERVING
from .plans import PLANS
from .whole_runs import Fit, Say, in_turn
from .write import write_device


def fit_device(device: str, data: str, out: str | None, say: Say, *, what: str = "kernels") -> bool:
    """Fits a known device to the sets in `data` and writes its file, into the folder `out` or in place; `what` of it is
    a key of `FITS`: its kernels, or on top of these as its file has them its serving engines or its stacks for images
    and video. `device` may be a runtime with a file.

    False where none of its data are there: the file stays as it is.
    """
    plans = FITS[what]
    if device not in plans:
        raise DeviceError(
            f"--device {device}: no plan to fit it; expected one of {', '.join(plans)}{suggestion(device, plans)}"
        )
    path = runtime_path(device) if device in OWN_KERNELS else os.path.join(device_folder(), f"{device}.toml")
    return _fit_file(path, partial(in_turn, plans[device]), data, out, say)


FITS: dict[str, Mapping[str, Sequence[Fit]]] = {
    "kernels": {**{device: (partial(run, plan),) for device, plan in PLANS.items()}, **POOLS},
    "serving": SERVING, "generation": GENERATION,
}  # fmt: skip
"""What can be fitted, by device."""


def _fit_file(path: str, fit: Fit, data: str, out: str | None, say: Say) -> bool:
    name = os.path.basename(path)
    say(name.removesuffix(".toml"))
    found = fit(read_device_file(path), path, data, say)
    if found is None:
        say(f"  {name} stays as it is: none of its data are in {data}")
        return False
    write_device(found, os.path.join(out, name) if out else path, path)
    return True


def fit_rows(rows: str, path: str, like: str | None, say: Say) -> Device:
    """Fits the device file at `path` to the rows in a file, and writes it; where there is no such file yet, it begins
    with the limits of the machine `like`."""
    command = f"wattir fit --rows {os.path.basename(rows)} --device {os.path.basename(path)}"
    text = with_relative(_head(path, like), path)
    plan = own_plan(rows, text, path, command + (f" --like {like}" if like else ""))
    say(f"{plan.device}: {plan.note}")
    found = run(plan, text, path, "", say)
    assert found is not None  # own_plan has seen the rows
    write_device(found, path, path)
    return device_from_text(found, path)


def _head(path: str, like: str | None) -> str:
    if not path.endswith(".toml"):
        raise InputError(f"--device {path}: expected the path of a device file, ending in .toml")
    if os.path.exists(path):
        text = read_device_file(path)
        if like not in (None, *toml_of(text, path, "a device file in TOML", DeviceError).get("relatives", ())):
            raise InputError(
                f"--device {path}: is there already, with another relative than --like {like}; expected the path of a "
                "new file, or no --like"
            )
        return text
    if like is None:
        raise InputError(
            f"--device {path}: no such file; expected a device file with your machine's [limits], or --like ID to "
            "begin with those of a known machine"
        )
    return head_like(like, path)
