"""The 90 % interval of seconds: by hand, one by one as in batches, as the fits judge it, lent and saved."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import wattir
from wattir import layers
from wattir.cli import main
from wattir.cli.units import digits
from wattir.costmodel import compile_graph
from wattir.device import Device, TimeInterval, load_device
from wattir.lending import WIDTHS, lent, relation

WIDTH, NETWORK = 0.05, 0.02
"""Half-widths of seconds of a product and of a network, in log space: a fraction of those of joules."""


def machine(**families: float) -> Device:
    own = TimeInterval(layer=0.4, network=NETWORK, families=families or {"matmul.bf16": WIDTH})
    return replace(load_device("h200_sxm"), time_interval=own)


def half_width(time_s: float, low_s: float, high_s: float) -> float:
    assert time_s / low_s == pytest.approx(high_s / time_s, rel=1e-12)  # as far below as above, in log space
    return math.log(high_s / time_s)


def width_of(model: Any, **sizes: int) -> float:
    return half_width(model(**sizes).time_s, *model.time_interval(**sizes))


def test_a_kernel_alone_is_as_uncertain_as_its_kind():
    product = layers.matmul(4096, 4096, 4096, "bf16")
    assert width_of(compile_graph(product, machine())) == pytest.approx(WIDTH, rel=1e-12)
    norm = layers.norm(4096, 4096, "bf16")  # a family without a width of its own is as wide as any layer
    assert width_of(compile_graph(norm, machine())) == pytest.approx(0.4, rel=1e-12)


def test_equal_kernels_average_out_to_what_they_have_in_common():
    """h^2 = network^2 + (layer^2 - network^2) / n for n kernels of the same joules."""
    layer = layers.matmul(4096, 4096, 4096, "bf16")
    blocks = [wattir.spaces.Block(layer, times=100)]
    space = wattir.spaces.Space(wattir.spaces.composed("deep", blocks), {})
    expected = math.sqrt(NETWORK**2 + (WIDTH**2 - NETWORK**2) / 100)
    assert width_of(compile_graph(space.graph, machine())) == pytest.approx(expected, rel=1e-9)


def test_a_machine_without_one_has_that_of_joules():
    model = wattir.compile("resnet50", device=replace(load_device("h200_sxm"), time_interval=None))
    answer = model(batch=8)
    assert width_of(model, batch=8) == pytest.approx(math.log(answer.energy_high_j / answer.energy_j), rel=1e-12)


def test_nothing_to_do_takes_no_time_for_sure():
    blocks = [wattir.spaces.Block(layers.matmul(64, 64, 64), times=wattir.spaces.symbol("depth"))]
    space = wattir.spaces.Space(wattir.spaces.composed("empty", blocks), {"depth": (0, 1)})
    model = compile_graph(space.graph, machine())
    assert model.time_interval(depth=0) == (0.0, 0.0)


@pytest.mark.parametrize("runtime", ["compiled", "eager"])
def test_arrays_give_what_single_calls_give(runtime: str):
    np = pytest.importorskip("numpy")
    pytest.importorskip("numba")
    model = wattir.compile("bert_base", device="h100_sxm", runtime=runtime)
    batch, seq = np.array([0, 1, 3, 64]), np.array([[17], [512]])
    low, high = model.time_interval(batch=batch, seq=seq)
    assert low.shape == high.shape == (2, 4)
    for i, j in np.ndindex(2, 4):
        one = model.time_interval(batch=int(batch[j]), seq=int(seq[i, 0]))
        assert (low[i, j], high[i, j]) == pytest.approx(one, rel=1e-12)


def test_candidates_of_a_space_have_that_of_their_network():
    np = pytest.importorskip("numpy")
    pytest.importorskip("numba")
    width, depth = map(wattir.spaces.symbol, ("width", "depth"))
    blocks = [wattir.spaces.Block(layers.matmul(512, width, width), times=depth)]
    space = wattir.spaces.Space(wattir.spaces.composed("mlp", blocks), {"width": (256, 512), "depth": range(1, 13)})
    price = space.compile("h100_sxm")
    low, high = price.time_interval(range(len(space)))
    ones = [price.model.time_interval(**space[i]) for i in range(len(space))]
    assert np.stack([low, high], axis=1) == pytest.approx(np.array(ones), rel=1e-12)


def test_it_is_the_interval_that_fits_are_judged_by():
    pytest.importorskip("scipy")
    from wattir.backends.fit.evaluate import widths
    from wattir.backends.fit.rows import network_rows
    from wattir.interval import of_seconds

    parts = (layers.matmul(4096, 8192, 8192, "bf16"), layers.norm(4096, 8192, "bf16"))
    blocks = [wattir.spaces.Block(part, times=times) for part, times in zip(parts, (3, 2), strict=True)]
    model = compile_graph(wattir.spaces.composed("net", blocks), machine())
    rows = network_rows([model.kernels], group=["net"], time_s=[1.0], energy_j=[1.0])
    assert width_of(model) == pytest.approx(widths(of_seconds(model.device), rows)[0], rel=1e-9)


def test_a_borrower_has_its_lenders_and_what_lending_adds():
    lender = machine()
    borrower = replace(lent(replace(lender, id="mine", vendor="other"), [lender]), interval_families={})
    added = WIDTHS[relation(borrower, lender)]
    found = width_of(compile_graph(layers.norm(4096, 4096, "bf16"), borrower))
    assert found == pytest.approx(math.hypot(0.4, added.layer), rel=1e-9)


def test_reports_say_it_and_a_saved_model_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = wattir.compile("resnet50", device="h100_sxm")
    low_s, high_s = model.time_interval(batch=8)
    totals = model.report(batch=8).totals
    assert (totals["time_low_s"], totals["time_high_s"]) == (low_s, high_s)
    assert low_s < totals["time_s"] < high_s
    model.save(str(tmp_path / "one.wattir"))
    assert wattir.load(str(tmp_path / "one.wattir")).time_interval(batch=8) == pytest.approx((low_s, high_s), rel=1e-9)

    asked = ["estimate", "resnet50", "--hw", "h100_sxm", "--batch-size", "8"]
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["time_high_s"] == high_s
    assert main(asked) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("time "))
    assert f"({digits(1e3 * low_s)} to {digits(1e3 * high_s)} ms, 90 %)" in line
