"""Fresh exports of small networks through both of torch's ONNX exporters; skipped without torch and onnxscript."""

from __future__ import annotations

import io
import logging
import math
import warnings
from functools import cache
from typing import Any

import pytest

from wattir.costs import tabulate
from wattir.dims import evaluate
from wattir.frontends.onnx import lower
from wattir.graph_check import check_graph
from wattir.ir import Graph, Op
from wattir.passes import lower_to_kernels

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

HEADS, KV_HEADS, D, WIDTH = 8, 2, 16, 128
SIZES = {"batch": 2, "seq": 24}


class Attention(torch.nn.Module):  # type: ignore[name-defined, misc]
    """Causal attention with grouped queries, as torch's fused function or written out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.q_proj = torch.nn.Linear(WIDTH, HEADS * D, bias=False)
        self.k_proj = torch.nn.Linear(WIDTH, KV_HEADS * D, bias=False)
        self.v_proj = torch.nn.Linear(WIDTH, KV_HEADS * D, bias=False)
        self.register_buffer("scale", torch.full((1,), 1 / math.sqrt(D)))

    def forward(self, x: Any) -> Any:
        q, k, v = (self.split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if self.fused:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (k, v))
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        scores = (q @ k.transpose(-2, -1) * self.scale).masked_fill(~seen, -1e9)
        return torch.softmax(scores, dim=-1) @ v

    def split(self, x: Any) -> Any:
        return x.view(x.shape[0], x.shape[1], -1, D).transpose(1, 2)


class Compared(Attention):
    """The mask as a comparison of positions, added to the scores: ``k <= q``."""

    def forward(self, x: Any) -> Any:
        q, k, v = (self.split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (k, v))
        place = torch.arange(x.shape[1])
        mask = torch.where(place[None, :] <= place[:, None], 0.0, -1e9)
        return torch.softmax(q @ k.transpose(-2, -1) * self.scale + mask, dim=-1) @ v


class Step(Attention):
    """One token over a cache that it gives back longer."""

    def forward(self, x: Any, past_k: Any, past_v: Any) -> Any:
        q, k, v = (self.split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True), k, v


class Convolutions(torch.nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.BatchNorm2d(8))
        self.head = torch.nn.Linear(8, 10)

    def forward(self, image: Any) -> Any:
        return self.head(self.stem(image).relu().mean((2, 3)))


MODELS = {
    "fused": lambda: Attention(True), "written": lambda: Attention(False), "compared": lambda: Compared(False),
    "step": lambda: Step(True), "convolutions": Convolutions,
}  # fmt: skip
CACHE = (2, KV_HEADS, 7, D)
INPUTS = {
    "step": {"x": (2, 1, WIDTH), "past_k": CACHE, "past_v": CACHE},
    "convolutions": {"image": (2, 3, 16, 16)},
}
AXES = {"x": {0: "batch", 1: "seq"}, "past_k": {0: "batch", 2: "past"}, "past_v": {0: "batch", 2: "past"},
        "image": {0: "batch"}}  # fmt: skip


@cache
def exported(name: str, opset: int, dynamo: bool = True) -> Graph:
    """The checked graph of a network, exported with free batch and length."""
    inputs = INPUTS.get(name, {"x": (2, 24, WIDTH)})
    axes = {key: {a: n for a, n in AXES[key].items() if not (name == "step" and n == "seq")} for key in inputs}
    tensors = tuple(torch.zeros(shape) for shape in inputs.values())
    file = io.BytesIO()
    logging.disable(logging.WARNING)  # the exporters say at length what they do
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = {"input_names": list(inputs), "opset_version": opset, "verbose": False}
            if dynamo:
                dims = {n: torch.export.Dim(n, min=2, max=4096) for n in ("batch", "seq", "past")}
                shapes = tuple({axis: dims[n] for axis, n in axes[key].items()} for key in inputs)
                more = {"dynamo": True, "optimize": False, "dynamic_shapes": shapes}
            else:
                more = {"dynamo": False, "dynamic_axes": axes}
            program = torch.onnx.export(MODELS[name]().eval(), tensors, None if dynamo else file, **names, **more)
    finally:
        logging.disable(logging.NOTSET)
    return check_graph(lower(program.model_proto if dynamo else file.getvalue()))


def attentions(graph: Graph) -> list[Op]:
    return [op for op in lower_to_kernels(graph, "compiled").ops if op.kind == "attention"]


def flop(graph: Graph, runtime: str, column: str = "macs") -> int:
    rows = tabulate(lower_to_kernels(graph, runtime))
    whole: Any = sum((getattr(row, column) * row.times for row in rows), start=0)
    return 2 * int(evaluate(whole, {name: SIZES.get(name, 7) for name in graph.sizes}))


WAYS = [("fused", 18, True), ("fused", 23, True), ("written", 18, True), ("written", 17, False), ("compared", 18, True)]


@pytest.mark.parametrize(("name", "opset", "dynamo"), WAYS)
def test_causal_attention_with_grouped_queries(name: str, opset: int, dynamo: bool) -> None:
    graph = exported(name, opset, dynamo)
    assert set(graph.sizes) == {"batch", "seq"}
    (op,) = attentions(graph)
    assert (op.attrs["causal"], op.attrs["heads"], op.attrs["d"]) == (True, HEADS, D)
    b, s = SIZES["batch"], SIZES["seq"]
    projections = 2 * b * s * WIDTH * (HEADS + 2 * KV_HEADS) * D
    assert flop(graph, "eager") == flop(graph, "compiled") == projections + 4 * b * HEADS * s * s * D
    assert flop(graph, "compiled", "macs_causal") == projections + 4 * b * HEADS * (s * (s + 1) // 2) * D


@pytest.mark.parametrize(("name", "opset"), [("fused", 18), ("fused", 23), ("written", 18)])
def test_keys_are_read_as_often_as_they_are(name: str, opset: int) -> None:
    (op,) = attentions(exported(name, opset))
    assert op.attrs["kv_heads"] == KV_HEADS


@pytest.mark.parametrize(("name", "opset", "dynamo"), WAYS)
def test_buffers_are_no_parameters(name: str, opset: int, dynamo: bool) -> None:
    assert exported(name, opset, dynamo).params == WIDTH * (HEADS + 2 * KV_HEADS) * D


def test_a_cache_that_grows_is_state() -> None:
    kernels = lower_to_kernels(exported("step", 23), "compiled")
    assert {name for name in kernels.inputs if kernels.tensors[name].role == "state"} == {"past_k", "past_v"}
    rows = tabulate(kernels)
    token = 2 * KV_HEADS * D * 4  # bytes of a row in both caches
    whole: Any = sum((row.state_bytes for row in rows), start=0)
    assert evaluate(whole, {"batch": 2, "past": 7}) == 2 * (token + 8 * token)  # one written, eight read


@pytest.mark.parametrize(("dynamo", "opset"), [(True, 18), (False, 17)])
def test_layers_have_the_names_of_their_modules(dynamo: bool, opset: int) -> None:
    graph = exported("convolutions", opset, dynamo)
    convolution, product = (next(op.name for op in graph.ops if op.kind == kind) for kind in ("conv", "matmul"))
    assert convolution.startswith("stem.0/Conv") or convolution == "stem/stem.0/Conv"
    assert product.startswith("head/Gemm")


def test_batch_norms_are_parameters_until_the_exporter_folds_them() -> None:
    convolution, product = 8 * 3 * 9, 8 * 10 + 10
    assert exported("convolutions", 18).params == convolution + 2 * 8 + product  # scale and shift
    assert exported("convolutions", 17, False).params == convolution + 8 + product  # folded into a bias
