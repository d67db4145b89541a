"""A module with example inputs: torch.export first, tracing of what it dispatches where that fails."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from wattir.errors import InputError, UnsupportedError
from wattir.frontends.torch.containers import known_containers
from wattir.frontends.torch.exported import export
from wattir.frontends.torch.inputs import Inputs
from wattir.frontends.torch.program import Program
from wattir.frontends.torch.traced import trace

Way = Callable[[torch.nn.Module, Inputs], Program]


def read_module(module: torch.nn.Module, inputs: Inputs) -> Program:
    """The Program of a module; UnsupportedError where neither way in works, with both reasons."""
    with known_containers(inputs.args, inputs.kwargs), _quiet():
        try:
            return _on_one_device(export, module, inputs)
        except InputError:
            raise
        except Exception as error:  # whatever the model's own code or torch.export raises
            reason = _first_line(error)
        return _traced(module, inputs, reason)


def _on_one_device(read: Way, module: torch.nn.Module, inputs: Inputs) -> Program:
    """Reads a module; once more with all of it on the meta device, and what its code makes, where that did not fit."""
    try:
        return read(module, inputs)
    except Exception as error:
        if "device" not in str(error) or not any(p.is_meta for p in _tensors(module, inputs)):
            raise
    args, kwargs = pytree.tree_map_only(torch.Tensor, lambda t: t.to("meta"), (inputs.args, dict(inputs.kwargs)))
    with torch.device("meta"), _held_on_meta(module):
        return read(module, replace(inputs, args=args, kwargs=kwargs))


@contextmanager
def _held_on_meta(module: torch.nn.Module) -> Iterator[None]:
    """Every parameter and buffer on meta for a while; `torch.FloatTensor(3)` makes its own on the CPU anyway."""
    moved: dict[int, torch.Tensor] = {}
    kept = []
    for child in module.modules():
        tables: tuple[dict[str, Any], ...] = (child._parameters, child._buffers)
        for table in tables:
            elsewhere = [(name, held) for name, held in table.items() if held is not None and not held.is_meta]
            kept += [(table, name, held) for name, held in elsewhere]
            table |= {name: moved.setdefault(id(held), _on_meta(held)) for name, held in elsewhere}
    try:
        yield
    finally:
        for table, name, held in kept:
            table[name] = held


def _on_meta(held: torch.Tensor) -> torch.Tensor:
    made = held.detach().to("meta")
    return torch.nn.Parameter(made, held.requires_grad) if isinstance(held, torch.nn.Parameter) else made


def _tensors(module: torch.nn.Module, inputs: Inputs) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    leaves = pytree.tree_leaves((inputs.args, dict(inputs.kwargs)))
    yield from (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))


def _traced(module: torch.nn.Module, inputs: Inputs, reason: str) -> Program:
    try:
        program = _on_one_device(trace, module, inputs)
    except InputError:
        raise
    except Exception as error:
        found = f"it can be neither exported ({reason}) nor traced ({_first_line(error)})"
        expected = "a forward pass that runs on these inputs without the tensors' contents"
        raise UnsupportedError(f"{type(module).__name__}: {found}; expected {expected}") from error
    line = f"torch.export failed ({reason}); the operators of one traced pass are counted"
    fixed = [f"free dims of input {name} are fixed at its example's sizes by the trace" for name in inputs.dims]
    return replace(program, warnings=(line, *fixed, *program.warnings))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
    return text if len(text) <= 200 else text[:197] + "..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines that torch and model code print while they are traced."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # a failed export prints its whole graph
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
