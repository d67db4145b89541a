"""torchvision, and what imports it, beside a CPU build of torch: two operators must be there before the import."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import pytest

_LIBRARY: list[Any] = []


def imported(name: str) -> Any:
    """The module of this name; the test is skipped where it or torch is not installed."""
    torch = pytest.importorskip("torch")
    if not _LIBRARY and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.append(library)  # the operators live as long as it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(name)
        except ImportError as error:
            pytest.skip(f"{name}: {error}")
