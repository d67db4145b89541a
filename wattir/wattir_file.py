"""``.wattir`` files: a network, and for a compiled model its machine, as one text that needs no framework to read.

    wattir 1
    runtime compiled
    dtype bf16
    device
    <the device's TOML, each line after a |>
    graph
    <the text of wattir.graph_text>

A file without the `device` part is a model for any machine, runtime and precision; the built-in models are such files.
"""

from __future__ import annotations

from dataclasses import dataclass

from wattir.costmodel import CostModel, compile_under
from wattir.device import Device, device_from_text, without_libraries
from wattir.device_text import device_text
from wattir.errors import ModelFileError
from wattir.graph_check import check_graph
from wattir.graph_text import graph_text, parse_graph
from wattir.ir import Graph
from wattir.reading import read_text
from wattir.writing import write_whole

FIRST_LINE = "wattir 1"
MAX_BYTES = 64 * 2**20
"""A text longer than this is no cost model but a mistake or an attack."""


@dataclass(frozen=True, slots=True)
class WattirFile:
    """What a file holds; `device` and `runtime` are None in a file for any machine."""

    graph: Graph
    device: Device | None
    runtime: str | None
    dtype: str | None


def write_graph(graph: Graph, path: str) -> None:
    """Writes a network for any machine."""
    write_whole(path, f"{FIRST_LINE}\ngraph\n{graph_text(graph)}")


def write_cost_model(model: CostModel, path: str) -> None:
    """Writes a network with its machine's coefficients, runtime and precision."""
    lines = [FIRST_LINE, f"runtime {model.runtime}"]
    lines += [f"dtype {model.dtype}"] if model.dtype else []
    machine = without_libraries(model.device)
    lines += ["device", *("| " + line for line in device_text(machine).splitlines()), "graph"]
    write_whole(path, "\n".join(lines) + "\n" + graph_text(model.graph))


def read(path: str) -> WattirFile:
    """The content of a file; ModelFileError says where it is wrong."""
    return parse(read_text(path, "a .wattir text", ModelFileError, MAX_BYTES), path)


def parse(text: str, where: str) -> WattirFile:
    """The content of a text."""
    head, separator, body = text.partition("\ngraph\n")
    lines = head.splitlines()
    if not lines or lines[0] != FIRST_LINE:
        raise ModelFileError(f"{where}: found {text[:40]!r}; expected a text that starts with {FIRST_LINE!r}")
    if not separator:
        raise ModelFileError(f"{where}: no line `graph`; expected a whole .wattir text; make the file again")
    words = dict(line.split(" ", 1) for line in lines[1:] if " " in line and not line.startswith("| "))
    toml = "\n".join(line[2:] for line in lines if line.startswith("| "))
    device = device_from_text(toml, f"{where}: device", complete=True) if toml else None
    graph = check_graph(parse_graph(body, where))
    return WattirFile(graph, device, words.get("runtime"), words.get("dtype"))


def load(path: str) -> CostModel:
    """The cost model that `CostModel.save` wrote; ModelFileError if the file is for no machine."""
    found = read(path)
    if found.device is None or found.runtime is None:
        found_instead = "a model for any machine; expected one with a machine"
        raise ModelFileError(f"{path}: {found_instead}; use wattir.compile(path, device=...)")
    return compile_under(found.graph, found.device, found.runtime, found.dtype)
