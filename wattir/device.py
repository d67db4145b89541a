"""Machines: one TOML file each, read into a `Device`; what a file does not know is borrowed from a relative.

A file has the datasheet's limits (`[limits]`, with their source) and, where rows were measured, `[coefficients]`
fitted by ``wattir fit`` with their `[[fit]]` records and `[interval]`, and `[[correction]]`s learned on top, those of
libraries in a ``.trees`` file beside it (`wattir.trees_file`). How these carry over: `wattir.lending`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from wattir.device_schema import COEFFICIENTS, FAMILY_FALLBACK, LIMITS, MATH_FALLBACK, check_device
from wattir.errors import DeviceError, suggestion
from wattir.generation_engine import Stack, stack_of
from wattir.kinds import DTYPE_BYTES
from wattir.lending import lent, nearest, unlike
from wattir.reading import read_text, toml_of
from wattir.serving_engine import Engine, engine_of
from wattir.trees import Ensemble
from wattir.trees_file import Stored, trees_path


@dataclass(frozen=True, slots=True)
class Family:
    """How close a kind of kernel comes to the roofs: shares of peak and of bandwidth, fixed seconds a launch.

    A share of peak above 1 is arithmetic that a library saves (Winograd).

    `sharpness`: how well its work under one roof hides behind the other (see `roofline.smooth_max`; 1: not at all).
    `wave_s`: seconds to begin and end a row of tiles (attention) or a block of threads (a norm's row, a reduction's
    output, an embedding) on one unit, beside its arithmetic; 0 where unknown.
    `ragged_rate`: share of the rate where n or k is no multiple of 8 elements (see `roofline.ALIGNED`).
    `fill_k`, `step_s`, `split_s`: steps along the inner dimension that a tile takes to begin and end, seconds that a
    step waits for its operands, and what splitting the inner dimension costs (0: not split); `roofline.tiled_seconds`.
    `cache_rate`: share of the machine's `cache_bytes_per_s` (beside its `memory_efficiency`).
    """

    compute_efficiency: float
    memory_efficiency: float
    fixed_s: float
    sharpness: float
    wave_s: float = 0.0
    ragged_rate: float = 1.0
    fill_k: float = 0.0
    step_s: float = 0.0
    split_s: float = 0.0
    cache_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What was fitted. `families` is keyed by family or ``family.math``; energies per FLOP by math dtype.

    `tiles`: large tile (m, n), small tile (m, n), and the small tile's share of the large one's rate. `static_w`: power
    at zero work; `busy_w`: what running kernels add to it (0 where unknown). `host_op_s`: what the host needs to launch
    one framework op in eager. `voltage_floor`, `voltage_knee`: the least voltage as a share of that at the boost clock,
    and the share of that clock up to which it holds (see `wattir.clock`; unless fitted, those of the A100).
    """

    static_w: float
    j_per_flop: Mapping[str, float]
    j_per_op: float
    j_per_byte: float
    j_per_cache_byte: float
    cache_bytes_per_s: float
    host_op_s: float
    tiles: tuple[float, float, float, float, float]
    families: Mapping[str, Family]
    busy_w: float = 0.0
    voltage_floor: float = 0.776
    voltage_knee: float = 0.72


@dataclass(frozen=True, slots=True)
class Correction:
    """What was learned of a family of kernels beyond the physics: ensembles (`wattir.trees`) that multiply its seconds
    and its joules given the seconds; empty where nothing is."""

    time: Ensemble
    power: Ensemble


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """Half-widths of the 90 % interval of seconds, as those of joules in a `Device`."""

    layer: float
    network: float
    families: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Device:
    """One machine. Limits are the datasheet's (`link_bytes_per_s`: to other devices of its node, one way, 0: unknown);
    `scope` says what the joules cover (board, package, rail, wall, node).

    `measured` is False when the coefficients come from `borrowed_from`; `measured_families`: the kinds of kernels that
    they were fitted on, here or there. `interval_layer`, `interval_network`:
    half-widths of the 90 % interval in log space for one layer and for a whole network; `interval_families`: for one
    layer of a family, ``family.math`` or ``family.math@library``. `corrections` are keyed by the last two of these.
    `time_interval`: the same of seconds (None: as wide as of joules).
    `architecture`, `memory`: what its relatives are told by (`wattir.lending`; empty where the file does not say).
    `boost_hz`: the core clock of the rates and coefficients; `nominal_hz`: the one that the maker guarantees;
    `clock_hz`: what `wattir.clock` set.
    `engines`: serving engines fitted on this machine, by name (`wattir.serving.engine_on` also borrows).
    `stacks`: those that generate images and video, likewise (`wattir.generation.stack_on`).
    """

    id: str
    name: str
    kind: str
    scope: str
    aliases: tuple[str, ...]
    relatives: tuple[str, ...]
    power_w: float
    memory_bytes_per_s: float
    memory_bytes: float
    cache_bytes: float
    units: float
    flop_per_s: Mapping[str, float]
    coefficients: Coefficients
    link_bytes_per_s: float
    interval_layer: float
    interval_network: float
    interval_source: str
    measured: bool
    borrowed_from: str | None
    sources: tuple[str, ...]
    fits: tuple[Mapping[str, Any], ...] = field(default=())
    measured_families: frozenset[str] = field(default=frozenset())
    interval_families: Mapping[str, float] = field(default_factory=dict)
    time_interval: TimeInterval | None = None
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    vendor: str = ""
    architecture: str = ""
    memory: str = ""
    boost_hz: float | None = None
    nominal_hz: float | None = None
    clock_hz: float | None = None
    engines: Mapping[str, Engine] = field(default_factory=dict)
    stacks: Mapping[str, Stack] = field(default_factory=dict)

    @property
    def metered(self) -> bool:
        """Whether joules were measured on this very machine; else its powers and energies are a relative's."""
        return any("energy_median_ape" in fit for fit in self.fits)

    def math(self, wanted: str) -> str:
        """The dtype that a product asked for in `wanted` runs in here."""
        while wanted not in self.flop_per_s and wanted in MATH_FALLBACK:
            wanted = MATH_FALLBACK[wanted]
        return wanted if wanted in self.flop_per_s else "fp32"

    def family(self, name: str, math: str) -> tuple[Family, bool]:
        """The efficiencies of a family in a math dtype, and whether the family was fitted (`measured_families`)."""
        families = self.coefficients.families
        first = name
        while True:
            key = f"{name}.{math}" if f"{name}.{math}" in families else name
            if key in families:
                return families[key], first in self.measured_families
            if name == FAMILY_FALLBACK.get(name) or name not in FAMILY_FALLBACK:
                raise DeviceError(f"device {self.id}: no efficiencies for {first!r}; expected at least 'matmul'")
            name = FAMILY_FALLBACK[name]

    def j_per_flop(self, math: str) -> float:
        """Joules of one FLOP in a math dtype; where it was not fitted, the nearest one's in proportion to rate."""
        fitted = self.coefficients.j_per_flop
        if math in fitted:
            return fitted[math]
        known = [m for m in self.flop_per_s if m in fitted]
        nearest = min(known, key=lambda m: abs(DTYPE_BYTES.get(m, 4) - DTYPE_BYTES.get(math, 4)))
        return fitted[nearest] * self.flop_per_s[nearest] / self.flop_per_s[math]


def device_folder() -> str:
    """Where the device files lie, installed or in a checkout."""
    from wattir import __path__ as roots

    for root in roots:
        folder = os.path.join(root, "backends", "devices")
        if os.path.isdir(folder):
            return folder
    raise DeviceError("the folder backends/devices is missing; expected it beside wattir; install wattir again")


@lru_cache
def _index() -> tuple[tuple[str, ...], Mapping[str, str]]:
    """All ids, and from every alias to its id; made from the files' first lines, without parsing them whole."""
    folder = device_folder()
    ids = tuple(sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".toml")))
    aliases: dict[str, str] = {}
    for device_id in ids:
        for alias in (device_id, *_aliases(os.path.join(folder, device_id + ".toml"))):
            aliases.setdefault(plain(alias), device_id)
    return ids, aliases


def _aliases(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        head = "".join(line for line, _ in zip(file, range(12), strict=False) if line.startswith(("aliases", "name")))
    try:
        found = tomllib.loads(head)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DeviceError(f"{path}: `name` and `aliases` must be single lines at the top ({error})") from None
    return [*found.get("aliases", ()), found.get("name", "")]


BRANDS = re.compile(r"\((?:r|tm)\)|\b(?:nvidia|geforce|tesla|intel|graphics)\b")
"""What drivers, sheets and people put around a machine's name, or leave out."""


def plain(text: str) -> str:
    """An id for comparing: lower case, letters and digits only, without `BRANDS`."""
    bare = BRANDS.sub(" ", text.lower())
    return "".join(c for c in bare if c.isalnum())


def device_ids() -> tuple[str, ...]:
    """The ids of all machines known, sorted."""
    return _index()[0]


def load_device(wanted: str) -> Device:
    """The machine of this id or alias, or of the TOML file at this path; DeviceError suggests near misses."""
    if wanted.endswith(".toml"):
        return device_from_text(read_device_file(wanted), wanted)
    ids, aliases = _index()
    device_id = aliases.get(plain(wanted))
    if device_id is None:
        near = suggestion(plain(wanted), aliases) or "; see `wattir devices`"
        raise DeviceError(f"--hw {wanted}: no such device; expected one of {len(ids)} known ids{near}")
    return _load(device_id)


@lru_cache
def _load(device_id: str) -> Device:
    path = os.path.join(device_folder(), device_id + ".toml")
    return device_from_text(read_device_file(path), path)


def read_device_file(path: str) -> str:
    """The text of a device file; DeviceError where it cannot be read."""
    return read_text(path, "a device file in TOML", DeviceError)


def device_from_text(text: str, where: str, *, complete: bool = False) -> Device:
    """A Device from the text of a file; `where` names it in errors.

    `complete`: it holds all that its relatives lend, as a saved model's does.
    """
    table = toml_of(text, where, "a device file in TOML", DeviceError)
    check_device(table, where)
    if not complete and "clock_hz" in table["limits"]:
        raise DeviceError(
            f"{where}: [limits]: clock_hz is what a saved model was compiled for; expected boost_hz, the clock of the "
            "rates and coefficients here, and --clock-mhz for another"
        )
    if "coefficients" in table:
        own = _coefficients(table["coefficients"])
        return _device(table, own if complete else _with_lent_families(own, table), where)
    return _borrowed(table, where)


def _with_lent_families(own: Coefficients, table: Mapping[str, Any]) -> Coefficients:
    """Families that no row of this machine informs come from its relatives.

    Families are shares of limits, so they carry over as they are; `Device.family` tells them from measured ones.
    """
    families = dict(own.families)
    for relative in table.get("relatives", ()):
        lent = _own_families(relative) if relative in device_ids() else {}
        seen = {name.partition(".")[0] for name in families}
        families |= {name: family for name, family in lent.items() if name.partition(".")[0] not in seen}
    return replace(own, families=families)


@lru_cache
def _own_families(device_id: str) -> Mapping[str, Family]:
    """The families of a machine's own file."""
    path = os.path.join(device_folder(), device_id + ".toml")
    table = tomllib.loads(read_device_file(path))
    return _coefficients(table["coefficients"]).families if "coefficients" in table else {}


def _device(table: Mapping[str, Any], coefficients: Coefficients, where: str) -> Device:
    limits, fits = table["limits"], tuple(table.get("fit", ()))
    borrowed_from, interval = table.get("borrowed_from"), table["interval"]
    return Device(
        id=table["id"], name=table["name"], kind=table["kind"], scope=table["scope"],
        aliases=tuple(table.get("aliases", ())), relatives=tuple(table.get("relatives", ())),
        **{name: limits[name] for name in LIMITS}, flop_per_s=limits["flop_per_s"],
        link_bytes_per_s=limits.get("link_bytes_per_s", 0.0),
        coefficients=coefficients,
        interval_layer=interval["layer"], interval_network=interval["network"], interval_source=interval["source"],
        interval_families=interval.get("families", {}),
        time_interval=TimeInterval(**interval["time"]) if "time" in interval else None,
        measured=borrowed_from is None, borrowed_from=borrowed_from, sources=(limits["source"],), fits=fits,
        measured_families=frozenset(table.get("lent_families", ())).union(*(fit["families"] for fit in fits)),
        corrections=_corrections(table, where),
        vendor=table.get("vendor", ""), architecture=table.get("architecture", ""), memory=table.get("memory", ""),
        boost_hz=limits.get("boost_hz"), nominal_hz=limits.get("nominal_hz"), clock_hz=limits.get("clock_hz"),
        engines={name: engine_of(name, found) for name, found in table.get("serving", {}).items()},
        stacks={name: stack_of(name, found) for name, found in table.get("generation", {}).items()},
    )  # fmt: skip


def _corrections(table: Mapping[str, Any], where: str) -> dict[str, Correction]:
    path = os.path.abspath(trees_path(where))
    return {
        one["family"]: Correction(_ensemble(one, "time", path), _ensemble(one, "power", path))
        for one in table.get("correction", ())
    }


def _ensemble(found: Mapping[str, Any], name: str, path: str) -> Ensemble:
    crc32 = found.get(f"{name}_crc32")
    return found.get(name, "") if crc32 is None else Stored(path, f"{found['family']}.{name}", crc32)


def physics_only(device: Device) -> Device:
    """The device without learned corrections; its layers' interval is that of the physics."""
    own = device.time_interval
    return replace(device, corrections={}, interval_families={}, time_interval=own and replace(own, families={}))


def without_libraries(device: Device) -> Device:
    """The device without what is kept by library (``family.math@library``), which no network asks for."""
    own = device.time_interval
    return replace(
        device, corrections=_unnamed(device.corrections), interval_families=_unnamed(device.interval_families),
        time_interval=own and replace(own, families=_unnamed(own.families)),
    )  # fmt: skip


def _unnamed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if "@" not in key}


def _coefficients(table: Mapping[str, Any]) -> Coefficients:
    families = {name: Family(**values) for name, values in table["families"].items()}
    scalars: dict[str, Any] = {name: table[name] for name in COEFFICIENTS if name in table}
    return Coefficients(**scalars, j_per_flop=table["j_per_flop"], tiles=tuple(table["tiles"]), families=families)


def _borrowed(table: Mapping[str, Any], where: str) -> Device:
    relatives = table.get("relatives", ())
    if not relatives:
        raise DeviceError(
            f"{where}: neither [coefficients] nor `relatives`; expected one of them, such as relatives = "
            f"{json.dumps(_nearest(table, where))}, of what was measured the nearest by vendor, memory, architecture "
            "and limits"
        )
    waiting = (*_BORROWERS.get(), table["id"])
    if table["id"] in waiting[:-1]:
        raise DeviceError(
            f"{where}: borrows in a circle ({' from '.join(waiting)}); expected [coefficients] in one of them"
        )
    token = _BORROWERS.set(waiting)
    try:
        lenders = [_relative(name, where) for name in relatives]
    finally:
        _BORROWERS.reset(token)
    return lent(_device({**table, "interval": _NO_INTERVAL}, lenders[0].coefficients, where), lenders)


def _relative(name: str, where: str) -> Device:
    """A relative by its id; the error says whose it is."""
    try:
        return load_device(name)
    except DeviceError as error:
        raise DeviceError(f"{where}: relatives: {str(error).removeprefix('--hw ')}") from None


def _nearest(table: Mapping[str, Any], where: str) -> list[str]:
    """The ids of the measured machines, two at most, that a file without relatives could borrow from."""
    known = [device for device in map(load_device, device_ids()) if device.measured]
    alike = [device for device in known if device.kind == table["kind"]] or known
    own = _device({**table, "interval": _NO_INTERVAL}, alike[0].coefficients, where)
    return [device.id for device in unlike(nearest(own, alike))[:2]]


_NO_INTERVAL = {"layer": 0.0, "network": 0.0, "source": "not measured"}
_BORROWERS: ContextVar[tuple[str, ...]] = ContextVar("borrowers", default=())
"""Ids of the machines whose lender is being read, the first asked for first."""
