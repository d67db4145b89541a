"""Whole models under the meter: ONNX files by onnxruntime, and whatever can be called from Python."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wattir.dims import evaluate
from wattir.errors import InputError, SizeError
from wattir.ir import Graph

from .window import Call, Row, Window


@dataclass(frozen=True)
class ModelCase:
    """One model at one setting. `model`: what the row calls it, for `wattir fit` to find it again; `path`: where it
    lies; `graph`: what it was lowered to; `runtime` and `dtype`: how it is predicted."""

    model: str
    path: str
    graph: Graph
    sizes: Mapping[str, int] = field(default_factory=dict)
    runtime: str = "compiled"
    dtype: str | None = None

    @property
    def case_id(self) -> str:
        """A name unique in a file of rows."""
        return " ".join([self.model, *self.settings.split(), *([self.dtype] if self.dtype else [])])

    @property
    def settings(self) -> str:
        """``batch=8 seq=128``."""
        return " ".join(f"{name}={value}" for name, value in self.sizes.items())

    @property
    def row(self) -> dict[str, Any]:
        """The columns that a model has before it is measured."""
        names = {"case_id": self.case_id, "kind": "model", "model": self.model, "runtime": self.runtime}
        return names | {"sizes": self.settings, "dtype": self.dtype or ""}


def model_case(path: str, graph: Graph, sizes: Mapping[str, int], rows: str | None) -> ModelCase:
    """A model file as a row names it: by its path from the folder of the rows; a built-in model by its name."""
    beside = os.path.dirname(os.path.abspath(rows)) if rows else os.getcwd()
    name = os.path.relpath(path, beside) if os.path.isfile(path) else path
    return ModelCase(name, path, graph, bound_sizes(graph, sizes))


def bound_sizes(graph: Graph, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes with the model's defaults; SizeError where one is missing or not the model's."""
    bound = {size: value for size, value in graph.sizes.items() if value is not None} | dict(sizes)
    wrong = [size for size in bound if size not in graph.sizes] + [size for size in graph.sizes if size not in bound]
    if wrong:
        known = ", ".join(graph.sizes) or "none, all are fixed"
        raise SizeError(
            f"{graph.name}: size {wrong[0]!r} is missing or unknown; expected values for {known}, as --set "
            f"{wrong[0]}=VALUE (from Python sizes={{...}})"
        )
    return bound


def onnx_call(case: ModelCase, device: str) -> Call:
    """A call of an ONNX file by onnxruntime on random inputs; InputError where it cannot run there."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{case.model}: needs onnxruntime; pip install 'wattir[measure]'") from None
    wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        raise InputError(f"{case.model}: this onnxruntime has no {wanted}; expected one built for {device}")
    try:
        session = onnxruntime.InferenceSession(case.path, providers=[wanted])
    except Exception as error:  # onnxruntime's errors have no common root
        raise InputError(f"{case.path}: onnxruntime cannot load it ({' '.join(str(error).split())[:160]})") from None
    feeds = {name: _array(case, name, each.type) for name, each in _inputs(session, case).items()}
    return lambda: session.run(None, feeds)


def _inputs(session: Any, case: ModelCase) -> dict[str, Any]:
    found = {each.name: each for each in session.get_inputs()}
    lost = [name for name in found if name not in case.graph.tensors]
    if lost:
        raise InputError(f"{case.model}: input {lost[0]!r} is not in the lowered model; expected all inputs to be used")
    return found


NUMPY = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}  # fmt: skip


def _array(case: ModelCase, name: str, kind: str) -> Any:
    """Random numbers for floats, ones for integers: they may be indices, and zero is often padding."""
    import numpy as np

    if kind not in NUMPY:
        raise InputError(f"{case.model}: input {name!r} is a {kind}; expected one of {', '.join(NUMPY)}")
    shape = [int(evaluate(size, dict(case.sizes))) for size in case.graph.tensors[name].shape]
    if math.prod(shape) > 2**31:
        raise InputError(f"{case.model}: input {name!r} has {math.prod(shape)} elements; expected at most {2**31}")
    if NUMPY[kind].startswith("float"):
        return np.random.default_rng(0).standard_normal(shape).astype(NUMPY[kind])
    return np.ones(shape, NUMPY[kind])


def python_call(target: Any, inputs: Any) -> Call:
    """A call of anything callable: a tuple or list of inputs is spread, a mapping by name, anything else is the one."""
    if not callable(target):
        raise InputError(f"{type(target).__name__}: cannot be called; expected a function, a module or an .onnx file")
    if isinstance(inputs, Mapping):
        return lambda: _finish(target(**inputs))
    if isinstance(inputs, (tuple, list)):
        return lambda: _finish(target(*inputs))
    return lambda: _finish(target() if inputs is None else target(inputs))


def _finish(found: Any) -> None:
    """Waits for JAX's arrays, which are promises; PyTorch's are waited for once, after the window."""
    if isinstance(found, (tuple, list)):
        for each in found:
            _finish(each)
    elif isinstance(found, Mapping):
        _finish(list(found.values()))
    elif hasattr(found, "block_until_ready"):
        found.block_until_ready()


@dataclass(frozen=True)
class ModelBench:
    """Whole models in the window of a meter; `call_of` makes a case's call."""

    device: str
    window: Window
    call_of: Callable[[ModelCase], Call]
    source: str

    @property
    def labels(self) -> dict[str, str]:
        """What all rows say of their meter."""
        return self.window.labels

    def measure(self, case: ModelCase) -> Row:
        """One row of a model."""
        call = self.call_of(case)
        self.window.timed(call, WARM_CALLS)
        return case.row | {"op": self.source, "mode": "eager"} | self.window.observe(call)

    def idle(self, wait_s: float) -> Row:
        """The meter's columns with nothing running."""
        return self.window.idle(wait_s)

    def recover(self) -> None:
        """Nothing is kept between cases."""

    def describe(self) -> Row:
        """The device and what is metered."""
        return {"device": self.device, "runs": self.source} | self.window.meter.counter.describe()


WARM_CALLS = 3
