"""A softmax written out as maximum, subtraction, exponential, sum and division becomes one op of kind ``softmax``."""

from __future__ import annotations

from wattir.ir import Graph, Op
from wattir.passes.written_out import Region, behind, function_of, fused, grow, is_row_of, made_by, replace_regions


def recognise_softmax(graph: Graph) -> Graph:
    """Every ``exp(x - max x)`` that is divided by its sum (or, as log-softmax, less the logarithm of it).

    Masks (``where``) and casts on the way belong to it. Frameworks differ in what they keep whole: ONNX and PyTorch a
    softmax, JAX none; compilers find it in all of them.
    """
    starts = (op for op in graph.ops if op.kind == "pointwise" and function_of(op) == "exp" and len(op.ins) == 1)
    return replace_regions(graph, (region for op in starts if (region := _region(graph, op)) is not None))


def _region(graph: Graph, exponential: Op) -> Region | None:
    shifted = made_by(graph, exponential.ins[0])
    if shifted is None or function_of(shifted) != "sub" or len(shifted.ins) != 2:
        return None
    given, largest = shifted.ins
    small, maxima = behind(graph, largest, lambda op: op.kind == "reduction")
    if len(maxima) != 1 or function_of(maxima[0]) != "max":
        return None
    x, masks = _unmasked(graph, given, maxima[0].ins[0])
    length = maxima[0].attrs["length"]
    if x is None or not is_row_of(graph, largest, x, length):
        return None
    seed = [maxima[0], *small, shifted, exponential, *masks]
    for members in grow(graph, x, seed, length, masks=True):
        if any(op.kind == "reduction" and function_of(op) == "sum" for op in members):
            name = "log_softmax" if any(function_of(op) == "log" for op in members) else "softmax"
            region = fused(graph, members, x, "softmax", name, length)
            if region is not None:
                return region
    return None


def _unmasked(graph: Graph, shifted: str, compared: str) -> tuple[str | None, list[Op]]:
    """What the softmax is of, and the masks and transposes before the maximum, the subtraction or both."""
    first, second = _way_up(graph, shifted), _way_up(graph, compared)
    for name, ops in first.items():
        if name in second:
            return name, list({id(op): op for op in (*ops, *second[name])}.values())
    return None, []


def _way_up(graph: Graph, name: str) -> dict[str, list[Op]]:
    """A tensor and those it is a masked or transposed form of, with the ops between."""
    found: dict[str, list[Op]] = {name: []}
    passed: list[Op] = []
    while (made := made_by(graph, name)) is not None and function_of(made) in ("where", "transpose"):
        elements = graph.tensors[name].elements
        large = [n for n in made.ins if graph.tensors[n].elements == elements and graph.tensors[n].dtype != "bool"]
        if not large or large[0] in found:
            break
        passed, name = [*passed, made], large[0]
        found[name] = passed
    return found
