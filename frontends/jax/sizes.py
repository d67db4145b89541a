"""JAX's shapes and element types in wattir's terms."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from wattir.dims import Size, maximum, minimum, symbol
from wattir.errors import SizeError

DTYPES = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "bool": "bool", "float0": "bool",
    "complex64": "complex64", "complex128": "complex128", "int64": "int64", "int32": "int32", "int16": "int16",
    "int8": "int8", "int4": "int4", "int2": "int2", "int1": "int2", "uint64": "uint64", "uint32": "uint32",
    "uint16": "uint16", "uint8": "uint8", "uint4": "uint4", "uint2": "uint2", "uint1": "uint2",
}  # fmt: skip
"""Name of a numpy or ml_dtypes type -> dtype; the 8-bit and 4-bit floats go by their prefix."""


@lru_cache(256)
def dtype_of(dtype: Any) -> str:
    """The dtype of an array; random keys are two 32-bit words."""
    name = str(dtype)
    if name in DTYPES:
        return DTYPES[name]
    if name.startswith("key<"):
        return "uint64"
    return "fp4" if name.startswith(("float4", "float6")) else "fp8"


def shape_of(shape: Iterable[Any]) -> tuple[Size, ...]:
    """A shape of ints and of JAX's symbolic dimensions."""
    return tuple(size if type(size) is int else size_of(size) for size in shape)


def size_of(size: Any) -> Size:
    """One size; a symbolic dimension is read from the text that JAX prints for it."""
    try:
        return int(size) if not _is_symbolic(size) else dim_from_text(str(size))
    except TypeError:
        return dim_from_text(str(size))


def _is_symbolic(size: Any) -> bool:
    return type(size).__name__ == "_DimExpr"


@lru_cache(4096)
def dim_from_text(text: str) -> Size:
    """The formula of ``2*batch + floordiv(seq, 2)``; SizeError where it is none."""
    try:
        return _value(ast.parse(text.replace("^", "**").strip(), mode="eval").body)
    except (SyntaxError, KeyError, AttributeError, ValueError):
        raise SizeError(f"symbolic size {text!r}: not understood; expected a formula of jax.export") from None


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a**b,
}
_FUNCTIONS: dict[str, Callable[..., Size]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": maximum,
    "min": minimum,
    "non_negative": lambda a: maximum(a, 0),
}


def _value(node: ast.expr) -> Size:
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left), _value(node.right))  # type: ignore[no-any-return]
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand)
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Call):
        return _FUNCTIONS[node.func.id](*map(_value, node.args))  # type: ignore[attr-defined]
    return symbol(node.id)  # type: ignore[attr-defined]
