"""The benchmark of architecture search measures what it says: 50 layers, and sums that NumPy gives too."""

from __future__ import annotations

import numpy as np
import pytest

import wattir
from benchmarks import nas_loop
from benchmarks.nas_networks import fbnet, fifty_layers, nas_bench_201, tables_by_choice


@pytest.mark.parametrize(("cells", "positions", "choices"), [(nas_bench_201, 6, 5), (fbnet, 22, 9)])
def test_composed_cells_are_sums_of_their_tables(cells, positions, choices):
    space = cells()
    price = space.compile("h100_sxm")
    index, tables = space.sample(1000).astype(np.uint8), tables_by_choice(price)

    assert [table.sums.shape[0] for table in tables] == [choices] * positions
    assert price(index).energy_j == pytest.approx(nas_loop.table_sum(tables, index), rel=1e-12)


@pytest.mark.parametrize(("own_widths", "widths"), [(False, 16), (True, 50)])
def test_networks_have_fifty_layers(own_widths, widths):
    model = wattir.compile(fifty_layers(own_widths), device="h100_sxm")

    assert len(model.kernels) == 50
    assert set(model.sizes) == {"batch", "side", *(f"c{i}" for i in range(widths))}


def test_everything_is_measured_in_turn(monkeypatch, capsys):
    monkeypatch.setattr(nas_loop, "COUNT", 20_000)
    monkeypatch.setattr(nas_loop, "BOOSTED", 20)
    found = nas_loop.measured("h100_sxm", repeats=2)

    assert set(nas_loop.ASKED) <= set(found["ns"])
    assert all(len(ns) == 2 and min(ns) >= 0.0 for ns in found["ns"].values())
    assert all(len(found[f"two_threads_{by}"]["50 layers, 51 sizes"]) == 2 for by in ("wall", "cpu"))
    nas_loop.show(found)
    assert "50 layers, 51 sizes" in capsys.readouterr().out
