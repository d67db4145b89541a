"""PyTorch modules and torchvision models, batch 32, eager: the set ``torch_layers_a30_2080ti``.

One sample per module and input shape: the median over the runs. Left out: rows with half the power (2080 Ti), training
rows, identities. Ops under 50 us include the host's launch: the host counts as one op each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

from .functions import function_graph
from .rows import Array, Rows, network_rows, one_by_one
from .tables import read_table

Shape = tuple[int, ...]
PRECISION = {"tf32": "fp32 storage", "fp32": "fp32 ("}


def torch_layers(folder: str, hardware: str, precision: str) -> Rows:
    """Modules, grouped by kind and channels in and out."""
    table = _read(folder, hardware, precision)
    table = table[table.scope == "layer"]
    table, dropped = _usable(table)
    table = table.groupby(["layer", "in_shape", "out_shape"], as_index=False)[["latency_s", "energy_j"]].median()
    made, known, odd = one_by_one(table.itertuples(), lambda row: _layer(row, precision))
    table = table[known]
    rows = network_rows(
        [works for works, _ in made], time_s=table.latency_s, energy_j=table.energy_j,
        group=[group for _, group in made], label="layer", host_ops=1.0,
    )  # fmt: skip
    return replace(rows, dropped={**dropped, **odd})


def _layer(row: Any, precision: str) -> tuple[list[Work], str] | None:
    """The Work of a module and its group; None where it has none."""
    works = _works(row.layer, row.in_shape, row.out_shape, precision)
    return (works, _group(row.layer, row.in_shape)) if works else None


def torch_models(folder: str, hardware: str, precision: str) -> Rows:
    """Torchvision models as the sum of their modules and of the additions between them, grouped by model."""
    table = _read(folder, hardware, precision)
    table = table[table.scope == "model"]
    good = table.quality == "ok"
    dropped = {"not marked ok": int((~good).sum())}
    table = table[good].groupby(["model_id", "in_shape"], as_index=False)[["latency_s", "energy_j"]].median()
    parts = read_table(folder, "model_layers")
    outs = _out_shapes(folder)

    def made(row: Any) -> tuple[list[Work], float] | None:
        inside = parts[(parts.model_id == row.model_id) & (parts.in_shape == row.in_shape)]
        between = [work for graph in additions(row.model_id, _shape(row.in_shape)) for work in tabulate(graph)]
        ops = float(inside["count"].sum() + len(between))
        return (_model_works(inside, outs, precision) + between, ops) if len(inside) else None

    found, known, odd = one_by_one(table.itertuples(), made)
    table = table[known]
    rows = network_rows(
        [works for works, _ in found], time_s=table.latency_s, energy_j=table.energy_j,
        group=[f"model {name}" for name in table.model_id], label="network", host_ops=[ops for _, ops in found],
    )  # fmt: skip
    return replace(rows, dropped={**dropped, **odd})


def additions(model: str, shape: Shape) -> Iterator[Graph]:
    """What a residual network adds between its modules, one a block: as large as what the block's last norm gives.

    The image is halved by the stem, by the pooling after it, and by every stage but the first.
    """
    expansion, blocks = RESIDUAL.get(model, (1, ()))
    size = _halved(_halved(np.array(shape[2:])))
    for stage, count in enumerate(blocks):
        size = _halved(size) if stage else size
        added = layers.pointwise(shape[0] * STEM * 2**stage * expansion * int(np.prod(size)), "fp32", operands=2)
        yield from [added] * count


def _halved(size: Array) -> Array:
    return (size + 1) // 2


STEM = 64
RESIDUAL = {
    "resnet18": (1, (2, 2, 2, 2)), "resnet34": (1, (3, 4, 6, 3)),
    **dict.fromkeys(("resnet50", "resnext50_32x4d", "wide_resnet50_2"), (4, (3, 4, 6, 3))),
    **dict.fromkeys(("resnet101", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"), (4, (3, 4, 23, 3))),
    "resnet152": (4, (3, 8, 36, 3)),
}  # fmt: skip
"""Channels that leave a block over those inside, and the blocks of each stage: He et al. (2015), table 1; torchvision
gives the wide and the grouped ones the same stages."""


def _model_works(inside: Any, outs: dict[tuple[str, str], str], precision: str) -> list[Work]:
    found: list[Work] = []
    for layer, shape, count in zip(inside.layer, inside.layer_in_shape, inside["count"], strict=True):
        out = outs.get((layer, shape), "")
        found += [replace(work, times=int(count)) for work in _works(layer, shape, out, precision)]
    return found


def _out_shapes(folder: str) -> dict[tuple[str, str], str]:
    table = read_table(folder, "data")[["layer", "in_shape", "out_shape"]].astype("string").dropna()
    return {(layer, shape): out for layer, shape, out in table.itertuples(index=False)}


def _read(folder: str, hardware: str, precision: str) -> Any:
    table = read_table(folder, "data")
    same = table.hardware.eq(hardware) & table.precision.astype(str).str.startswith(PRECISION[precision])
    return table[same & table["mode"].eq("inference")]


def _usable(table: Any) -> tuple[Any, dict[str, int]]:
    half = table.quality.eq("suspect_power_half")
    idle = table.layer_kind.eq("StochasticDepth")
    dropped = {"suspect_power_half": int(half.sum()), "StochasticDepth in eval: an identity": int((idle & ~half).sum())}
    return table[~half & ~idle], dropped


def _group(layer: str, in_shape: str) -> str:
    kind, positional, named = _call(layer)
    channels = positional[:2] if kind in ("Conv2d", "Linear") else [_shape(in_shape)[-1 if kind == "LayerNorm" else 1]]
    if kind == "Linear":
        channels = [named["in_features"], named["out_features"]]
    return kind + " " + "x".join(str(channel) for channel in channels)


def _works(layer: str, in_shape: str, out_shape: str, precision: str) -> list[Work]:
    kind, positional, named = _call(layer)
    if kind not in MODULES or not in_shape:
        return []
    graph = MODULES[kind](positional, named, _shape(in_shape), _shape(out_shape) if out_shape else ())
    return [] if graph is None else [_in_math(work, precision) for work in tabulate(graph)]


def _in_math(work: Work, precision: str) -> Work:
    return (
        replace(work, math="tf32")
        if precision == "tf32" and work.kind == "conv" and work.family != "depthwise"
        else work
    )


def _call(layer: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Kind, positional and named arguments of a module as PyTorch prints it."""
    node = ast.parse(re.sub(r"mode=(\w+)", r"mode='\1'", layer), mode="eval").body
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return layer, [], {}
    named = {str(pair.arg): ast.literal_eval(pair.value) for pair in node.keywords}
    return node.func.id, [ast.literal_eval(value) for value in node.args], named


def _shape(text: str) -> Shape:
    return tuple(ast.literal_eval(text))


def _conv(positional: list[Any], named: dict[str, Any], shape: Shape, out: Shape) -> Graph:
    return layers.conv(
        shape[0], positional[0], positional[1], shape[2:], tuple(named["kernel_size"]), "fp32",
        stride=tuple(named.get("stride", (1, 1))), padding=tuple(named.get("padding", (0, 0))),
        dilation=tuple(named.get("dilation", (1, 1))), groups=named.get("groups", 1),
    )  # fmt: skip


def _linear(positional: list[Any], named: dict[str, Any], shape: Shape, out: Shape) -> Graph:
    return layers.matmul(int(np.prod(shape[:-1])), named["out_features"], named["in_features"], "fp32")


def _batch_norm(positional: list[Any], named: dict[str, Any], shape: Shape, out: Shape) -> Graph:
    return layers.norm(int(np.prod(shape)) // shape[1], shape[1], "fp32", function="batch_norm")


def _layer_norm(positional: list[Any], named: dict[str, Any], shape: Shape, out: Shape) -> Graph:
    return layers.norm(int(np.prod(shape[:-1])), shape[-1], "fp32")


def _pool(positional: list[Any], named: dict[str, Any], shape: Shape, out: Shape) -> Graph | None:
    if not out:
        return None
    size = named.get("kernel_size")
    window = (size * size if isinstance(size, int) else int(np.prod(size))) if size else _ratio(shape, out)
    return layers.pooling(shape, out, window, "fp32")


def _ratio(shape: Shape, out: Shape) -> int:
    return max(int(np.prod(shape[2:])) // max(int(np.prod(out[2:])), 1), 1)


def _activation(function: str) -> Callable[..., Graph]:
    def graph(positional: list[Any], named: dict[str, Any], shape: Shape, out: Shape) -> Graph:
        return function_graph(function, int(np.prod(shape)), "fp32")

    return graph


MODULES: dict[str, Callable[..., Graph | None]] = {
    "Conv2d": _conv,
    "Linear": _linear,
    "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm,
    "AdaptiveAvgPool2d": _pool,
    "AvgPool2d": _pool,
    "MaxPool2d": _pool,
    **{kind: _activation(kind.lower()) for kind in ("ReLU", "SiLU", "Sigmoid", "GELU")},
}
"""From a PyTorch module's printed arguments and shapes to a graph of one op."""

__all__ = ["Array", "torch_layers", "torch_models"]
