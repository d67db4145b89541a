"""The meters there are, and which of them a device is metered by."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from wattir.errors import InputError, suggestion

from .meter import Counter

METERS = {"nvml": ("nvml", "NvmlCounter"), "rapl": ("rapl", "RaplCounter"), "zeus": ("zeus", "ZeusCounter")}
"""Name -> module here and class."""

TRIED = {"cuda": ("nvml", "zeus"), "cpu": ("rapl", "zeus"), "mps": ("zeus",)}
"""What is tried for a device of this type, in order."""


def open_counter(wanted: str, device: str) -> Counter:
    """The counter of this name, or for ``auto`` the first that can be read for `device` (``cuda``, ``cuda:1``, ``cpu``
    or ``mps``). InputError says why none can."""
    kind, _, index = device.partition(":")
    if wanted == "auto":
        return _first(TRIED.get(kind, ("zeus",)), int(index or 0), device)
    if wanted not in METERS:
        known = [*METERS, "auto", "simulated:ID"]
        raise InputError(
            f"--meter {wanted}: no such meter; expected one of {', '.join(known)}{suggestion(wanted, known)}"
        )
    return _open(wanted, int(index or 0))


def _first(names: tuple[str, ...], index: int, device: str) -> Counter:
    failures = []
    for name in names:
        try:
            return _open(name, index)
        except InputError as error:
            failures.append(str(error))
    raise InputError(f"no meter of {device} can be read: {'; '.join(failures)}")


def _open(name: str, index: int) -> Counter:
    module, cls = METERS[name]
    make: Callable[..., Counter] = getattr(import_module(f".{module}", __package__), cls)
    counter = make() if name == "rapl" else make(index)
    counter.energy_j()  # what cannot be read is said now, not in an hour
    return counter
