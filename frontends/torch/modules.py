"""A module with example inputs: torch.export first, tracing where that fails."""

from __future__ import annotations

import torch

from wattir.frontends.torch.exported import export
from wattir.frontends.torch.inputs import Inputs
from wattir.frontends.torch.program import Program


def read_module(module: torch.nn.Module, inputs: Inputs) -> Program:
    return export(module, inputs)
