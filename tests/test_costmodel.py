"""The compiled cost model: one formula at two speeds, saved as text, honest about its sizes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir import layers
from wattir.device import device_from_text, load_device
from wattir.device_text import device_text
from wattir.dims import ceildiv, maximum, minimum, symbol
from wattir.errors import InputError, ModelFileError, SizeError
from wattir.graph_text import graph_text, parse_graph
from wattir.interval import half_width
from wattir.ir import GraphBuilder
from wattir.tape import TapeBuilder

MADE_UP = str(Path(__file__).parent / "made_up_device.toml")


def block():
    """A small network with every stream: [batch, seq] tokens through a product, attention over a cache, a norm."""
    b, s, past = symbol("batch"), symbol("seq"), symbol("past")
    g = GraphBuilder("block")
    g.tensor("x", (b, s, 64), "bf16", "input")
    g.tensor("w", (64, 192), "bf16", "weight")
    g.tensor("qkv", (b, s, 192), "bf16")
    g.tensor("cache", (b, past, 128), "bf16", "state")
    g.tensor("mixed", (b, s, 64), "bf16")
    g.tensor("y", (b, ceildiv(s, 4), 64), "bf16")
    g.op("matmul", ("x", "w"), ("qkv",), name="qkv", source="Gemm", groups=1, m=b * s, n=192, k=64)
    g.op(
        "attention", ("qkv", "cache"), ("mixed",), name="attn", source="SDPA", times=3, batch=b, heads=2, kv_heads=2,
        q=s, kv=s + past, d=32, dv=32, causal=True,
    )  # fmt: skip
    g.op("pooling", ("mixed",), ("y",), name="pool", source="Pool", function="max", window=minimum(s, 4))
    return g.finish(("x", "cache"), ("y",), {"batch": 1}, batch="batch")


@pytest.fixture(scope="module")
def model():
    return wattir.compile(block(), device=MADE_UP)


def test_arrays_give_what_single_calls_give(model):
    rng = np.random.default_rng(7)
    batch, seq = rng.integers(1, 65, 300), rng.integers(1, 5000, 300)
    many = model(batch=batch, seq=seq, past=1000)

    for i in range(300):
        one = model(batch=int(batch[i]), seq=int(seq[i]), past=1000)
        for name in ("energy_j", "energy_low_j", "energy_high_j", "time_s"):
            assert getattr(many, name)[i] == pytest.approx(getattr(one, name), rel=1e-12)


def test_arrays_broadcast(model):
    found = model(batch=np.array([[1], [8]]), seq=np.array([16, 32, 64]), past=0)

    assert found.energy_j.shape == (2, 3)
    assert found.energy_j[1, 2] == pytest.approx(model(batch=8, seq=64, past=0).energy_j, rel=1e-12)


def test_eager_waits_for_the_host(model):
    eager = wattir.compile(block(), device=MADE_UP, runtime="eager")
    answer = eager(seq=1, past=1)

    ops = 1 + 3 + 1  # the attention runs three times
    assert answer.time_s == pytest.approx(ops * eager.device.coefficients.host_op_s)
    assert answer.time_s > model(seq=1, past=1).time_s
    assert eager(seq=np.array([1, 4096]), past=1).time_s[0] == pytest.approx(answer.time_s, rel=1e-12)


@given(st.integers(1, 64), st.integers(1, 64))
def test_more_samples_never_cost_less(batch, more):
    model = wattir.compile(block(), device=MADE_UP)

    assert model(batch=batch + more, seq=64, past=64).energy_j >= model(batch=batch, seq=64, past=64).energy_j


def test_layers_of_the_report_add_up_to_its_totals(model):
    report = model.report(batch=4, seq=128, past=512)

    assert sum(layer.energy_j for layer in report.layers) == pytest.approx(report.totals["energy_j"], rel=1e-12)
    assert sum(layer.flop for layer in report.layers) == report.totals["flop"] == 2 * report.totals["macs"]
    assert sum(layer.bytes for layer in report.layers) == sum(
        report.totals[name] for name in ("weight_bytes", "activation_bytes", "state_bytes")
    )
    attention = 3 * 2 * 4 * 2 * 128 * 640 * (32 + 32)  # times, FLOP per MAC, batch, heads, q, kv, d + dv
    assert report.totals["flop"] == 2 * 4 * 128 * 192 * 64 + attention
    assert report.totals["flop_causal"] < report.totals["flop"]
    assert report.totals["params"] == 64 * 192


def test_waiting_for_the_host_is_a_layer_of_its_own():
    report = wattir.estimate(block(), device=MADE_UP, runtime="eager", sizes={"seq": 1, "past": 1})

    assert report.layers[-1].bound == "host"
    for name in ("energy_j", "time_s"):
        assert sum(getattr(layer, name) for layer in report.layers) == pytest.approx(report.totals[name], rel=1e-12)


def test_layers_fold_into_modules_and_nothing_is_lost():
    report = wattir.estimate("resnet50", device=MADE_UP)
    stages = report.folded(1)

    assert [layer.name for layer in stages.layers[-4:]] == ["layer3", "layer4", "avgpool/ReduceMean", "fc/Gemm"]
    assert len(report.folded(2).layers) > len(stages.layers)
    assert report.folded(0) == report.folded(9) == report
    for name in ("energy_j", "time_s", "flop", "bytes"):
        whole = sum(getattr(layer, name) for layer in report.layers)
        assert sum(getattr(layer, name) for layer in stages.layers) == pytest.approx(whole, rel=1e-12)


def test_the_json_object_has_the_promised_keys(model):
    found = model.report(seq=8, past=8).to_dict()

    assert {
        "wattir_version",
        "model",
        "device",
        "energy_scope",
        "runtime",
        "sizes",
        "totals",
        "layers",
        "coverage",
        "warnings",
    } <= set(found)
    assert {
        "energy_j", "energy_low_j", "energy_high_j", "interval_level", "time_s", "time_low_s", "time_high_s",
        "power_w", "flop", "flop_causal",
        "macs", "params", "weight_bytes", "activation_bytes", "state_bytes", "kernels",
    } <= set(found["totals"])  # fmt: skip
    assert {
        "name", "kind", "source_op", "times", "energy_j", "time_s", "flop", "bytes", "bound", "known",
    } <= set(found["layers"][0])  # fmt: skip
    shares = [found["coverage"][name] for name in ("measured", "modelled", "unknown")]
    assert sum(shares) == pytest.approx(1.0)


def test_an_unknown_op_lowers_coverage_and_widens_the_interval():
    def network(kind, **attrs):
        g = GraphBuilder("odd")
        g.tensor("x", (1000,), "fp32", "input")
        g.tensor("y", (1000,), "fp32")
        g.op(kind, ("x",), ("y",), name="odd", source="my.Op", **attrs)
        return wattir.estimate(g.finish(("x",), ("y",)), device=MADE_UP)

    odd, plain = network("unknown"), network("copy", function="copy")
    assert odd.coverage["unknown"] == 1.0
    assert odd.coverage["unknown_ops"] == ["my.Op"]
    assert odd.totals["energy_j"] > 0
    assert odd.totals["energy_high_j"] > plain.totals["energy_high_j"]


def test_a_saved_model_answers_the_same_without_any_framework(model, tmp_path):
    path = str(tmp_path / "block.wattir")
    model.save(path)
    code = (
        "import sys, wattir; a = wattir.load(sys.argv[1])(batch=2, seq=77, past=5); print(repr(a.energy_j));"
        "assert not {'onnx', 'numpy', 'numba', 'torch'} & set(sys.modules)"
    )
    root = str(Path(wattir.__file__).parent.parent)
    printed = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": root},
    ).stdout  # fmt: skip

    assert float(printed) == model(batch=2, seq=77, past=5).energy_j
    assert os.path.getsize(path) < 10_000


def test_a_saved_model_keeps_runtime_and_precision(tmp_path):
    path = str(tmp_path / "block.wattir")
    model = wattir.compile(block(), device=MADE_UP, runtime="eager", dtype="fp32")
    model.save(path)
    loaded = wattir.load(path)

    assert (loaded.runtime, loaded.dtype) == ("eager", "fp32")
    assert loaded(seq=9, past=9) == model(seq=9, past=9)


def test_a_device_survives_its_text():
    device = load_device(MADE_UP)

    assert device_from_text(device_text(device), "text") == device


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"seq": 1}, "no value for size past.*--set past=VALUE"),
        ({"seq": 1, "past": 1, "sec": 1}, "no size 'sec'.*did you mean seq"),
        ({"seq": -1, "past": 1}, "size seq=-1; expected a whole number"),
        ({"seq": 1.5, "past": 1}, "size seq=1.5"),
        ({"seq": 2**62, "past": 1}, "size seq=4611686018427387904"),
        ({"seq": True, "past": 1}, "size seq=True"),
        ({"seq": [4, -1], "past": 1}, r"size seq\[1\] = -1"),
        ({"seq": [4, 2**50], "past": 1}, r"size seq\[1\]"),
        ({"seq": np.array([1.0, np.nan]), "past": 1}, r"size seq\[1\] = nan"),
        ({"seq": ["a"], "past": 1}, "size seq"),
        ({"seq": [], "past": 1}, "size seq is an empty array"),
        ({"seq": [1, 2], "past": [1, 2, 3]}, "do not broadcast"),
    ],
)
def test_bad_sizes_are_refused_by_name(model, sizes, message):
    with pytest.raises(SizeError, match=message):
        model(**sizes)


def test_unknown_runtime_and_precision_are_refused():
    with pytest.raises(InputError, match=r"runtime 'compield'.*did you mean compiled"):
        wattir.compile(block(), device=MADE_UP, runtime="compield")
    with pytest.raises(InputError, match=r"dtype 'bf61'.*did you mean bf16"):
        wattir.compile(block(), device=MADE_UP, dtype="bf61")


def test_a_single_layer_needs_no_model():
    report = wattir.estimate(layers.matmul(4096, 4096, 4096), device=MADE_UP)

    assert report.totals["flop"] == 2 * 4096**3
    assert report.layers[0].bound in ("compute", "power")
    assert 0 < report.totals["energy_low_j"] < report.totals["energy_j"] < report.totals["energy_high_j"]


def test_the_interval_of_many_equal_layers_is_narrower_than_of_one_and_wider_than_their_common_part():
    device = load_device(MADE_UP)
    own = device.interval_layer**2 - device.interval_network**2
    one, many = (half_width(device, 1.0, own / n, 0.0, 0.0) for n in (1, 100))

    assert one == pytest.approx(device.interval_layer, rel=1e-12)
    assert device.interval_network < many < one


def test_tape_shares_common_parts_and_evaluates_like_the_formula():
    a, b = symbol("a"), symbol("b")
    builder = TapeBuilder(("a", "b"))
    formulas = [a * b + 1, 2 * (a * b + 1), ceildiv(a * b, 7), maximum(a, b) % 5, minimum(a, 2 * b) - 3, 0]
    handles = [builder.add(f) for f in formulas]
    tape, register = builder.finish()

    run = tape.python([register(h) for h in handles])
    assert run(11, 4) == (45, 90, 7, 1, 5, 0)
    assert sum(1 for op, x, y in tape.steps if (op, {x, y}) == (1, {0, 1})) == 1  # a * b once


def test_graph_text_round_trips():
    graph = block()

    assert parse_graph(graph_text(graph), "text") == graph


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("matmul(", "matmull(", "line .*expected kind"),
        (": bf16[batch, seq, 64]", ": bf17[batch, seq, 64]", "expected a dtype"),
        ("%x, %w", "%x, %v", "expected a tensor that an earlier line makes"),
        ("size batch = 1", "size batch = one", "line"),
        ("[64, 192]", "[64, 192", "line"),
        ("graph block", "grap block", "line 1"),
    ],
)
def test_a_damaged_text_is_refused_with_its_line(old, new, message):
    text = graph_text(block())
    assert old in text

    with pytest.raises(ModelFileError, match=message):
        parse_graph(text.replace(old, new, 1), "text")
