"""Runtimes with kernels of their own, power limits, nodes built of parts, and MLPerf's submissions as rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wattir
from wattir.chain import built_node, load_node
from wattir.clock import at_limit, flat_out_w
from wattir.device import load_device
from wattir.errors import DeviceError, FleetError
from wattir.models import load_model
from wattir.passes import lower_to_kernels
from wattir.passes.precision import with_precision
from wattir.runtime import UNSEEN_WIDTH, load_runtime, under

DATA = Path(os.environ.get("WATTIR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "mlperf_power"


def test_an_engine_holds_an_int8_network_in_int8_throughout():
    graph = lower_to_kernels(with_precision(load_model("resnet50"), "int8"), "tensorrt")
    held = {name: tensor.dtype for name, tensor in graph.tensors.items()}
    kernels = [op for op in graph.ops if op.kind in ("conv", "pooling")]
    assert {held[name] for op in kernels for name in (*op.ins, *op.outs)} <= {"int8", "fp16"}
    made = {held[name] for op in kernels for name in op.outs}
    assert made == {"int8"}  # residuals too, which frameworks hold in 16 bits


def test_other_precisions_are_left_as_they_are():
    half = with_precision(load_model("bert_large"), "fp16")
    assert lower_to_kernels(half, "tensorrt") == lower_to_kernels(half, "compiled")


def test_a_runtime_says_the_same_of_all_gpus_in_proportion_to_their_limits():
    own = load_runtime("tensorrt")
    for name in ("a30", "t4", "h200_sxm"):
        device = under(load_device(name), "tensorrt")
        assert device.coefficients.families == own.coefficients.families
        share = device.coefficients.j_per_flop["int8"] * device.flop_per_s["int8"] / device.power_w
        assert share == pytest.approx(own.coefficients.j_per_flop["int8"] * own.flop_per_s["int8"] / own.power_w)


def test_gpus_that_the_fit_has_not_seen_get_a_wider_interval_and_say_so():
    seen, unseen = (under(load_device(name), "tensorrt") for name in ("a30", "h200_sxm"))
    assert seen.measured and seen.interval_network == load_runtime("tensorrt").interval_network
    assert not unseen.measured and unseen.interval_network == pytest.approx(seen.interval_network + UNSEEN_WIDTH)


@pytest.mark.parametrize("name", ["xeon_gold_5120", "b60"])
def test_what_tensorrt_does_not_run_on_is_refused(name):
    with pytest.raises(DeviceError, match=rf"{name}: --runtime tensorrt was asked for; expected a GPU of NVIDIA"):
        wattir.compile("resnet50", device=name, runtime="tensorrt")


def test_a_saved_model_keeps_its_runtime_and_clock(tmp_path):
    model = wattir.compile("resnet50", device="a10", runtime="tensorrt", dtype="int8", clock_hz=1.2e9)
    model.save(str(tmp_path / "m.wattir"))
    again = wattir.load(str(tmp_path / "m.wattir"))
    assert again(batch=64).energy_j == pytest.approx(model(batch=64).energy_j, rel=1e-9)


def test_the_clock_may_be_set_before_or_after_the_runtime():
    from wattir.clock import at_clock

    device = load_device("a10")
    one, other = at_clock(under(device, "tensorrt"), 1e9), under(at_clock(device, 1e9), "tensorrt")
    assert one.coefficients.static_w == pytest.approx(other.coefficients.static_w)
    assert dict(one.flop_per_s) == pytest.approx(dict(other.flop_per_s))


def test_a_power_limit_costs_time_and_saves_joules():
    free = under(load_device("a100_sxm"), "tensorrt")
    limited = at_limit(free, 250.0)
    assert flat_out_w(free, 1.0) == pytest.approx(400.0)
    assert flat_out_w(free, limited.clock_hz / free.boost_hz) == pytest.approx(250.0, rel=1e-4)
    one, other = (
        wattir.compile("resnet50", device=d, runtime="compiled", dtype="int8")(batch=256) for d in (free, limited)
    )
    assert other.time_s > one.time_s and other.energy_j < one.energy_j
    assert other.energy_j / other.time_s <= 250.0
    assert at_limit(free, 500.0).clock_hz is None  # another edition of the board


@pytest.mark.parametrize(("limit", "clock_mhz"), [(450, 926), (550, 1152), (700, 1457), (900, 1935)])
def test_clocks_under_limits_are_those_that_a_b300_was_seen_at(limit, clock_mhz):
    """gpu-power-lab, rungs `cap`: products of 8192 cubed in bf16; the voltage curve is fitted to these very rungs."""
    device = load_device("b300_sxm")
    assert 1e-6 * at_limit(device, limit).clock_hz == pytest.approx(clock_mhz, rel=0.10)


def test_a_node_is_its_sockets_and_its_slots():
    parts = ((1, 2), (1, 3), (1, 4), (2, 2))
    two, three, four, more = (built_node("pcie", sockets, slots) for sockets, slots in parts)
    assert two.host_w + 2 * (three.host_w - two.host_w) == pytest.approx(four.host_w)
    assert three.host_w > two.host_w > 2 * (three.host_w - two.host_w)  # a socket draws watts too
    assert more.host_w > two.host_w and two.overhead == four.overhead
    with pytest.raises(FleetError, match="form 'blade': not known; expected one of sxm, pcie, hhhl"):
        built_node("blade", 1, 1)
    assert load_node("pcie-4x1") == four and four.id == "pcie-4x1"
    with pytest.raises(FleetError, match="form 'blade': not known"):
        load_node("blade-4x1")


@pytest.mark.parametrize("name", ["jetson_agx_orin", "jetson_xavier_nx", "cloud_ai_100_pcie", "cloud_ai_100_dm2e"])
def test_boards_and_cards_of_mlperf_answer_for_themselves(name):
    device = load_device(name)
    assert device.measured and under(device, "tensorrt") is device
    low, high = (wattir.compile("resnet50", device=name, runtime="tensorrt", dtype="int8")(batch=n) for n in (1, 64))
    assert low.energy_j < high.energy_j < 64 * low.energy_j  # a batch shares the idle power
    assert high.energy_j / high.time_s <= device.power_w * 1.0001


# ---- rows ---------------------------------------------------------------------------------------------------------


def made_up(**changes):
    pd = pytest.importorskip("pandas")
    row = {
        "round": "v2.0", "division": "closed", "system": "s", "benchmark": "resnet50", "scenario": "Offline",
        "accelerator": "NVIDIA A30", "accelerators_per_node": 2, "host_cpus_per_node": 1, "hw_notes": "",
        "weight_dtype": "int8", "power_w_min_outside_window": 100.0, "samples_per_s": 20000.0,
        "energy_j_per_sample": 0.02,
    }  # fmt: skip
    return pd.DataFrame([{**row, **changes}])


def judged(table, tmp_path):
    pytest.importorskip("scipy")
    from wattir.backends.fit.plan_mlperf import mlperf_table, pooled

    table.to_csv(tmp_path / "data.csv")
    return pooled(mlperf_table(str(tmp_path)))


@pytest.mark.parametrize("scenario", ["Offline", "SingleStream"])
def test_a_run_is_a_batch_on_one_board_and_its_share_of_the_node(tmp_path, scenario):
    from wattir.backends.fit.fit_mlperf import predict
    from wattir.backends.fit.plan_mlperf import shipped

    runs, rest = judged(made_up(scenario=scenario), tmp_path)
    found = predict(shipped(), runs)
    batch, busy = (2048, 2) if scenario == "Offline" else (1, 1)
    answer = wattir.compile("resnet50", device="a30", runtime="tensorrt", dtype="int8")(batch=batch)
    assert not len(rest) and runs.rows.time_s[0] == pytest.approx(batch * busy / 20000.0)
    assert found.time_s[0] == pytest.approx(answer.time_s)
    node = built_node("pcie", 1, 2)
    idle_w = under(load_device("a30"), "tensorrt").coefficients.static_w
    boards_j = busy * answer.energy_j + (2 - busy) * idle_w * answer.time_s
    assert found.energy_j[0] == pytest.approx((node.overhead * boards_j + node.host_w * answer.time_s) / busy)


@pytest.mark.parametrize(
    ("notes", "system", "limit"),
    [("GPU Power Limited to 175W", "R750", 175.0), ("", "R750_MaxQ", 210.0), ("500W A100", "maxQ", 210.0)],
)
def test_power_limits_are_read_where_they_are_declared(tmp_path, notes, system, limit):
    table = made_up(accelerator="NVIDIA A100-PCIe-80GB", hw_notes=notes, system=system)
    assert judged(table, tmp_path)[0].limit_w.tolist() == [limit]


@pytest.mark.parametrize(
    ("benchmark", "framework", "math"),
    [("resnet50", "TensorRT 8.5.2", "int8"), ("bert-99.9", "TensorRT 8.5.2", "fp16"), ("resnet50", "ArmNN", None)],
)
def test_engines_are_not_in_the_type_of_the_file_that_they_were_made_from(tmp_path, benchmark, framework, math):
    """A GeForce RTX 4090's 36,428 ResNet-50 a second are 298 TFLOP/s: out of reach in fp32."""
    runs, left = judged(made_up(benchmark=benchmark, weight_dtype="fp32", framework=framework), tmp_path)
    assert {label.split()[1] for label in runs.rows.label.tolist()} == ({math} if math else set())
    assert len(left) == (0 if math else 1)


@pytest.mark.parametrize(
    "changes", [{"benchmark": "gptj-99"}, {"accelerator": "An Abacus"}, {"division": "open"}, {"weight_dtype": "int3"}]
)
def test_what_cannot_be_predicted_is_left_with_its_reason(tmp_path, changes):
    from wattir.backends.fit.plan_mlperf import why_not

    runs, rest = judged(made_up(**changes), tmp_path)
    assert runs.rows.samples == 0 and len(why_not(rest)) == 1


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured set is not here")
def test_nodes_in_data_centres_are_predicted():
    """The fit's own rows: the error with systems left out is in its record."""
    import numpy as np

    from wattir.backends.fit.fit_mlperf import predict
    from wattir.backends.fit.plan_mlperf import CLOUD_AI, mlperf_table, pooled, shipped

    table = mlperf_table(str(DATA))
    runs, rest = pooled(table)
    assert runs.rows.samples + len(rest) == len(table)
    central = runs.take(runs.central)
    errors = np.abs(predict(shipped(), central).energy_j / central.rows.energy_j - 1.0)
    assert np.median(errors) < 0.15
    cards = pooled(table, CLOUD_AI)[0]
    cards = cards.take(cards.central)
    assert np.median(np.abs(predict(shipped(), cards).energy_j / cards.rows.energy_j - 1.0)) < 0.15
    (record,) = load_runtime("tensorrt").fits
    assert record["data_centre_energy_median_ape"] < 0.20 and record["gpu_left_out_energy_median_ape"] < 0.20
