"""Intervals of what was left out: those of layers and of totals both hold nine of ten, whatever a total is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")
pytest.importorskip("numba")

from wattir import layers  # noqa: E402
from wattir.backends.fit.cross_validate import LeftOut  # noqa: E402
from wattir.backends.fit.evaluate import widths  # noqa: E402
from wattir.backends.fit.intervals import widest  # noqa: E402
from wattir.backends.fit.plan import Fitted, Plan, Source, interval_of, with_interval  # noqa: E402
from wattir.backends.fit.rows import layer_rows, network_rows, together  # noqa: E402
from wattir.costs import tabulate  # noqa: E402
from wattir.device import load_device, physics_only  # noqa: E402
from wattir.dims import symbol  # noqa: E402
from wattir.interval import of_seconds  # noqa: E402

OWN, COMMON = 0.3, 0.1
"""Standard deviations of what is made up: of each kernel's own error, and of one that all kernels of a sample share."""
OF_TIME = 0.25
"""Errors of seconds over those of joules."""
SAMPLES = 400


def made_up(kernels_of: dict[str, int]) -> tuple[list[Source], Fitted]:
    """Sets of samples of so many equal kernels each, whose log errors are drawn by the model of `wattir.interval`."""
    rng, parts = np.random.default_rng(3), []
    for name, kernels in kernels_of.items():
        sizes = 64.0 * rng.integers(8, 64, SAMPLES)
        nothing = {"time_s": np.ones(SAMPLES), "energy_j": np.ones(SAMPLES)}
        group = [f"{name} {i % 20}" for i in range(SAMPLES)]
        if kernels == 1:
            product = layers.matmul(symbol("m"), 2048, 2048, "bf16")
            parts.append(layer_rows(product, {"m": sizes}, group=group, label=name, **nothing))
            continue
        works = [list(tabulate(layers.matmul(int(size), 2048, 2048, "bf16"))) * kernels for size in sizes]
        parts.append(network_rows(works, group=group, label=name, **nothing))
    rows, source = together(parts), np.repeat(np.arange(len(parts)), SAMPLES)
    own = OWN / np.sqrt(np.array(list(kernels_of.values())))[source]
    errors = rng.normal(0.0, 1.0, rows.samples) * own + rng.normal(0.0, COMMON, rows.samples)
    time = OF_TIME * errors
    sources = [Source(name, name, lambda _: rows, (), "", network=name == "networks") for name in kernels_of]
    device = physics_only(load_device("h200_sxm"))
    no = np.zeros(rows.samples)
    return sources, Fitted(device, rows, source, LeftOut(time, errors, errors, time, errors), no, no > 0)


def test_layers_small_totals_and_networks_are_all_covered():
    sources, fitted = made_up({"layers": 1, "modules": 3, "networks": 50})
    table = interval_of(sources, fitted, Plan("h200_sxm", (), (), (), ()))
    inside = np.abs(fitted.errors.energy) <= widths(with_interval(fitted, table), fitted.rows)

    assert table["network"] < table["families"]["matmul.bf16"]
    for place, source in enumerate(sources):
        assert 0.85 <= inside[fitted.source == place].mean() <= 0.95, source.data_set


def test_seconds_have_an_interval_of_their_own():
    sources, fitted = made_up({"layers": 1, "modules": 3, "networks": 50})
    device = with_interval(fitted, interval_of(sources, fitted, Plan("h200_sxm", (), (), (), ())))
    narrow, wide = (widths(one, fitted.rows) for one in (of_seconds(device), device))

    assert np.median(narrow / wide) == pytest.approx(OF_TIME, rel=0.01)
    for place, source in enumerate(sources):
        inside = (np.abs(fitted.errors.time) <= narrow)[fitted.source == place]
        assert 0.85 <= inside.mean() <= 0.95, source.data_set


def test_borrowed_energies_widen_the_interval_of_joules_alone():
    sources, fitted = made_up({"layers": 1, "networks": 50})
    blind = replace(fitted, errors=replace(fitted.errors, energy=np.full(fitted.rows.samples, np.nan)))
    plan = Plan("h200_sxm", (), (), (), (), energies_beyond=0.5)
    table, both = interval_of(sources, blind, plan), interval_of(sources, fitted, plan)
    assert table["time"] == both["time"] and "energies that were borrowed" in table["source"]
    for name in ("layer", "network"):
        assert table[name] == pytest.approx(table["time"][name] + 0.5)
    assert table["families"]["matmul.bf16"] == pytest.approx(table["time"]["families"]["matmul.bf16"] + 0.5)


def test_without_networks_a_network_has_its_share_of_a_layers_width():
    sources, fitted = made_up({"layers": 1})
    table = interval_of(sources, fitted, Plan("h200_sxm", (), (), (), ()))
    assert table["network"] == pytest.approx(table["layer"] / 2)


def test_every_set_is_covered_where_one_is_wider_than_the_others():
    """Errors that nothing but the set tells: one quantile of both would hold all of the narrow and four of five of the
    wide."""
    sources, fitted = made_up({"modules": 3, "networks": 50})
    wide = np.where(fitted.source == 1, 6.0, 1.0)
    fitted = replace(fitted, errors=LeftOut(*[fitted.errors.energy * wide] * 5))
    table = interval_of(sources, fitted, Plan("h200_sxm", (), (), (), ()))
    inside = np.abs(fitted.errors.energy) <= widths(with_interval(fitted, table), fitted.rows)
    assert 0.88 <= inside[fitted.source == 1].mean() <= 0.95


def test_the_widest_set_decides_and_few_groups_ask_for_more():
    errors = np.concatenate([np.arange(1, 101) / 1000.0, np.arange(1, 101) / 100.0, [np.nan]])
    sets = np.repeat([0, 1, 2], [100, 100, 1])
    cells, many, few = np.zeros(201), np.arange(201), np.arange(201) % 2
    assert widest(errors, cells, sets, many) == pytest.approx(0.91)  # rank ceil(0.9 (1 + 1 / 200) 100)
    assert widest(errors, cells, sets, few) == 1.0
    assert widest(np.full(3, np.nan), np.zeros(3), np.zeros(3), np.zeros(3)) is None
