"""Products at a B300's ceilings: which rungs are rows, and what ships for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")

from wattir.backends.fit.sets import Left, cases  # noqa: E402

DATA = Path(os.environ.get("WATTIR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "gpu_power_anchors"
HARDWARE = "NVIDIA B300 SXM6 AC"


def rung(file: str, **changes):
    return {
        "file": file, "hardware": HARDWARE, "precision": "bf16", "size": 8192, "window_s": 20.0, "iterations": 40000,
        "power_w": 1000.0, "energy_counter_j": 20000.0, "enforced_limit_w": 1100, "tdp_w": 1100, "sm_clk_mhz": 2000,
        **changes,
    }  # fmt: skip


def test_a_rung_of_products_is_a_row_of_one_product(tmp_path):
    (tmp_path / "gpu_power_anchors").mkdir()
    rungs = [
        rung("rung-prec-bf16.json"), rung("rung-cap-550w.json", enforced_limit_w=550, sm_clk_mhz=1150),
        rung("rung-unit-dram.json"), rung("rung-prec-fp4.json", precision="fp4", power_w=0.0, iterations=0),
        rung("rung-tensor-only-wmma.json"),
    ]  # fmt: skip
    pd.DataFrame(rungs).to_csv(tmp_path / "gpu_power_anchors" / "data.csv")
    case, left = list(cases(str(tmp_path)))
    assert isinstance(left, Left) and (case.raw, left.rows) == (2, 3)
    rows = case.load()
    assert rows.time_s.tolist() == [5e-4, 5e-4] and rows.energy_j.tolist() == [0.5, 0.5]
    assert rows.clock_hz.tolist() == [0.0, 1.15e9]  # where the limit lowered it
    assert rows.work[0, 0] == 8192**3


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured set is not here")
def test_ceilings_of_a_b300():
    from wattir.backends.fit.datasets_anchors import anchors
    from wattir.backends.fit.model import predict
    from wattir.device import load_device

    rows = anchors(str(DATA), HARDWARE)
    time_s, energy_j = predict(load_device("b300_sxm"), rows)
    tensor = ~pd.Series(rows.group).isin(["fp64", "int8"]).to_numpy()
    assert abs(time_s / rows.time_s - 1.0)[tensor].max() < 0.12
    assert abs(energy_j / rows.energy_j - 1.0)[tensor].max() < 0.12
