"""Passes: a Graph in, a Graph out, each legal by `wattir.graph_check`.

`CANONICAL` runs for every runtime, then the runtime's own pipeline. A pass is one function and its place here.
"""

from __future__ import annotations

from collections.abc import Callable

from wattir.errors import InputError, suggestion
from wattir.ir import Graph
from wattir.passes.attention import recognise_attention
from wattir.passes.batch_norm import fold_batch_norm
from wattir.passes.cache import append_in_place, mark_caches
from wattir.passes.fuse import fuse
from wattir.passes.layout import (
    drop_dead,
    drop_views,
    fold_reordering,
    fold_transposes,
    join_parts,
    read_through_parts,
)
from wattir.passes.linear import join_bias, split_conv_bias
from wattir.passes.narrow import narrow_activations
from wattir.passes.norms import recognise_norms
from wattir.passes.orient import orient_products
from wattir.passes.quantized import narrow_contractions, widen_in_products
from wattir.passes.rotary import recognise_rotary
from wattir.passes.softmax import recognise_softmax

Pass = Callable[[Graph], Graph]

CANONICAL: tuple[Pass, ...] = (drop_dead, drop_views, mark_caches, fold_transposes, narrow_contractions, drop_dead)

FUSED: tuple[Pass, ...] = (
    read_through_parts,
    fold_reordering,
    recognise_softmax,
    recognise_norms,
    recognise_rotary,
    join_parts,
    orient_products,
    recognise_attention,
    widen_in_products,
    drop_dead,
    append_in_place,
    fold_batch_norm,
    fuse,
    drop_dead,
)

RUNTIMES: dict[str, tuple[Pass, ...]] = {
    "eager": (join_bias, split_conv_bias, drop_dead),
    "compiled": FUSED,
    "tensorrt": (*FUSED, narrow_activations),
}
"""eager: one kernel per framework op; biases as PyTorch adds them. compiled: parts read in place, attention fused,
weights widened within products, caches written in place, batch norms folded into convolutions, pointwise ops and
reductions fused into neighbours.
tensorrt: that, and an int8 network's activations in int8 throughout; with kernels of its own (`wattir.runtime`)."""
BOUNDS = ("eager", "compiled")
"""The least and the most that a framework fuses."""


def lower_to_kernels(graph: Graph, runtime: str) -> Graph:
    """The graph of kernels that a runtime makes of a network."""
    if runtime not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise InputError(f"runtime {runtime!r}: not known; expected one of {known}{suggestion(runtime, RUNTIMES)}")
    for step in (*CANONICAL, *RUNTIMES[runtime]):
        graph = step(graph)
    return graph
