"""Of several branches the one that runs, or the dearest where that depends on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wattir.frontends.jax.node import Value
from wattir.frontends.jax.program import Program
from wattir.rough_cost import rough_cost


def one_branch(program: Program, which: Any, runs: Sequence[Callable[[], list[Value]]], scope: str) -> list[Value]:
    """What the branch number `which` gives, or (None) the dearest one; each of `runs` lowers a branch in place."""
    if isinstance(which, (int, bool)):
        return runs[min(max(int(which), 0), len(runs) - 1)]()
    ops, tried = program.builder.ops, []
    start, before = len(ops), program.noted()
    for run in runs:
        results = run()
        tried.append((results, ops[start:], program.noted()))
        del ops[start:]
        program.note_only(before)
    costs = [rough_cost(made, program.builder.tensors, program.limits) for _, made, _ in tried]
    dearest = costs.index(max(costs))
    results, made, noted = tried[dearest]
    program.note_only(noted)
    label = program.unique(f"{scope}.cond" if scope else "cond")
    if len(runs) > 1:
        why = "which branch runs depends on data"
        program.builder.warn(f"{label}: {why}; the dearest, number {dearest} of {len(runs)}, is costed")
    ops += made
    return [replace(value, data=None) for value in results]
