"""A dozen architectures that stand for the PyTorch sweep: they lower, and nothing in them is unknown."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

pytest.importorskip("torch")

from torch_cases import CASES, FAST
from torch_sweep import declare_torchvision_ops, run_case


@pytest.mark.parametrize("name", FAST)
def test_architecture_lowers(name: str) -> None:
    declare_torchvision_ops()
    pytest.importorskip(name.partition("/")[0], exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        row = run_case(name, "h200_sxm")
    assert row["unknown"] <= 0.01 and not row["unknown_ops"]
    assert row["way"] == "export"
    assert row["flop"] > 1e8


def test_sweep_is_wide() -> None:
    assert len(CASES) >= 120
    assert set(FAST) <= set(CASES)
