"""Models of one op for the tests of the ONNX rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wattir.costs import tabulate
from wattir.dims import Size
from wattir.frontends.onnx import lower
from wattir.graph_check import check_graph
from wattir.ir import Graph, Op, Tensor

FLOAT = TensorProto.FLOAT
Input = Sequence[int | str] | np.ndarray | tuple[Sequence[int | str], int] | None


def single(
    op: str, *inputs: Input, outputs: int | Sequence[str] = 1, opset: int = 21, domain: str = "", **attrs: Any
) -> onnx.ModelProto:
    """A model of one node.

    An input is a shape (float), a (shape, data type) pair, an array (an initializer), or None (left out).
    """
    attrs = {name.rstrip("_"): value for name, value in attrs.items()}  # `opset_` is the attribute of that name
    names, given, held = [], [], []
    for index, value in enumerate(inputs):
        name = f"x{index}" if value is not None else ""
        names.append(name)
        if isinstance(value, np.ndarray):
            held.append(numpy_helper.from_array(value, name))
        elif value is not None:
            pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (list, tuple))
            shape, dtype = value if pair else (value, FLOAT)
            given.append(helper.make_tensor_value_info(name, dtype, list(shape)))
    outs = [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = helper.make_node(op, names, outs, domain=domain, name="node", **attrs)
    made = [helper.make_empty_tensor_value_info(name) for name in outs if name]
    graph = helper.make_graph([node], "single", given, made, held)
    imports = [helper.make_opsetid("", opset)]
    if domain:
        version = 3 if domain == "ai.onnx.ml" else 1
        imports.append(helper.make_opsetid(domain, version))
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def lowered(op: str, *inputs: Input, **more: Any) -> Graph:
    """The checked graph of `single`."""
    return check_graph(lower(single(op, *inputs, **more)))


def outs(graph: Graph) -> list[Tensor]:
    """The tensors of a graph's outputs."""
    return [graph.tensors[name] for name in graph.outputs]


def shape(graph: Graph, index: int = 0) -> tuple[Size, ...]:
    """The shape of an output."""
    return outs(graph)[index].shape


def only(graph: Graph) -> Op:
    """The one op of a graph."""
    (op,) = graph.ops
    return op


def kinds(graph: Graph) -> list[str]:
    """The kinds of a graph's ops, with their function where they have one."""
    return [f"{op.kind} {op.attrs['function']}" if "function" in op.attrs else op.kind for op in graph.ops]


def flop(graph: Graph) -> Size:
    """2 for each multiply-add."""
    return sum((2 * work.macs for work in tabulate(graph)), start=0)


def attrs(op: Op, *names: str) -> tuple[Any, ...]:
    """Some attributes of an op."""
    return tuple(op.attrs[name] for name in names)


def floats(*shape_: int) -> np.ndarray:
    """A float initializer that is not all alike."""
    return np.linspace(-1, 1, int(np.prod(shape_)), dtype=np.float32).reshape(shape_)


def numbers(*values: int) -> np.ndarray:
    """An int64 initializer."""
    return np.array(values, dtype=np.int64)


def run_shapes(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray] | None = None) -> list[tuple[int, ...]]:
    """Shapes of the outputs when onnxruntime runs a model, inputs being ones where they are not in `feeds`."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ready = {i.name: np.ones(i.shape, _NUMPY[i.type]) for i in session.get_inputs()} | dict(feeds or {})
    return [tuple(np.shape(value)) for value in session.run(None, ready)]


_NUMPY = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(bool)": np.bool_, "tensor(double)": np.float64,
}  # fmt: skip
