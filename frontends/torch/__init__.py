"""PyTorch: modules with example inputs, exported programs, and ``.pt2`` archives (these without torch)."""

from __future__ import annotations

from typing import Any

from wattir.frontends.torch.inputs import Inputs
from wattir.ir import Graph

__all__ = ["Inputs", "lower", "register"]


def lower(model: Any, inputs: Any = None) -> Graph:
    """The Graph of a `torch.nn.Module`, a `torch.export.ExportedProgram`, or a path to a ``.pt2`` archive.

    A module needs example `inputs`: a tensor, a tuple of positional ones, a dict of keyword arguments, ``(args,
    kwargs)``, or `Inputs` with the names of dims to leave free. Nothing is computed: tensors may be on ``meta``.
    Raises InputError's kin.
    """
    from wattir.frontends.torch.lowering import lower_program
    from wattir.frontends.torch.reading import program_of

    trip_counts = inputs.trip_counts if isinstance(inputs, Inputs) else {}
    return lower_program(program_of(model, inputs), trip_counts)


def register(target: str, rule: Any) -> None:
    """Says what a custom operator costs: `target` is ``namespace.operator``, `rule` a function of a
    `wattir.frontends.torch.node.Node` that emits ops (see there). ValueError where there is one."""
    from wattir.frontends.rules import load_rules
    from wattir.frontends.torch.node import add_rule

    load_rules("wattir.frontends.torch")
    add_rule(target, rule)
