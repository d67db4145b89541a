"""From arguments to cost models and sizes: what was asked, on which machines."""

from __future__ import annotations

import os
from argparse import Namespace

from wattir.api import lower
from wattir.clock import at_clock
from wattir.costmodel import CostModel, compile_graph, compile_under
from wattir.device import Device, load_device
from wattir.dims import Size, names
from wattir.errors import InputError, SizeError, WattirError
from wattir.ir import Graph
from wattir.runtime import OWN_KERNELS
from wattir.wattir_file import WattirFile, read


def cost_models(arguments: Namespace) -> tuple[CostModel, ...]:
    """The model on each machine asked for, or on the one that its ``.wattir`` file holds."""
    clock_hz = None if arguments.clock_mhz is None else 1e6 * arguments.clock_mhz
    machines = tuple(at_clock(load_device(wanted), clock_hz) for wanted in arguments.hw)  # before a long read
    file = read_model(arguments)
    runtime = arguments.runtime or file.runtime or "compiled"
    dtype = arguments.dtype or file.dtype
    if machines:
        return tuple(compile_graph(file.graph, machine, runtime, dtype) for machine in _distinct(machines))
    own = at_clock(_own_machine(file), clock_hz)
    if file.runtime in OWN_KERNELS and runtime != file.runtime:
        raise InputError(f"{arguments.model}: made for runtime {file.runtime}, not {runtime}; give a machine with --hw")
    as_made = compile_under if runtime == file.runtime else compile_graph
    return (as_made(file.graph, own, runtime, dtype),)


def read_model(arguments: Namespace) -> WattirFile:
    """The model as lowered; with `--batch-size`, with a free batch."""
    model = arguments.model
    if model.endswith(".wattir") and os.path.isfile(model) and not arguments.input:
        return read(model)
    graph = lower(model, dict(arguments.input) or None)
    if getattr(arguments, "batch_size", None) is not None and graph.batch is None:
        graph = with_free_batch(graph, arguments)
    return WattirFile(graph, None, None, None)


def _distinct(machines: tuple[Device, ...]) -> tuple[Device, ...]:
    """Each machine once, also where it was asked for by two aliases."""
    return tuple({machine.id: machine for machine in machines}.values())


def _own_machine(file: WattirFile) -> Device:
    if file.device is None:
        raise InputError(f"{file.graph.name}: no machine; expected --hw ID such as --hw h100_sxm; see `wattir devices`")
    return file.device


def with_free_batch(graph: Graph, arguments: Namespace) -> Graph:
    """The model lowered again with the leading 1 of its inputs as a free size; SizeError where that cannot be."""
    name = "batch" if "batch" not in graph.sizes else "batch_size"
    shapes = {tensor: graph.tensors[tensor].shape for tensor in graph.inputs}
    free: dict[str, tuple[Size | str, ...]] = {
        t: (name, *shape[1:]) for t, shape in shapes.items() if shape[:1] == (1,)
    }
    where = f"{graph.name}: --batch-size {arguments.batch_size}"
    if not free:
        found = ", ".join(f"{t} [{', '.join(map(str, shape))}]" for t, shape in shapes.items()) or "none"
        raise SizeError(f"{where}: no input leads with a batch of 1 (inputs: {found}); leave --batch-size out")
    try:
        found_graph = lower(arguments.model, {**free, **dict(arguments.input)})
    except WattirError as error:
        raise SizeError(
            f"{where}: its batch is fixed and cannot be changed ({error}); leave --batch-size out"
        ) from None
    if not _depends_on(found_graph, name):
        raise SizeError(f"{where}: its batch is fixed, no output depends on it; leave --batch-size out")
    return found_graph


def _depends_on(graph: Graph, name: str) -> bool:
    return graph.batch == name and any(name in names(s) for out in graph.outputs for s in graph.tensors[out].shape)


def sizes_of(graph: Graph, arguments: Namespace) -> dict[str, int]:
    """The values given by `--set` and `--batch-size`; SizeError where two disagree or there is no batch."""
    sizes: dict[str, int] = {}
    pairs = list(arguments.set)
    if arguments.batch_size is not None:
        if graph.batch is None:
            where = f"{graph.name}: --batch-size {arguments.batch_size}"
            raise SizeError(f"{where}: its batch is fixed; leave --batch-size out, or make the model with a free batch")
        pairs.append((graph.batch, arguments.batch_size))
    for name, value in pairs:
        if sizes.setdefault(name, value) != value:
            raise SizeError(f"{graph.name}: size {name} is given as {sizes[name]} and as {value}; expected one value")
    return sizes


def one_machine(arguments: Namespace) -> None:
    """InputError where several machines were given to a verb that takes one."""
    if len(arguments.hw) > 1:
        raise InputError(f"--hw {','.join(arguments.hw)}: {len(arguments.hw)} machines; expected one")
