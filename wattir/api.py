"""The public functions: lower, compile, load, estimate, devices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wattir.errors import InputError, ModelFileError, suggestion

if TYPE_CHECKING:
    from wattir.backends.measure.once import Measurement
    from wattir.costmodel import CostModel
    from wattir.device import Device
    from wattir.ir import Graph
    from wattir.report import Report


def lower(model: Any, inputs: Any = None) -> Graph:
    """The layer IR of a model: a path to a model file, a built-in or published model's name, a framework's object, or
    a Graph.

    `inputs` says what a frontend needs beyond the model; for ONNX a mapping from input names to shapes (ints or names
    of free dims) that override the file's.
    """
    from wattir.ir import Graph

    if isinstance(model, Graph):
        return _without_inputs(model, inputs)
    if isinstance(model, (str, os.PathLike)) and os.path.isfile(os.path.join(model, "config.json")):
        model = os.path.join(model, "config.json")
    if isinstance(model, (str, os.PathLike)) and not os.path.isfile(model):
        return _without_inputs(_built_in(os.fspath(model)), inputs)
    if isinstance(model, (str, os.PathLike)) and os.fspath(model).endswith(".wattir"):
        from wattir.wattir_file import read

        return _without_inputs(read(os.fspath(model)).graph, inputs)
    from wattir.frontends import lower_any

    graph: Graph = lower_any(model, inputs)
    return graph


def _without_inputs(graph: Graph, inputs: Any) -> Graph:
    if inputs:
        raise InputError(f"{graph.name}: inputs were given; expected none, its shapes are fixed but for its free sizes")
    return graph


def _built_in(name: str) -> Graph:
    from wattir.models import load_model, model_names

    if name in model_names():
        return load_model(name)
    if os.path.isdir(name):
        raise ModelFileError(f"{name}: a folder; expected a model file or one of `wattir models`")
    from wattir.frontends import lower_name
    from wattir.frontends import model_names as published

    found: Graph | None = lower_name(name)
    if found is not None:
        return found
    known = (*model_names(), *published())
    near = suggestion(name, known) or "; see `wattir models`"
    if os.path.splitext(name)[1] or os.sep in name:
        raise ModelFileError(
            f"{name}: no such file; expected a model file or one of `wattir models`{near if 'mean' in near else ''}"
        )
    raise InputError(f"{name!r}: neither a file nor a known model; expected one of {len(known)} names{near}")


def compile(
    model: Any,
    inputs: Any = None,
    *,
    device: str | Device,
    runtime: str = "compiled",
    dtype: str | None = None,
    clock_hz: float | None = None,
) -> CostModel:
    """A model on a machine as a function of its free dims; `device` is an id, an alias or a path to a device file.

    `runtime` is ``compiled`` (fused kernels), ``eager`` (one kernel per framework op, launched by the host) or
    ``tensorrt`` (fused, int8 throughout, as efficient as MLPerf submissions; `wattir.runtime`); `dtype` a what-if
    precision: bf16, fp16, fp32, tf32, int8 or fp8; `clock_hz` the core clock, if not the one that the device file's
    coefficients stand for (`wattir.clock`).
    """
    from wattir.costmodel import compile_graph
    from wattir.device import Device, load_device

    machine = device if isinstance(device, Device) else load_device(device)
    return compile_graph(lower(model, inputs), machine, runtime, dtype, clock_hz)


def load(path: str) -> CostModel:
    """The cost model that `CostModel.save` wrote."""
    from wattir.wattir_file import load as load_file

    return load_file(os.fspath(path))


def estimate(
    model: Any,
    inputs: Any = None,
    *,
    device: str | Device,
    sizes: Mapping[str, int] | None = None,
    runtime: str = "compiled",
    dtype: str | None = None,
    clock_hz: float | None = None,
    scope: str | None = None,
) -> Report:
    """Joules and seconds of one forward pass: `compile` and `CostModel.report` in one step.

    `scope`: what the joules shall cover, if not what the machine's own do (`wattir.scope`): ``wall`` and ``node`` are
    at the plug of what the machine usually sits in.
    """
    compiled = compile(model, inputs, device=device, runtime=runtime, dtype=dtype, clock_hz=clock_hz)
    report: Report = compiled.report(**(sizes or {}))
    if scope is None:
        return report
    from wattir.scope import at_scope

    return at_scope(report, compiled.device, scope)


def devices() -> tuple[str, ...]:
    """The ids of all machines known."""
    from wattir.device import device_ids

    return device_ids()


def measure(
    target: Any,
    inputs: Any = None,
    *,
    meter: str = "auto",
    device: str | None = None,
    window_s: float = 1.0,
    settle_s: float = 0.25,
    rows: str | None = None,
    name: str | None = None,
    sizes: Mapping[str, int] | None = None,
    runtime: str = "eager",
) -> Measurement:
    """Seconds and joules of ``target(*inputs)`` on this machine, called again and again in a metered window.

    `target` is anything callable, or the path of an ONNX file. `meter` and `device` (cuda:1, cpu, mps) are found where
    they are not given; InputError says why no meter can be read. With `rows` the row is added to that file, for
    `wattir fit`, and the model, lowered with `inputs` and called `name`, is written beside it; `sizes` are then those
    of its free dims, and `runtime` how it is to be predicted.
    """
    from wattir.backends.measure.once import measure_once

    return measure_once(
        target, inputs, meter=meter, device=device, window_s=window_s, settle_s=settle_s, rows=rows, name=name,
        sizes=sizes, runtime=runtime,
    )  # fmt: skip
