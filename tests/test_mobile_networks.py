"""The open division's small networks: published multiply-adds, and rows on boards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")

from wattir.backends.fit.datasets_mlperf import CPUS, mlperf_table, mobile_rows  # noqa: E402
from wattir.backends.fit.mobile_networks import network, rounded  # noqa: E402
from wattir.backends.fit.model import predict  # noqa: E402
from wattir.device import load_device  # noqa: E402
from wattir.models import load_model  # noqa: E402

DATA = Path(os.environ.get("WATTIR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "mlperf_power"


@pytest.mark.parametrize(
    ("name", "million"),
    [
        # TensorFlow's model cards of each family: million multiply-adds of one image
        ("mobilenet-v1-1.0-224-quantized", 569), ("mobilenet-v1-0.5-160-non-quantized", 77),
        ("mobilenet-v2-1.0-224-quantized", 300), ("mobilenet-v2-1.4-224-quantized", 582),
        ("mobilenet-v3-large_224_1.0_float", 217), ("mobilenet-v3-small_224_1.0_uint8", 56),
        ("mobilenet-v3-large-minimalistic_224_1.0_float", 209),
    ],
)  # fmt: skip
def test_multiply_adds_are_the_published_ones(name, million):
    works = network(name, "fp32")
    assert sum(work.macs * work.times for work in works) / 1e6 == pytest.approx(million, rel=0.02)


def test_the_built_in_mobilenet_is_the_same_network():
    """torchvision's MobileNet v2 has 1,000 classes, TensorFlow's one more."""
    ours = sum(work.weight_bytes for work in network("mobilenet-v2-1.0-224-quantized", "int8"))
    assert ours == pytest.approx(load_model("mobilenet_v2").params + 1280, rel=0.02)


@pytest.mark.parametrize(("width", "found"), [(3.0, 8), (12.0, 16), (11.0, 16), (33.6, 32), (44.8, 48)])
def test_widths_are_multiples_of_eight(width, found):
    assert rounded(width) == found


def test_other_names_are_no_such_network():
    assert network("resnet50", "fp32") is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured set is not here")
@pytest.mark.parametrize("device", CPUS)
def test_boards_are_predicted(device):
    rows = mobile_rows(str(DATA), CPUS[device])
    _, energy_j = predict(load_device(device), rows)
    assert rows.samples > 90 and len(set(rows.group.tolist())) > 10
    assert abs(energy_j / rows.energy_j - 1.0).mean() < 0.20
    assert load_device(device).fits[0]["energy_median_ape"] < 0.12  # networks left out


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured set is not here")
def test_every_row_of_the_set_is_in_a_case_or_left(tmp_path):
    from wattir.backends.fit.sets import Left, cases

    (tmp_path / "mlperf_power").symlink_to(DATA)
    found = list(cases(str(tmp_path)))
    assert sum(each.rows if isinstance(each, Left) else each.raw for each in found) == len(mlperf_table(str(DATA)))
