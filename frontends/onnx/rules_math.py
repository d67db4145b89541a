"""Pointwise ops, reductions, softmax, and the like: one row of a table or one small function each.

A pointwise row holds the operations per output element: `ops` counts additions, products, comparisons and divisions;
`special` counts exponentials, roots, trigonometry and other series.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.dims import Size, product
from wattir.frontends.onnx.broadcast import axes_of, axis_of, broadcast_of, ints, text
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.kinds import FUNCTIONS

# function, ops, special, dtype of the output ("" = that of the first input)
POINTWISE: dict[str, tuple[str, int, int, str]] = {
    "Abs": ("abs", 1, 0, ""),
    "Acos": ("acos", 1, 1, ""),
    "Acosh": ("acosh", 3, 2, ""),  # log(x + sqrt(x x - 1))
    "Add": ("add", 1, 0, ""),
    "And": ("and", 1, 0, "bool"),
    "Asin": ("asin", 1, 1, ""),
    "Asinh": ("asinh", 3, 2, ""),
    "Atan": ("atan", 1, 1, ""),
    "Atanh": ("atanh", 4, 1, ""),
    "BitShift": ("shift", 1, 0, ""),
    "BitwiseAnd": ("and", 1, 0, ""),
    "BitwiseNot": ("not", 1, 0, ""),
    "BitwiseOr": ("or", 1, 0, ""),
    "BitwiseXor": ("xor", 1, 0, ""),
    "Ceil": ("ceil", 1, 0, ""),
    "Celu": ("celu", 5, 1, ""),
    "Cos": ("cos", 0, 1, ""),
    "Cosh": ("cosh", 2, 2, ""),
    "Div": ("div", 1, 0, ""),
    "Elu": ("elu", 3, 1, ""),
    "Equal": ("equal", 1, 0, "bool"),
    "Erf": ("erf", 0, 1, ""),
    "Exp": ("exp", 0, 1, ""),
    "Floor": ("floor", 1, 0, ""),
    "Gelu": ("gelu", *FUNCTIONS["gelu"], ""),
    "Greater": ("greater", 1, 0, "bool"),
    "GreaterOrEqual": ("greater_equal", 1, 0, "bool"),
    "HardSigmoid": ("hard_sigmoid", 4, 0, ""),
    "HardSwish": ("hard_swish", 5, 0, ""),
    "IsInf": ("is_inf", 1, 0, "bool"),
    "IsNaN": ("is_nan", 1, 0, "bool"),
    "LeakyRelu": ("leaky_relu", 2, 0, ""),
    "Less": ("less", 1, 0, "bool"),
    "LessOrEqual": ("less_equal", 1, 0, "bool"),
    "Log": ("log", 0, 1, ""),
    "Mish": ("mish", 2, 3, ""),  # x tanh(log(1 + exp x))
    "Mod": ("mod", 3, 0, ""),
    "Mul": ("mul", 1, 0, ""),
    "Neg": ("neg", 1, 0, ""),
    "Not": ("not", 1, 0, "bool"),
    "Or": ("or", 1, 0, "bool"),
    "PRelu": ("prelu", 2, 0, ""),
    "Pow": ("pow", 1, 2, ""),  # exp(b log a)
    "Reciprocal": ("reciprocal", 1, 0, ""),
    "Relu": ("relu", 1, 0, ""),
    "Round": ("round", 1, 0, ""),
    "Selu": ("selu", 4, 1, ""),
    "Shrink": ("shrink", 3, 0, ""),
    "Sigmoid": ("sigmoid", 2, 1, ""),  # 1 / (1 + exp(-x))
    "Sign": ("sign", 2, 0, ""),
    "Sin": ("sin", 0, 1, ""),
    "Sinh": ("sinh", 2, 2, ""),
    "Softplus": ("softplus", 1, 2, ""),
    "Softsign": ("softsign", 3, 0, ""),
    "Sqrt": ("sqrt", 0, 1, ""),
    "Sub": ("sub", 1, 0, ""),
    "SwiGLU": ("swiglu", 4, 1, ""),  # swish(a) b
    "Swish": ("swish", 3, 1, ""),  # x sigmoid(alpha x)
    "Tan": ("tan", 1, 1, ""),
    "Tanh": ("tanh", 0, 1, ""),
    "ThresholdedRelu": ("thresholded_relu", 1, 0, ""),
    "Xor": ("xor", 1, 0, "bool"),
}


@rule(*POINTWISE)
def pointwise(node: Node) -> None:
    """Inputs broadcast."""
    function, ops, special, dtype = POINTWISE[node.op]
    values = present(node)
    shape = values[0].shape if node.op == "PRelu" else broadcast_of(node, *values)
    node.result(shape, dtype or None)
    if node.op not in ("Add", "PRelu"):  # a bias or a slope may be a parameter of one element
        _mark_scalars(node)
    if node.op == "Pow" and _small_power(node):
        function, ops, special = "integer_pow", 1, 0  # x x
    if node.op == "Gelu" and text(node.attr("approximate", "none")) == "tanh":
        ops, special = FUNCTIONS["gelu_tanh"]
    emit_pointwise(node, function, ops, special)


def _mark_scalars(node: Node) -> None:
    for index, value in enumerate(node.ins):
        if value is not None and value.elements == 1:
            node.constant(index)


def emit_pointwise(node: Node, function: str, ops: Size, special: Size = 0, **more: Any) -> None:
    """Emits a pointwise op; `special` is left out where it is 0."""
    if special != 0:
        more["special"] = special
    node.emit("pointwise", function=function, ops=ops, **more)


def present(node: Node) -> list[Value]:
    """The inputs that are there."""
    return [value for value in node.ins if value is not None]


def _small_power(node: Node) -> bool:
    exponent = node.known(1)
    return exponent is not None and len(exponent) == 1 and exponent[0] in (1, 2)


@rule("Sum", "Mean", "Max", "Min")
def variadic(node: Node) -> None:
    """n inputs into one: n - 1 operations, one more for the mean's division."""
    values = present(node)
    node.result(broadcast_of(node, *values))
    emit_pointwise(node, node.op.lower(), len(values) - (node.op != "Mean"))


@rule("Clip")
def clip(node: Node) -> None:
    """Limits are attributes before opset 11, inputs since."""
    x = node.value(0)
    limits = [node.given(1) or node.attr("min") is not None, node.given(2) or node.attr("max") is not None]
    node.result(x.shape)
    if sum(limits) == 0:
        node.emit("view", function="clip", ins=(x,))
        return
    emit_pointwise(node, "clip", sum(limits))


@rule("Where")
def where(node: Node) -> None:
    condition, a, b = node.value(0), node.value(1), node.value(2)
    node.result(broadcast_of(node, condition, a, b), a.dtype)
    emit_pointwise(node, "where", 1)


@rule("Trilu")
def trilu(node: Node) -> None:
    node.result(node.value(0).shape)
    emit_pointwise(node, "triu" if node.attr("upper", 1) else "tril", 1, ins=(node.value(0),))


def _cumulative(node: Node, function: str) -> None:
    x = node.value(0)
    node.result(x.shape)
    emit_pointwise(node, function, 1, ins=(x,))


rule("CumSum")(partial(_cumulative, function="cumsum"))
rule("CumProd")(partial(_cumulative, function="cumprod"))


@rule("Det")
def det(node: Node) -> None:
    """Elimination of [.., n, n]: 2 n^3 / 3 operations for each determinant."""
    x = node.value(0)
    n = x.shape[-1]
    node.result(x.shape[:-2])
    emit_pointwise(node, "det", 2 * n * n * n // 3)


# ---- reductions -----------------------------------------------------------------------------------------------------

REDUCE = {
    "ReduceL1": "l1", "ReduceL2": "l2", "ReduceLogSum": "log_sum", "ReduceLogSumExp": "log_sum_exp",
    "ReduceMax": "max", "ReduceMean": "mean", "ReduceMin": "min", "ReduceProd": "prod", "ReduceSum": "sum",
    "ReduceSumSquare": "sum_square",
}  # fmt: skip


@rule(*REDUCE)
def reduce(node: Node) -> None:
    """Axes are an attribute or input 1; none given means all, or none with noop_with_empty_axes."""
    x = node.value(0)
    axes = reduced_axes(node, x)
    shape = reduced_shape(x.shape, axes, bool(node.attr("keepdims", 1)))
    length = product(x.shape[axis] for axis in axes)
    node.result(shape)
    if not axes:
        function = REDUCE[node.op]
        emit_pointwise(node, function, 1, ins=(x,))
        return
    node.emit("reduction", ins=(x,), function=REDUCE[node.op], length=length)


def reduced_axes(node: Node, x: Value) -> tuple[int, ...]:
    """The axes a node reduces; where an input names them and is not known, as many of the last as it has elements."""
    axes = ints(node, 1, "axes")
    if axes is None and node.given(1) and node.value(1).elements != 0:
        count = node.value(1).elements
        count = min(count, x.rank) if isinstance(count, int) else x.rank
        node.warn(f"the axes to reduce are not known; taken as the last {count}")
        return tuple(range(x.rank - count, x.rank))
    if axes:
        return axes_of(node, [int(axis) for axis in axes], x.rank)  # type: ignore[arg-type]
    return () if node.attr("noop_with_empty_axes", 0) else tuple(range(x.rank))


def reduced_shape(shape: tuple[Size, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[Size, ...]:
    """`shape` with `axes` set to 1 or taken out."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


@rule("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> None:
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", 0), x.rank)
    node.result(reduced_shape(x.shape, (axis,), bool(node.attr("keepdims", 1))), "int64")
    node.emit("reduction", function=node.op.lower(), length=x.shape[axis])


SOFTMAX = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Hardmax": "hardmax"}


@rule(*SOFTMAX)
def softmax(node: Node) -> None:
    """Over one axis (last) since opset 13; over all axes from `axis` (1) on, flattened, before."""
    x = node.value(0)
    node.result(x.shape)
    axis = axis_of(node, node.attr("axis", -1 if node.opset >= 13 else 1), x.rank)
    length = product(x.shape[axis:] if node.opset < 13 else x.shape[axis : axis + 1])
    node.emit("softmax", function=SOFTMAX[node.op], length=length)


@rule("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
def cross_entropy(node: Node) -> None:
    """Scores [n, c, ...] and labels [n, ...]: a softmax (not for NLL), then the mean of what is picked."""
    x, labels = node.value(0), node.value(1)
    per_label = text(node.attr("reduction", "mean")) == "none"
    loss = node.result(labels.shape if per_label else (), x.dtype)
    scores: Value = x
    if node.op == "SoftmaxCrossEntropyLoss":
        scores = node.result(x.shape, x.dtype, index=1) if node.wanted(1) else node.inner("log_prob", x.shape, x.dtype)
        node.emit("softmax", ins=(x,), outs=(scores,), function="log_softmax", length=x.shape[1])
    if per_label:
        node.emit("gather", ins=(scores, *present(node)[1:]), outs=(loss,), function="nll")
        return
    node.emit("reduction", ins=(scores, *present(node)[1:]), outs=(loss,), function="nll", length=labels.elements)
