"""The machines known: all of them, or one with its limits, coefficients, fits and sources."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wattir.device import Device

HELP = "the machines known, or one with limits, coefficients and sources"
EXAMPLES = """\
examples:
  wattir devices
  wattir devices h100
  wattir devices my_machine.toml --json
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `devices` accepts."""
    parser.add_argument("device", metavar="ID", nargs="?", help="an id, an alias, or a device file ending in .toml")
    parser.add_argument("--json", action="store_true", help="print JSON in SI units")


def run(arguments: Namespace) -> int:
    """Prints the list, or one machine."""
    from wattir.device import device_ids, load_device

    if arguments.device is not None:
        device = load_device(arguments.device)
        return _print_json(as_dict(device)) if arguments.json else _show_one(device)
    devices = [load_device(device_id) for device_id in device_ids()]
    return _print_json([as_dict(device) for device in devices]) if arguments.json else _show_all(devices)


def as_dict(device: Device) -> dict[str, Any]:
    """All that is known of a machine, for JSON."""
    return {field.name: _plain(getattr(device, field.name)) for field in fields(device)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _print_json(found: Any) -> int:
    import json

    print(json.dumps(found, indent=2))
    return 0


def _show_all(devices: list[Device]) -> int:
    from wattir.cli.device_view import show_devices

    show_devices(devices)
    return 0


def _show_one(device: Device) -> int:
    from wattir.cli.device_view import show_device

    show_device(device)
    return 0
