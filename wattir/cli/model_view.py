"""Models as text for people."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping

from rich.table import Table

from wattir.cli.console import Sheet, clean, make_console, make_grid
from wattir.cli.units import prefixed
from wattir.costs import tabulate
from wattir.dim_text import parse
from wattir.dims import Size, evaluate, names
from wattir.ir import Graph
from wattir.models import FOLDER
from wattir.passes import lower_to_kernels


def show_models(names: Iterable[str], published: Iterable[str]) -> None:
    """One row a built-in model, from the first lines of its file; then the published ones by name."""
    sheet = Sheet(make_console(), "", "name", ">parameters", "sizes (default)")
    for name in names:
        params, sizes = _head(os.path.join(FOLDER, name + ".wattir"))
        sheet.row(name, _count(params, sizes), _sizes(sizes))
    sheet.show()
    print("\npublished, from their configurations:")
    print("\n".join(f"  {name}" for name in published))


def _head(path: str) -> tuple[Size, dict[str, int | None]]:
    """Parameters and sizes, read without the layers: a list of twenty models must not take seconds."""
    params: Size = 0
    sizes: dict[str, int | None] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            word, _, rest = line.strip().partition(" ")
            if word == "params":
                params = parse(rest)
            elif word == "size":
                name, _, value = rest.partition(" = ")
                sizes[name] = None if value == "?" else int(value)
            elif word not in ("wattir", "graph", "batch", "warning"):
                break
    return params, sizes


def show_model(graph: Graph) -> None:
    """Inputs, outputs, sizes, parameters, work and layers of one model."""
    console = make_console()
    rows = {
        "model": graph.name,
        "parameters": _count(graph.params, graph.sizes),
        "sizes": _sizes(graph.sizes),
        "batch": graph.batch or "none",
        "inputs": "\n".join(_tensor(graph, name) for name in graph.inputs),
        "outputs": "\n".join(_tensor(graph, name) for name in graph.outputs),
        "work": _work(graph),
        "layers": ", ".join(f"{count} {kind}" for kind, count in Counter(op.kind for op in graph.ops).most_common()),
        "warnings": "\n".join(graph.warnings),
    }
    console.print(_grid(rows))


def _grid(rows: Mapping[str, str]) -> Table:
    grid = make_grid()
    for label, text in rows.items():
        if text:
            grid.add_row(label, "\n".join(clean(line).plain for line in text.splitlines()))
    return grid


def _tensor(graph: Graph, name: str) -> str:
    tensor = graph.tensors[name]
    return f"{name} : {tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def _sizes(sizes: Mapping[str, int | None]) -> str:
    given = (f"{name}={'?' if value is None else value}" for name, value in sizes.items())
    return ", ".join(given) or "all fixed"


def _count(params: Size, sizes: Mapping[str, int | None]) -> str:
    known = _known(params, sizes)
    return str(params) if known is None else prefixed(known, "").strip()


def _work(graph: Graph) -> str:
    """Multiply-adds at the default sizes, or as a formula where a size has none."""
    kernels = tabulate(lower_to_kernels(graph, "compiled"))
    macs = sum((work.macs * work.times for work in kernels), start=0)
    known = _known(macs, graph.sizes)
    if known is None:
        return f"{macs} MAC"
    at = f" at {_sizes(graph.sizes)}" if names(macs) else ""
    return f"{prefixed(2 * known, 'FLOP')}, {prefixed(known, 'MAC')}{at}"


def _known(size: Size, sizes: Mapping[str, int | None]) -> int | None:
    given = {name: value for name, value in sizes.items() if value is not None}
    return int(evaluate(size, given)) if names(size) <= given.keys() else None
