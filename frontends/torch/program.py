"""What every way into the PyTorch frontend gives: a `Program`, a flat list of operator calls with shapes and dtypes.

exported.py makes one of a `torch.export.ExportedProgram`, traced.py of the operators that a forward pass dispatches,
and the reader of ``.pt2`` archives of the archive's JSON; lowering.py turns it into a `wattir.ir.Graph`. Nothing here
knows torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wattir.dims import Size


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor: `name` is its identity in the program, `dtype` one of `wattir.kinds.DTYPE_BYTES`."""

    name: str
    shape: tuple[Size, ...]
    dtype: str


Argument: TypeAlias = Any
"""TensorRef, Size, float, bool, str, None, a Program (the body of a higher-order operator), or tuples of these.

Dtypes, devices, layouts and memory formats are texts (``torch.float16``, ``cpu``)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator.

    `target` is ``namespace.operator.overload`` (``aten.linear.default``, ``higher_order.cond``); `outs` are the tensors
    it gives, flat, None for an output that is no tensor; lists of tensors are several outs. An operator that writes in
    place gives a new TensorRef. `name` is the path a user knows: the module's path (``model.layers.3.mlp.up_proj``),
    with the operator after a slash where the module calls several (``model.layers.3/add``).
    """

    target: str
    args: tuple[Argument, ...]
    kwargs: Mapping[str, Argument]
    outs: tuple[TensorRef | None, ...]
    name: str


@dataclass(frozen=True)
class Program:
    """Calls in runnable order.

    `held` are the tensors that live between calls of the model, read or not, each once however often it is shared (tied
    weights have one TensorRef); `parameters` gives the role of each by name: ``weight`` for a parameter, ``constant``
    for a buffer or a lifted constant, ``state`` for a KV cache; a name of `inputs` found there has that role too.
    `outputs` are names of tensors. `sizes`: free dims with their defaults (None: the caller must give one); `batch`:
    the free dim that counts samples. The body of a higher-order operator has its operands as `inputs`, in their order.
    """

    name: str
    inputs: tuple[TensorRef, ...]
    parameters: Mapping[str, str]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    held: tuple[TensorRef, ...] = ()
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    batch: str | None = None
    warnings: tuple[str, ...] = ()


DTYPES: dict[str, str] = {
    "float64": "fp64", "double": "fp64", "float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16",
    "bfloat16": "bf16", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "float8_e4m3fnuz": "fp8",
    "float8_e5m2fnuz": "fp8", "float8_e8m0fnu": "fp8", "float4_e2m1fn_x2": "fp8", "int64": "int64", "long": "int64",
    "int32": "int32", "int": "int32", "int16": "int16", "short": "int16", "int8": "int8", "uint8": "uint8",
    "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "bool": "bool", "complex32": "fp32",
    "complex64": "complex64", "complex128": "complex128", "cfloat": "complex64", "cdouble": "complex128",
    "qint8": "int8", "quint8": "uint8", "qint32": "int32", "int4": "int4", "uint4": "uint4", "int2": "int2",
    "uint2": "uint2", "bits8": "uint8", "bits16": "uint16", "int1": "int2", "uint1": "uint2", "int3": "int4",
    "uint3": "uint4", "int5": "int8", "uint5": "uint8", "int6": "int8", "uint6": "uint8", "int7": "int8",
    "uint7": "uint8", "bits1x8": "uint8", "bits2x4": "uint8", "bits4x2": "uint8", "quint4x2": "uint4",
    "quint2x4": "uint2",
}  # fmt: skip
"""torch's dtype, without ``torch.`` -> wattir's of the same width; a packed pair of 4-bit floats is one byte."""
