"""A traced model as a Graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wattir.dims import Size
from wattir.frontends.jax import loops
from wattir.frontends.jax.batch import batch_of
from wattir.frontends.jax.jaxpr import Walker
from wattir.frontends.jax.program import Program
from wattir.frontends.jax.trace import Traced, trace
from wattir.ir import Graph

assert loops  # its primitives are registered with the walker's


def lower_model(model: Any, inputs: Any, name: str | None, trip_counts: Mapping[str, Size]) -> Graph:
    """Traces and lowers."""
    return lower_traced(trace(model, inputs), name, trip_counts)


def lower_traced(traced: Traced, name: str | None = None, trip_counts: Mapping[str, Size] | None = None) -> Graph:
    """The Graph of a jaxpr whose arguments are the leaves."""
    program = Program(name or traced.name, trip_counts)
    walker = Walker(program, traced.held)
    declared = [walker.declared(variable.aval) for variable in traced.jaxpr.jaxpr.invars]
    args = [program.given(leaf.name, *d, leaf.role) for leaf, d in zip(traced.leaves, declared, strict=True)]
    outputs = walker.closed(traced.jaxpr, args, "", 1)
    shapes = [d[0] for leaf, d in zip(traced.leaves, declared, strict=True) if leaf.role in ("input", "state")]
    return program.finish(outputs, batch_of(shapes))
