"""A plan for a user's own rows: all that they inform is fitted, held by the coefficients of the nearest relative."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wattir.device import Device, device_from_text, device_ids, load_device
from wattir.device_schema import FAMILY_FALLBACK, LIMITS
from wattir.errors import DeviceError
from wattir.lending import nearest

from .own_rows import check_watts, own_sources
from .plan import Plan, Source, fixed
from .priors import limits_of, priors_of
from .rows import Rows
from .solve import Prior, values_of
from .write import without_fit

SPREAD = 0.3
"""How sure a relative's coefficients are (standard deviation of the logarithm): the spread among the fitted GPUs."""
ENERGIES = ("static_w", "busy_w", "j_per_")
HOST_OP_S = Prior(1e-5, 1.0, 1e-7, 1e-2)


def own_plan(rows: str, text: str, where: str, command: str) -> Plan:
    """The plan of the device file `text` (read from `where`) for the rows in a file."""
    parts = [(source, part) for source, part in own_sources(rows) if part.samples]
    return plan_of(parts, text, where, command)


def plan_of(parts: Sequence[tuple[Source, Rows]], text: str, where: str, command: str) -> Plan:
    """The plan of a device file for these rows, held by the relative that it names, or else by the nearest machine."""
    found = tuple(source for source, _ in parts)
    joules = any(np.isfinite(part.energy_j).any() for _, part in parts)
    device = limits_of(text, where)
    check_watts(parts, device)
    lender = _lender(text, where, device)
    families = tuple(dict.fromkeys((*FAMILY_FALLBACK, "matmul", *lender.coefficients.families)))
    return Plan(
        device.id, found, families, tuple(device.flop_per_s), (lender.coefficients.tiles,),
        given=_given(device, lender, families, joules), command=command,
        lent_widths={"layer": lender.interval_layer, "network": lender.interval_network},
        note=f"Held by the coefficients of {lender.borrowed_from} in proportion to the limits.",
    )  # fmt: skip


def with_relative(text: str, where: str) -> str:
    """The head of a device file; one that names no relative gets the nearest machine's name."""
    head = without_fit(text)
    if tomllib.loads(head).get("relatives"):
        return head
    line = f'relatives = ["{nearest_measured(limits_of(text, where))}"]\n'
    return re.sub(r"^\[", lambda _: f"{line}\n[", re.sub(r"^relatives.*\n", "", head, flags=re.M), count=1, flags=re.M)


def nearest_measured(device: Device) -> str:
    """The measured machine of the same kind, or of any, that is the nearest relative."""
    known = [load_device(name) for name in device_ids() if name != device.id]
    known = [other for other in known if other.measured]
    alike = [other for other in known if other.kind == device.kind] or known
    return nearest(device, alike)[0].id


def head_like(name: str, path: str) -> str:
    """The head of a new device file with the limits of a known machine."""
    try:
        other = load_device(name)
    except DeviceError as error:
        raise DeviceError(f"--like {str(error).removeprefix('--hw ')}") from None
    limits = {key: getattr(other, key) for key in (*LIMITS, "boost_hz", "nominal_hz", "link_bytes_per_s")}
    told = {key: getattr(other, key) for key in ("kind", "vendor", "architecture", "memory", "scope")}
    return "\n".join([
        f'id = "{_identifier(path)}"', f'name = "{_identifier(path)}, as {other.name}"', "aliases = []",
        *(f'{key} = "{text}"' for key, text in told.items() if text), f'relatives = ["{other.id}"]', "", "[limits]",
        f'source = "those of {other.id}; replace them where this machine differs"',
        *(f"{key} = {value!r}" for key, value in limits.items() if value is not None), "", "[limits.flop_per_s]",
        *(f"{key} = {value!r}" for key, value in other.flop_per_s.items()), "",
    ])  # fmt: skip


def _identifier(path: str) -> str:
    stem = os.path.splitext(os.path.basename(path))[0]
    return re.sub(r"\W", "_", stem) or "my_machine"


def _lender(text: str, where: str, device: Device) -> Device:
    """The relative's coefficients, scaled to this device's limits."""
    return replace(device_from_text(with_relative(text, where), where), id=device.id)


def _given(device: Device, lender: Device, families: tuple[str, ...], joules: bool) -> dict[str, Prior]:
    """The priors of a bare device with the relative's values at their centres; rows without joules move no energies."""
    lent = values_of(lender.coefficients)
    plain = priors_of(device, tuple(device.flop_per_s), families, {"host_op_s": HOST_OP_S})
    given = {name: _moved(prior, lent[name]) for name, prior in plain.items() if lent.get(name, 0.0) > 0.0}
    if not joules:
        given |= {name: fixed(prior.value) for name, prior in given.items() if name.startswith(ENERGIES)}
    ragged = lender.coefficients.families["matmul"].ragged_rate
    return {"host_op_s": HOST_OP_S, **given} | ({"matmul ragged_rate": fixed(ragged)} if ragged < 1.0 else {})


def _moved(prior: Prior, value: float) -> Prior:
    return replace(prior, value=min(max(value, prior.low), prior.high), spread=min(prior.spread, SPREAD))
