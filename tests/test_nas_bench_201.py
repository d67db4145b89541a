"""NAS-Bench-201 cells as kernels: counted by hand, per runtime; and every row of the measured sets is read or named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")

from wattir.backends.fit import datasets_nas as nas  # noqa: E402
from wattir.backends.fit.nas_bench_201 import RUNTIMES, cell, depends_on_input, network, structure  # noqa: E402

DATA = Path(os.environ.get("WATTIR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

POOLS = "|avg_pool_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|nor_conv_3x3~2|"
DEAD = "|none~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"


@pytest.mark.parametrize(
    ("arch", "runtime", "expected"),
    [
        # nodes 1 and 2 are the same pooling of the input, made once; node 3 adds it to the convolution of node 2
        (POOLS, "litert", {"avg_pool_3x3": 1, "relu": 1, "nor_conv_3x3": 1, "add": 1}),
        # `none` of nodes 1 and 0 is computed, and added: node 2 = pool + zero, node 3 = zero + node 1 + conv(node 2)
        (POOLS, "onnx", {"avg_pool_3x3": 1, "none": 2, "relu": 1, "nor_conv_3x3": 1, "add": 3}),
        # every edge is launched, and each of the three sums begins with zero: as many additions as edges
        (POOLS, "eager", {"avg_pool_3x3": 2, "none": 2, "relu": 1, "nor_conv_3x3": 1, "batch_norm": 1, "add": 6}),
        # node 3 is the input itself: nothing that runs reaches it
        (DEAD, "litert", {}),
        # nothing is made once for two edges, nor for none: node 3 = pool(0) + conv(pool(0))
        (POOLS, "tflite", {"avg_pool_3x3": 2, "relu": 1, "nor_conv_3x3": 1, "add": 1}),
        # `none` of nodes 0, 1 and 2; ReLU of nodes 0 and 1; 2 convolutions; 0 + 1 + 2 additions
        (DEAD, "torchmobile", {"none": 3, "relu": 2, "nor_conv_1x1": 2, "add": 3}),
    ],
)  # fmt: skip
def test_operations_of_a_cell_by_hand(arch, runtime, expected):
    assert cell(arch, RUNTIMES[runtime]) == expected


def test_a_convolution_of_zeros_runs_where_they_are_not_folded():
    arch = "|none~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"  # x + conv(0)
    assert cell(arch, RUNTIMES["tflite"]) == {"relu": 1, "nor_conv_3x3": 1, "add": 1}
    assert cell(arch, RUNTIMES["litert"]) == {}


def test_cells_that_compute_the_same_have_one_structure():
    straight = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    round_about = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|"
    other = straight.replace("3x3", "1x1")
    assert structure(straight) == structure(round_about) != structure(other)
    two = (
        "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"  # nodes 1 and 2 change places
    )
    turned = "|avg_pool_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    assert structure(two) == structure(turned)
    assert depends_on_input(two) and not depends_on_input(
        "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|none~2|"
    )


def test_macs_of_a_network_by_hand():
    arch = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
    macs = sum(work.macs * work.times for work in network(arch, "cifar100", "litert"))
    stages = sum(points * c * c for points, c in ((1024, 16), (256, 32), (64, 64)))  # of one 1x1 convolution
    blocks = 256 * 32 * (16 * 9 + 32 * 9 + 16) + 64 * 64 * (32 * 9 + 64 * 9 + 32)  # 3x3, 3x3, 1x1 on the way round
    assert macs == 1024 * 16 * 3 * 9 + 5 * 10 * stages + blocks + 64 * 100  # 5 cells of 9 + 1 taps; stem; classifier


def test_a_batch_multiplies_all_but_weights():
    one, four = (network(POOLS, "ninapro", "eager", batch) for batch in (1, 4))
    for a, b in zip(one, four, strict=True):
        assert (b.macs, b.ops, b.in_bytes, b.weight_bytes) == (4 * a.macs, 4 * a.ops, 4 * a.in_bytes, a.weight_bytes)


def test_measured_networks_are_read_or_counted():
    folder = DATA / "nas_bench_201_pi5"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    table = pd.read_parquet(folder / "data.parquet", columns=["device", "framework"])
    for framework in ("litert", "onnx", "torchmobile"):
        rows = nas.nas_bench_201(str(folder), "pi5", framework)
        wanted = (table.device.eq("pi5") & table.framework.eq(framework)).sum()
        assert rows.samples + sum(rows.dropped.values()) == wanted
        assert (rows.energy_j > 0).all() and (rows.time_s > nas.SHORT_S).all()


@pytest.mark.parametrize("column", ["titan_rtx_32", "pixel3"])
def test_latencies_are_read_or_counted(column):
    folder = DATA / "nas_latency_27_devices"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    table = pd.read_parquet(folder / f"{nas.TABLE}.parquet")
    rows = nas.nas_latency(str(folder), column)
    assert rows.samples + sum(rows.dropped.values()) == len(table)
    assert set(table.columns.str.removeprefix(nas.LATENCY)) >= {*nas.COLUMNS, *nas.SIMULATED}
    assert (rows.host_ops > 0).all() == nas.COLUMNS[column].device.startswith(nas.GPUS)
