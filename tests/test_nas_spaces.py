"""Composed estimates of NAS-Bench-201 are those of the same network's kernels, with weights that come from memory."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pandas")

from benchmarks import nas_spaces
from wattir.backends.fit.model import predict
from wattir.backends.fit.nas_bench_201 import network
from wattir.backends.fit.rows import launches, network_rows
from wattir.device import load_device

ARCHS = (
    "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|",
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|",
)


@pytest.mark.parametrize(("device", "runtime", "batch"), [("titan_xp", "eager", 1), ("xeon_gold_6226", "eager", 1)])
def test_composed_estimates_are_those_of_all_kernels(device, runtime, batch):
    space = nas_spaces.space_of("cifar100", runtime, batch)
    found = space.compile(device, runtime if device.startswith("titan") else "compiled", "fp32")(
        nas_spaces.counts_of(ARCHS, runtime)
    )
    works = [network(arch, "cifar100", runtime, batch) for arch in ARCHS]
    hosted = device.startswith("titan")
    rows = network_rows(
        works, time_s=np.ones(2), energy_j=np.ones(2), group=ARCHS,
        host_ops=[launches(work) * hosted for work in works],
    )  # fmt: skip
    expected_s, expected_j = predict(load_device(device), rows)
    np.testing.assert_allclose(found.time_s, expected_s, rtol=1e-9)
    np.testing.assert_allclose(found.energy_j, expected_j, rtol=1e-9)
