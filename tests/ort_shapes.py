"""The truth about shapes: onnxruntime, unoptimised, with every value of the main graph as an output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

Shape = tuple[int, ...]
_DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(bool)": np.bool_,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16, "tensor(uint16)": np.uint16,
}  # fmt: skip


def exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node output of the main graph is a graph output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {output.name for output in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return copy


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_of(session: ort.InferenceSession, shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, Any]:
    """Random inputs of the given shapes; integers are 0 or 1."""
    random = np.random.default_rng(seed)
    feeds = {}
    for given in session.get_inputs():
        shape = shapes[given.name]
        if given.type == "tensor(string)":
            feeds[given.name] = np.full(shape, "a", dtype=object)
            continue
        dtype = _DTYPES[given.type]
        floats = np.issubdtype(dtype, np.floating)
        values = random.random(shape) if floats else random.integers(0, 2, shape)
        feeds[given.name] = np.asarray(values).astype(dtype)
    return feeds


def true_shapes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Name -> shape of every tensor that a node of the main graph makes."""
    session = session_of(exposed(model))
    names = [output.name for output in session.get_outputs() if output.type.startswith("tensor")]
    made = session.run(names, feeds_of(session, shapes))
    return {name: np.shape(value) for name, value in zip(names, made, strict=True)}
