"""A module with example inputs: torch.export first, tracing of what it dispatches where that fails."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace

import torch

from wattir.errors import InputError, UnsupportedError
from wattir.frontends.torch.containers import known_containers
from wattir.frontends.torch.exported import export
from wattir.frontends.torch.inputs import Inputs
from wattir.frontends.torch.program import Program
from wattir.frontends.torch.traced import trace


def read_module(module: torch.nn.Module, inputs: Inputs) -> Program:
    """The Program of a module; UnsupportedError where neither way in works, with both reasons."""
    with known_containers(inputs.args, inputs.kwargs), _quiet():
        try:
            return export(module, inputs)
        except InputError:
            raise
        except Exception as error:  # whatever the model's own code or torch.export raises
            reason = _first_line(error)
        return _traced(module, inputs, reason)


def _traced(module: torch.nn.Module, inputs: Inputs, reason: str) -> Program:
    try:
        program = trace(module, inputs)
    except InputError:
        raise
    except Exception as error:
        found = f"it can be neither exported ({reason}) nor traced ({_first_line(error)})"
        expected = "a forward pass that runs on these inputs without the tensors' contents"
        raise UnsupportedError(f"{type(module).__name__}: {found}; expected {expected}") from error
    line = f"torch.export failed ({reason}); the operators of one traced pass are counted"
    return replace(program, warnings=(line, *program.warnings))


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
