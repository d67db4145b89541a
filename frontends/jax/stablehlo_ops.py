"""StableHLO ops as the JAX primitives they mean, with that primitive's parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

DTYPES = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16", "tf32": "fp32", "i1": "bool", "i2": "int2",
    "i4": "int4", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "ui2": "uint2", "ui4": "uint4",
    "ui8": "uint8", "ui16": "uint16", "ui32": "uint32", "ui64": "uint64", "si8": "int8", "si32": "int32",
    "si64": "int64", "si16": "int16", "index": "int64", "complex<f32>": "complex64", "complex<f64>": "complex128",
    "!stablehlo.token": "bool",
}  # fmt: skip

SAME_AS = {
    "abs": "abs", "add": "add", "and": "and", "atan2": "atan2", "cbrt": "cbrt", "ceil": "ceil", "clamp": "clamp",
    "complex": "complex", "convert": "convert_element_type", "cosine": "cos", "count_leading_zeros": "clz",
    "divide": "div", "exponential": "exp", "exponential_minus_one": "expm1", "floor": "floor", "imag": "imag",
    "is_finite": "is_finite", "log": "log", "log_plus_one": "log1p", "logistic": "logistic", "maximum": "max",
    "minimum": "min", "multiply": "mul", "negate": "neg", "not": "not", "or": "or", "popcnt": "population_count",
    "power": "pow", "real": "real", "reduce_precision": "reduce_precision", "remainder": "rem",
    "round_nearest_afz": "round", "round_nearest_even": "round", "rsqrt": "rsqrt", "shift_left": "shift_left",
    "shift_right_arithmetic": "shift_right_arithmetic", "shift_right_logical": "shift_right_logical", "sign": "sign",
    "sine": "sin", "sqrt": "sqrt", "subtract": "sub", "tan": "tan", "tanh": "tanh", "xor": "xor",
    "bitcast_convert": "bitcast_convert_type", "reshape": "reshape", "dynamic_reshape": "reshape",
    "optimization_barrier": "optimization_barrier", "dynamic_slice": "dynamic_slice",
    "real_dynamic_slice": "real_dynamic_slice", "dynamic_update_slice": "dynamic_update_slice", "pad": "pad",
    "dynamic_pad": "pad", "reverse": "rev", "gather": "gather", "dynamic_gather": "gather", "scatter": "scatter",
    "select_and_scatter": "select_and_scatter", "rng_bit_generator": "rng_bit_generator", "rng": "rng_uniform",
    "cholesky": "cholesky", "triangular_solve": "triangular_solve", "partition_id": "partition_id",
    "replica_id": "replica_id", "after_all": "after_all", "create_token": "create_token", "concatenate": "concatenate",
    "sharding_constraint": "sharding_constraint", "reshard": "reshard", "propagation_barrier": "sharding_constraint",
    "batch_norm_inference": "batch_norm", "batch_norm_training": "batch_norm", "torch_index_select": "gather",
    "uniform_quantize": "quantize", "uniform_dequantize": "dequantize",
    # chlo
    "erf": "erf", "erfc": "erfc", "erf_inv": "erf_inv", "acos": "acos", "acosh": "acosh", "asin": "asin",
    "asinh": "asinh", "atan": "atan", "atanh": "atanh", "cosh": "cosh", "sinh": "sinh", "square": "square",
    "lgamma": "lgamma", "digamma": "digamma", "next_after": "nextafter", "conj": "conj", "zeta": "zeta",
    "polygamma": "polygamma", "bessel_i1e": "bessel_i1e", "is_inf": "is_finite", "top_k": "top_k",
    "constant_like": "zeros_like",
}  # fmt: skip
"""Op (of stablehlo, chlo or sdy) -> primitive, where operands agree and parameters are not needed or have the name."""

COMPARED = {"EQ": "eq", "NE": "ne", "GE": "ge", "GT": "gt", "LE": "le", "LT": "lt"}
REDUCED = {"add": "sum", "maximum": "max", "minimum": "min", "multiply": "prod", "and": "and", "or": "or", "xor": "xor"}
SAME_TARGETS = frozenset({
    "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement", "LayoutConstraint",
    "X64Combine", "MoveToHost", "MoveToDevice", "xla.sdy.FuncResultSharding", "xla.sdy.LocalToGlobalShape",
    "xla.sdy.GlobalToLocalShape", "stablehlo.dynamic_iota",
})  # fmt: skip
TARGETS = {
    "mhlo.topk": "top_k", "TopK": "top_k", "ApproxTopK": "top_k", "mhlo.erf": "erf", "mhlo.ragged_dot": "ragged_dot",
    "__op$block_scaled_dot": "scaled_matmul", "stablehlo.uniform_quantize": "quantize",
    "stablehlo.uniform_dequantize": "dequantize",
    "mhlo.tan": "tan", "mhlo.acos": "acos", "cu_threefry2x32": "threefry2x32", "cu_threefry2x32_ffi": "threefry2x32",
    "stablehlo.dynamic_rng_bit_generator": "rng_bit_generator", "stablehlo.dynamic_top_k": "top_k",
    "stablehlo.dynamic_approx_top_k": "top_k",
}  # fmt: skip
"""Target of a custom call -> primitive."""
LAPACK = {
    "potrf": "cholesky", "getrf": "lu", "geqrf": "geqrf", "orgqr": "householder_product",
    "ungqr": "householder_product", "syevd": "eigh", "heevd": "eigh", "gesdd": "svd", "gesvd": "svd", "gesvdj": "svd",
    "geev": "eig", "gees": "schur", "gehrd": "hessenberg", "trsm": "triangular_solve",
    "gtsv": "tridiagonal_solve",
}  # fmt: skip
_LAPACK_TARGET = re.compile(r"(?:lapack_[sdcz]|cusolver_|hipsolver_)(\w+?)(?:_ffi)?")
"""``lapack_sgetrf_ffi``, ``cusolver_getrf_ffi``: routine -> primitive."""


def composes(name: str) -> bool:
    """Whether a composite is one of CHLO's operations, which is known as it is."""
    return name.startswith("chlo.") and (short_name(name) in SAME_AS or short_name(name) in TRANSLATE)


Translated = tuple[str, dict[str, Any], list[int] | None]
"""A primitive, its parameters, and which operands it takes in which order (None: all)."""


def dtype_of(element: str) -> str:
    """The dtype of an MLIR element type."""
    if element in DTYPES:
        return DTYPES[element]
    if element.startswith("!quant"):
        return "int8"
    return "fp4" if element.startswith(("f4", "f6")) else ("fp8" if element.startswith("f8") else "fp32")


def short_name(name: str) -> str:
    """An op without its dialect; CHLO's that broadcast by themselves as those that do not."""
    dialect, _, short = name.partition(".")
    return short.removeprefix("broadcast_") if dialect == "chlo" else short or name


def translate(name: str, attrs: dict[str, Any], operands: int, regions: list[Any], types: list[Any]) -> Translated:
    """What an op is among JAX's primitives; its own name where it is none of them."""
    short = short_name(name)
    if short in TRANSLATE:
        return TRANSLATE[short](attrs, operands, regions, types)
    return SAME_AS.get(short, name), _known_params(short, attrs), None


def _known_params(short: str, attrs: dict[str, Any]) -> dict[str, Any]:
    params = dict(attrs)
    if short in ("slice",):
        params = {
            "start_indices": attrs["start_indices"],
            "limit_indices": attrs["limit_indices"],
            "strides": attrs.get("strides"),
        }
    return params


def _compare(attrs: dict[str, Any], *_: Any) -> Translated:
    word = re.search(r"\b(EQ|NE|GE|GT|LE|LT)\b", str(attrs.get("comparison_direction", "EQ")))
    return COMPARED[word.group(1) if word else "EQ"], {}, None


def _select(*_: Any) -> Translated:
    return "select_n", {}, [0, 2, 1]


def _transpose(attrs: dict[str, Any], *_: Any) -> Translated:
    return "transpose", {"permutation": attrs["permutation"]}, None


def _broadcast(attrs: dict[str, Any], *_: Any) -> Translated:
    return "broadcast_in_dim", {"broadcast_dimensions": attrs["broadcast_dimensions"]}, [0]


def _iota(attrs: dict[str, Any], *_: Any) -> Translated:
    return "iota", {"dimension": attrs["iota_dimension"]}, []


def _slice(attrs: dict[str, Any], *_: Any) -> Translated:
    return "slice", {key: attrs.get(key) for key in ("start_indices", "limit_indices", "strides")}, None


def _dot(attrs: dict[str, Any], *_: Any) -> Translated:
    d = numbers(attrs.get("dot_dimension_numbers", ""))
    contracted = (d.get("lhs_contracting_dimensions", ()), d.get("rhs_contracting_dimensions", ()))
    batch = (d.get("lhs_batching_dimensions", ()), d.get("rhs_batching_dimensions", ()))
    return "dot_general", {"dimension_numbers": (contracted, batch)}, None


RAGGED = (
    "lhs_batching_dimensions", "rhs_batching_dimensions", "lhs_contracting_dimensions", "rhs_contracting_dimensions",
    "lhs_ragged_dimensions", "rhs_group_dimensions",
)  # fmt: skip
"""Lists of axes of a ragged product, in the order of the composite's attribute; the operation names them."""


def _ragged(attrs: dict[str, Any], *_: Any) -> Translated:
    given = attrs.get("ragged_dot_dimension_numbers", "")
    d = numbers(given) if isinstance(given, str) else dict(zip(RAGGED, (axes["items"] for axes in given), strict=True))
    if not d:
        return "ragged_dot", {}, None
    left_batch, right_batch, left_k, right_k, _ragged_axes, experts = (tuple(d.get(name, ())) for name in RAGGED)
    found = SimpleNamespace(
        dot_dimension_numbers=((left_k, right_k), (left_batch, right_batch)), rhs_group_dimensions=experts
    )
    return "ragged_dot", {"ragged_dot_dimension_numbers": found}, None


def _einsum(attrs: dict[str, Any], *_: Any) -> Translated:
    """``ab,bc->ac``: what both operands and the result have is batch, what the result lacks is contracted."""
    operands, _arrow, result = str(attrs["einsum_config"]).partition("->")
    left, right = (part.strip() for part in operands.split(","))
    shared = [letter for letter in left if letter in right]
    k, batch = ([x for x in shared if (x in result) is kept] for kept in (False, True))
    axes = ((tuple(map(side.index, letters)) for side in (left, right)) for letters in (k, batch))
    return "dot_general", {"dimension_numbers": tuple(map(tuple, axes))}, None


def _map(attrs: dict[str, Any], operands: int, regions: list[Any], *_: Any) -> Translated:
    return "map", {"ops": max(sum(len(region["body"]) for region in regions) - 1, 0)}, None


def _dynamic_conv(attrs: dict[str, Any], *_: Any) -> Translated:
    primitive, params, _order = _conv(attrs)
    return primitive, {**params, "padded_by": 2}, [0, 1]


def _plain_dot(*_: Any) -> Translated:
    return "dot", {}, None


def numbers(text: str) -> dict[str, tuple[int, ...]]:
    """The lists in the text of an attribute: ``lhs_contracting_dimensions = [1]``."""
    found = re.findall(r"(\w+) = \[([\d,\s-]*)\]", str(text))
    return {name: tuple(int(item) for item in items.split(",") if item.strip()) for name, items in found}


def _conv(attrs: dict[str, Any], *_: Any) -> Translated:
    spec = re.search(r"\[([^\]]*)\]x\[([^\]]*)\]->\[([^\]]*)\]", str(attrs["dimension_numbers"]))
    if spec is None:
        raise ValueError(f"dimension_numbers {attrs['dimension_numbers']!r}")
    dimensions = (_layout(spec[1], "b", "f"), _layout(spec[2], "o", "i"), _layout(spec[3], "b", "f"))
    params = {key: attrs.get(key) for key in ("window_strides", "lhs_dilation", "rhs_dilation", "padding")}
    counts = {key: attrs.get(key, 1) for key in ("feature_group_count", "batch_group_count")}
    return "conv_general_dilated", {"dimension_numbers": dimensions, **params, **counts}, [0, 1]


def _layout(text: str, first: str, second: str) -> tuple[int, ...]:
    """Axes of the first letter, the second, and then space in order."""
    letters = [item.strip() for item in text.split(",")]
    space = sorted((item for item in letters if item not in (first, second)), key=lambda item: item.replace("?", "99"))
    return tuple(letters.index(item) for item in (first, second, *space))


def _reduce(attrs: dict[str, Any], operands: int, regions: list[Any], types: list[Any]) -> Translated:
    function = _body_function(regions)
    params = {"axes": attrs["dimensions"]}
    inputs = list(range(operands // 2))
    if function is None:
        return ("argmax" if len(types) == 2 else "reduce"), params, inputs
    return f"reduce_{function}", params, inputs


def _body_function(regions: list[Any]) -> str | None:
    """The reduction that a region of one op makes, or None."""
    ops = [op[0].partition(".")[2] for region in regions for op in region["body"]]
    kept = [op for op in ops if op != "return"]
    return REDUCED.get(kept[0]) if len(kept) == 1 else None


def _window(attrs: dict[str, Any], operands: int, regions: list[Any], _: Any) -> Translated:
    function = _body_function(regions)
    name = f"reduce_window_{function}" if function in ("max", "min", "sum") else "reduce_window"
    return name, {"window_dimensions": attrs["window_dimensions"]}, list(range(operands // 2))


def _sort(attrs: dict[str, Any], *_: Any) -> Translated:
    return "sort", {"dimension": attrs.get("dimension", -1)}, None


def _fft(attrs: dict[str, Any], *_: Any) -> Translated:
    return "fft", {"fft_lengths": attrs["fft_length"]}, None


def _collective(primitive: str) -> Callable[..., Translated]:
    def translated(attrs: dict[str, Any], *_: Any) -> Translated:
        groups = attrs.get("replica_groups") or attrs.get("source_target_pairs") or {}
        shape = groups.get("shape", [1, 1]) if isinstance(groups, dict) else [1, 1]
        ranks = shape[-1] if "replica_groups" in attrs else max(shape[0], 1)
        return primitive, {"ranks": int(ranks)}, None

    return translated


def _batch_or_heads(config: str) -> int:
    """1 where heads come before positions in the operands: the batch axes of the first product say so."""
    found = re.search(r'"lhs_batch_dimensions": *\["0", *"(\d)"', config)
    return int(found is not None and found[1] == "1")


def _custom(attrs: dict[str, Any], *_: Any) -> Translated:
    target = str(attrs.get("call_target_name", ""))
    if target in SAME_TARGETS:
        return "copy", {}, None
    if target.startswith("__cudnn$fmha"):
        config = str(attrs.get("backend_config", ""))
        mask, window = (re.search(rf'"{key}": *"?(\w+)', config) for key in ("mask_type", "sliding_window_length"))
        params = {"mask_type": mask and mask[1], "sliding_window_length": window and window[1]}
        return "dot_product_attention_fwd", {"layout": _batch_or_heads(config), **params}, None
    if target in TARGETS:
        return TARGETS[target], {}, None
    routine = _LAPACK_TARGET.fullmatch(target)
    if routine is not None and routine[1] in LAPACK:
        return LAPACK[routine[1]], {}, None
    return "custom_call", {"call_target_name": target, "has_side_effect": attrs.get("has_side_effect")}, None


TRANSLATE: dict[str, Callable[..., Translated]] = {
    "compare": _compare, "select": _select, "transpose": _transpose, "broadcast_in_dim": _broadcast,
    "dynamic_broadcast_in_dim": _broadcast, "iota": _iota, "dynamic_iota": _iota, "slice": _slice, "dot_general": _dot,
    "dot": _plain_dot, "convolution": _conv, "dynamic_conv": _dynamic_conv, "reduce": _reduce, "reduce_window": _window,
    "sort": _sort, "fft": _fft, "all_reduce": _collective("psum"), "all_gather": _collective("all_gather"),
    "reduce_scatter": _collective("psum_scatter"), "all_to_all": _collective("all_to_all"),
    "collective_permute": _collective("ppermute"), "collective_broadcast": _collective("ppermute"),
    "custom_call": _custom, "ragged_dot": _ragged, "einsum": _einsum, "map": _map,
}  # fmt: skip
"""Op -> function of its attributes, number of operands, regions and result types."""
