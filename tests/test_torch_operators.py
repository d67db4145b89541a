"""PyTorch operators that few networks use: their work by hand, by both ways in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch_networks import lowered, meta, traced

from wattir.costs import tabulate
from wattir.frontends.torch.lowering import lower_program
from wattir.frontends.torch.program import Call, Program, TensorRef
from wattir.ir import Graph
from wattir.work import Work

torch = pytest.importorskip("torch")
nn = torch.nn
aten = torch.ops.aten

BOTH = pytest.mark.parametrize("lower", [lowered, traced])
Lower = Callable[[Any, Any], Graph]


class Calls(nn.Module):  # type: ignore[misc, name-defined]
    """A module that is one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def work(lower: Lower, function: Callable[..., Any], *args: Any) -> list[Work]:
    graph = lower(Calls(function), args)
    assert not [op for op in graph.ops if op.kind == "unknown"]
    return tabulate(graph)


# ---- checkpoints ----------------------------------------------------------------------------------------------------


class Block(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Any) -> Any:
        from torch.utils.checkpoint import checkpoint

        return checkpoint(lambda y: self.down(torch.relu(self.up(y))), x, use_reentrant=False)


@BOTH
def test_a_checkpoint_costs_what_is_in_it(lower: Lower) -> None:
    rows = tabulate(lower(Block(), torch.zeros(4, 8)))

    assert [(w.kind, w.macs) for w in rows] == [("matmul", 4 * 8 * 16), ("pointwise", 0), ("matmul", 4 * 16 * 8)]


@pytest.mark.parametrize("target", ["tag_activation_checkpoint", "wrap_activation_checkpoint"])
def test_a_checkpoint_that_is_still_an_operator(target: str) -> None:
    x, weight = TensorRef("x", (4, 8), "fp32"), TensorRef("weight", (16, 8), "fp32")
    inside = [TensorRef(f"body.{name}", ref.shape, "fp32") for name, ref in (("x", x), ("weight", weight))]
    made = TensorRef("body.made", (4, 16), "fp32")
    linear = Call("aten.linear.default", tuple(inside), {}, (made,), "up")
    body = Program("body", tuple(inside), {}, (linear,), (made.name,))
    out = TensorRef("out", (4, 16), "fp32")
    call = Call(f"higher_order.{target}", (body, x, weight), {}, (out,), "checkpoint")
    (row,) = tabulate(lower_program(Program("net", (x,), {"weight": "weight"}, (call,), ("out",), (weight,))))

    assert (row.name, row.macs) == ("up", 4 * 8 * 16)
    assert (row.weight_bytes, row.in_bytes, row.out_bytes) == (16 * 8 * 4, 4 * 8 * 4, 4 * 16 * 4)


# ---- Fourier transforms ---------------------------------------------------------------------------------------------

COMPLEX = 8  # bytes
TRANSFORMS: dict[str, tuple[Callable[..., Any], int, int]] = {
    # 5 n log2 n operations for n points: 5 log2 n for each number that is made, which one-sided ones halve
    "rfft": (torch.fft.rfft, 5 * 6 * 4 * 33, 4 * 33 * COMPLEX),  # 64 points give 33
    "fft": (torch.fft.fft, 5 * 6 * 4 * 64, 4 * 64 * COMPLEX),
    "fft2": (torch.fft.fft2, 5 * 8 * 4 * 64, 4 * 64 * COMPLEX),  # 4 * 64 = 2^8 points at once
    "ifftn": (lambda x: torch.fft.ifftn(x, dim=(0, 1)), 5 * 8 * 4 * 64, 4 * 64 * COMPLEX),
    "fft_of_more": (lambda x: torch.fft.fft(x, n=128), 5 * 7 * 4 * 128, 4 * 128 * COMPLEX),  # padded to 128
    # frames of 16 points every 4: (64 - 16) / 4 + 1 = 13 of 9 numbers each
    "stft": (lambda x: torch.stft(x, 16, 4, window=x[0, :16], center=False, return_complex=True),
             5 * 4 * 4 * 13 * 9, 4 * 13 * 9 * COMPLEX),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", TRANSFORMS)
def test_fourier_transforms(name: str, lower: Lower) -> None:
    function, ops, out_bytes = TRANSFORMS[name]
    (row,) = [w for w in work(lower, function, torch.zeros(4, 64)) if w.kind == "fft"]

    assert (row.ops, row.out_bytes, row.macs) == (ops, out_bytes, 0)


# ---- narrow products ------------------------------------------------------------------------------------------------


def narrow(dtype: str, *shape: int) -> Any:
    return meta(*shape).to(getattr(torch, dtype))


M, N, K = 32, 128, 256
X = M * K * 2  # bytes of x in bf16
SCALES = K // 32 * N * 2 * 2  # a scale and a zero in bf16 for each group of 32

NARROW: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]], str, int, int]] = {
    "int8 weights": (
        aten._weight_int8pack_mm,
        lambda: (narrow("bfloat16", M, K), narrow("int8", N, K), narrow("bfloat16", N)),
        "bf16", X + N * K + N * 2, M * N * 2,  # a byte for each weight, a scale for each column
    ),
    "int4 weights": (  # tiles of [n / 8, k / 128, 32, 4] numbers of 32 bits, 8 weights in each
        lambda x, w, s: aten._weight_int4pack_mm(x, w, 32, s),
        lambda: (narrow("bfloat16", M, K), narrow("int32", N // 8, K // 128, 32, 4), narrow("bfloat16", K // 32, N, 2)),
        "bf16", X + N * K // 2 + SCALES, M * N * 2,
    ),
    "int4 weights on a CPU": (
        lambda x, w, s: aten._weight_int4pack_mm_for_cpu(x, w, 32, s),
        lambda: (torch.zeros(M, K, dtype=torch.bfloat16), torch.zeros(N, K // 2, dtype=torch.uint8),
                 torch.zeros(K // 32, N, 2, dtype=torch.bfloat16)),
        "bf16", X + N * K // 2 + SCALES, M * N * 2,
    ),
    "int8 by int8": (
        torch._int_mm, lambda: (narrow("int8", M, K), narrow("int8", K, N)),
        "int8", M * K + K * N, M * N * 4,  # sums are int32
    ),
    "fp8 by fp8": (
        lambda a, b, s, t: torch._scaled_mm(a, b.t(), s, t, out_dtype=torch.bfloat16),
        lambda: (narrow("float8_e4m3fn", M, K), narrow("float8_e4m3fn", N, K), meta(1)[0], meta(1)[0]),
        "fp8", M * K + K * N + 2 * 4, M * N * 2,  # two scales in fp32
    ),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", NARROW)
def test_narrow_products(name: str, lower: Lower) -> None:
    function, given, math, in_bytes, out_bytes = NARROW[name]
    (row,) = [w for w in work(lower, function, *given()) if w.kind == "matmul"]

    assert (row.math, row.macs, row.in_bytes, row.out_bytes) == (math, M * N * K, in_bytes, out_bytes)


def affine(x: Any, weight: Any, scale: Any, zero: Any) -> Any:
    """What a quantized linear of torchao is in an exported graph: (weight - zero) * scale by groups of 32."""
    wide = (weight.reshape(N, K // 32, 32).to(x.dtype) - zero.to(x.dtype)) * scale
    return nn.functional.linear(x, wide.reshape(N, K))


@BOTH
def test_a_linear_of_affine_weights(lower: Lower) -> None:
    groups = (N, K // 32, 1)
    given = (narrow("bfloat16", M, K), narrow("int8", N, K), narrow("bfloat16", *groups), narrow("int8", *groups))
    rows = work(lower, affine, *given)
    (product,) = [w for w in rows if w.kind == "matmul"]

    assert (product.math, product.macs, product.in_bytes) == ("bf16", M * N * K, X + N * K * 2)
    assert sum(w.ops for w in rows) == 2 * N * K  # less the zero, times the scale


@BOTH
def test_a_linear_of_dequantized_weights(lower: Lower) -> None:
    import torch.ao.quantization.fx._decomposed  # registers the operators

    def function(x: Any, weight: Any, scale: Any, zero: Any) -> Any:
        dequantize = torch.ops.quantized_decomposed.dequantize_per_channel
        return nn.functional.linear(x, dequantize(weight, scale, zero, 0, -128, 127, torch.int8))

    given = (meta(M, K), narrow("int8", N, K), meta(N), meta(N, whole=True))
    step, product = work(lower, function, *given)

    assert (step.kind, step.in_bytes, step.out_bytes) == ("quantize", N * K + N * 4 + N * 8, N * K * 4)
    assert (product.macs, product.in_bytes) == (M * N * K, (M * K + N * K) * 4)


# ---- recurrent layers of libraries ----------------------------------------------------------------------------------

STEPS, ROWS, INPUT, HIDDEN = 10, 3, 8, 16
GATES = 4 * HIDDEN


def cell_weights(size: int) -> list[Any]:
    return [meta(GATES, size), meta(GATES, HIDDEN), meta(GATES), meta(GATES)]


@BOTH
def test_cudnn_lstm(lower: Lower) -> None:
    """Two layers in both directions: the second sees both results of the first."""

    def function(x: Any, weights: Any, h: Any, c: Any) -> Any:
        sizes = (2, HIDDEN, 0, 2)  # lstm, hidden, not projected, layers
        return aten._cudnn_rnn(x, weights, 4, None, h, c, *sizes, False, 0.0, False, True, [], None)[0]

    weights = [t for size in (INPUT, INPUT, 2 * HIDDEN, 2 * HIDDEN) for t in cell_weights(size)]
    states = (meta(4, ROWS, HIDDEN), meta(4, ROWS, HIDDEN))
    first, second = work(lower, function, meta(STEPS, ROWS, INPUT), weights, *states)

    assert first.macs == 2 * STEPS * ROWS * GATES * (INPUT + HIDDEN)
    assert second.macs == 2 * STEPS * ROWS * GATES * (2 * HIDDEN + HIDDEN)
    x, wide = STEPS * ROWS * INPUT, STEPS * ROWS * 2 * HIDDEN
    held = [2 * GATES * (size + HIDDEN + 2) for size in (INPUT, 2 * HIDDEN)]
    assert first.in_bytes == 4 * (x + held[0] + 2 * 4 * ROWS * HIDDEN)  # and both states of all layers
    assert second.in_bytes == 4 * (wide + held[1])


@BOTH
def test_cudnn_lstm_of_packed_rows(lower: Lower) -> None:
    def function(x: Any, weights: Any, h: Any, c: Any) -> Any:
        sizes = (2, HIDDEN, 0, 1)
        return aten._cudnn_rnn(x, weights, 4, None, h, c, *sizes, False, 0.0, False, False, [3, 3, 1], None)[0]

    states = (meta(1, 3, HIDDEN), meta(1, 3, HIDDEN))
    (row,) = work(lower, function, meta(7, INPUT), cell_weights(INPUT), *states)

    assert row.macs == 7 * GATES * (INPUT + HIDDEN)  # 3 + 3 + 1 rows


@BOTH
def test_mkldnn_lstm(lower: Lower) -> None:
    def function(x: Any, a: Any, b: Any, c: Any, d: Any, h: Any, k: Any) -> Any:
        return aten.mkldnn_rnn_layer(x, a, b, c, d, h, k, False, [], 2, HIDDEN, 1, True, False, False, False)[0]

    given = (meta(STEPS, ROWS, INPUT), *cell_weights(INPUT), meta(ROWS, HIDDEN), meta(ROWS, HIDDEN))
    (row,) = work(lower, function, *given)

    assert row.macs == STEPS * ROWS * GATES * (INPUT + HIDDEN)
    held = GATES * (INPUT + HIDDEN + 2) + 2 * ROWS * HIDDEN
    assert row.in_bytes == 4 * (STEPS * ROWS * INPUT + held)


# ---- state-space models ---------------------------------------------------------------------------------------------

BATCH, WIDE, LONG, STATE, TAPS = 2, 32, 64, 16, 4


@pytest.fixture
def mamba() -> Iterator[None]:
    """The operators of Mamba's packages: what they are called with, and the shapes they give."""
    scan, conv, into = (torch.library.Library(name, "FRAGMENT") for name in ("mamba_ssm", "causal_conv1d", "DaoAILab"))
    scan.define("selective_scan_fwd(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D) -> Tensor")
    conv.define("causal_conv1d_fwd(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
    into.define("_causal_conv1d_fwd_cpp(Tensor x, Tensor weight, Tensor? bias, Tensor(a!) out) -> ()")
    give = torch.library.register_fake
    give("mamba_ssm::selective_scan_fwd", lambda u, delta, A, B, C, D: torch.empty_like(u), lib=scan)
    give("causal_conv1d::causal_conv1d_fwd", lambda x, weight, bias: torch.empty_like(x), lib=conv)
    give("DaoAILab::_causal_conv1d_fwd_cpp", lambda x, weight, bias, out: None, lib=into)
    yield
    for library in (scan, conv, into):
        library._destroy()


def mixer(x: Any, weight: Any, bias: Any, a: Any, b: Any) -> Any:
    u = torch.ops.causal_conv1d.causal_conv1d_fwd(x, weight, bias)
    return torch.ops.mamba_ssm.selective_scan_fwd(u, u, a, b, b, None)


def mixer_that_writes(x: Any, weight: Any, bias: Any, a: Any, b: Any) -> Any:
    u = torch.empty_like(x)
    torch.ops.DaoAILab._causal_conv1d_fwd_cpp(x, weight, bias, u)
    return torch.ops.mamba_ssm.selective_scan_fwd(u, u, a, b, b, None)


@BOTH
@pytest.mark.parametrize("function", [mixer, mixer_that_writes])
@pytest.mark.usefixtures("mamba")
def test_mamba(function: Callable[..., Any], lower: Lower) -> None:
    given = (meta(BATCH, WIDE, LONG), meta(WIDE, TAPS), meta(WIDE), meta(WIDE, STATE), meta(BATCH, STATE, LONG))
    conv, scan = [w for w in work(lower, function, *given) if w.kind in ("conv", "scan")]

    x = BATCH * WIDE * LONG
    assert conv.macs == x * TAPS  # depthwise
    assert (conv.in_bytes, conv.out_bytes) == (4 * (x + WIDE * TAPS + WIDE), 4 * x)
    # at each step, of each number of state: exp(delta a) as a product, times the state, delta b u, their sum, times c
    assert scan.ops == x * STATE * 6
    assert scan.in_bytes == 4 * (x + WIDE * STATE + BATCH * STATE * LONG)  # u is delta too, b is c too: once each


# ---- in place -------------------------------------------------------------------------------------------------------


@BOTH
def test_an_operator_in_place_is_that_operator(lower: Lower) -> None:
    """Passes recognise functions by name, whether or not a network saves the memory."""
    graph = lower(Calls(lambda x: torch.rand_like(x).uniform_().sub_(x).relu_().mul_(x)), (torch.zeros(4, 8),))

    named = [(op.kind, op.attrs["function"]) for op in graph.ops]
    assert named[-4:] == [("random", "uniform"), ("pointwise", "sub"), ("pointwise", "relu"), ("pointwise", "mul")]
