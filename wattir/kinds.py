"""The closed set of op kinds, and what each must say about itself.

A frontend maps its framework's hundreds of ops onto these. Everything a cost rule needs that the shapes of the op's
tensors do not already say is an attribute; `wattir.graph_check` refuses an op whose attributes are not the ones below.
Sizes are `wattir.dims.Size`; spatial attributes are tuples of Sizes, one per spatial axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind is, and the names of its required and optional attributes."""

    doc: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    functions: frozenset[str] = field(default_factory=frozenset)  # legal values of `function`; empty: not checked


KINDS: dict[str, Kind] = {
    "matmul": Kind(
        "`groups` products of [m, k] by [k, n]. ins: a, b, then what is added to the result. rows: of all groups "
        "together, where they are uneven (experts) and m is their mean. tokens, experts: how many of the "
        "former chose among how many of the latter, on all devices.",
        ("groups", "m", "n", "k"),
        ("rows", "tokens", "experts"),
    ),
    "conv": Kind(
        "Convolution of any rank. ins: x, weight, then bias. c_in and c_out are over all groups.",
        ("batch", "c_in", "c_out", "groups", "kernel", "in_spatial", "out_spatial"),
        ("transposed",),
    ),
    "attention": Kind(
        "softmax(q k^T) v. q, kv: lengths; d, dv: head sizes of k and v; causal: queries sit at the end of the keys; "
        "window: keys seen by one query, 0 for all. ins: q, k, v, then mask and bias.",
        ("batch", "heads", "kv_heads", "q", "kv", "d", "dv", "causal"),
        ("window",),
    ),
    "recurrent": Kind(
        "`steps` steps of a cell in `directions` directions. ins: x, then the weights, then states.",
        ("function", "steps", "batch", "input", "hidden", "directions"),
        functions=frozenset({"lstm", "gru", "rnn"}),
    ),
    "scan": Kind(
        "State-space recurrence: `steps` times, `elements` numbers of state are updated with `ops` operations each. "
        "chunk: so many steps become products with each other before they reach the state, where kernels do so "
        "(Mamba-2, delta nets).",
        ("function", "steps", "elements", "ops"),
        ("chunk",),
    ),
    "norm": Kind(
        "Normalization over `length` elements. ins: x, then scale, shift and statistics.",
        ("function", "length"),
        functions=frozenset(
            {
                "layer_norm",
                "rms_norm",
                "batch_norm",
                "group_norm",
                "instance_norm",
                "lrn",
                "mean_variance_norm",
                "l1_norm",
                "l2_norm",
                "max_norm",
                "weight_norm",
            }
        ),
    ),
    "softmax": Kind("Softmax over an axis of `length` elements.", ("function", "length")),
    "reduction": Kind("`length` elements become one.", ("function", "length")),
    "pooling": Kind("Each output element sees `window` inputs.", ("function", "window")),
    "resize": Kind("Each output element mixes `taps` inputs (1 for nearest).", ("function", "taps")),
    "pointwise": Kind(
        "Each output element costs `ops` additions and the like and `special` exponentials and the like.",
        ("function", "ops"),
        ("special",),
    ),
    "gather": Kind("Output elements are read from a table (the first input) by indices.", ("function",)),
    "scatter": Kind("`updates` elements are written into a tensor in place.", ("function", "updates")),
    "sort": Kind("Sorting, top-k, unique, non-maximum suppression over an axis of `length`.", ("function", "length")),
    "random": Kind("Random numbers, one per output element.", ("function",)),
    "copy": Kind("Bytes move and nothing is computed: transpose, concat, slice, pad, cast, expand.", ("function",)),
    "view": Kind("Only the shape changes; nothing moves. The pass `drop_views` removes it.", ("function",)),
    "quantize": Kind("To a narrower type or back, by a scale.", ("function",)),
    "fft": Kind("Fourier transforms of `length` points over the output.", ("function", "length")),
    "collective": Kind("Exchange of the input's bytes among `ranks` devices.", ("function", "ranks")),
    "host": Kind("Done by the host: sequences, strings, control flow, tree ensembles.", ("function",), ("ops",)),
    "unknown": Kind("No mapping: costs its bytes, is listed, and lowers the coverage."),
}

SHARED_ATTRS = ("fused_ops", "fused_special", "math")
"""Attributes any kind may have: vector and special operations of the ops fused into it (totals, Sizes), and the math
dtype where it is not the one of the first input (``int8`` for a quantized product held in floats)."""

TUPLE_ATTRS = ("kernel", "in_spatial", "out_spatial")
"""The attributes that are one Size per spatial axis; all others are one value."""

TEXT_ATTRS = ("function", "math")
FLAG_ATTRS = ("causal", "transposed")
DIVISOR_ATTRS = ("groups", "ranks", "chunk")
"""Attributes that are texts, flags, and Sizes of at least 1; the others are Sizes."""

CONTRACTIONS = ("matmul", "conv", "attention", "recurrent")
"""The kinds whose multiply-adds are counted as MACs and FLOP."""

FUNCTIONS = {
    "relu": (1, 0), "sigmoid": (2, 1), "tanh": (0, 1), "silu": (3, 1), "gelu": (4, 1), "gelu_tanh": (7, 1),
    "quick_gelu": (4, 1), "hardswish": (5, 0),
    "exp": (0, 1), "rsqrt": (0, 1), "lerp": (3, 0), "addcmul": (3, 0),
}  # fmt: skip
"""Operations (additions, products, comparisons, divisions) and special functions (exponentials, roots and other series)
of one element of a pointwise op, as every frontend counts them: learned corrections tell functions apart by these.
``gelu``: x / 2 (1 + erf(x c)); ``gelu_tanh``: x / 2 (1 + tanh(x (c + d x x))); ``quick_gelu``: x sigmoid(c x)."""

DTYPE_BYTES: dict[str, float] = {
    "fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "fp4": 0.5, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "int4": 0.5, "int2": 0.25, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "uint4": 0.5, "uint2": 0.25,
    "bool": 1, "complex64": 8, "complex128": 16, "string": 16,
}  # fmt: skip
"""Bytes of one element; a string counts as its pointer and length."""

FLOATS = frozenset({"fp64", "fp32", "fp16", "bf16", "fp8", "fp4"})
ROLES = ("input", "weight", "constant", "state", "value")
"""input: given by the caller. weight: a parameter. constant: a buffer that is read but is no parameter (running
statistics, zero points, tables of positions). state: kept between calls (KV cache). value: made by an op."""
