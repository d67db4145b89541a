"""The built-in list of layers to measure: tables of real layers' sizes, drawn with a fixed seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .flops import Params, flop

AWKWARD_ROWS = (1, 3, 8, 17, 32, 64, 100, 129, 257, 512, 1000, 2048, 4096, 8192, 16384)
LINEAR_SIZES = (
    (4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (1024, 4096), (128256, 4096), (3072, 3072),
    (8192, 3072), (3072, 8192), (2048, 2048), (8192, 2048), (2048, 8192), (3584, 3584), (18944, 3584),
    (3584, 18944), (5120, 5120), (13824, 5120), (768, 768), (2304, 768), (3072, 768), (768, 3072), (1024, 1024),
    (4096, 1024), (1280, 1280), (5120, 1280), (1000, 2048), (1000, 768), (30522, 768), (50257, 768),
    (25088 // 49, 2048), (4096, 25088), (8192, 8192), (16384, 16384), (100, 100), (333, 777), (64, 64), (512, 64),
)  # fmt: skip
ALIGNED_SIZES = tuple(size for size in LINEAR_SIZES if size[0] % 16 == 0 and size[1] % 16 == 0)
GEMM_TYPES = (("bf16", 66), ("fp16", 6), ("fp32", 6), ("tf32", 9), ("fp8", 5), ("int8", 3))
BATCHED = (
    (384, 128, 128, 64), (384, 128, 64, 128), (3072, 64, 64, 64), (512, 197, 197, 64), (96, 512, 512, 64),
    (64, 1024, 1024, 128), (32, 2048, 2048, 128), (8, 2048, 1024, 4096), (8, 64, 14336, 4096), (8, 64, 4096, 14336),
    (1024, 49, 49, 32), (4096, 16, 16, 16), (256, 1, 2048, 128), (16, 1000, 1000, 1000), (2, 4096, 4096, 4096),
)  # fmt: skip

# c_in, c_out, size in, kernel, stride, groups, dilation
CONVOLUTIONS = (
    (3, 64, 224, 7, 2, 1, 1), (64, 64, 56, 1, 1, 1, 1), (64, 64, 56, 3, 1, 1, 1), (64, 256, 56, 1, 1, 1, 1),
    (256, 128, 56, 1, 1, 1, 1), (128, 128, 56, 3, 2, 1, 1), (512, 128, 28, 1, 1, 1, 1), (128, 128, 28, 3, 1, 1, 1),
    (128, 512, 28, 1, 1, 1, 1), (256, 512, 56, 1, 2, 1, 1), (256, 256, 14, 3, 1, 1, 1), (1024, 256, 14, 1, 1, 1, 1),
    (1024, 2048, 14, 1, 2, 1, 1), (512, 512, 7, 3, 1, 1, 1), (512, 2048, 7, 1, 1, 1, 1), (2048, 512, 7, 1, 1, 1, 1),
    (3, 64, 224, 3, 1, 1, 1), (64, 64, 224, 3, 1, 1, 1), (128, 128, 112, 3, 1, 1, 1), (256, 256, 56, 3, 1, 1, 1),
    (512, 512, 28, 3, 1, 1, 1), (512, 512, 14, 3, 1, 1, 1), (128, 32, 28, 3, 1, 1, 1), (896, 128, 7, 1, 1, 1, 1),
    (3, 32, 224, 3, 2, 1, 1), (32, 32, 112, 3, 1, 32, 1), (32, 16, 112, 1, 1, 1, 1), (16, 96, 112, 1, 1, 1, 1),
    (96, 96, 112, 3, 2, 96, 1), (144, 144, 56, 3, 1, 144, 1), (192, 192, 28, 3, 2, 192, 1), (384, 64, 14, 1, 1, 1, 1),
    (576, 576, 14, 3, 1, 576, 1), (960, 320, 7, 1, 1, 1, 1), (320, 1280, 7, 1, 1, 1, 1), (240, 240, 28, 5, 1, 240, 1),
    (672, 672, 14, 5, 2, 672, 1), (1152, 1152, 7, 5, 1, 1152, 1), (96, 96, 56, 7, 1, 96, 1),
    (192, 192, 28, 7, 1, 192, 1), (384, 384, 14, 7, 1, 384, 1), (768, 768, 7, 7, 1, 768, 1), (3, 96, 224, 4, 4, 1, 1),
    (96, 192, 56, 2, 2, 1, 1), (3, 768, 224, 16, 16, 1, 1), (128, 128, 56, 3, 1, 32, 1), (256, 256, 28, 3, 1, 32, 1),
    (512, 512, 14, 3, 1, 32, 1), (320, 320, 64, 3, 1, 1, 1), (640, 640, 32, 3, 1, 1, 1), (1280, 1280, 16, 3, 1, 1, 1),
    (1280, 1280, 8, 3, 1, 1, 1), (2560, 1280, 16, 3, 1, 1, 1), (960, 320, 64, 3, 1, 1, 1), (4, 320, 64, 3, 1, 1, 1),
    (512, 512, 64, 3, 1, 1, 1), (128, 128, 256, 3, 1, 1, 1), (256, 256, 28, 3, 1, 1, 2), (512, 512, 28, 3, 1, 1, 4),
    (2048, 256, 28, 3, 1, 1, 12), (3, 64, 224, 11, 4, 1, 1), (64, 192, 27, 5, 1, 1, 1), (33, 57, 50, 3, 1, 1, 1),
)  # fmt: skip
CONV_BATCHES = (1, 8, 32, 128, 256)
CONV_TYPES = (("fp32", "tf32"), ("fp32", "fp32"), ("fp16", "fp16"), ("bf16", "bf16"), ("bf16", "bf16"))
CONV_COUNT = 94
CONV_ELEMENTS_MAX = 6e8
CONV_FLOP_MAX = {"fp32": 1.5e12, "tf32": 8e12, "fp16": 1e13, "bf16": 1e13}
# n_batch, c_in, c_out, size, kernel, stride, pad
TRANSPOSED = (
    (8, 1024, 512, 28, 2, 2, 0), (8, 512, 256, 56, 2, 2, 0), (32, 128, 64, 112, 2, 2, 0), (64, 512, 256, 8, 4, 2, 1),
    (64, 256, 128, 16, 4, 2, 1), (1, 64, 3, 256, 4, 2, 1),
)  # fmt: skip
# n_batch, c_in, c_out, length, kernel, stride
CONV_1D = (
    (32, 80, 384, 3000, 3, 1), (32, 384, 384, 3000, 3, 2), (8, 512, 512, 16000, 3, 2), (16, 256, 256, 8192, 7, 1),
)  # fmt: skip
# n_batch, c_in, c_out, depth, size, kernel, stride
CONV_3D = ((8, 3, 64, 16, 112, 3, 1), (8, 64, 64, 16, 56, 3, 1), (8, 128, 128, 8, 28, 3, 1), (2, 32, 64, 64, 64, 3, 2))

HEADS = (
    (32, 8, 128), (32, 32, 128), (12, 12, 64), (16, 16, 64), (28, 4, 128), (24, 8, 128), (16, 16, 80), (40, 40, 96),
    (32, 8, 64), (8, 1, 128), (64, 8, 128),
)  # fmt: skip
PREFILL_LENGTHS = (64, 128, 197, 256, 512, 577, 1024, 2048, 4096, 8192, 16384)
PREFILL_COUNT, DECODE_COUNT = 34, 27
TOKENS_MAX = 65536
DECODE_LENGTHS = (128, 512, 777, 1024, 2048, 4096, 8192, 16384, 32768)
DECODE_BATCHES = (1, 2, 8, 16, 32, 64, 128, 256)
DECODE_BYTES_MAX = 6e9
# b, s_q, s_kv, heads, head_dim
CROSS = (
    (2, 4096, 77, 8, 40), (8, 1024, 77, 8, 80), (16, 4096, 77, 10, 64), (8, 448, 1500, 12, 64), (32, 128, 512, 16, 64),
    (1, 256, 8192, 32, 128), (8, 16, 2048, 32, 128), (64, 4, 1024, 32, 128),
)  # fmt: skip

NORM_SHAPES = (
    (1, 4096), (32, 4096), (2048, 4096), (16384, 4096), (4096, 768), (25216, 768), (65536, 768), (8192, 1024),
    (65536, 1024), (2048, 8192), (200704, 96), (512, 3584),
)  # fmt: skip
IMAGE_SHAPES = (
    (32, 64, 112), (32, 256, 56), (128, 512, 28), (8, 1024, 14), (2, 320, 64), (8, 640, 32), (4, 128, 256),
    (1, 1280, 16),
)  # fmt: skip
SOFTMAX_SHAPES = (
    (6144, 512), (49152, 128), (75648, 197), (65536, 1024), (32768, 2048), (8192, 8192), (64, 128256), (512, 50257),
    (4096, 1000), (128, 1000), (200704, 49), (1, 151936), (1024, 32768), (262144, 64), (2048, 2048),
)  # fmt: skip
REDUCE_SHAPES = ((1024, 1024), (16384, 4096), (65536, 768), (256, 100000), (1000000, 64), (4096, 49), (100, 100))
REDUCTIONS = ("mean_last", "sum_last", "max_last", "mean_first", "max_first", "sum_all", "norm_last")
SCANS = (
    ("cumsum", 4096, 4096), ("cumsum", 64, 1000000), ("topk_8", 16384, 256), ("topk_50", 64, 128256),
    ("sort", 1024, 4096),
    ("sort", 1, 10000000), ("argmax", 64, 128256), ("argmax", 65536, 1000), ("sort", 64, 128256), ("topk_8", 4096, 64),
)  # fmt: skip
ELEMENTS = (10240, 102400, 1048576, 4194304, 16777216, 67108864, 268435456, 1000000512)
UNARY = ("relu", "gelu", "gelu_tanh", "silu", "hardswish", "sigmoid", "tanh", "exp", "rsqrt", "scale")
BINARY = ("add", "mul", "add_bias", "mul_bias", "div")
TERNARY = ("addcmul", "lerp")
POINTWISE_ROUNDS = 3
FUSED = (("chain", 16777216), ("swiglu", 67108864), ("fused_rms_norm", 67108864), ("chain", 1048576))
# function, n_batch, c_in, size, kernel, stride, pad
POOLINGS = (
    ("max", 32, 64, 112, 3, 2, 1), ("max", 128, 64, 224, 2, 2, 0), ("max", 256, 192, 27, 3, 2, 0),
    ("max", 1, 64, 112, 3, 2, 1), ("max", 32, 512, 28, 2, 2, 0), ("avg", 32, 128, 56, 2, 2, 0),
    ("avg", 128, 256, 28, 2, 2, 0), ("avg", 32, 288, 35, 3, 1, 1), ("adaptive_avg", 128, 2048, 7, 1, 1, 0),
    ("adaptive_avg", 256, 1280, 7, 1, 1, 0), ("adaptive_avg", 32, 512, 14, 7, 1, 0),
    ("adaptive_avg", 1, 2048, 7, 1, 1, 0),
    ("max", 8, 1024, 19, 5, 1, 2), ("avg", 8, 64, 224, 2, 2, 0), ("adaptive_avg", 32, 96, 112, 1, 1, 0),
)  # fmt: skip
UPSAMPLINGS = (
    ("nearest", 2, 1280, 16), ("nearest", 2, 320, 64), ("nearest", 32, 256, 28), ("bilinear", 8, 21, 256),
    ("bilinear", 8, 256, 64), ("bilinear", 1, 512, 64), ("bicubic", 8, 3, 256), ("pixel_shuffle", 8, 256, 128),
)  # fmt: skip
MOVES = (
    ("copy", 1024, 1024), ("copy", 16384, 4096), ("copy", 65536, 16384), ("transpose", 4096, 4096),
    ("transpose", 16384, 4096), ("transpose", 1000000, 64), ("permute_heads", 16384, 4096),
    ("permute_heads", 2048, 768),
    ("to_fp32", 16384, 4096), ("to_bf16", 16384, 4096), ("to_fp8", 16384, 4096), ("concat_rows", 8192, 4096),
    ("concat_cols", 8192, 4096), ("concat_cols", 65536, 64), ("pad_cols", 65536, 224), ("roll_cols", 65536, 768),
    ("take_half", 65536, 512),
)  # fmt: skip
LAYOUT_MOVES = (("to_nhwc", 32, 256, 56, "nchw"), ("to_nchw", 32, 256, 56, "nhwc"), ("to_nhwc", 128, 3, 224, "nchw"))
# function, table_rows, cols, indices
GATHERS = (
    ("embedding", 128256, 4096, 1), ("embedding", 128256, 4096, 64), ("embedding", 128256, 4096, 2048),
    ("embedding", 128256, 4096, 16384), ("embedding", 30522, 768, 4096), ("embedding", 30522, 768, 65536),
    ("embedding", 50257, 1600, 1024), ("embedding", 1000000, 64, 65536), ("embedding", 10000000, 128, 262144),
    ("embedding_bag", 10000000, 64, 524288), ("embedding_bag", 1000000, 128, 65536),
    ("index_select", 65536, 4096, 8192),
    ("index_select", 4000000, 256, 1000000), ("index_select", 131072, 1024, 65536), ("index_select", 16384, 4096, 4096),
)  # fmt: skip
# function, b, s_q, cols, hidden, layers
RECURRENT = (
    ("lstm", 32, 128, 512, 512, 1), ("lstm", 64, 256, 1024, 1024, 2), ("lstm", 1, 100, 256, 256, 2),
    ("gru", 32, 128, 512, 512, 1), ("gru", 128, 64, 768, 768, 2), ("lstm", 256, 32, 2048, 2048, 1),
)  # fmt: skip

FIRST_SEED = 20
HOT_SHARE, HOT_ELEMENTS_MAX = 0.35, 1.2e7
LIGHT_FLOP, LIGHT_ELEMENTS = 2e10, 3e7


@dataclass(frozen=True)
class LayerCase:
    """One layer to measure. `cold` asks for operands rotated through more memory than the cache holds."""

    case_id: str
    kind: str
    op: str
    dtype: str
    math: str
    params: Params = field(default_factory=dict)
    cold: bool = True


Draft = tuple[str, str, str, str, Params]


def gemm_drafts(rng: random.Random) -> Iterator[Draft]:
    """Matrix products: op by type, rows awkward or log-uniform, (n, k) of real layers or random."""
    for name, count in GEMM_TYPES:
        for _ in range(count):
            rows = rng.choice(AWKWARD_ROWS) if rng.random() < 0.65 else round(2 ** rng.uniform(0, 14))
            yield gemm_draft(rng, name, rows)
    for count, m, n, k in BATCHED:
        dtype = rng.choice(("bf16", "bf16", "fp16"))
        yield "gemm", "bmm", dtype, dtype, {"batch_count": count, "m": m, "n": n, "k": k}


def gemm_draft(rng: random.Random, name: str, rows: int) -> Draft:
    """One matrix product; the narrow types need aligned sizes."""
    if name in ("fp8", "int8"):
        n, k = rng.choice(ALIGNED_SIZES)
        return "gemm", f"gemm_{name}", name, name, {"m": max(32, rows), "n": n, "k": k}
    n, k = rng.choice(LINEAR_SIZES) if rng.random() < 0.8 else (rng.randrange(16, 9000), rng.randrange(16, 9000))
    return "gemm", "gemm", "fp32" if name == "tf32" else name, name, {"m": rows, "n": n, "k": k}


def conv_drafts(rng: random.Random) -> Iterator[Draft]:
    """2-d convolutions over every table row first, then the transposed, 1-d and 3-d ones."""
    rows = [*CONVOLUTIONS, *rng.choices(CONVOLUTIONS, k=max(0, CONV_COUNT - len(CONVOLUTIONS)))]
    for row in rows:
        yield conv_2d(rng, *row)
    for n, c_in, c_out, size, kernel, stride, pad in TRANSPOSED:
        square = {"h": size, "w": size, "kernel_h": kernel, "kernel_w": kernel}
        dtype, arithmetic = rng.choice(CONV_TYPES)
        yield "conv", "conv_transpose2d", dtype, arithmetic, conv_params(n, c_in, c_out, stride, pad, square)
    for n, c_in, c_out, length, kernel, stride in CONV_1D:
        params = conv_params(n, c_in, c_out, stride, kernel // 2, {"w": length, "kernel_w": kernel})
        yield "conv", "conv1d", "bf16", "bf16", params
    for n, c_in, c_out, depth, size, kernel, stride in CONV_3D:
        cube = {"depth": depth, "h": size, "w": size, "kernel_d": kernel, "kernel_h": kernel, "kernel_w": kernel}
        yield "conv", "conv3d", "fp16", "fp16", conv_params(n, c_in, c_out, stride, kernel // 2, cube)


def conv_2d(
    rng: random.Random, c_in: int, c_out: int, size: int, kernel: int, stride: int, groups: int, dilation: int
) -> Draft:
    """One convolution at a batch, type and layout that keep its memory and time bounded."""
    dtype, arithmetic = rng.choice(CONV_TYPES)
    per_image = max(c_in * size**2, c_out * (size // stride) ** 2)
    flop_image = 2 * c_out * c_in / groups * kernel**2 * (size // stride) ** 2
    largest = min(CONV_ELEMENTS_MAX / per_image, CONV_FLOP_MAX[arithmetic] / flop_image)
    batch = rng.choice([count for count in CONV_BATCHES if count <= largest] or [1])
    pad = 0 if stride == kernel else dilation * (kernel // 2)
    shape = {"h": size, "w": size, "kernel_h": kernel, "kernel_w": kernel}
    params = conv_params(batch, c_in, c_out, stride, pad, shape)
    layout = rng.choice(("nchw", "nhwc"))
    return "conv", "conv2d", dtype, arithmetic, params | {"groups": groups, "dilation": dilation, "layout": layout}


def conv_params(n: int, c_in: int, c_out: int, stride: int, pad: int, shape: Params) -> Params:
    """Columns of a dense convolution."""
    common = {"n_batch": n, "c_in": c_in, "c_out": c_out, "stride": stride, "pad": pad}
    return common | shape | {"groups": 1, "dilation": 1, "layout": "nchw"}


def attention_drafts(rng: random.Random) -> Iterator[Draft]:
    """Prefill (causal and full), decode and cross attention."""
    for _ in range(PREFILL_COUNT):
        length = rng.choice(PREFILL_LENGTHS)
        batch = rng.choice([count for count in (1, 2, 4, 8, 32, 128) if count * length <= TOKENS_MAX])
        yield attention_draft(rng, batch, length, length, rng.choice(HEADS), rng.randrange(2))
    for _ in range(DECODE_COUNT):
        heads, length = rng.choice(HEADS), rng.choice(DECODE_LENGTHS)
        bytes_each = 4 * length * heads[1] * heads[2]
        batch = rng.choice([count for count in DECODE_BATCHES if count * bytes_each <= DECODE_BYTES_MAX])
        yield attention_draft(rng, batch, 1, length, heads, 0)
    for batch, s_q, s_kv, count, head_dim in CROSS:
        yield attention_draft(rng, batch, s_q, s_kv, (count, count, head_dim), 0)


def attention_draft(rng: random.Random, b: int, s_q: int, s_kv: int, heads: tuple[int, int, int], causal: int) -> Draft:
    dtype = rng.choice(("bf16", "bf16", "fp16"))
    shape = {"heads": heads[0], "kv_heads": heads[1], "head_dim": heads[2], "causal": causal}
    return "attention", "attention", dtype, dtype, {"b": b, "s_q": s_q, "s_kv": s_kv} | shape


def float_type(rng: random.Random) -> str:
    return rng.choice(("bf16", "bf16", "fp32", "fp16"))


def norm_drafts(rng: random.Random) -> Iterator[Draft]:
    """Layer, RMS, batch (inference) and group normalisation."""
    for op in ("layer_norm", "rms_norm"):
        for rows, cols in rng.sample(NORM_SHAPES, 10):
            dtype = float_type(rng)
            yield "norm", op, dtype, dtype, {"rows": rows, "cols": cols}
    for op in ("batch_norm", "group_norm"):
        for shape in IMAGE_SHAPES:
            dtype = float_type(rng)
            layout = rng.choice(("nchw", "nhwc"))
            groups = 32 if op == "group_norm" else 1
            yield "norm", op, dtype, dtype, image_params(*shape, layout) | {"groups": groups}


def image_params(n: int, channels: int, size: int, layout: str) -> Params:
    return {"n_batch": n, "c_in": channels, "h": size, "w": size, "layout": layout}


def row_drafts(rng: random.Random) -> Iterator[Draft]:
    """Softmax, reductions, scans and moves over matrices."""
    for rows, cols in SOFTMAX_SHAPES:
        yield row_draft("softmax", rng.choice(("softmax", "softmax", "log_softmax")), float_type(rng), rows, cols)
    for index in range(15):
        rows, cols = REDUCE_SHAPES[index % len(REDUCE_SHAPES)]
        yield row_draft("reduce", rng.choice(REDUCTIONS), float_type(rng), rows, cols)
    for function, rows, cols in SCANS:
        yield row_draft("scan", function, rng.choice(("bf16", "fp32")), rows, cols)
    for function, rows, cols in MOVES:
        dtype = "fp32" if function == "to_bf16" else rng.choice(("bf16", "bf16", "fp32"))
        yield row_draft("move", function, "bf16" if function == "to_fp32" else dtype, rows, cols)


def row_draft(kind: str, function: str, dtype: str, rows: int, cols: int) -> Draft:
    return kind, "rows", dtype, dtype, {"rows": rows, "cols": cols, "function": function}


def pointwise_drafts(rng: random.Random) -> Iterator[Draft]:
    """Elementwise functions of one to three operands, and fused chains."""
    table = [(name, 1) for name in UNARY] + [(name, 2) for name in BINARY] + [(name, 3) for name in TERNARY]
    for _ in range(POINTWISE_ROUNDS):
        for function, operands in table:
            dtype = rng.choice(("bf16", "fp32"))
            params = {"elements": rng.choice(ELEMENTS), "operands": operands, "function": function}
            yield "pointwise", "pointwise", dtype, dtype, params
    for function, elements in FUSED:
        params = {"elements": elements, "operands": 2, "function": function, "fused": 1}
        yield "pointwise", "pointwise", "bf16", "bf16", params


def image_drafts(rng: random.Random) -> Iterator[Draft]:
    """Pooling, upsampling and layout changes of images."""
    for function, n, channels, size, kernel, stride, pad in POOLINGS:
        window = {"kernel_h": kernel, "kernel_w": kernel, "stride": stride, "pad": pad, "function": function}
        yield image_draft("pool", rng, image_params(n, channels, size, rng.choice(("nchw", "nhwc"))) | window)
    for function, n, channels, size in UPSAMPLINGS:
        yield image_draft("upsample", rng, image_params(n, channels, size, "nchw") | {"function": function})
    for function, n, channels, size, layout in LAYOUT_MOVES:
        yield image_draft("move", rng, image_params(n, channels, size, layout) | {"function": function})


def image_draft(kind: str, rng: random.Random, params: Params) -> Draft:
    dtype = float_type(rng)
    return kind, "image", dtype, dtype, params


def other_drafts(rng: random.Random) -> Iterator[Draft]:
    """Gathers and recurrent layers."""
    for function, table_rows, cols, indices in GATHERS:
        dtype = rng.choice(("bf16", "fp32"))
        params = {"table_rows": table_rows, "cols": cols, "indices": indices, "function": function}
        yield "gather", "gather", dtype, dtype, params
    for function, b, s_q, cols, hidden, layers in RECURRENT:
        params = {"b": b, "s_q": s_q, "cols": cols, "hidden": hidden, "layers": layers, "function": function}
        dtype = rng.choice(("fp16", "fp32", "bf16"))
        yield "recurrent", "recurrent", dtype, "tf32" if dtype == "fp32" else dtype, params


SOURCES = (
    gemm_drafts, conv_drafts, attention_drafts, norm_drafts, row_drafts, pointwise_drafts, image_drafts, other_drafts
)  # fmt: skip


def default_cases(device: str, seed: int) -> list[LayerCase]:
    """The built-in list in a seeded order: on a GPU all of it, on other devices what they do in seconds, in fp32."""
    cases = layer_cases(seed)
    if device.partition(":")[0] != "cuda":
        cases = [replace(case, dtype="fp32", math="fp32") for case in cases if is_light(case)]
    return cases


def layer_cases(seed: int) -> list[LayerCase]:
    """All cases, small ones also with their operands in the cache, in a seeded order; other seeds have other names."""
    rng = random.Random(seed)
    drawn = "" if seed == FIRST_SEED else f"-seed{seed}"
    drafts = [draft for source in SOURCES for draft in source(rng)]
    cases = [LayerCase(f"{draft[0]}-{index:03d}{drawn}", *draft) for index, draft in enumerate(drafts)]
    small = [case for case in cases if largest_operand(case.params) < HOT_ELEMENTS_MAX and rng.random() < HOT_SHARE]
    order = [*cases, *(replace(case, case_id=f"{case.case_id}-hot", cold=False) for case in small)]
    rng.shuffle(order)
    return order


def is_light(case: LayerCase) -> bool:
    """Whether a device without tensor units runs a case in seconds."""
    special = (
        case.op in ("gemm_fp8", "gemm_int8") or case.params.get("fused") or case.params.get("function") == "to_fp8"
    )
    return not special and flop(case.op, case.params) < LIGHT_FLOP and largest_operand(case.params) < LIGHT_ELEMENTS


def layer_row(case: LayerCase) -> Params:
    """The columns that a case has before it is measured."""
    names = {"case_id": case.case_id, "kind": case.kind, "op": case.op, "dtype": case.dtype, "math": case.math}
    return names | case.params | {"flop": flop(case.op, case.params)}


def largest_operand(p: Params) -> float:
    """Elements of the largest operand, as far as the columns tell; only small layers have a cached variant."""
    return float(max(math.prod(p.get(name, 1) for name in names) for names in OPERANDS))


OPERANDS = (
    ("batch_count", "m", "k"), ("batch_count", "n", "k"), ("batch_count", "m", "n"),
    ("n_batch", "c_in", "depth", "h", "w"),
    ("n_batch", "c_out", "h", "w"), ("b", "s_kv", "kv_heads", "head_dim"), ("b", "s_q", "heads", "head_dim"),
    ("rows", "cols"), ("table_rows", "cols"), ("elements",), ("hidden", "hidden", "layers"),
)  # fmt: skip
