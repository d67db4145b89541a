"""Quantized ops. Integer products carry ``math="int8"``; scales and zero points are constants.

A dequantized weight stays an op (``quantize`` / ``dequantize``): a later pass makes the product read the narrow weight.
"""

from __future__ import annotations

from wattir.dims import Size, product
from wattir.frontends.onnx.broadcast import axis_of, broadcast_of, windows_out
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import matmul_sizes
from wattir.frontends.onnx.rules_conv import conv_sizes
from wattir.frontends.onnx.rules_pool import kernel_of

MS = "com.microsoft"
QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")


def buffers(node: Node, *indices: int) -> None:
    """Says of each of these inputs that it is a scale or zero point, not a parameter."""
    for index in indices:
        node.constant(index)


def dtype_at(node: Node, index: int, default: str) -> str:
    """dtype of input `index`, or `default` where it is absent."""
    found = node.ins[index] if node.given(index) else None
    return default if found is None else found.dtype


def some(node: Node, *indices: int) -> tuple[Value, ...]:
    """Those of the inputs that are there."""
    found = (node.ins[index] for index in indices if node.given(index))
    return tuple(value for value in found if value is not None)


def parameter(node: Node, index: int) -> None:
    """Says that a fixed input is a parameter although its type is one of counters and indices: an int32 bias."""
    value, lowering = (node.ins[index] if node.given(index) else None), getattr(node.context, "lowering", None)
    if value is not None and value.fixed and value.shape and lowering is not None:
        lowering.make_weight(value)


def quantize_linear(node: Node) -> None:
    """To the zero point's type, the attribute's, or uint8."""
    buffers(node, 1, 2)
    dtype = dtype_at(node, 2, dtype_of(node.attr("output_dtype"), "uint8"))
    node.result(node.value(0).shape, dtype)
    node.emit("quantize", function="quantize")


def dequantize_linear(node: Node) -> None:
    """To the scale's type. Of a weight too: `fixed` is not passed on, so the op and what reads it are kept."""
    buffers(node, 1, 2)
    if node.value(0).dtype == "int32":
        parameter(node, 0)
    dtype = dtype_of(node.attr("output_dtype"), node.value(1).dtype)
    node.result(node.value(0).shape, dtype, fixed=False)
    node.emit("quantize", function="dequantize")


for _domain in ("", MS):
    rule("QuantizeLinear", domain=_domain)(quantize_linear)
    rule("DequantizeLinear", domain=_domain)(dequantize_linear)


def _fake_quantize(node: Node) -> None:
    """Rounds to a grid and stays float (quantization-aware training)."""
    node.result(node.value(0).shape)
    for index in range(1, len(node.ins)):
        node.constant(index)
    node.emit("quantize", function="fake_quantize")


for _domain in QONNX:
    rule("Quant", "BipolarQuant", "Trunc", "IntQuant", "FloatQuant", domain=_domain)(_fake_quantize)


@rule("DynamicQuantizeLinear")
def dynamic_quantize(node: Node) -> None:
    """Finds the range, then quantizes; also gives out the scale and the zero point."""
    x = node.value(0)
    node.result(x.shape, "uint8")
    for index, dtype in ((1, "fp32"), (2, "uint8")):
        if node.wanted(index):
            node.result((), dtype, index=index)
    node.emit("quantize", function="dynamic_quantize")


# ---- products -------------------------------------------------------------------------------------------------------


@rule("QLinearMatMul")
def qlinear_matmul(node: Node) -> None:
    """a, its scale and zero point; b, its scale and zero point; the result's scale and zero point."""
    buffers(node, 1, 2, 4, 5, 6, 7)
    shape, sizes = matmul_sizes(node, node.value(0).shape, node.value(3).shape)
    node.result(shape, dtype_at(node, 7, "uint8"))
    node.emit("matmul", ins=some(node, 0, 3), math="int8", **sizes)


@rule("MatMulInteger")
def matmul_integer(node: Node) -> None:
    buffers(node, 2, 3)
    shape, sizes = matmul_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape, "int32")
    node.emit("matmul", ins=some(node, 0, 1), math="int8", **sizes)


@rule("MatMulInteger16", domain=MS)
def matmul_integer16(node: Node) -> None:
    shape, sizes = matmul_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape, "int32")
    node.emit("matmul", math="int16", **sizes)


@rule("MatMulIntegerToFloat", domain=MS)
def matmul_integer_to_float(node: Node) -> None:
    buffers(node, 2, 3, 4, 5)
    shape, sizes = matmul_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape, node.value(2).dtype)
    node.emit("matmul", ins=some(node, 0, 1, 6), math="int8", **sizes)


@rule("DynamicQuantizeMatMul", domain=MS)
def dynamic_quantize_matmul(node: Node) -> None:
    """Quantizes `a` as it goes, multiplies by an integer weight, gives floats."""
    a, b = node.value(0), node.value(1)
    buffers(node, 2, 3)
    shape, sizes = matmul_sizes(node, a.shape, b.shape)
    result = node.result(shape)
    narrow = node.inner("quantized", a.shape, "uint8")
    node.emit("quantize", ins=(a,), outs=(narrow,), function="dynamic_quantize")
    node.emit("matmul", ins=(narrow, b, *some(node, 4)), outs=(result,), math="int8", **sizes)


@rule("QGemm", domain=MS)
def qgemm(node: Node) -> None:
    """a, b with scales and zero points, then the bias, and the result's scale and zero point where it is quantized."""
    buffers(node, 1, 2, 4, 5, 7, 8)
    parameter(node, 6)
    a, b = node.value(0), node.value(3)
    rows, depth = a.shape[::-1] if node.attr("transA", 0) else a.shape
    columns = b.shape[0] if node.attr("transB", 0) else b.shape[1]
    node.result((rows, columns), dtype_at(node, 8, "fp32"))
    node.emit("matmul", ins=some(node, 0, 3, 6), groups=1, m=rows, n=columns, k=depth, math="int8")


def qlinear_conv(node: Node) -> None:
    """x, weight and result with their scales and zero points, then the bias."""
    buffers(node, 1, 2, 4, 5, 6, 7)
    parameter(node, 8)
    last = bool(node.attr("channels_last", 0))
    x, weight = node.value(0).shape, node.value(3).shape
    shape, sizes = conv_sizes(node, x, (weight[0], *weight[2:], weight[1]) if last else weight, last=last)
    node.result(shape, dtype_at(node, 7, "uint8"))
    node.emit("conv", ins=some(node, 0, 3, 8), math="int8", **sizes)


rule("QLinearConv")(qlinear_conv)
rule("QLinearConv", domain=MS)(qlinear_conv)


@rule("ConvInteger")
def conv_integer(node: Node) -> None:
    buffers(node, 2, 3)
    shape, sizes = conv_sizes(node, node.value(0).shape, node.value(1).shape)
    node.result(shape, "int32")
    node.emit("conv", ins=some(node, 0, 1), math="int8", **sizes)


# ---- pointwise, pooling and the like on quantized tensors ------------------------------------------------------------

QLINEAR_BINARY = {"QLinearAdd": "add", "QLinearMul": "mul"}
QLINEAR_UNARY = {"QLinearSigmoid": "sigmoid", "QLinearLeakyRelu": "leaky_relu"}


@rule(*QLINEAR_BINARY, domain=MS)
def qlinear_binary(node: Node) -> None:
    """Two dequantizations of 2 operations, the operation, and a quantization of 2."""
    buffers(node, 1, 2, 4, 5, 6, 7)
    a, b = node.value(0), node.value(3)
    node.result(broadcast_of(node, a, b))
    node.emit("pointwise", ins=(a, b), function=QLINEAR_BINARY[node.op], ops=7)


@rule(*QLINEAR_UNARY, domain=MS)
def qlinear_unary(node: Node) -> None:
    """A table of 256 entries in every runtime: one operation."""
    buffers(node, 1, 2, 3, 4)
    node.result(node.value(0).shape)
    node.emit("pointwise", ins=some(node, 0), function=QLINEAR_UNARY[node.op], ops=1)


@rule("QLinearWhere", domain=MS)
def qlinear_where(node: Node) -> None:
    buffers(node, 2, 3, 5, 6, 7, 8)
    condition, a, b = node.value(0), node.value(1), node.value(4)
    node.result(broadcast_of(node, condition, a, b), a.dtype)
    node.emit("pointwise", ins=(condition, a, b), function="where", ops=5)


@rule("QLinearSoftmax", domain=MS)
def qlinear_softmax(node: Node) -> None:
    buffers(node, 1, 2, 3, 4)
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", -1), x.rank)
    sizes = x.shape[axis:] if node.attr("opset", 13) < 13 else x.shape[axis : axis + 1]
    node.result(x.shape)
    node.emit("softmax", ins=(x,), function="softmax", length=product(sizes))


@rule("QLinearAveragePool", domain=MS)
def qlinear_average_pool(node: Node) -> None:
    buffers(node, 1, 2, 3, 4)
    x = node.value(0)
    last = bool(node.attr("channels_last", 0))
    spatial = x.shape[1:-1] if last else x.shape[2:]
    kernel = kernel_of(node, len(spatial))
    out = windows_out(node, spatial, kernel, bool(node.attr("ceil_mode", 0)))
    node.result((x.shape[0], *out, x.shape[-1]) if last else (*x.shape[:2], *out))
    node.emit("pooling", ins=(x,), function="average", window=product(kernel))


@rule("QLinearGlobalAveragePool", domain=MS)
def qlinear_global_average_pool(node: Node) -> None:
    buffers(node, 1, 2, 3, 4)
    x = node.value(0)
    ones: tuple[Size, ...] = (1,) * (x.rank - 2)
    last = bool(node.attr("channels_last", 0))
    spatial = x.shape[1:-1] if last else x.shape[2:]
    node.result((x.shape[0], *ones, x.shape[-1]) if last else (*x.shape[:2], *ones))
    node.emit("pooling", ins=(x,), function="average", window=product(spatial))


@rule("QLinearReduceMean", domain=MS)
def qlinear_reduce_mean(node: Node) -> None:
    buffers(node, 1, 2, 3, 4)
    x = node.value(0)
    axes = {axis_of(node, axis, x.rank) for axis in node.attr("axes") or range(x.rank)}
    length = product(x.shape[axis] for axis in axes)
    kept = [
        1 if axis in axes else size for axis, size in enumerate(x.shape) if node.attr("keepdims", 1) or axis not in axes
    ]
    node.result(tuple(kept))
    node.emit("reduction", ins=(x,), function="mean", length=length)


@rule("QLinearConcat", domain=MS)
def qlinear_concat(node: Node) -> None:
    """The result's scale and zero point, then each tensor with its own: all are requantized to one scale."""
    values = [node.value(index) for index in range(2, len(node.ins), 3)]
    axis = axis_of(node, node.attr("axis", 0), values[0].rank)
    total: Size = sum((value.shape[axis] for value in values), start=0)
    shape = values[0].shape
    node.result((*shape[:axis], total, *shape[axis + 1 :]), values[0].dtype)
    node.emit("copy", ins=tuple(values), function="concat")


@rule("MulInteger", domain=MS)
def mul_integer(node: Node) -> None:
    a, b = node.value(0), node.value(2)
    node.result(broadcast_of(node, a, b), "int32")
    node.emit("pointwise", ins=(a, b), function="mul", ops=3)


@rule("ReduceSumInteger", domain=MS)
def reduce_sum_integer(node: Node) -> None:
    x = node.value(0)
    axes = {axis_of(node, axis, x.rank) for axis in node.attr("axes") or range(x.rank)}
    kept = [
        1 if axis in axes else size for axis, size in enumerate(x.shape) if node.attr("keepdims", 1) or axis not in axes
    ]
    node.result(tuple(kept), "int32")
    node.emit("reduction", function="sum", length=product(x.shape[axis] for axis in axes))
