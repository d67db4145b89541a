"""Layer, group and root-mean-square norms written out as sums, roots and arithmetic become one op of kind ``norm``."""

from __future__ import annotations

from collections.abc import Iterator

from wattir.dims import Size
from wattir.ir import Graph, Op
from wattir.passes.written_out import (
    FEW,
    Region,
    behind,
    function_of,
    fused,
    grow,
    is_arithmetic,
    made_by,
    replace_regions,
)

ROOTS = ("rsqrt", "sqrt", "pow")


def recognise_norms(graph: Graph) -> Graph:
    """Every ``(x - mean x) / sqrt(mean (x - mean x)^2 + eps) * scale + shift``, in any order, the mean or not."""
    starts = (op for op in graph.ops if op.kind == "pointwise" and function_of(op) in ROOTS)
    return replace_regions(graph, (region for op in starts if (region := _region(graph, op)) is not None))


def _region(graph: Graph, root: Op) -> Region | None:
    small, sums = behind(graph, root.ins[0], lambda op: op.kind == "reduction") if root.ins else ([], [])
    if not 1 <= len(sums) <= 2 or len({op.attrs["length"] for op in sums}) != 1:
        return None
    if any(function_of(op) not in ("sum", "mean") for op in sums):
        return None
    length = sums[0].attrs["length"]
    sums, small = _with_mean(graph, sums, small, length)
    chains = [list(_upwards(graph, op.ins[0])) for op in sums]
    x = _origin(graph, chains)
    if x is None:
        return None
    way = [op for chain in chains for op in _below(graph, chain, x)]
    seed = list({id(op): op for op in (*sums, *small, *way, root)}.values())
    for members in grow(graph, x, seed, length):
        function = _function(graph, members, x, length)
        region = fused(graph, members, x, "norm", function, length)
        if region is not None:
            return region
    return None


def _with_mean(graph: Graph, sums: list[Op], small: list[Op], length: Size) -> tuple[list[Op], list[Op]]:
    """The sums and arithmetic, with those of a mean that is subtracted before the squares are summed."""
    for op in sums:
        for big in _upwards(graph, op.ins[0]):
            made = made_by(graph, big)
            for name in made.ins if made is not None and function_of(made) == "sub" else ():
                more, means = behind(graph, name, lambda op: op.kind == "reduction")
                known = len(means) != 1 or means[0] in sums or means[0].attrs["length"] != length
                if not known and graph.tensors[name].elements != graph.tensors[big].elements:
                    return [*means, *sums], [*more, *small]
    return sums, small


def _upwards(graph: Graph, name: str) -> Iterator[str]:
    """A tensor and those it is made from by arithmetic that reads one tensor of its size."""
    for _ in range(FEW):
        yield name
        made = made_by(graph, name)
        if made is None or not is_arithmetic(made):
            return
        elements = graph.tensors[name].elements
        large = {other for other in made.ins if graph.tensors[other].elements == elements}
        if len(large) != 1:
            return
        name = large.pop()


def _origin(graph: Graph, chains: list[list[str]]) -> str | None:
    """The tensor that all sums come from, and that something else reads: the one that is normalized."""
    on_way = {name for chain in chains for name in chain}
    for name in chains[0]:
        if not all(name in chain for chain in chains):
            continue
        readers = graph.readers[name]
        if len(readers) > 1 or any(not on_way.issuperset(op.outs) and op.kind != "reduction" for op in readers):
            return name
    return None


def _below(graph: Graph, chain: list[str], x: str) -> Iterator[Op]:
    for name in chain[: chain.index(x)]:
        made = made_by(graph, name)
        if made is not None:
            yield made


def _function(graph: Graph, members: list[Op], x: str, length: Size) -> str:
    if not any(function_of(op) == "sub" for op in members):
        return "rms_norm"
    return "layer_norm" if graph.tensors[x].shape[-1:] == (length,) else "group_norm"
