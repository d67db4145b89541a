"""A traced model as a Graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from wattir.dims import Dim, Size, names
from wattir.frontends.jax import loops
from wattir.frontends.jax.jaxpr import Walker
from wattir.frontends.jax.node import Shape
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
    walker = Walker(program)
    declared = [walker.declared(variable.aval) for variable in traced.jaxpr.jaxpr.invars]
    args = [program.given(leaf.name, *d, leaf.role) for leaf, d in zip(traced.leaves, declared, strict=True)]
    outputs = walker.closed(traced.jaxpr, args, "", 1)
    shapes = [d[0] for leaf, d in zip(traced.leaves, declared, strict=True) if leaf.role in ("input", "state")]
    return program.finish(outputs, batch_of(shapes))


def batch_of(shapes: Iterable[Shape]) -> str | None:
    """The free size that leads most inputs; one that is named so goes first."""
    leading = [str(s[0]) for s in shapes if s and isinstance(s[0], Dim) and names(s[0]) == {str(s[0])}]
    if not leading:
        return None
    named = [name for name in leading if "batch" in name.lower()]
    return Counter(named or leading).most_common(1)[0][0]
