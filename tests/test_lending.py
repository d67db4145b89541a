"""What machines without measurements borrow: from whom, in which proportions, and how sure that is said to be."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from itertools import pairwise
from math import hypot, prod
from pathlib import Path

import pytest

from wattir import layers
from wattir.costmodel import compile_graph
from wattir.device import Correction, TimeInterval, device_from_text, device_ids, load_device
from wattir.device_text import device_text
from wattir.lending import RELATIONS, WIDTHS, Widths, lent, nearest, relation, unlike
from wattir.machine import row_of

RANK = list(RELATIONS)


@pytest.mark.parametrize(
    ("own", "lender", "kind"),
    [("b300_sxm", "b200_sxm", "variant"), ("h100_pcie", "h100_sxm", "variant"), ("t4", "rtx_2080_ti", "variant"),
     ("l4", "l40s", "variant"), ("b200_sxm", "h200_sxm", "generation"), ("v100", "a100_pcie_40gb", "generation"),
     ("rtx_pro_6000_server", "l40s", "generation"),  # GDDR on both
     ("a30", "a10", "other"),  # Ampere, but HBM and GDDR
     ("b60", "l40s", "processor"),  # another maker
     ("l4", "xeon_gold_5120", "processor"), ("xeon_gold_5120", "l4", "processor"),  # another kind of machine
     ("xeon_gold_5120", "xeon_broadwell_ep", "processor")],
)  # fmt: skip
def test_the_kind_of_relation(own, lender, kind):
    assert relation(load_device(own), load_device(lender)) == kind


def test_a_file_that_names_no_memory_is_of_a_class_of_its_own():
    h200 = load_device("h200_sxm")
    assert relation(replace(h200, id="mine", memory=""), h200) == "other"
    assert relation(replace(h200, id="mine", vendor=""), h200) == "processor"  # a maker that is not known is another


@pytest.mark.parametrize("device_id", [name for name in device_ids() if not load_device(name).measured])
def test_borrowers_take_from_the_nearest_kind_of_measured_machine(device_id):
    own = load_device(device_id)
    ranks = [RANK.index(relation(own, load_device(name))) for name in own.relatives]
    measured = [load_device(name) for name in device_ids() if load_device(name).measured]
    measured = [other for other in measured if other.flop_per_s != own.flop_per_s]  # not itself under another runtime
    nearest = min(RANK.index(relation(own, other)) for other in measured if other.kind == own.kind)

    assert ranks == sorted(ranks) and ranks[0] == nearest
    assert RELATIONS[RANK[ranks[0]]] in own.interval_source


@pytest.mark.parametrize(
    ("own", "others", "order"),
    [
        ("a10", ["a30", "rtx_2080_ti", "a40"], ["a40", "rtx_2080_ti", "a30"]),  # variant, generation, HBM
        ("rtx_2080_ti", ["l40s", "gtx_1070"], ["gtx_1070", "l40s"]),  # GDDR both; the L40S has seconds alone
        ("pixel_2", ["raspberry_pi_5", "galaxy_a50"], ["galaxy_a50", "raspberry_pi_5"]),  # a phone is like a phone
    ],
)
def test_the_nearest_relative_is_of_the_nearest_kind_then_has_joules_then_like_limits(own, others, order):
    assert [one.id for one in nearest(load_device(own), [load_device(name) for name in others])] == order


def test_a_machine_counts_once_under_whatever_runtimes_it_was_measured():
    found = unlike([load_device(name) for name in ("h100_sxm_autocast", "h200_sxm", "h100_sxm")])
    assert [one.id for one in found] == ["h100_sxm_autocast", "h200_sxm"]


def test_a_machine_with_seconds_alone_is_not_metered():
    assert {name for name in ("h200_sxm", "l40s", "gb200") if load_device(name).metered} == {"h200_sxm"}


def test_limits_scale_what_is_lent_by_hand():
    lender = load_device("h200_sxm")
    corrections = {"matmul.bf16": Correction("plain", ""), "matmul.bf16@cublas": Correction("library", "")}
    seconds = TimeInterval(0.4, 0.2, {"matmul.bf16": 0.1, "matmul.bf16@cublas": 0.05})
    joules = {"matmul.bf16": 0.1, "matmul.bf16@cublas": 0.3}
    lender = replace(lender, corrections=corrections, interval_families=joules, time_interval=seconds)
    twice = replace(
        lender, id="twice", power_w=2 * lender.power_w, memory_bytes_per_s=4 * lender.memory_bytes_per_s,
        flop_per_s={math: 8 * rate for math, rate in lender.flop_per_s.items()},
    )  # fmt: skip
    found, given = lent(twice, [lender]), lender.coefficients
    c, added = found.coefficients, WIDTHS["variant"]

    assert c.static_w == pytest.approx(2 * given.static_w)
    assert c.j_per_byte == pytest.approx(given.j_per_byte / 2)  # twice the power over four times the bandwidth
    assert c.j_per_flop["bf16"] == pytest.approx(given.j_per_flop["bf16"] / 4)
    assert c.families == given.families  # shares of the limits
    assert list(found.corrections) == list(found.interval_families) == ["matmul.bf16@cublas"]  # the library's own
    assert found.interval_families["matmul.bf16@cublas"] == pytest.approx(hypot(0.3, added.library))
    assert found.interval_network == pytest.approx(hypot(lender.interval_network, added.network))
    seconds = TimeInterval(*map(hypot, (0.4, 0.2), (added.layer, added.network)))
    assert found.time_interval == replace(seconds, families={"matmul.bf16@cublas": hypot(0.05, added.library)})
    assert device_from_text(device_text(found), "saved", complete=True).time_interval == found.time_interval
    assert not found.measured and found.borrowed_from == "h200_sxm" and not found.fits


def test_widths_grow_with_distance():
    for narrow, wide in pairwise(RANK):
        assert all(a <= b for a, b in zip(astuple(WIDTHS[narrow]), astuple(WIDTHS[wide]), strict=True))


class TestSeveralRelatives:
    """B200's file without measurements, by hand from what H200's and H100's hold."""

    @pytest.fixture
    def own(self):
        return load_device("b200_sxm")

    def test_of_one_kind_their_geometric_mean_is_lent_the_nearest_counting_twice(self, own):
        near, far = load_device("h200_sxm"), load_device("h100_sxm")
        found, (one, other) = lent(own, [near, far]), (lent(own, [each]).coefficients for each in (near, far))
        c = found.coefficients

        assert c.static_w == pytest.approx((one.static_w**2 * other.static_w) ** (1 / 3))
        assert c.j_per_flop["fp8"] == pytest.approx((one.j_per_flop["fp8"] ** 2 * other.j_per_flop["fp8"]) ** (1 / 3))
        efficiency = [each.families["matmul"].compute_efficiency for each in (one, one, other)]
        assert c.families["matmul"].compute_efficiency == pytest.approx(prod(efficiency) ** (1 / 3))
        assert c.families["mla"] == one.families["mla"]  # measured on the H200 alone, and H100's is its copy
        assert c.tiles == one.tiles
        assert found.borrowed_from == "h200_sxm and h100_sxm"

    def test_libraries_are_those_of_the_first_that_has_them(self, own):
        mine = {"matmul.bf16@a": Correction("near", "")}
        near = replace(load_device("h200_sxm"), corrections=mine)
        far = replace(load_device("l40s"), corrections={key: Correction("far", "") for key in (*mine, "matmul.bf16@b")})
        found = lent(own, [near, far])

        assert {key: one.time for key, one in found.corrections.items()} == {
            "matmul.bf16@a": "near", "matmul.bf16@b": "far",
        }  # fmt: skip

    def test_a_variant_lends_alone_and_others_what_it_lacks(self, own):
        near = load_device("b300_sxm")
        products = {"matmul": near.coefficients.families["matmul"]}  # and nothing else
        near = replace(near, coefficients=replace(near.coefficients, families=products))
        far = load_device("h200_sxm")
        c = lent(own, [near, far]).coefficients

        assert c.families["matmul"] == near.coefficients.families["matmul"]
        assert c.static_w == lent(own, [near]).coefficients.static_w
        assert c.families["decode"] == far.coefficients.families["decode"]


def test_what_was_fitted_on_no_relative_widens_a_borrowed_interval_as_it_does_the_relatives():
    """No convolution was measured on the L40S: on it and on what borrows from it they are as little known."""
    lender = load_device("l40s")
    borrower = lent(replace(lender, id="mine"), [lender])
    for machine in (lender, borrower):
        assert not row_of(machine, "conv3x3", "bf16").fitted and row_of(machine, "matmul", "bf16").fitted
        assert not row_of(machine, "matmul", "fp16").fitted  # the rows are in bf16
    assert row_of(lender, "matmul", "bf16").measured and not row_of(borrower, "matmul", "bf16").measured
    saved = device_from_text(device_text(borrower), "saved")
    assert saved.measured_families == borrower.measured_families and not saved.measured

    widths = []
    for machine in (lender, borrower):
        found = compile_graph(layers.conv(8, 64, 64, (56, 56), (3, 3)), machine)()
        widths.append(found.energy_high_j / found.energy_j)
    assert widths[1] > widths[0]


class TestLeftOut:
    """The fit's side: nothing of a machine is left in what predicts it."""

    @pytest.fixture(autouse=True)
    def _needs_the_fit(self):
        for name in ("pandas", "scipy", "numba", "lightgbm"):
            pytest.importorskip(name)

    def test_a_lender_returns_what_it_has_from_the_machine(self):
        from wattir.backends.fit.transfer import left_out

        lender = load_device("h100_sxm")
        assert "conv3x3" in lender.coefficients.families  # itself lent, by h200_sxm
        found = left_out("h200_sxm", ["h100_sxm"])
        assert "conv3x3" not in found.coefficients.families
        assert found.interval_network == lender.interval_network and found.id == "h200_sxm"

    def test_pairs_are_nearest_of_each_kind_and_joules_come_from_elsewhere(self):
        from wattir.backends.fit.transfer import pairs

        found = {(pair.relation): pair for pair in pairs(["h200_sxm"])}
        assert found["variant"].lenders == ("h100_sxm",) and not found["variant"].joules  # h100's begin with h200's
        assert found["generation"].lenders[0] == "b200_sxm" and found["generation"].joules
        lenders = {name for pair in pairs(["b200_sxm"]) for name in pair.lenders}
        assert "b300_sxm" not in lenders  # 19 rows of products; the rest of it is b200_sxm's own
        lenders = {name for pair in pairs(["raspberry_pi_5"]) for name in pair.lenders}
        assert "raspberry_pi_5_onnx" not in lenders  # one machine

    def test_what_widens_is_beyond_the_lenders_own_width_and_of_other_machines(self):
        np = pytest.importorskip("numpy")
        from wattir.backends.fit.transfer import Pair, Part, judged, widening

        def part(device, log_error, width, widens="layer"):
            n = 20
            one = np.ones(n)
            return Part(
                Pair(device, ("lender",), "other", True), "set", "rows", False, np.arange(n), np.zeros(n, int),
                np.full(n, widens), one, one, np.exp(log_error) * one, np.exp(log_error) * one, width * one,
            )  # fmt: skip

        parts = [part("a", 0.5, 0.3), part("b", 0.1, 0.3)]
        assert widening(parts, "other").layer == pytest.approx(0.4)  # 0.3^2 + 0.4^2 = 0.5^2
        assert widening(parts, "other", without="a").layer == 0.05  # b was within the lender's width
        assert judged(parts[:1], Widths(0.05, 0.05, 0.05))["energy"]["coverage"] == 0.0
        assert judged(parts[:1], Widths(0.05, 0.41, 0.05))["energy"]["coverage"] == 1.0
        known = [part("a", 1.3, 0.5, "library"), *parts]
        assert widening(known, "other").library == pytest.approx(1.2)  # 0.5^2 + 1.2^2 = 1.3^2
        assert widening(known, "other").layer == pytest.approx(0.4)

    def test_the_benchmark_predicts_from_relatives_alone(self, tmp_path: Path, capsys):
        pd = pytest.importorskip("pandas")
        from benchmarks import transfer

        rows = [
            {"framework": "VLLM", "system": "b200_sxm", "gemm_dtype": "bfloat16", "m": m, "n": 4096, "k": 4096,
             "latency_ms": 0.2, "power_w": 900.0, "kernel_source": "nobody's"} for m in (64, 512, 4096)
        ]  # fmt: skip
        (tmp_path / "kernels_power").mkdir()
        pd.DataFrame(rows).to_parquet(tmp_path / "kernels_power" / "gemm.parquet")
        assert transfer.main(["--data", str(tmp_path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)

        lenders = {each["relation"]: each["from"] for each in found["transfers"]}
        assert lenders["generation"] == "h200_sxm, h100_sxm"
        assert all(each["device"] == "b200_sxm" and each["rows"] == 3 for each in found["transfers"])
        assert {each["what"] for each in found["transfers"]} == {"all", "other libraries", "gemm bfloat16"}
        assert [each["relation"] for each in found["widths"]] == RANK and found["clocks"] == []

    @pytest.mark.parametrize("name", ["transfer", "task_left_out"])
    def test_a_missing_folder_is_said(self, name, tmp_path, capsys):
        from importlib import import_module

        assert import_module(f"benchmarks.{name}").main(["--data", str(tmp_path / "nowhere")]) == 2
        assert "no such folder" in capsys.readouterr().err

    def test_kinds_of_layers_tell_causal_attention_apart(self):
        from benchmarks.task_left_out import _kinds, _layer_kinds
        from wattir import layers
        from wattir.backends.fit.rows import network_rows

        graphs = [layers.attention(1, 8, 128, 128, 64, "bf16", causal=causal) for causal in (True, False)]
        rows = network_rows(graphs, time_s=[1.0, 1.0], energy_j=[1.0, 1.0], group=["a", "b"])
        assert _layer_kinds(rows).tolist() == ["attention causal", "attention"]
        assert _kinds(rows) == {"attention causal", "attention"}
