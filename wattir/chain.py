"""From an accelerator's joules to the meter, the grid and the factory: one chain, every factor with its source.

    accelerators   joules of the boards, as estimated
    node           overhead * joules + share of host_w * seconds     CPUs, memory, NICs; fans and power supplies
    site           PUE * node
    carbon         kg per kWh of the region * site
    embodied       share of the node's manufacture: kg * seconds / lifetime       (asked for)
    water on site  litres per kWh of cooling * node
    water of grid  litres per kWh generated * site

A job on some of a node's accelerators carries that share of host and manufacture. The numbers are in chain.toml.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from wattir.errors import FleetError, suggestion

TABLES = os.path.join(os.path.dirname(__file__), "chain.toml")
J_PER_KWH = 3.6e6
SOURCES_OF_POWER = ("coal", "gas", "nuclear", "hydro", "wind", "solar", "biomass")
BUILT = re.compile(r"(?P<form>[a-z]+)-(?P<accelerators>[1-9]\d{0,2})x(?P<sockets>[1-9]\d?)")
"""A node by its parts: form, accelerators x sockets."""
WHOLE_SCOPES = ("wall", "node")
"""Scopes of a device whose joules cover the node already."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """From joules of one scope to those of another: ``factor * joules + added_w * seconds``.

    `width`: half-width in log space of what it misses; `source`: why.
    """

    factor: float
    added_w: float
    width: float
    source: str

    def joules(self, energy_j: float, time_s: float) -> float:
        """The joules of the other scope."""
        return self.factor * energy_j + self.added_w * time_s

    @property
    def inverse(self) -> Conversion:
        """The way back."""
        return replace(self, factor=1.0 / self.factor, added_w=-self.added_w / self.factor)


@dataclass(frozen=True, slots=True)
class Node:
    """A server or PC: watts at its plug are `host_w` plus `overhead` times those of its `accelerators`.

    `inside`: what the joules of an accelerator cover; `width`: half-width in log space of what this misses, where it
    was measured. `embodied_kg`: CO2eq of making it, spread evenly over `lifetime_s`; None where nothing is known.
    """

    id: str
    name: str
    accelerators: float
    host_w: float
    overhead: float
    source: str
    embodied_kg: float | None = None
    lifetime_s: float | None = None
    embodied_source: str = ""
    inside: str = "board"
    width: float = 0.0

    def to_plug(self, accelerators: float) -> Conversion:
        """From the joules of so many of its accelerators to theirs at the plug, with their share of the host."""
        share_w = self.host_w * accelerators / self.accelerators
        return Conversion(self.overhead, share_w, self.width, f"{self.name}: {self.source}")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a node stands: PUE, carbon and water of its grid per kWh, litres of cooling per kWh of its nodes."""

    region: str
    name: str
    pue: float
    carbon_kg_per_kwh: float
    grid_water_l_per_kwh: float
    water_l_per_kwh: float
    pue_source: str
    grid_source: str
    grid_water_source: str
    water_source: str


@dataclass(frozen=True, slots=True)
class Link:
    """One step: the value after it, in J, kg or L, the factor that led there, and where the factor is from."""

    name: str
    value: float
    unit: str
    factor: str
    source: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


def chain(
    energy_j: float, time_s: float, accelerators: float, node: Node | None, site: Site, *, origin: str = "estimated",
    embodied: bool = False,
) -> tuple[Link, ...]:  # fmt: skip
    """The chain of a job that takes `energy_j` on so many accelerators for `time_s`; `origin`: where these are from.

    Without a node the joules are taken as those of the whole node.
    """
    for name, value in (("energy_j", energy_j), ("time_s", time_s)):
        if not 0.0 <= value < float("inf"):
            raise FleetError(f"{name} = {value}; expected a number of at least 0")
    return tuple(_links(energy_j, time_s, accelerators, node, site, origin, embodied))


def _links(
    energy_j: float, time_s: float, accelerators: float, node: Node | None, site: Site, origin: str, embodied: bool
) -> Iterator[Link]:
    yield Link("accelerators" if node else "node", energy_j, "J", f"{accelerators:g} x", origin)
    if node:
        plug = node.to_plug(accelerators)
        energy_j = plug.joules(energy_j, time_s)
        yield Link("node", energy_j, "J", f"x {plug.factor:g} + {plug.added_w:.4g} W", plug.source)
    site_j = site.pue * energy_j
    yield Link("site", site_j, "J", f"x {site.pue:g} PUE", site.pue_source)
    kwh = site_j / J_PER_KWH
    carbon = site.carbon_kg_per_kwh
    yield Link("carbon", kwh * carbon, "kg", f"x {carbon:g} kg/kWh", f"{site.name}: {site.grid_source}")
    if embodied and node:
        if node.embodied_kg is None or node.lifetime_s is None:
            raise FleetError(f"node {node.id}: nothing is known of its manufacture; expected a chain without it")
        share = accelerators / node.accelerators * time_s / node.lifetime_s
        factor = f"{node.embodied_kg:g} kg x {share:.3g} of its life"
        yield Link("embodied", node.embodied_kg * share, "kg", factor, node.embodied_source)
    cooling = site.water_l_per_kwh
    yield Link("water on site", energy_j / J_PER_KWH * cooling, "L", f"node x {cooling:g} L/kWh", site.water_source)
    grid = site.grid_water_l_per_kwh
    yield Link("water of grid", kwh * grid, "L", f"site x {grid:.3g} L/kWh", site.grid_water_source)


@lru_cache
def _tables() -> Mapping[str, Any]:
    with open(TABLES, "rb") as file:
        return tomllib.load(file)


def node_ids() -> tuple[str, ...]:
    """All nodes known."""
    return tuple(_tables()["nodes"])


def region_ids() -> tuple[str, ...]:
    """All regions known."""
    return tuple(name for name in _tables()["regions"] if name != "source")


def load_node(wanted: str) -> Node:
    """The node of this id, or one built of parts, such as ``pcie-4x2``; FleetError suggests near misses."""
    built = BUILT.fullmatch(wanted)
    if built:
        return built_node(built["form"], float(built["sockets"]), float(built["accelerators"]))
    _check_known("node", wanted, node_ids())
    table = dict(_tables()["nodes"][wanted])
    table.pop("devices")
    return Node(id=wanted, **table)


def built_node(form: str, sockets: float, accelerators: float) -> Node:
    """A node of so many sockets and accelerators, by what these draw in general at work.

    `form`: ``sxm`` boards, ``pcie`` cards or ``hhhl`` (half-length) cards.
    """
    parts = _tables()["parts"]
    _check_known("form", form, tuple(parts))
    found = parts[form]
    host_w = found["socket_w"] * sockets + found["slot_w"] * accelerators
    name = f"{accelerators:g}x {form.upper()} node of {sockets:g} sockets"
    return Node(f"{form}-{accelerators:g}x{sockets:g}", name, accelerators, host_w, found["overhead"], found["source"])


def node_of(device_id: str, scope: str) -> Node | None:
    """The node that a device usually sits in; None where its joules cover the node; FleetError where none is known."""
    return None if scope in WHOLE_SCOPES else node_around(device_id, scope)


def node_around(device_id: str, scope: str) -> Node:
    """The node that a device usually sits in, whose joules cover `scope`; FleetError where none is known."""
    nodes = [load_node(name) for name in node_ids()]
    for node in nodes:
        if device_id in _tables()["nodes"][node.id]["devices"]:
            return node
    around = [node.id for node in nodes if node.inside == scope]
    rest = f"expected --node with one of {', '.join(around)}" if around else f"nothing leads from a {scope} to the plug"
    raise FleetError(f"{device_id}: no node is known around it; {rest}")


def load_site(region: str, pue: float | None = None) -> Site:
    """A site in this region, at the usual PUE or one of your own."""
    tables = _tables()
    _check_known("region", region, region_ids())
    found, site, water = tables["regions"][region], tables["site"], tables["water_l_per_kwh"]
    grid_water = sum(found[source] * water[source] for source in SOURCES_OF_POWER)
    usual = Site(
        region, found["name"], site["pue"], found["carbon_kg_per_kwh"], grid_water, site["water_l_per_kwh"],
        site["pue_source"], tables["regions"]["source"], water["source"], site["water_source"],
    )  # fmt: skip
    if pue is None:
        return usual
    if not 1.0 <= pue <= 10.0:
        raise FleetError(f"pue = {pue}; expected a number from 1 to 10")
    return replace(usual, pue=pue, pue_source="given")


def _check_known(what: str, wanted: str, known: tuple[str, ...]) -> None:
    if wanted not in known:
        near = suggestion(wanted, known)
        raise FleetError(f"{what} {wanted!r}: not known; expected one of {', '.join(known)}{near}")
