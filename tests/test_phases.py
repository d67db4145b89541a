"""Prefill and decode measured apart: rings and large messages by hand, readers, the fit, and what ships."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")

from wattir.backends.fit import phases  # noqa: E402
from wattir.backends.fit.sets import Left, cases  # noqa: E402
from wattir.backends.fit.tables import read_table  # noqa: E402
from wattir.device import load_device  # noqa: E402
from wattir.serving import Shape, engine_on, exchange_s  # noqa: E402
from wattir.serving_engine import BULK_BYTES  # noqa: E402
from wattir.serving_model import Deployment, Request  # noqa: E402
from wattir.serving_report import Load, serve  # noqa: E402
from wattir.serving_steps import Demand  # noqa: E402

H100 = load_device("h100_sxm")
DATA = Path(os.environ.get("WATTIR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def sharing(devices: int) -> Shape:
    return Shape(layers=1, scan_layers=0, packed=0.0, busiest=0.0, sharing=devices)


def test_an_exchange_by_hand():
    engine = replace(engine_on(H100), link_s=1e-6, ring_s=1e-5, link_bytes_per_s=1e11, bulk_link=3.0)
    # 7 hops of 10 us beside 1 us; every device sends 2 * 7 / 8 of the message
    small, large = 2.0**20, BULK_BYTES
    for message, factor in ((small, 1.0), (large, 3.0)):
        sent = 2 * 7 / 8 * message
        found = exchange_s(engine, sharing(8), Demand(links=2, link_bytes=2 * sent))
        assert found == pytest.approx(2 * (1e-6 + 7e-5) + factor * 2 * sent / 1e11)
    assert exchange_s(engine, sharing(1), Demand()) == 0.0


def table(hardware: str = "h100-80gb"):
    rows = [
        {"model": model, "hardware": hardware, "tensor_parallel": tp, "prompt_tokens": prompt, "batch_size": batch,
         "output_tokens": 128, "prompt_time_s": 100.0, "token_time_s_mean": 1.0}
        for model, tp in (("llama2-70b", 4), ("llama2-70b", 8), ("bloom-176b", 8))
        for prompt, batch in ((128, 1), (512, 1), (512, 8), (4096, 1)) for _ in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_what_was_put_in_comes_out():
    rows = phases.phase_rows(table(), H100)
    own = phases.law(H100)
    logs = own.space.start.copy()
    logs[own.space.names.index("time dense")] += 0.2
    truth = phases.engine_from(H100, own.space.values(logs))
    rows = replace(rows, time_s=phases.predict(H100, truth, rows))
    found = phases.engine_from(H100, own.space.values(own.solve(rows)))
    assert phases.predict(H100, found, rows) == pytest.approx(rows.time_s, rel=0.02)
    assert found.time["dense"] == pytest.approx(truth.time["dense"], rel=0.05)


def test_repeats_are_merged_and_the_impossible_is_not_believed():
    made = table()
    made.loc[made.prompt_tokens.eq(4096), "prompt_time_s"] = 1e-3  # 570 TFLOP in a millisecond
    rows = phases.phase_rows(made, H100)
    assert len(rows.model) == 12 and int(np.isnan(rows.time_s[0]).sum()) == 3
    assert rows.dropped == {
        "of a model without a configuration here": 0, "repeats merged into their median": 12,
        "prompts faster than the peak (their seconds alone)": 3,
    }  # fmt: skip


def test_rows_of_the_power_cap_are_left_for_they_are_not_measured(tmp_path):
    (tmp_path / phases.FOLDER).mkdir()
    pd.concat([table(), table("h100-80gb-pcap")]).to_csv(tmp_path / phases.FOLDER / "data.csv")
    judged, left = list(cases(str(tmp_path)))
    assert judged.device == "h100_sxm" and judged.raw == 24
    assert isinstance(left, Left) and left.rows == 24 and "copied" in left.why
    said = list(judged.judge())
    assert {what for what, _ in (each for each in said if isinstance(each, tuple))} == {"prefill", "decode"}


@pytest.mark.skipif(not (DATA / phases.FOLDER).is_dir(), reason="the measured set is not here")
@pytest.mark.parametrize("hardware", phases.HARDWARE)
def test_both_phases_are_predicted(hardware):
    found = read_table(str(DATA / phases.FOLDER), "data")
    device = load_device(phases.HARDWARE[hardware])
    rows = phases.phase_rows(found[found.hardware.eq(hardware)], device)
    errors = np.abs(phases.predict(device, engine_on(device, phases.ENGINE), rows) / rows.time_s - 1.0)
    assert (np.nanmedian(errors, axis=1) < 0.10).all()  # the fit's own rows; models left out are in its record


def test_devices_that_wait_for_their_host_are_no_faster_for_being_more():
    """Llama-2-70B on A100 (splitwise_phase_times): 59, 44 and 45 ms a step on 2, 4 and 8 devices."""
    a100, request = load_device("a100_sxm"), Request(512, 512)
    two, four, eight = (
        serve("meta-llama/Llama-2-70b-hf", a100, request, Load(1), Deployment(tp), phases.ENGINE).tpot_s
        for tp in (2, 4, 8)
    )
    assert two == pytest.approx(0.060, rel=0.1)
    assert four == pytest.approx(0.0445, rel=0.1) and eight == pytest.approx(four, rel=0.15)
