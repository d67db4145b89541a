"""The chain from joules of accelerators to grid, carbon and water: by hand, its laws, and its command line."""

from __future__ import annotations

import json

import pytest

from wattir.chain import (
    J_PER_KWH,
    SOURCES_OF_POWER,
    Node,
    Site,
    _tables,
    chain,
    load_node,
    load_site,
    node_ids,
    node_of,
    region_ids,
)
from wattir.cli import main
from wattir.device import device_ids
from wattir.errors import FleetError

NODE = Node("n", "made up", 4, 400.0, 1.25, "made up", 1000.0, 1e8, "made up")
SITE = Site("r", "Nowhere", 1.5, 0.4, 2.0, 0.5, "p", "c", "g", "w")
HOUR = 3600.0


def test_chain_by_hand() -> None:
    links = {link.name: link.value for link in chain(2 * 300 * HOUR, HOUR, 2, NODE, SITE, embodied=True)}

    assert links["accelerators"] == 600 * HOUR  # two of 300 W
    assert links["node"] == pytest.approx((1.25 * 600 + 400 / 2) * HOUR)  # half of the node's four
    assert links["site"] == pytest.approx(1.5 * 950 * HOUR)
    assert links["carbon"] == pytest.approx(1.425 * 0.4)  # kWh x kg/kWh
    assert links["embodied"] == pytest.approx(1000 * HOUR / 1e8 / 2)
    assert links["water on site"] == pytest.approx(0.950 * 0.5)
    assert links["water of grid"] == pytest.approx(1.425 * 2.0)


def test_whole_node_joules_meet_no_node_factor() -> None:
    links = chain(J_PER_KWH, HOUR, 1, None, SITE, embodied=True)

    assert [link.name for link in links] == ["node", "site", "carbon", "water on site", "water of grid"]
    assert links[1].value == pytest.approx(1.5 * J_PER_KWH)


def test_peak_and_standby_of_the_node_are_those_it_was_made_from() -> None:
    node = load_node("hgx_h100")

    assert node.host_w + node.overhead * 8 * 700 == pytest.approx(0.76 * 10_200, rel=0.01)  # arXiv 2506.14551
    assert node.host_w + node.overhead * 8 * 100 == pytest.approx(2370, rel=0.01)  # MLPerf, standby


@pytest.mark.parametrize("region", region_ids())
def test_regions_are_whole(region: str) -> None:
    shares = [_tables()["regions"][region][source] for source in SOURCES_OF_POWER]
    site = load_site(region)

    assert 0.95 <= sum(shares) <= 1.0  # what is left is oil and the like, and rounding
    assert 0.02 < site.carbon_kg_per_kwh < 0.8
    assert all((site.grid_source, site.grid_water_source, site.pue_source, site.water_source))


def test_every_node_is_for_known_devices_and_once() -> None:
    devices = [device for name in node_ids() for device in _tables()["nodes"][name]["devices"]]

    assert set(devices) <= set(device_ids())
    assert len(devices) == len(set(devices))
    assert all(load_node(name).source for name in node_ids())


@pytest.mark.parametrize(("call", "said"), [
    (lambda: load_node("hgx_h10"), "node 'hgx_h10': not known; expected one of hgx_h100"),
    (lambda: load_site("usa"), "did you mean us?"),
    (lambda: load_site("us", 0.9), "pue = 0.9; expected a number from 1 to 10"),
    (lambda: node_of("raspberry_pi_5", "rail"), "no node is known around it; nothing leads from a rail to the plug"),
    (lambda: node_of("a40", "board"), "a40: no node is known around it; expected --node with one of hgx_h100"),
    (lambda: chain(-1.0, 1.0, 1, NODE, SITE), "energy_j = -1.0"),
    (lambda: chain(1.0, float("nan"), 1, NODE, SITE), "time_s = nan"),
])  # fmt: skip
def test_what_is_refused(call: object, said: str) -> None:
    with pytest.raises(FleetError) as refused:
        call()  # type: ignore[operator]

    assert said in str(refused.value)


def test_command_goes_on_to_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("estimate", "resnet50", "--hw", "h100_sxm", "--region", "fr", "--pue", "1.1", "--embodied")
    assert main((*words, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    text = capsys.readouterr().out

    links = {link["name"]: link for link in found["chain"]}
    assert links["accelerators"]["value"] == found["totals"]["energy_j"]
    assert links["site"]["value"] == pytest.approx(1.1 * links["node"]["value"])
    assert links["site"]["source"] == "given"
    assert "x 0.056 kg/kWh" in text and "France: Ember" in text


def test_command_without_a_region_has_no_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("estimate", "resnet50", "--hw", "h100_sxm", "--json")) == 0
    assert "chain" not in json.loads(capsys.readouterr().out)
