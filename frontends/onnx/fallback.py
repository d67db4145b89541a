"""Ops without a rule: a function of the model, the standard's own definition as a function, or `unknown`."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import defs, shape_inference

from wattir.dim_text import parse
from wattir.dims import Dim, Size, names
from wattir.errors import SizeError
from wattir.frontends.onnx.dtypes import DTYPES, dtype_of
from wattir.frontends.onnx.node import Node, Rule, Value

Declared = tuple[tuple[Size, ...], str]
MAX_OPSET = 2**31 - 1  # what onnx takes; a damaged file may say more
_NUMBERS = {dtype: number for number, dtype in reversed(DTYPES.items())}


def fallback(node: Node) -> Rule:
    """What lowers a node whose op has no rule."""
    functions = node.context.lowering.functions
    function = functions.get((node.domain, node.op, node.proto.overload)) or _standard_function(node)
    if function is None:
        return _unknown
    return lambda called: called.context.call(function, called)


def fill_missing(node: Node) -> None:
    """Declares the outputs that a rule left open: as the file has them, else like the first input."""
    missing = [i for i, name in enumerate(node.out_names) if name and node.results[i] is None]
    inferred = _inferred(node) if missing else {}
    for index in missing:
        shape, dtype = node.context.hint(node.out_names[index]) or inferred.get(index) or _like_first(node, index)
        node.result(shape, dtype, index=index)


def _like_first(node: Node, index: int) -> Declared:
    first = next((v for v in node.ins if v is not None and v.items is None), None)
    shape, dtype = (first.shape, first.dtype) if first is not None else ((), "fp32")
    node.warn(f"the shape of output {index} is not known; taken like the first input's")
    return shape, dtype


def _unknown(node: Node) -> None:
    """Costs its bytes; listed at the end, once for each op."""
    op = node.op if not node.domain else f"{node.domain}.{node.op}"
    unknown = node.context.lowering.unknown
    unknown[op] = unknown.get(op, 0) + 1
    fill_missing(node)
    for value in node.results:
        if value is not None:  # what an unknown op makes of constants is not known to be one
            value.fixed = False
            node.builder.tensors[value.name] = type(node.builder.tensors[value.name])(value.shape, value.dtype)
    node.emit("unknown")


# ---- what the installed onnx knows --------------------------------------------------------------------------------


def _schema(node: Node) -> Any:
    try:
        return defs.get_schema(node.op, min(node.opset, MAX_OPSET), node.domain)
    except defs.SchemaError:
        return None


def _standard_function(node: Node) -> onnx.FunctionProto | None:
    """The function that the standard defines the op by, if it does."""
    schema = _schema(node)
    if schema is None:
        return None
    if schema.has_function:
        return schema.function_body  # type: ignore[no-any-return]
    if not schema.has_context_dependent_function:
        return None
    types = [_type_of(v).SerializeToString() if v is not None else b"" for v in node.ins]
    version = max((v for v in schema.context_dependent_function_opset_versions if v <= node.opset), default=0)
    if not version:
        return None
    written = schema.get_context_dependent_function_with_opset_version(version, node.proto.SerializeToString(), types)
    return onnx.FunctionProto.FromString(written) if written else None


def _type_of(value: Value) -> onnx.TypeProto:
    dims = [size if isinstance(size, int) else str(size) for size in value.shape]
    return onnx.helper.make_tensor_type_proto(_NUMBERS.get(value.dtype, 1), dims)


def _inferred(node: Node) -> dict[int, Declared]:
    """Output index -> shape and dtype, as onnx infers them for this one node; those it is sure of."""
    schema = _schema(node)
    present = {name: v for name, v in zip(node.proto.input, node.ins, strict=True) if v is not None}
    if schema is None or any(v.items is not None for v in present.values()):
        return {}
    types = {name: _type_of(value) for name, value in present.items()}
    try:
        found = shape_inference.infer_node_outputs(schema, node.proto, types)
    except Exception:  # an op that breaks its own schema has no inferred shapes; the errors share no base
        return {}
    known = frozenset().union(*(names(size) for v in present.values() for size in v.shape if isinstance(size, Dim)))
    shapes = {i: _read(found[name], known) for i, name in enumerate(node.proto.output) if name in found}
    return {i: declared for i, declared in shapes.items() if declared is not None}


def _read(declared: onnx.TypeProto, known: frozenset[str]) -> Declared | None:
    kind = declared.tensor_type
    if not kind.HasField("shape"):
        return None
    try:
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else parse(dim.dim_param) for dim in kind.shape.dim)
    except (SizeError, IndexError):
        return None
    if any(not names(size) <= known for size in shape):
        return None
    return shape, dtype_of(kind.elem_type, "fp32")
