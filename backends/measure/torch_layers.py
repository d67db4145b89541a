"""How PyTorch runs each layer case: its tensors and its call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from .flops import Params, conv_kernel

DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8": torch.float8_e4m3fn,
    "int8": torch.int8,
}
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
INDEX_BYTES = 8


@dataclass(frozen=True)
class Plan:
    """A layer ready to run: `make` builds one copy of its operands, `run` calls it on one copy.

    `bytes_read` says what a call must read where that is less than all of its operands.
    """

    make: Callable[[], tuple[Any, ...]]
    run: Callable[..., Any]
    bytes_read: float | None = None


@dataclass(frozen=True)
class Maker:
    """Builds random operands of one type on one device."""

    device: str
    dtype: torch.dtype
    compiled: bool = True

    def normal(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Normal data times `scale`; types without a sampler are converted from fp32."""
        if self.dtype == torch.int8:
            return torch.randint(-127, 128, shape, device=self.device, dtype=torch.int8)
        if self.dtype == torch.float8_e4m3fn:
            return torch.randn(shape, device=self.device).to(self.dtype)
        return torch.empty(shape, device=self.device, dtype=self.dtype).normal_(0.0, scale)

    def index(self, high: int, *shape: int) -> torch.Tensor:
        """Uniform int64 indices below `high`."""
        return torch.randint(high, shape, device=self.device)

    def image(self, p: Params, channels: int) -> torch.Tensor:
        """Activations of a convolution or pooling layer in the layout asked for."""
        sizes = [p[name] for name in ("depth", "h", "w") if name in p]
        return in_layout(self.normal(p["n_batch"], channels, *sizes), p["layout"])

    def fuse(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function compiled for fixed shapes (or as it is, where compiling is off)."""
        return torch.compile(function, dynamic=False) if self.compiled else function


def in_layout(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """Strides of `nhwc` tensors run channels first; other layouts stay."""
    if layout != "nhwc" or tensor.dim() not in LAYOUTS:
        return tensor
    return tensor.contiguous(memory_format=LAYOUTS[tensor.dim()])


def gemm(p: Params, mk: Maker) -> Plan:
    m, n, k = p["m"], p["n"], p["k"]
    return Plan(lambda: (mk.normal(m, k), mk.normal(n, k, scale=k**-0.5)), F.linear)


def gemm_fp8(p: Params, mk: Maker) -> Plan:
    m, n, k = p["m"], p["n"], p["k"]
    one = torch.ones((), device=mk.device)

    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    return Plan(lambda: (mk.normal(m, k), mk.normal(n, k)), run)


def gemm_int8(p: Params, mk: Maker) -> Plan:
    m, n, k = p["m"], p["n"], p["k"]
    return Plan(lambda: (mk.normal(m, k), mk.normal(n, k)), lambda a, b: torch._int_mm(a, b.t()))


def bmm(p: Params, mk: Maker) -> Plan:
    m, n, k, count = p["m"], p["n"], p["k"], p["batch_count"]
    return Plan(lambda: (mk.normal(count, m, k), mk.normal(count, k, n, scale=k**-0.5)), torch.bmm)


def conv(p: Params, mk: Maker) -> Plan:
    kernel = conv_kernel(p)
    fan_in = p["c_in"] // p["groups"] * math.prod(kernel)
    settings = {name: p[key] for name, key in CONV_SETTINGS}
    function = CONVOLUTIONS[len(kernel)]

    def make() -> tuple[Any, ...]:
        weight = mk.normal(p["c_out"], p["c_in"] // p["groups"], *kernel, scale=fan_in**-0.5)
        return mk.image(p, p["c_in"]), in_layout(weight, p["layout"])

    return Plan(make, lambda x, w: function(x, w, **settings))


CONV_SETTINGS = (("stride", "stride"), ("padding", "pad"), ("dilation", "dilation"), ("groups", "groups"))


def conv_transpose(p: Params, mk: Maker) -> Plan:
    kernel = conv_kernel(p)
    scale = (p["c_in"] * math.prod(kernel)) ** -0.5

    def make() -> tuple[Any, ...]:
        weight = mk.normal(p["c_in"], p["c_out"], *kernel, scale=scale)
        return mk.image(p, p["c_in"]), in_layout(weight, p["layout"])

    return Plan(make, lambda x, w: F.conv_transpose2d(x, w, stride=p["stride"], padding=p["pad"]))


def attention(p: Params, mk: Maker) -> Plan:
    query = (p["b"], p["heads"], p["s_q"], p["head_dim"])
    key = (p["b"], p["kv_heads"], p["s_kv"], p["head_dim"])
    settings = {"is_causal": bool(p["causal"]), "enable_gqa": p["heads"] != p["kv_heads"]}

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, **settings)

    return Plan(lambda: (mk.normal(*query), mk.normal(*key), mk.normal(*key)), run)


def layer_norm(p: Params, mk: Maker) -> Plan:
    cols = p["cols"]
    return Plan(
        lambda: (mk.normal(p["rows"], cols), mk.normal(cols), mk.normal(cols)),
        lambda x, w, b: F.layer_norm(x, (cols,), w, b),
    )


def rms_norm(p: Params, mk: Maker) -> Plan:
    cols = p["cols"]
    return Plan(lambda: (mk.normal(p["rows"], cols), mk.normal(cols)), lambda x, w: F.rms_norm(x, (cols,), w))


def batch_norm(p: Params, mk: Maker) -> Plan:
    channels = p["c_in"]

    def make() -> tuple[Any, ...]:
        variance = mk.normal(channels).abs() + 0.5
        return mk.image(p, channels), mk.normal(channels), variance, mk.normal(channels), mk.normal(channels)

    return Plan(make, lambda x, mean, var, w, b: F.batch_norm(x, mean, var, w, b))


def group_norm(p: Params, mk: Maker) -> Plan:
    channels = p["c_in"]
    return Plan(
        lambda: (mk.image(p, channels), mk.normal(channels), mk.normal(channels)),
        lambda x, w, b: F.group_norm(x, p["groups"], w, b),
    )


ROW_FUNCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "mean_last": lambda x: x.mean(-1),
    "sum_last": lambda x: x.sum(-1),
    "max_last": lambda x: x.amax(-1),
    "mean_first": lambda x: x.mean(0),
    "max_first": lambda x: x.amax(0),
    "sum_all": lambda x: x.sum(),
    "norm_last": lambda x: torch.linalg.vector_norm(x, dim=-1),
    "cumsum": lambda x: x.cumsum(-1),
    "topk_8": lambda x: x.topk(8, -1),
    "topk_50": lambda x: x.topk(min(50, x.shape[-1]), -1),
    "sort": lambda x: x.sort(-1),
    "argmax": lambda x: x.argmax(-1),
    "copy": lambda x: x.clone(),
    "transpose": lambda x: x.t().contiguous(),
    "permute_heads": lambda x: x.view(x.shape[0], -1, 64).transpose(0, 1).contiguous(),
    "to_fp32": lambda x: x.float(),
    "to_bf16": lambda x: x.bfloat16(),
    "to_fp8": lambda x: x.to(torch.float8_e4m3fn),
    "concat_rows": lambda x: torch.cat((x, x)),
    "concat_cols": lambda x: torch.cat((x, x), -1),
    "pad_cols": lambda x: F.pad(x, (4, 4)),
    "roll_cols": lambda x: x.roll(3, -1),
    "take_half": lambda x: x[:, ::2].contiguous(),
}


def by_rows(p: Params, mk: Maker) -> Plan:
    return Plan(lambda: (mk.normal(p["rows"], p["cols"]),), ROW_FUNCTIONS[p["function"]])


def chain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.gelu(x * 1.25 + 0.5, approximate="tanh") + y


def swiglu(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.silu(x) * y


def fused_rms_norm(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    total = x + y
    return total * torch.rsqrt(total.float().pow(2).mean(-1, keepdim=True) + 1e-5).to(x.dtype)


POINTWISE: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "add_bias": torch.add,
    "mul_bias": torch.mul,
    "div": torch.div,
    "addcmul": torch.addcmul,
    "lerp": torch.lerp,
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "rsqrt": lambda x: torch.rsqrt(x),
    "scale": lambda x: x * 1.25,
    "chain": chain,
    "swiglu": swiglu,
    "fused_rms_norm": fused_rms_norm,
}
POSITIVE = {"rsqrt"}
ROW_ELEMENTS = 1024


def pointwise(p: Params, mk: Maker) -> Plan:
    rows = max(1, p["elements"] // ROW_ELEMENTS)
    bias = p["function"].endswith("_bias")
    function = POINTWISE[p["function"]]

    def operand(position: int) -> torch.Tensor:
        data = mk.normal(ROW_ELEMENTS) if bias and position else mk.normal(rows, ROW_ELEMENTS)
        return data.abs_().add_(0.1) if p["function"] in POSITIVE else data

    run = mk.fuse(function) if p.get("fused") else function
    return Plan(lambda: tuple(operand(i) for i in range(p["operands"])), run)


POOLS: dict[str, Callable[[torch.Tensor, Params], torch.Tensor]] = {
    "max": lambda x, p: F.max_pool2d(x, p["kernel_h"], p["stride"], p["pad"]),
    "avg": lambda x, p: F.avg_pool2d(x, p["kernel_h"], p["stride"], p["pad"]),
    "adaptive_avg": lambda x, p: F.adaptive_avg_pool2d(x, p["kernel_h"]),
    "nearest": lambda x, p: F.interpolate(x, scale_factor=2, mode="nearest"),
    "bilinear": lambda x, p: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "bicubic": lambda x, p: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False),
    "to_nhwc": lambda x, p: x.contiguous(memory_format=torch.channels_last),
    "to_nchw": lambda x, p: x.contiguous(),
    "pixel_shuffle": lambda x, p: F.pixel_shuffle(x, 2),
}


def by_image(p: Params, mk: Maker) -> Plan:
    return Plan(lambda: (mk.image(p, p["c_in"]),), lambda x: POOLS[p["function"]](x, p))


GATHERS: dict[str, Callable[..., torch.Tensor]] = {
    "embedding": lambda table, index: F.embedding(index, table),
    "index_select": lambda table, index: table.index_select(0, index),
    "embedding_bag": lambda table, index: F.embedding_bag(index.view(-1, 32), table, mode="sum"),
}


def gather(p: Params, mk: Maker) -> Plan:
    row_bytes = p["cols"] * torch.empty((), dtype=mk.dtype).element_size()
    return Plan(
        lambda: (mk.normal(p["table_rows"], p["cols"]), mk.index(p["table_rows"], p["indices"])),
        GATHERS[p["function"]],
        p["indices"] * (row_bytes + INDEX_BYTES),
    )


RECURRENT: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def recurrent(p: Params, mk: Maker) -> Plan:
    module = RECURRENT[p["function"]]

    def make() -> tuple[Any, ...]:
        layer = module(p["cols"], p["hidden"], p["layers"], batch_first=True, device=mk.device, dtype=mk.dtype)
        return mk.normal(p["b"], p["s_q"], p["cols"]), layer.eval()

    return Plan(make, lambda x, layer: layer(x)[0])


BUILDERS: dict[str, Callable[[Params, Maker], Plan]] = {
    "gemm": gemm,
    "gemm_fp8": gemm_fp8,
    "gemm_int8": gemm_int8,
    "bmm": bmm,
    "conv1d": conv,
    "conv2d": conv,
    "conv3d": conv,
    "conv_transpose2d": conv_transpose,
    "attention": attention,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "rows": by_rows,
    "pointwise": pointwise,
    "image": by_image,
    "gather": gather,
    "recurrent": recurrent,
}
