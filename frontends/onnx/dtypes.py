"""ONNX's element types by the names of `wattir.kinds.DTYPE_BYTES`."""

from __future__ import annotations

DTYPES: dict[int, str] = {
    1: "fp32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "fp16", 11: "fp64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bf16", 17: "fp8",
    18: "fp8", 19: "fp8", 20: "fp8", 21: "uint4", 22: "int4", 23: "fp4", 24: "fp8", 25: "uint2", 26: "int2",
    27: "fp8", 28: "fp8",
}  # fmt: skip
"""`onnx.TensorProto.DataType` -> dtype. All 8-bit floats are one; 6-bit floats (27, 28) count as 8 bits."""


def dtype_of(number: int | None, default: str) -> str:
    """The dtype of an attribute such as `to` or `dtype`; `default` where it is absent, 0 or not known."""
    return DTYPES.get(number or 0, default)
