"""com.microsoft products whose weights are stored in 2 to 8 bits; the arithmetic stays float.

Such weights are packed into bytes; here they become tensors of their true shape and width, so that bytes and parameters
are both right.
"""

from __future__ import annotations

from wattir.dims import Size
from wattir.frontends.onnx.broadcast import axis_of
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import linear
from wattir.frontends.onnx.rules_quant import MS, buffers, some
from wattir.ir import Tensor

UINTS = {2: "uint2", 4: "uint4", 8: "uint8"}


def unpacked(node: Node, index: int, shape: tuple[Size, ...], dtype: str) -> Value:
    """Input `index` as a tensor of `shape` and `dtype` where it is a weight; as it is where it is computed."""
    value = node.value(index)
    if value.fixed:
        role = node.builder.tensors[value.name].role
        node.builder.tensors[value.name] = Tensor(shape, dtype, role)
        return Value(value.name, shape, dtype, fixed=True)
    return value


def width(node: Node, bits: int) -> str:
    """dtype of unsigned weights of `bits` bits."""
    if bits not in UINTS:
        node.warn(f"weights of {bits} bits are counted as 8")
    return UINTS.get(bits, "uint8")


@rule("MatMulNBits", domain=MS)
def matmul_nbits(node: Node) -> None:
    """a [.., k], weights [n, k] in blocks with a scale each (read with them), zero points, g_idx, bias."""
    a = node.value(0)
    columns, depth = int(node.attr("N", 0)), int(node.attr("K", 0))
    buffers(node, 2, 3, 4)
    weight = unpacked(node, 1, (columns, depth), width(node, int(node.attr("bits", 4))))
    result = node.result((*a.shape[:-1], columns))
    linear(node, a, weight, columns, added=some(node, 5, 2, 3, 4), out=result)


@rule("MatMulBnb4", domain=MS)
def matmul_bnb4(node: Node) -> None:
    a = node.value(0)
    columns, depth = int(node.attr("N", 0)), int(node.attr("K", 0))
    buffers(node, 2)
    weight = unpacked(node, 1, (columns, depth), "fp4" if node.attr("quant_type", 1) == 0 else "int4")
    if not node.attr("transB", 1):
        columns = depth
    result = node.result((*a.shape[:-1], columns))
    linear(node, a, weight, columns, added=some(node, 2), out=result)


@rule("MatMulFpQ4", domain=MS)
def matmul_fpq4(node: Node) -> None:
    """The shape of `b` [k, n] is input 2."""
    a, shape = node.value(0), node.known(2)
    if shape is None:
        node.fail("B_shape is not known", "a constant")
    weight = unpacked(node, 1, tuple(shape), "int4")
    result = node.result((*a.shape[:-1], shape[1]))
    linear(node, a, weight, shape[1], out=result)


@rule("MatMulBlockQuantizedFp8Weight", "MatMulBlockQuantizedFp4Weight", domain=MS)
def matmul_block_float(node: Node) -> None:
    """Weights [n, k] in 8 or 4 bits with a scale for each block."""
    a, narrow = node.value(0), node.value(1)
    columns = narrow.shape[0]
    buffers(node, 2, 3, 4)
    fp4 = "Fp4" in node.op
    weight = unpacked(node, 1, (columns, a.shape[-1]), "fp4" if fp4 else "fp8")
    result = node.result((*a.shape[:-1], columns))
    linear(node, a, weight, columns, added=some(node, 5 if fp4 else 4, 2), out=result)


@rule("MatMulNBitsQkv", domain=MS)
def matmul_nbits_qkv(node: Node) -> None:
    """RMSNorm of a (and skip), then three products by weights of few bits."""
    a = _normalized(node, 3, 2)
    dtype, depth = width(node, int(node.attr("bits", 4))), int(node.attr("K", 0))
    columns = (int(node.attr("Nq", 0)), *[int(node.attr("Nkv", 0))] * 2)
    results = [node.result((*a.shape[:-1], n), index=index) for index, n in enumerate(columns)]
    for index, (n, result) in enumerate(zip(columns, results, strict=True)):
        first = 3 + 3 * index
        weight = unpacked(node, first, (n, depth), dtype)
        linear(node, a, weight, n, added=some(node, first + 2, first + 1), out=result)


@rule("MatMulNBitsMlp", domain=MS)
def matmul_nbits_mlp(node: Node) -> None:
    """Gate and up products by weights of few bits, and gate's activation times up."""
    a = _normalized(node, 1, 2)
    dtype, n, depth = width(node, int(node.attr("bits", 4))), int(node.attr("N", 0)), int(node.attr("K", 0))
    result = node.result((*a.shape[:-1], n))
    made = []
    for first, tag in ((3, "gate"), (6, "up")):
        weight = unpacked(node, first, (n, depth), dtype)
        made.append(linear(node, a, weight, n, added=some(node, first + 2, first + 1), tag=tag))
    node.emit("pointwise", ins=tuple(made), outs=(result,), function="swiglu", ops=4, special=1)


def _normalized(node: Node, sum_index: int, norm_index: int) -> Value:
    """Input 0 after an optional skip connection (input 1) and RMSNorm (scale at `norm_index`)."""
    x = node.value(0)
    if not node.given(norm_index):
        return x
    made = node.inner("normalized", x.shape, x.dtype)
    outs = (made, node.result(x.shape, index=sum_index)) if node.wanted(sum_index) else (made,)
    node.emit("norm", ins=(x, *some(node, 1, norm_index)), outs=outs, function="rms_norm", length=x.shape[-1])
    return made


@rule("GatherBlockQuantized", domain=MS)
def gather_block_quantized(node: Node) -> None:
    """Rows of a table of few bits, dequantized; packed tables have two numbers in a byte along the last axis."""
    data, indices = node.value(0), node.value(1)
    bits = int(node.attr("bits", 4))
    buffers(node, 2, 3)
    shape = data.shape
    if data.dtype == "uint8" and bits < 8:
        shape = (*shape[:-1], shape[-1] * (8 // bits))
        data = unpacked(node, 0, shape, width(node, bits))
    axis = axis_of(node, node.attr("gather_axis", 0), len(shape))
    node.result((*shape[:axis], *indices.shape, *shape[axis + 1 :]), node.value(2).dtype)
    node.emit("gather", ins=(data, indices, *some(node, 2, 3)), function="gather_dequantize")


@rule("GemmFloat8", domain=MS)
def gemm_float8(node: Node) -> None:
    from wattir.frontends.onnx.dtypes import dtype_of

    a, b = node.value(0), node.value(1)
    rows, depth = a.shape[::-1] if node.attr("transA", 0) else a.shape
    columns = b.shape[0] if node.attr("transB", 0) else b.shape[1]
    buffers(node, 3, 4, 5)
    node.result((rows, columns), dtype_of(node.attr("dtype", 1), "fp32"))
    node.emit("matmul", ins=(a, b, *some(node, 2)), groups=1, m=rows, n=columns, k=depth)
