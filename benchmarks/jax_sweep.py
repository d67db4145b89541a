"""JAX and Flax networks through the frontend: FLOP, parameters, kernels, coverage, time to trace and to lower.

    python benchmarks/jax_sweep.py [NAME ...] [--device ID] [--exported]

Needs jax and flax; Keras applications are added where keras is installed. `trace` is `jax.make_jaxpr` of the model
(for Linen with the abstract `init` before it), `lower` the walk over the jaxpr. With --exported each network that is
a plain function also goes through `jax.export`, and its totals must be the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import jax
from jax import export
from jax_functions import Pair
from jax_networks import NETWORKS

import wattir
from wattir.frontends.jax.lowering import lower_traced
from wattir.frontends.jax.trace import trace

APPLICATIONS = {
    "keras resnet50": "ResNet50", "keras mobilenet-v2": "MobileNetV2", "keras efficientnet-b0": "EfficientNetB0",
    "keras densenet121": "DenseNet121", "keras inception-v3": "InceptionV3", "keras xception": "Xception",
    "keras convnext-tiny": "ConvNeXtTiny", "keras vgg16": "VGG16", "keras nasnet-mobile": "NASNetMobile",
}  # fmt: skip


def applications() -> dict[str, Callable[[], Pair]]:
    """Keras applications with random weights; none without keras."""
    try:
        import keras
    except ImportError:
        return {}
    make = keras.applications
    return {name: (lambda kind=kind: (getattr(make, kind)(weights=None), None)) for name, kind in APPLICATIONS.items()}


def row(name: str, make: Callable[[], Pair], device: str) -> tuple[Any, ...]:
    """What the table says of one network."""
    model, inputs = make()
    started = time.perf_counter()
    traced = trace(model, inputs)
    middle = time.perf_counter()
    graph = lower_traced(traced, name)
    ended = time.perf_counter()
    report = wattir.estimate(graph, device=device)
    covered = 1.0 - report.coverage["unknown"]
    totals = report.totals
    return (
        name, totals["flop"], totals["flop_causal"], totals["params"], totals["kernels"], covered,
        totals["energy_j"] * 1e3, middle - started, ended - middle,
    )  # fmt: skip


def exported_flop(make: Callable[[], Pair]) -> int | None:
    """FLOP of the same function after `jax.export`; None where the model is no plain function."""
    model, inputs = make()
    if type(model).__name__ != "function":
        return None
    program = export.export(jax.jit(model))(*inputs)
    with tempfile.NamedTemporaryFile(suffix=".jaxexport") as file:
        file.write(program.serialize())
        file.flush()
        return int(wattir.estimate(file.name, device="h100_sxm").totals["flop"])


def main() -> int:
    """Prints the table; 1 where a network is covered by less than 99 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names; all without")
    parser.add_argument("--device", default="h100_sxm")
    parser.add_argument("--exported", action="store_true")
    chosen = parser.parse_args()
    heads = ("GFLOP", "causal", "M params", "kernels", "covered", "mJ", "trace s", "lower s")
    widths = (12, 12, 9, 8, 8, 10, 8, 8)
    print("network".ljust(24), *(head.rjust(width) for head, width in zip(heads, widths, strict=True)))
    failed = 0
    every = {**NETWORKS, **applications()}
    for name, make in every.items():
        if chosen.names and not any(part in name for part in chosen.names):
            continue
        _, flop, causal, params, kernels, covered, energy, tracing, lowering = row(name, make, chosen.device)
        failed += covered < 0.99
        print(
            f"{name:24} {flop / 1e9:12.4f} {causal / 1e9:12.4f} {params / 1e6:9.2f} {kernels:8d} {covered:8.4f} "
            f"{energy:10.3f} {tracing:8.3f} {lowering:8.3f}"
        )
        if chosen.exported and (again := exported_flop(make)) is not None:
            print(f"{'  exported':24} {again / 1e9:12.4f} {'same' if again == flop else 'DIFFERENT'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
