"""Arrays by layer: they add up to the totals, are what reports say, and refuse what the totals refuse."""

from __future__ import annotations

import numpy as np
import pytest

import wattir
from wattir import layers
from wattir.dims import symbol
from wattir.errors import SizeError

FIELDS = ("energy_j", "energy_low_j", "energy_high_j", "time_s")


@pytest.fixture(scope="module", params=["compiled", "eager"])
def model(request: pytest.FixtureRequest) -> wattir.CostModel:
    return wattir.compile("bert_base", device="h100_sxm", runtime=request.param)


@pytest.mark.parametrize("many", [100, 40_000])
def test_layers_add_up_to_the_totals(model: wattir.CostModel, many: int) -> None:
    rng = np.random.default_rng(2)
    sizes = {"batch": rng.integers(1, 9, many), "seq": rng.integers(1, 100, many)}
    found, total = model.layers(**sizes), model(**sizes)

    for name in ("energy_j", "time_s"):
        assert getattr(found, name).shape == (len(found.names), many)
        assert getattr(found, name).sum(axis=0) == pytest.approx(getattr(total, name), rel=1e-12)


def test_layers_are_those_of_the_report(model: wattir.CostModel) -> None:
    found = model.layers(batch=[[1], [8]], seq=[16, 384, 512])

    for at in np.ndindex(2, 3):
        report = model.report(batch=(1, 8)[at[0]], seq=(16, 384, 512)[at[1]])
        energy, time = (found.energy_j[:, *at], found.time_s[:, *at])
        written = {(layer.name, layer.kind): (layer.energy_j, layer.time_s) for layer in report.layers}
        for name, kind, joules, seconds in zip(found.names, found.kinds, energy, time, strict=True):
            assert (joules, seconds) == pytest.approx(written.pop((name, kind), (0.0, 0.0)), rel=1e-9)
        assert not written


def test_plain_sizes_give_one_column(model: wattir.CostModel) -> None:
    found = model.layers(batch=2, seq=64)

    assert found.energy_j.shape == (len(found.names),)
    assert found.energy_j.sum() == pytest.approx(model(batch=2, seq=64).energy_j, rel=1e-12)


def test_a_layer_alone_has_the_interval_of_a_network_of_it() -> None:
    model = wattir.compile(layers.matmul(symbol("m"), 512, 512), device="h100_sxm")
    found, alone = model.layers(m=[1, 1000]), model(m=[1, 1000])

    for name in FIELDS:
        assert getattr(found, name)[0] == pytest.approx(getattr(alone, name), rel=1e-12)


def test_a_network_without_free_sizes_has_layers_too() -> None:
    model = wattir.compile(layers.matmul(64, 512, 512), device="h100_sxm")

    assert model.layers().energy_j == pytest.approx([model().energy_j], rel=1e-12)


def test_what_totals_refuse_layers_refuse() -> None:
    model = wattir.compile(layers.conv(1, 3, 8, (symbol("size"),) * 2, (7, 7), padding=0), device="h100_sxm")

    with pytest.raises(SizeError, match=r"candidate \[1\]: .*axis of .* = -3"):
        model.layers(size=[32, 3])
