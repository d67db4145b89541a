"""Everything wattir raises on purpose.

WattirError                 one line for people: where, what, expected, what to do
├── InputError              exit code 2: what the user gave cannot be used
│   ├── ModelFileError      a model file that is damaged, hostile or of another format
│   ├── UnsupportedError    a well-formed model that asks for what a frontend cannot lower
│   ├── SizeError           a free size that is missing, unknown, or out of range
│   ├── DeviceError         an unknown device id or a device file that is not right
│   ├── SpaceError          a search space, a candidate of it or a sweep that is not right
│   ├── FleetError          a fleet file, node, site or scenario that is not right
│   └── GraphError          a graph that breaks the rules of the IR
└── CheckFailed             exit code 1: a check the user asked for does not hold
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WattirError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 2


class InputError(WattirError):
    """What the user gave cannot be used."""


class ModelFileError(InputError):
    """A model file that is damaged, hostile or of another format."""


class UnsupportedError(InputError):
    """A well-formed model that asks for what a frontend cannot lower."""


class SizeError(InputError):
    """A free size that is missing, unknown, or out of range."""


class DeviceError(InputError):
    """An unknown device id or a device file that is not right."""


class SpaceError(InputError):
    """A search space, a candidate of it or a sweep that is not right."""


class FleetError(InputError):
    """A fleet file, node, site or scenario that is not right."""


class GraphError(InputError):
    """A graph that breaks the rules of the IR."""


class CheckFailed(WattirError):
    """A check the user asked for does not hold."""

    exit_code = 1


def suggestion(word: str, known: Iterable[str]) -> str:
    """`'; did you mean a, b?'` for the nearest of `known`, or an empty text."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""
