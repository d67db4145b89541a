"""Pointwise operators: one row of a table each.

A row holds the operations per output element: `ops` counts additions, products, comparisons and divisions; `special`
counts exponentials, roots, trigonometry and other series.
"""

from __future__ import annotations

from functools import partial

from wattir.dims import product
from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.strides import is_dense
from wattir.kinds import FUNCTIONS

POINTWISE: dict[str, tuple[int, int]] = {
    "_add_relu": (2, 0), "_conj_physical": (1, 0), "_prelu_kernel": (2, 0), "abs": (1, 0), "absolute": (1, 0),
    "acos": (1, 1), "acosh": (3, 2), "add": (1, 0), "addcdiv": (3, 0), "addcmul": (3, 0), "angle": (0, 1),
    "arccos": (1, 1), "arcsin": (1, 1), "arctan": (1, 1), "arctan2": (1, 1), "asin": (1, 1), "asinh": (3, 2),
    "atan": (1, 1), "atan2": (1, 1), "atanh": (4, 1), "bitwise_and": (1, 0), "bitwise_left_shift": (1, 0),
    "bitwise_not": (1, 0), "bitwise_or": (1, 0), "bitwise_right_shift": (1, 0), "bitwise_xor": (1, 0), "ceil": (1, 0),
    "celu": (5, 1), "clamp": (2, 0), "clamp_max": (1, 0), "clamp_min": (1, 0), "clip": (2, 0), "complex": (1, 0),
    "conj_physical": (1, 0), "copysign": (1, 0), "cos": (0, 1), "cosh": (2, 2), "cross": (3, 0), "deg2rad": (1, 0),
    "digamma": (0, 1), "div": (1, 0), "divide": (1, 0), "elu": (3, 1), "eq": (1, 0), "erf": (0, 1), "erfc": (1, 1),
    "erfinv": (0, 1), "exp": (0, 1), "exp2": (0, 1), "expm1": (0, 1), "fake_quantize_per_channel_affine": (5, 0),
    "fake_quantize_per_tensor_affine": (5, 0), "float_power": (1, 2), "floor": (1, 0), "floor_divide": (2, 0),
    "fmax": (1, 0), "fmin": (1, 0), "fmod": (3, 0), "frac": (2, 0), "ge": (1, 0), "glu": (3, 1),
    "greater": (1, 0), "greater_equal": (1, 0), "gt": (1, 0), "hardshrink": (2, 0), "hardsigmoid": (4, 0),
    "hardswish": (5, 0), "hardtanh": (2, 0), "heaviside": (2, 0), "hypot": (3, 1), "isclose": (4, 0),
    "isfinite": (1, 0),
    "isin": (1, 0), "isinf": (1, 0), "isnan": (1, 0), "isneginf": (1, 0), "isposinf": (1, 0), "le": (1, 0),
    "leaky_relu": (2, 0), "lerp": (3, 0), "less": (1, 0), "less_equal": (1, 0), "lgamma": (0, 1),
    "linalg_cross": (3, 0),
    "log": (0, 1), "log10": (0, 1), "log1p": (1, 1), "log2": (0, 1), "log_sigmoid": (1, 2), "logaddexp": (2, 2),
    "logaddexp2": (2, 2), "logical_and": (1, 0), "logical_not": (1, 0), "logical_or": (1, 0), "logical_xor": (1, 0),
    "logit": (2, 1), "lt": (1, 0), "masked_fill": (1, 0), "maximum": (1, 0), "minimum": (1, 0), "mish": (2, 3),
    "mul": (1, 0), "multiply": (1, 0), "nan_to_num": (3, 0), "ne": (1, 0), "neg": (1, 0), "negative": (1, 0),
    "nextafter": (1, 0), "not_equal": (1, 0), "polar": (2, 2), "prelu": (2, 0), "rad2deg": (1, 0), "reciprocal": (1, 0),
    "relu": (1, 0), "relu6": (2, 0), "remainder": (3, 0), "round": (1, 0), "rrelu": (2, 0), "rsqrt": (0, 1),
    "rsub": (1, 0), "selu": (4, 1), "sgn": (2, 0), "sigmoid": (2, 1), "sign": (2, 0), "signbit": (1, 0),
    "silu": (3, 1), "sin": (0, 1), "sinc": (1, 1), "sinh": (2, 2), "softplus": (1, 2), "softshrink": (3, 0),
    "special_bessel_j0": (0, 2), "special_entr": (1, 1), "special_erf": (0, 1), "special_erfc": (1, 1),
    "special_expit": (2, 1), "special_expm1": (0, 1), "special_i0e": (0, 2), "special_log1p": (1, 1),
    "special_logit": (2, 1), "special_ndtr": (2, 1), "special_xlog1py": (2, 1), "sqrt": (0, 1), "square": (1, 0),
    "sub": (1, 0), "subtract": (1, 0), "tan": (1, 1), "tanh": (0, 1), "threshold": (1, 0), "tril": (1, 0),
    "triu": (1, 0), "true_divide": (1, 0), "trunc": (1, 0), "fix": (1, 0), "where": (1, 0), "xlogy": (1, 1),
    "cumsum": (1, 0), "cumprod": (1, 0), "cummax": (1, 0), "cummin": (1, 0), "logcumsumexp": (2, 2), "diff": (1, 0),
    "frexp": (1, 0), "ldexp": (1, 1), "gcd": (10, 0), "gradient": (2, 0), "i0": (0, 2), "special_i1": (0, 2),
    "special_i0": (0, 2), "special_log_softmax": (4, 1), "mvlgamma": (0, 1), "polygamma": (0, 1), "igamma": (0, 4),
    "_fused_dropout": (2, 0), "normalize_weight": (2, 0), "renorm": (4, 0),
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": (5, 0), "arctanh": (4, 1), "arcsinh": (3, 2),
    "arccosh": (3, 2), "bucketize": (8, 0), "searchsorted": (8, 0), "mse_loss": (2, 0), "l1_loss": (2, 0),
    "smooth_l1_loss": (4, 0), "huber_loss": (4, 0), "binary_cross_entropy": (4, 2), "kl_div": (3, 1),
    "binary_cross_entropy_with_logits": (4, 2), "soft_margin_loss": (2, 2),
    "log_sigmoid_forward": (1, 2), "modf": (1, 0), "lcm": (10, 0),
    "fake_quantize_per_channel_affine_cachemask": (5, 0), "fake_quantize_per_tensor_affine_cachemask": (5, 0),
}  # fmt: skip
"""bucketize and searchsorted: a binary search, of 8 comparisons where the table's length is small."""


def pointwise(node: Node, ops: int, special: int) -> None:
    """The row's work; the results keep the memory order of the first full-sized operand."""
    if not node.outs:
        return
    if node.op == "where" and len(node.inputs()) == 1 and node.arg(1, "self") is None:
        nonzero(node)
        return
    ins = node.inputs()
    node.pointwise(FUNCTION.get(node.op, node.op), ops, special, ins=ins)
    keep_order(node, ins)
    if node.op == "sub":
        _remember_offset(node)


def _remember_offset(node: Node) -> None:
    """Positions less a number: a mask that compares them has a window."""
    other, out = node.arg(1, "other"), node.lowering.env[node.out.name]
    if isinstance(other, int) and out.dtype.startswith("int"):
        node.lowering.offsets[out.name] = other


def keep_order(node: Node, ins: list[Value]) -> None:
    """Pointwise results lie in memory like their operands, where these are dense."""
    out = node.lowering.env[node.outs[0].name]
    sample = node.lowering.sample(out.shape)
    for x in ins:
        if x.shape == out.shape:
            if is_dense(sample, x.strides):
                out.strides = x.strides
            return


FUNCTION = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "eq": "equal", "ge": "greater_equal",
    "gt": "greater", "le": "less_equal", "lt": "less", "ne": "not_equal", "bitwise_and": "and", "bitwise_or": "or",
    "logical_and": "and", "logical_or": "or", "logical_not": "not", "bitwise_not": "not", "clip": "clamp",
}  # fmt: skip

for _op, (_ops, _special) in POINTWISE.items():
    rule(_op)(partial(pointwise, ops=_ops, special=_special))


@rule("gelu")
def gelu(node: Node) -> None:
    """By the error function unless `approximate` says by the hyperbolic tangent."""
    pointwise(node, *FUNCTIONS["gelu_tanh" if node.arg(1, "approximate") == "tanh" else "gelu"])


@rule("pow", "__rpow__")
def power(node: Node) -> None:
    """A square is one product; a half a root; any other power exp(b log a)."""
    exponent = node.arg(1, "exponent")
    if isinstance(exponent, (int, float)) and exponent in (1, 2, 3, -1, -2):
        node.pointwise("pow", max(abs(int(exponent)) - 1, 1))
    elif exponent in (0.5, -0.5):
        node.pointwise("pow", 0, 1)
    else:
        node.pointwise("pow", 1, 2)
    keep_order(node, node.inputs())


@rule("nonzero", "argwhere", "nonzero_numpy", "nonzero_static")
def nonzero(node: Node) -> None:
    """How many there are depends on data: as many as the program says, else all."""
    node.emit("sort", function="nonzero", length=node.tensor(0).elements)


@rule("outer", "ger")
def outer(node: Node) -> None:
    node.pointwise("outer", 1)


@rule("kron", "vander")
def kron(node: Node) -> None:
    node.pointwise(node.op, 1)


@rule("cosine_similarity", "pairwise_distance")
def cosine(node: Node) -> None:
    """Sums over one axis: three products and sums for each pair of elements, or two."""
    x = node.tensor(0)
    per = 6 if node.op == "cosine_similarity" else 3
    length = per * (x.elements // product(node.out.shape)) if 0 not in node.out.shape else 1
    node.emit("reduction", function=node.op, length=length)
