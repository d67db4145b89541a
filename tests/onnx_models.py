"""ONNX models for the tests, by hand and from onnx's text form, and what they become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, parser

from wattir.frontends.onnx import lower
from wattir.frontends.onnx.lowering import lower_model
from wattir.frontends.onnx.node import Value
from wattir.frontends.onnx.reader import Loaded, load_bytes
from wattir.graph_check import check_graph
from wattir.ir import Graph

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = DATA / "light"
LIGHT_FILES = sorted(LIGHT.glob("*.onnx"))
FLOAT = TensorProto.FLOAT

# ---- by hand


def tensor(name: str, dims: list[int], **fields: object):
    """A TensorProto with the given fields and no others; FLOAT unless said."""
    return TensorProto(name=name, dims=dims, **({"data_type": FLOAT} | fields))


def node(op: str, inputs: str, outputs: str, **attributes: object):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def value(name: str, dims: list[object] | None = None):
    return helper.make_tensor_value_info(name, FLOAT, dims)


def graph(nodes, initializers=(), inputs=("x",), outputs=("y",), **rest):
    ins, outs = [[value(n) if isinstance(n, str) else n for n in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "g", ins, outs, list(initializers), **rest)


def model(nodes=None, initializers=(), opset=17, ir=8, functions=(), **rest):
    body = graph([node("Relu", "x", "y")] if nodes is None else nodes, initializers, **rest)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=ir, functions=list(functions))


def load(proto, **options) -> Loaded:
    return load_bytes(proto.SerializeToString(), "m.onnx", **options)


def messages(message) -> Iterator[object]:
    """`message` and all messages in it."""
    yield message
    for field, content in message.ListFields():
        if field.message_type:
            for inner in [content] if hasattr(content, "ListFields") else content:
                yield from messages(inner)


# ---- from text


def model_of(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from onnx's text form."""
    return parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{text}')


def lowered(model: Any, inputs: Mapping[str, Any] | None = None, **options: Any) -> tuple[Graph, dict[str, Value]]:
    found, values = lower_model(model, inputs or {}, options.get("name"), options.get("trip_counts"))
    return found, {name: value for name, value in values.items() if value is not None}


def shape_text(value: Value) -> str:
    return ", ".join(map(str, value.shape))


def shapes_of(model: onnx.ModelProto, inputs: Any = None, trip_counts: Any = None) -> dict[str, str]:
    """Name -> shape of every tensor or sequence of the main graph, as text."""
    graph, values = lower_model(model, inputs or {}, None, trip_counts)
    check_graph(graph)
    return {name: ", ".join(map(str, value.shape)) for name, value in values.items() if value is not None}


def kinds(model: onnx.ModelProto, **options: Any) -> list[tuple[str, str, str]]:
    """(source, name, times) of every op."""
    return [(op.source, op.name, str(op.times)) for op in lower(model, **options).ops]
