"""Parametrised networks and composed cells that the benchmarks and examples of architecture search ask about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wattir import layers
from wattir.dims import Size, ceildiv, symbol
from wattir.ir import Graph, GraphBuilder
from wattir.priced import PricedSpace
from wattir.spaces import Choice, Space, supernet
from wattir.tables import Table, merged, table_of

DTYPE = "fp16"


def convolutions(
    name: str, widths: Sequence[Size], kernels: Sequence[int], strides: Sequence[int], side: Size
) -> Graph:
    """A chain of convolutions over [batch, 3, side, side]; each has its width, its kernel and its stride."""
    builder, batch, before = GraphBuilder(name), symbol("batch"), 3
    x = builder.tensor("x", (batch, 3, side, side), DTYPE, "input")
    for i, (width, kernel, stride) in enumerate(zip(widths, kernels, strides, strict=True)):
        after = ceildiv(side, stride)
        weight = builder.tensor(f"w{i}", (width, before, kernel, kernel), DTYPE, "weight")
        y = builder.tensor(f"y{i}", (batch, width, after, after), DTYPE)
        builder.op(
            "conv", (x, weight), (y,), name=f"layer{i}", source="Conv", batch=batch, c_in=before, c_out=width, groups=1,
            kernel=(kernel, kernel), in_spatial=(side, side), out_spatial=(after, after),
        )  # fmt: skip
        x, before, side = y, width, after
    return builder.finish(("x",), (x,), {"batch": 1}, batch="batch")


def fifty_layers(own_widths: bool) -> Graph:
    """50 convolutions and 18 sizes: `batch`, `side`, and the widths `c0` ... of 16 bottlenecks between a stem and a
    head; or 52 sizes, if each layer has a width of its own."""
    if own_widths:
        widths: list[Size] = [symbol(f"c{i}") for i in range(50)]
        return convolutions(
            "fifty_widths", widths, [3] * 50, [2 if i % 10 == 0 else 1 for i in range(50)], symbol("side")
        )
    blocks = [symbol(f"c{i}") for i in range(16)]
    widths = [64, *(width for c in blocks for width in (c, c, 4 * c)), 1000]
    strides = [2, *(stride for i in range(16) for stride in (1, 2 if i in (3, 7, 13) else 1, 1)), 1]
    return convolutions("fifty_bottlenecks", widths, [7, *[1, 3, 1] * 16, 1], strides, symbol("side"))


def small_network(blocks: int = 4) -> Graph:
    """A few 3x3 convolutions of free widths `c0` ..., over images of 32 by 32: small enough to try all candidates."""
    widths = [symbol(f"c{i}") for i in range(blocks)]
    return convolutions("small", widths, [3] * blocks, [1 if i % 2 else 2 for i in range(blocks)], 32)


def nas_bench_201() -> Space:
    """Six edges with five operations each, as in a cell of NAS-Bench-201 (16 channels, 32 by 32)."""
    shape = (1, 16, 32, 32)
    edge = {
        "none": layers.pointwise(16 * 32 * 32, DTYPE, function="copy"), "skip_connect": layers.copy(shape, DTYPE),
        "nor_conv_1x1": layers.conv(1, 16, 16, (32, 32), (1, 1)),
        "nor_conv_3x3": layers.conv(1, 16, 16, (32, 32), (3, 3)),
        "avg_pool_3x3": layers.pooling(shape, shape, 9, function="average"),
    }  # fmt: skip
    return supernet("nas_bench_201", [Choice(f"edge{i}", edge) for i in range(6)])


def fbnet() -> Space:
    """22 positions with nine blocks each, as in FBNet: expansion 1, 3 or 6 and kernel 3, 5 or 7."""
    sides = [112] * 2 + [56] * 4 + [28] * 4 + [14] * 8 + [7] * 4
    return supernet("fbnet", [Choice(f"block{i}", _blocks(16 + 8 * i, side)) for i, side in enumerate(sides)])


def tables_by_choice(price: PricedSpace) -> tuple[Table, ...]:
    """The sums of each position's blocks, a table for each: what a loop in NumPy would look up."""
    space, model = price.space, price.model
    values = {name: np.array(known) for name, known in space.values.items()}
    tables = [table_of(program, values, space.names, model.trees, model.host_op_s) for program in model.programs]
    return merged(tables, [len(known) for known in values.values()], most=1)


def _blocks(channels: int, side: int) -> dict[str, Graph]:
    return {f"e{e}_k{k}": _inverted(channels, side, e, k) for e in (1, 3, 6) for k in (3, 5, 7)}


def _inverted(channels: int, side: int, expansion: int, kernel: int) -> Graph:
    """An inverted bottleneck: 1x1, depthwise, 1x1."""
    wide = channels * expansion
    builder = GraphBuilder("block")
    x = builder.tensor("x", (1, channels, side, side), DTYPE, "input")
    for i, (c_in, c_out, k, groups) in enumerate(
        ((channels, wide, 1, 1), (wide, wide, kernel, wide), (wide, channels, 1, 1))
    ):
        weight = builder.tensor(f"w{i}", (c_out, c_in // groups, k, k), DTYPE, "weight")
        y = builder.tensor(f"y{i}", (1, c_out, side, side), DTYPE)
        builder.op(
            "conv", (x, weight), (y,), name=f"conv{i}", source="Conv", batch=1, c_in=c_in, c_out=c_out, groups=groups,
            kernel=(k, k), in_spatial=(side, side), out_spatial=(side, side),
        )  # fmt: skip
        x = y
    return builder.finish(("x",), (x,))
