"""Shapes of results that an exported program leaves open (``?``): from its inputs and its shape arithmetic."""

from __future__ import annotations

from typing import Any

from wattir.dims import Dim, Size
from wattir.frontends.jax.node import Shape, Value
from wattir.frontends.jax.rules_math import POINTWISE


def infer(short: str, primitive: str, ins: list[Value], params: dict[str, Any], attrs: dict[str, Any]) -> Shape | None:
    """The shape of the first result, or None where it is not known; `ins` are all operands of the op."""
    if short in BY_OPERAND:
        return _sizes(ins[BY_OPERAND[short]].data)
    rule = RULES.get(primitive)
    if rule is not None:
        found: Shape | None = rule(ins, params, attrs)
        return found
    if primitive in POINTWISE or primitive in LIKE_FIRST:
        return max((value.shape for value in ins), key=len, default=None)
    return None


BY_OPERAND = {"dynamic_reshape": 1, "dynamic_broadcast_in_dim": 1, "dynamic_iota": 0}
"""Ops whose result has the shape that an operand holds."""
LIKE_FIRST = frozenset({
    "convert_element_type", "rev", "sort", "dynamic_update_slice", "scatter", "cumsum", "copy", "integer_pow", "psum",
    "optimization_barrier", "reduce_precision", "sharding_constraint", "bitcast_convert_type",
})  # fmt: skip


def _sizes(data: Any) -> Shape | None:
    found = data if isinstance(data, tuple) else ((data,) if data is not None else None)
    if found is None or not all(isinstance(size, (int, Dim)) for size in found):
        return None
    return tuple(found)


def _transpose(ins: list[Value], params: dict[str, Any], _: Any) -> Shape:
    return tuple(ins[0].shape[axis] for axis in params["permutation"])


def _reduce(ins: list[Value], params: dict[str, Any], _: Any) -> Shape:
    return tuple(size for axis, size in enumerate(ins[0].shape) if axis not in params["axes"])


def _dot(ins: list[Value], params: dict[str, Any], _: Any) -> Shape:
    (left_k, right_k), (left_batch, right_batch) = params["dimension_numbers"]
    a, b = ins[0].shape, ins[1].shape
    left = [size for axis, size in enumerate(a) if axis not in (*left_k, *left_batch)]
    right = [size for axis, size in enumerate(b) if axis not in (*right_k, *right_batch)]
    return (*(a[axis] for axis in left_batch), *left, *right)


def _concatenate(ins: list[Value], _: Any, attrs: dict[str, Any]) -> Shape:
    axis = int(attrs["dimension"])
    total: Size = sum((value.shape[axis] for value in ins), start=0)
    return tuple(total if place == axis else size for place, size in enumerate(ins[0].shape))


def _slice(ins: list[Value], params: dict[str, Any], _: Any) -> Shape:
    steps = params.get("strides") or [1] * ins[0].rank
    axes = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    return tuple(-(-(limit - start) // step) for start, limit, step in axes)


def _real_slice(ins: list[Value], _: Any, __: Any) -> Shape | None:
    starts, limits, steps = (_sizes(value.data) for value in ins[1:4])
    if starts is None or limits is None or steps is None:
        return None
    if len(steps) == 1:
        starts, limits, steps = (_fill(part, ins[0].rank) for part in (starts, limits, steps))
    return tuple(-(-(limit - start) // step) for start, limit, step in zip(starts, limits, steps, strict=True))


def _fill(sizes: Shape, rank: int) -> Shape:
    return sizes * rank if len(sizes) == 1 else sizes


def _pad(ins: list[Value], _: Any, attrs: dict[str, Any]) -> Shape | None:
    rank = ins[0].rank
    if "edge_padding_low" in attrs:
        low, high, inner = (tuple(attrs[f"{part}_padding{end}"]) for part, end in _PADS)
    else:
        found = [_sizes(value.data) for value in ins[2:5]]
        if any(part is None for part in found):
            return None
        low, high, inner = (_fill(part, rank) for part in found if part is not None)
    axes = zip(ins[0].shape, low, high, inner, strict=True)
    return tuple(size + before + after + (size - 1) * gap for size, before, after, gap in axes)


_PADS = (("edge", "_low"), ("edge", "_high"), ("interior", ""))


def _gather(ins: list[Value], _: Any, attrs: dict[str, Any]) -> Shape | None:
    """Batch axes from the indices; window axes from the slice sizes, collapsed ones left out."""
    from wattir.frontends.jax.stablehlo_ops import numbers

    sizes = attrs.get("slice_sizes")
    window = tuple(sizes) if isinstance(sizes, list) else (_sizes(ins[2].data) if len(ins) > 2 else None)
    if window is None:
        return None
    spec = numbers(attrs["dimension_numbers"])
    gone = (*spec.get("collapsed_slice_dims", ()), *spec.get("operand_batching_dims", ()))
    kept = [size for axis, size in enumerate(window) if axis not in gone]
    vector = _index_axis(str(attrs["dimension_numbers"]), ins[1].rank)
    batch = [size for axis, size in enumerate(ins[1].shape) if axis != vector]
    offsets = spec.get("offset_dims", ())
    rank = len(kept) + len(batch)
    return tuple(kept.pop(0) if axis in offsets else batch.pop(0) for axis in range(rank))


def _index_axis(text: str, rank: int) -> int:
    import re

    found = re.search(r"index_vector_dim = (\d+)", text)
    return int(found.group(1)) if found else rank if "index_vector_dim" in text else 0


def _conv(ins: list[Value], params: dict[str, Any], _: Any) -> Shape:
    left, right, out = params["dimension_numbers"]
    x, weight = ins[0].shape, ins[1].shape
    rank = len(left) - 2
    steps, inner, taps = (params.get(key) or [1] * rank for key in ("window_strides", "lhs_dilation", "rhs_dilation"))
    pads = _padding(ins, params) or [0] * (2 * rank)
    shape: list[Size] = [0] * len(left)
    shape[out[0]], shape[out[1]] = x[left[0]], weight[right[0]]
    for i in range(rank):
        size = (x[left[2 + i]] - 1) * inner[i] + 1 + pads[2 * i] + pads[2 * i + 1]
        reach = (weight[right[2 + i]] - 1) * taps[i] + 1
        shape[out[2 + i]] = (size - reach) // steps[i] + 1
    return tuple(shape)


def _padding(ins: list[Value], params: dict[str, Any]) -> Any:
    """Elements before and after each axis in turn: an attribute, or an operand of a dynamic convolution."""
    if "padded_by" not in params:
        return (params.get("padding") or {}).get("items")
    data = ins[params["padded_by"]].data
    return [data] * 2 * (ins[0].rank - 2) if isinstance(data, int) else data


def _window(ins: list[Value], params: dict[str, Any], attrs: dict[str, Any]) -> Shape:
    rank = ins[0].rank
    sizes, steps = params["window_dimensions"], attrs.get("window_strides") or [1] * rank
    padding = (attrs.get("padding") or {}).get("items")
    pads = padding if isinstance(padding, list) else [padding or 0] * (2 * rank)
    axes = zip(ins[0].shape, sizes, steps, pads[0::2], pads[1::2], strict=True)
    return tuple((size + before + after - window) // step + 1 for size, window, step, before, after in axes)


RULES: dict[str, Any] = {
    "transpose": _transpose, "dot_general": _dot, "concatenate": _concatenate, "slice": _slice, "pad": _pad,
    "real_dynamic_slice": _real_slice, "gather": _gather, "conv_general_dilated": _conv,
    **dict.fromkeys((f"reduce_{f}" for f in ("sum", "max", "min", "prod", "and", "or", "xor")), _reduce),
    **dict.fromkeys(("argmax", "reduce"), _reduce),
    **dict.fromkeys(("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window),
}  # fmt: skip
"""Primitive -> function of all operands, the parameters and the attributes."""
