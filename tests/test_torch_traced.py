"""Networks whose export fails: they are traced, and the report says so; sizes that depend on data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch_networks import lowered, meta, of_kind, totals, traced
from torchvision_stub import imported

import wattir
from wattir.ir import Graph

torch = pytest.importorskip("torch")
nn = torch.nn
Module = nn.Module

FEW = 40
"""Boxes kept before they are suppressed: as many as could be left."""


def detection(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torchvision's detection models, which need not run their own kernels here."""
    models = imported("torchvision.models.detection")
    monkeypatch.setattr(imported("torchvision.ops.boxes"), "_assert_has_ops", lambda: None)
    return models


def says_traced(graph: Graph) -> bool:
    return "torch.export failed" in graph.warnings[0] and any("bounded by its maximum" in w for w in graph.warnings)


def convolutions(module: Any, shape: tuple[int, ...]) -> int:
    """FLOP of a module by torch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(*shape, device="meta"))
    return int(counter.get_total_flops())


def test_retinanet(monkeypatch: pytest.MonkeyPatch) -> None:
    models = detection(monkeypatch)
    model = models.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64, topk_candidates=FEW
    ).eval()
    graph = lowered(model, ([torch.zeros(3, 64, 64)],))

    assert says_traced(graph) and not of_kind(graph, "unknown")

    class Dense(Module):  # type: ignore[misc, valid-type]
        def forward(self, x: Any) -> Any:
            return model.head(list(model.backbone(x).values()))

    model.to("meta")
    assert totals(graph)["flop"] == convolutions(Dense(), (1, 3, 64, 64))


def test_faster_rcnn(monkeypatch: pytest.MonkeyPatch) -> None:
    models = detection(monkeypatch)
    model = models.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64,
        num_classes=3, rpn_pre_nms_top_n_test=FEW, rpn_post_nms_top_n_test=FEW,
    ).eval()  # fmt: skip
    graph = lowered(model, ([torch.zeros(3, 64, 64)],))
    heads = {op.name: op.attrs["m"] for op in of_kind(graph, "matmul") if op.name.startswith("roi_heads.box")}

    assert says_traced(graph)
    assert set(heads.values()) == {FEW}  # every box that may be left goes through the heads
    assert len(heads) == 4  # fc6, fc7, classes, boxes


class Exits(Module):  # type: ignore[misc, valid-type]
    """Leaves early where it is sure enough, and runs the sure rows alone through a second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 32)

    def forward(self, x: Any) -> Any:
        y = self.first(x)
        if y.max() > 4 and y.shape[0] > 1:
            return self.second(y[y[:, 0] > 0])
        return y


def test_early_exits_are_taken_as_true() -> None:
    graph = lowered(Exits(), torch.zeros(4, 8))

    assert says_traced(graph)
    assert totals(graph)["flop"] == 2 * 4 * 8 * (8 + 32)


def test_a_trace_of_free_dims_says_that_it_is_of_fixed_ones() -> None:
    from wattir.frontends.torch import Inputs

    graph = lowered(Exits(), Inputs((torch.zeros(4, 8),), dims={0: {0: "batch"}}))

    assert not graph.sizes
    assert any("free dims of input 0 are fixed at its example's sizes" in line for line in graph.warnings)


@pytest.mark.parametrize("lower", [lowered, traced])
def test_batch_norms_of_a_trace_are_those_of_an_export(lower: Callable[..., Graph]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8).half().float())
    graph = lower(module, meta(2, 3, 9, 9))

    assert [op.attrs["function"] for op in of_kind(graph, "norm")] == ["batch_norm"] * 2


# ---- sizes that depend on data --------------------------------------------------------------------------------------


class Chosen(Module):  # type: ignore[misc, valid-type]
    def forward(self, x: Any) -> Any:
        return torch.nonzero(x) * 2, torch.masked_select(x, x > 0)


class Padded(Module):  # type: ignore[misc, valid-type]
    """Audio codecs hold a stride as a buffer, and pad by what they work out from it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stride", torch.tensor(4), persistent=False)

    def forward(self, x: Any) -> Any:
        extra = self.stride - x.shape[-1] % self.stride
        return torch.nn.functional.pad(x, (0, int(extra)))


def test_a_trace_knows_the_numbers_that_a_module_holds() -> None:
    graph = traced(Padded(), torch.zeros(2, 10))

    assert [graph.tensors[name].shape for name in graph.outputs] == [(2, 12)]
    assert not graph.warnings


class Kept(Module):  # type: ignore[misc, valid-type]
    def forward(self, x: Any) -> Any:
        rows, columns = torch.where(x > 0)
        return x[rows] + columns[:, None]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_trace_bounds_where_of_a_condition(device: str) -> None:
    """Detectors and experts choose so; on meta torch takes it apart below what a trace sees."""
    graph = traced(Kept(), torch.zeros(4, 8, device=device))

    assert [graph.tensors[name].shape for name in graph.outputs] == [(32, 8)]


def test_a_program_and_its_archive_bound_the_same_sizes(tmp_path: Path) -> None:
    exported = torch.export.export(Chosen(), (torch.zeros(4, 8),), strict=False)
    path = tmp_path / "chosen.pt2"
    torch.export.save(exported, path)
    one, other = wattir.lower(exported), wattir.lower(str(path))

    assert one.warnings == other.warnings
    assert [line.split()[2] for line in one.warnings] == ["nonzero", "masked_select"]
    for graph in (one, other):
        assert [graph.tensors[name].shape for name in graph.outputs] == [(32, 2), (32,)]
