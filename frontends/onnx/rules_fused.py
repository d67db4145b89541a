"""com.microsoft's fused products, norms, activations and experts."""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.dims import Size, minimum, product
from wattir.frontends.onnx.attending import optional, rotary
from wattir.frontends.onnx.broadcast import broadcast_of, text
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import linear, matmul_sizes, output, swapped
from wattir.frontends.onnx.rules_conv import conv_sizes
from wattir.frontends.onnx.rules_math import emit_pointwise, present
from wattir.frontends.onnx.rules_pool import kernel_of, pooled_shape
from wattir.frontends.onnx.rules_quant import buffers, some
from wattir.kinds import FUNCTIONS

MS = "com.microsoft"

# op -> function, operations and special functions for each output element
FUSED_POINTWISE: dict[str, tuple[str, int, int]] = {
    "BiasAdd": ("add", 2, 0),  # x + bias + skip
    "BiasDropout": ("add", 2, 0),
    "BiasGelu": ("gelu", *FUNCTIONS["gelu"]),
    "ComplexMul": ("complex_mul", 3, 0),  # 4 products and 2 sums for 2 numbers
    "ComplexMulConj": ("complex_mul", 3, 0),
    "FastGelu": ("gelu", *FUNCTIONS["gelu_tanh"]),
    "GatedAdd": ("gated_add", 2, 0),
    "Gelu": ("gelu", *FUNCTIONS["gelu"]),
    "MurmurHash3": ("hash", 20, 0),
    "QuickGelu": ("quick_gelu", *FUNCTIONS["quick_gelu"]),
    "ScaledSiLU": ("silu", 4, 1),
}
ACTIVATION = {"Relu": (1, 0), "Clip": (2, 0), "LeakyRelu": (2, 0), "Sigmoid": (2, 1), "Tanh": (0, 1)}
ACTIVATION |= {"HardSigmoid": (4, 0), "HardSwish": (5, 0), "Gelu": FUNCTIONS["gelu"], "silu": FUNCTIONS["silu"]}
ACTIVATION |= {"FastGelu": FUNCTIONS["gelu_tanh"], "QuickGelu": FUNCTIONS["quick_gelu"]}


@rule(*FUSED_POINTWISE, domain=MS)
def fused_pointwise(node: Node) -> None:
    function, ops, special = FUSED_POINTWISE[node.op]
    ops += "Gelu" in node.op and len(present(node)) > 1  # a bias
    node.result(broadcast_of(node, *present(node)) if node.op != "BiasDropout" else node.value(0).shape)
    if node.wanted(1):
        node.result(node.value(0).shape, "bool", index=1)
    emit_pointwise(node, function, ops, special)


@rule("BiasSplitGelu", domain=MS)
def bias_split_gelu(node: Node) -> None:
    """x and bias [.., 2 h]: the first half times the GELU of the second."""
    x = node.value(0)
    node.result((*x.shape[:-1], x.shape[-1] // 2))
    emit_pointwise(node, "geglu", 7, 1)


@rule("BiasSoftmax", domain=MS)
def bias_softmax(node: Node) -> None:
    x = node.value(0)
    axis = int(node.attr("axis", 1)) % x.rank
    node.result(x.shape)
    node.emit("softmax", function="softmax", length=product(x.shape[axis:]), fused_ops=x.elements)


# ---- products -------------------------------------------------------------------------------------------------------


def activation(node: Node, result: Value, name: str = "activation") -> dict[str, Any]:
    """`fused_ops` and `fused_special` of the node's activation attribute."""
    ops, special = ACTIVATION.get(text(node.attr(name, "")), (0, 0))
    attrs = {"fused_ops": ops * result.elements, "fused_special": special * result.elements}
    return {key: value for key, value in attrs.items() if value != 0}


def _batch_moved(shape: tuple[Size, ...], moved: Any) -> tuple[Size, ...]:
    """transBatch: the matrix's rows were axis 0, and the batch axes follow."""
    return (*shape[1:-1], shape[0], shape[-1]) if moved else shape


@rule("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=MS)
def fused_matmul(node: Node) -> None:
    a, b = node.value(0).shape, node.value(1).shape
    a = swapped(_batch_moved(a, node.attr("transBatchA", 0)), node.attr("transA", 0))
    b = swapped(_batch_moved(b, node.attr("transBatchB", 0)), node.attr("transB", 0))
    shape, sizes = matmul_sizes(node, a, b)
    result = node.result(shape)
    node.emit("matmul", **sizes, **activation(node, result))


@rule("SparseToDenseMatMul", domain=MS)
def sparse_matmul(node: Node) -> None:
    a, b = swapped(node.value(0).shape, node.attr("transA", 0)), swapped(node.value(1).shape, node.attr("transB", 0))
    shape, sizes = matmul_sizes(node, a, b)
    node.result(shape, node.value(1).dtype)
    node.warn("the sparse operand is counted as a dense one")
    node.emit("matmul", **sizes)


@rule("FusedGemm", "GemmFastGelu", domain=MS)
def fused_gemm(node: Node) -> None:
    a, b = swapped(node.value(0).shape, node.attr("transA", 0)), swapped(node.value(1).shape, node.attr("transB", 0))
    shape, sizes = matmul_sizes(node, a, b)
    result = node.result(shape)
    fused = activation(node, result)
    if node.op == "GemmFastGelu":
        ops, special = FUNCTIONS["gelu_tanh"]
        fused = {"fused_ops": ops * result.elements, "fused_special": special * result.elements}
    node.emit("matmul", **sizes, **fused)


@rule("CDist", domain=MS)
def cdist(node: Node) -> None:
    """Distances of rows of a [m, d] and b [n, d] by a product."""
    a, b = node.value(0), node.value(1)
    result = node.result((a.shape[0], b.shape[0]))
    sizes: dict[str, Any] = {"groups": 1, "m": a.shape[0], "n": b.shape[0], "k": a.shape[1]}
    node.emit("matmul", fused_ops=3 * result.elements, **sizes)


@rule("FusedConv", "NhwcConv", "NhwcFusedConv", domain=MS)
def fused_conv(node: Node) -> None:
    """x, weight, bias, and a tensor Z that is added. NHWC: x has channels last; the weight may have too."""
    x, weight = node.value(0).shape, node.value(1).shape
    last = node.op != "FusedConv"
    if last and weight[1] * int(node.attr("group", 1)) == x[-1]:
        weight = (weight[0], *weight[2:], weight[1])
    shape, sizes = conv_sizes(node, x, weight, last=last)
    result = node.result(shape)
    node.emit("conv", **sizes, **activation(node, result))


@rule("NhwcMaxPool", "MaxpoolWithMask", domain=MS)
def fused_max_pool(node: Node) -> None:
    x = node.value(0)
    node.result(pooled_shape(node, x.shape, last=node.op == "NhwcMaxPool"))
    node.emit("pooling", ins=(x,), function="max", window=product(kernel_of(node, x.rank - 2)))


# ---- norms ----------------------------------------------------------------------------------------------------------


def _skip_norm(node: Node, function: str) -> None:
    """Norm of x + skip (+ bias); outputs: the norm, mean, inverse deviation, the sum."""
    x = node.value(0)
    node.result(x.shape)
    for index in (1, 2):
        if node.wanted(index):
            node.result((*x.shape[:-1], 1), "fp32", index=index)
    if node.wanted(3):
        node.result(x.shape, index=3)
    adds = len(present(node)) - (3 if function == "layer_norm" else 2)
    node.emit("norm", function=function, length=x.shape[-1], fused_ops=max(adds, 1) * x.elements)


rule("SkipLayerNormalization", domain=MS)(partial(_skip_norm, function="layer_norm"))
rule("SkipSimplifiedLayerNormalization", domain=MS)(partial(_skip_norm, function="rms_norm"))


def simplified_layer_norm(node: Node) -> None:
    """RMSNorm; onnxruntime registers it under both domains."""
    x = node.value(0)
    axis = int(node.attr("axis", -1)) % x.rank
    node.result(x.shape)
    if node.wanted(1):
        node.result(x.shape[:axis] + (1,) * (x.rank - axis), "fp32", index=1)
    node.emit("norm", function="rms_norm", length=product(x.shape[axis:]))


rule("SimplifiedLayerNormalization")(simplified_layer_norm)
rule("SimplifiedLayerNormalization", domain=MS)(simplified_layer_norm)


@rule("GatedRMSNorm", "BranchwiseRMSNorm", domain=MS)
def gated_rms_norm(node: Node) -> None:
    x = node.value(0)
    node.result(x.shape)
    length = x.shape[-1] // int(node.attr("num_branches", 1))
    node.emit("norm", function="rms_norm", length=length)


@rule("GroupNorm", "SkipGroupNorm", domain=MS)
def group_norm(node: Node) -> None:
    """x [n, .., c] (channels_last, the default) or [n, c, ..]; SkipGroupNorm adds a tensor first and gives the sum."""
    x = node.value(0)
    result = node.result(x.shape)
    if node.wanted(1):
        node.result(x.shape, index=1)
    fused: dict[str, Any] = {}
    if node.attr("activation", 0):
        fused = {"fused_ops": 3 * result.elements, "fused_special": result.elements}  # x sigmoid(x)
    length = product(x.shape[1:]) // int(node.attr("groups", 1))
    node.emit("norm", function="group_norm", length=length, **fused)


def _embed_norm(node: Node, tables: tuple[int, ...], norms: tuple[int, ...]) -> None:
    """Rows of the word, position and segment tables are added, then normalized; also [b] lengths and the sum."""
    ids, words = node.value(0), node.value(tables[0])
    dtype = words.dtype if words.dtype.startswith(("fp", "bf")) else "fp32"
    shape = (*ids.shape, words.shape[1])
    result = node.result(shape, dtype)
    embedded = output(node, 2, shape, dtype, "embedded")
    node.emit("gather", ins=(words, ids, *some(node, 1, *tables[1:])), outs=(embedded,), function="embedding")
    node.emit("norm", ins=(embedded, *some(node, *norms)), outs=(result,), function="layer_norm", length=shape[-1])
    if node.wanted(1):
        lengths = node.result(ids.shape[:1], "int32", index=1)
        node.emit("reduction", ins=some(node, 7) or (ids,), outs=(lengths,), function="sum", length=ids.shape[1])


rule("EmbedLayerNormalization", domain=MS)(partial(_embed_norm, tables=(2, 3, 4), norms=(5, 6)))


@rule("QEmbedLayerNormalization", domain=MS)
def quantized_embed_norm(node: Node) -> None:
    """The tables are 8-bit integers; inputs 8 to 17 are scales and zero points."""
    buffers(node, *range(8, 18))
    _embed_norm(node, (2, 3, 4), (5, 6))


# ---- rotary, experts ------------------------------------------------------------------------------------------------


@rule("RotaryEmbedding", "MRotaryEmbedding", domain=MS)
def rotary_embedding(node: Node) -> None:
    x = node.value(0)
    rotary(node, x, node.result(x.shape), tuple(node.ins[1:]))


@rule("GemmaRotaryEmbedding", domain=MS)
def gemma_rotary(node: Node) -> None:
    """emb, q, q turned, k, k turned: the sine and cosine of emb, and both sums of products."""
    for index, source in ((0, 1), (1, 3)):
        node.result(node.value(source).shape, node.value(source).dtype, index=index)
    emit_pointwise(node, "rotary", 3)


def _experts(node: Node, weights: tuple[int, int, int], biases: tuple[int, int, int]) -> None:
    """Each of t tokens goes through its top `k` experts: fc1 (and fc3), an activation, fc2, and a weighted sum.

    FLOP are those of the active experts; weights are read of as many as t tokens can choose.
    """
    x, router = node.value(0), node.value(1)
    hidden, tokens, top = x.shape[-1], product(x.shape[:-1]), int(node.attr("k", 1))
    result = node.result(x.shape)
    first, second = node.value(weights[0]), node.value(weights[1])
    up = first.shape[1] if node.op == "QMoE" or first.shape[2] == hidden else first.shape[2]
    inner = up // 2 if node.attr("swiglu_fusion", 0) else up
    chosen = node.inner("chosen", (tokens, top), router.dtype)
    node.emit("sort", ins=(router,), outs=(chosen,), function="topk", length=router.shape[-1])
    made = [_expert_product(node, (x, first, chosen), optional(node, biases[0]), "fc1", (top, tokens, up, hidden))]
    third = optional(node, weights[2])
    if third is not None:
        sizes = (top, tokens, up, hidden)
        made.append(_expert_product(node, (x, third, chosen), optional(node, biases[2]), "fc3", sizes))
    active = node.inner("active", (top, tokens, inner), x.dtype)
    kind = text(node.attr("activation_type", "relu"))
    ops, special = {"relu": (1, 0), "identity": (0, 0)}.get(kind, (4, 1))
    node.emit("pointwise", ins=tuple(made), outs=(active,), function=kind, ops=ops, special=special)
    down = _expert_product(
        node, (active, second, chosen), optional(node, biases[1]), "fc2", (top, tokens, hidden, inner)
    )
    node.emit("reduction", ins=(down, chosen), outs=(result,), function="sum", length=top)


def _expert_product(
    node: Node, operands: tuple[Value, Value, Value], bias: Value | None, tag: str, sizes: tuple[Size, Size, Size, Size]
) -> Value:
    top, tokens, columns, depth = sizes
    x, weight, _ = operands
    weight = _read(node, weight, minimum(weight.shape[0], tokens * top))
    made = node.inner(tag, (top, tokens, columns), node.value(0).dtype)
    node.emit("matmul", ins=(x, weight, bias), outs=(made,), groups=top, m=tokens, n=columns, k=depth)
    return made


def _read(node: Node, weight: Value, experts: Size) -> Value:
    """The part of all experts' weights [experts, ..] that is read: a tensor that stands for the same parameters."""
    lowering = getattr(node.context, "lowering", None)
    if experts == weight.shape[0] or lowering is None or weight.name not in lowering.roots:
        return weight
    name = node.builder.tensor(f"{weight.name}.active", (experts, *weight.shape[1:]), weight.dtype, "weight")
    lowering.roots[name] = lowering.roots[weight.name]
    return Value(name, (experts, *weight.shape[1:]), weight.dtype, fixed=True)


rule("MoE", domain=MS)(partial(_experts, weights=(2, 4, 6), biases=(3, 5, 7)))


@rule("QMoE", domain=MS)
def quantized_experts(node: Node) -> None:
    """The weights hold 2 or 4 bits of an element; their bytes are as packed."""
    buffers(node, 3, 6, 9, *range(11, 14))
    _experts(node, (2, 5, 8), (4, 7, 10))


@rule("TorchEmbedding", domain=MS)
def torch_embedding(node: Node) -> None:
    table, indices = node.value(0), node.value(1)
    node.result((*indices.shape, table.shape[1]))
    node.emit("gather", function="embedding")


@rule("DecoderAttention", domain=MS)
def decoder_attention(node: Node) -> None:
    """q [s, b, h], k [kv, b, h] with weights for q and for k and v together; time comes first."""
    from wattir.frontends.onnx.attending import Heads, attend

    q, k = node.value(0), node.value(1)
    heads = int(node.attr("num_heads", 1))
    length, batch, hidden = q.shape
    result = node.result(q.shape)
    projected = linear(node, q, node.value(2), hidden, tag="q")
    keys = linear(node, k, node.value(3), 2 * hidden, added=(optional(node, 4),), tag="kv")
    sizes = Heads(batch, heads, heads, length, k.shape[0], hidden // heads, hidden // heads)
    for index in (1, 2):
        if node.wanted(index):
            cache = node.result((batch, heads, k.shape[0], hidden // heads), index=index)
            node.emit("copy", ins=(keys,), outs=(cache,), function="cache")
    attend(node, sizes, (projected, keys), result)
