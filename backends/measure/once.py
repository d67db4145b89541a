"""One call from Python under the meter: what `wattir.measure` does."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

from wattir.api import lower
from wattir.ir import Graph
from wattir.wattir_file import write_graph

from .meter import Meter
from .meters import open_counter
from .models import ModelBench, ModelCase, bound_sizes, model_case, onnx_call, python_call
from .run import Bench, add_row
from .simulated import simulated
from .window import Window

IDLE_S = 1.0
EMPTY = Graph("", {}, (), (), ())


@dataclass(frozen=True)
class Measurement:
    """Seconds and joules of one call, with what the meter said meanwhile; NaN for what it does not tell.

    `energy_j` is that of all that the meter covers (`scope`), idle power (`idle_w`) included. `calls` were made in the
    window of `window_s` seconds.
    """

    time_s: float
    energy_j: float
    power_w: float
    idle_w: float
    calls: int
    window_s: float
    meter: str
    scope: str
    sm_clock_hz: float = float("nan")
    temperature_c: float = float("nan")


def measure_once(
    target: Any, inputs: Any, *, meter: str, device: str | None, window_s: float, settle_s: float, rows: str | None,
    name: str | None, sizes: Mapping[str, int] | None, runtime: str,
) -> Measurement:  # fmt: skip
    """As `wattir.measure` says."""
    pretended = meter.startswith("simulated")
    graph = lower(target, inputs) if rows or pretended or isinstance(target, (str, os.PathLike)) else EMPTY
    case = _case(target, graph, rows, name, sizes, runtime)
    if pretended:
        return _kept(simulated(meter), case, rows)
    where = device or device_of(target, inputs)
    with Meter(open_counter(meter, where)) as polled, _no_gradients():
        window = Window(polled, window_s, settle_s, _sync(where))
        source = "onnxruntime" if isinstance(target, (str, os.PathLike)) else "python"
        return _kept(ModelBench(where, window, _call_of(target, inputs, where), source), case, rows)


def _call_of(target: Any, inputs: Any, device: str) -> Callable[[ModelCase], Callable[[], Any]]:
    if isinstance(target, (str, os.PathLike)):
        return lambda case: onnx_call(case, device)
    return lambda _: python_call(target, inputs)


def _kept(bench: Bench, case: ModelCase, rows: str | None) -> Measurement:
    """The measurement, and its row in the file where one is wanted."""
    found = {"idle_w": bench.idle(IDLE_S)["power_w"]} | bench.measure(case) | bench.labels
    if rows is not None:
        add_row(bench, case.case_id, found, rows)
    return Measurement(**{field.name: found[field.name] for field in fields(Measurement) if field.name in found})


def _case(
    target: Any, graph: Graph, rows: str | None, name: str | None, sizes: Mapping[str, int] | None, runtime: str
) -> ModelCase:
    """The model as its row will say it; one without a file of its own is written beside the rows."""
    if isinstance(target, (str, os.PathLike)):
        return model_case(os.fspath(target), graph, sizes or {}, rows)
    called = name or str(getattr(target, "__name__", type(target).__name__))
    file = re.sub(r"\W", "_", called) + ".wattir"
    if rows is not None:
        write_graph(graph, os.path.join(os.path.dirname(rows), file))
    return ModelCase(file, file, graph, bound_sizes(graph, sizes or {}), runtime)


def device_of(target: Any, inputs: Any) -> str:
    """Where the tensors of PyTorch lie that are called with, or JAX's default; cpu where there are none."""
    torch = sys.modules.get("torch")
    if torch is not None:
        held = (
            inputs.values()
            if isinstance(inputs, Mapping)
            else inputs
            if isinstance(inputs, (tuple, list))
            else [inputs]
        )
        weights = target.parameters() if isinstance(target, torch.nn.Module) else ()
        places = [str(each.device) for each in (*held, *weights) if isinstance(each, torch.Tensor)]
        return next((place for place in places if place != "cpu"), "cpu")
    jax = sys.modules.get("jax")
    return "cuda" if jax is not None and jax.default_backend() == "gpu" else "cpu"


def _sync(device: str) -> Callable[[], None]:
    if "torch" not in sys.modules:
        return lambda: None
    from .torch_bench import sync_of

    return sync_of(device)


def _no_gradients() -> AbstractContextManager[Any]:
    torch = sys.modules.get("torch")
    context: AbstractContextManager[Any] = nullcontext() if torch is None else torch.inference_mode()
    return context
