"""Layers that mix positions: attention, latent attention, state spaces, gated delta nets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wattir.dims import Size, product
from wattir.frontends.configs.architecture import (
    Attention,
    Beside,
    DeltaNet,
    FirstMamba,
    Index,
    KimiDelta,
    LatentAttention,
    Mamba,
    Mixer,
    ShortConv,
)
from wattir.frontends.configs.writer import Writer
from wattir.kinds import DTYPE_BYTES

STATE_DTYPE = "fp32"
"""Of recurrent states: the mamba_ssm and fla kernels keep them in 32 bits."""
DELTA: Mapping[str, Any] = {"function": "gated_delta", "ops": 8, "chunk": 64}
"""Of gated delta nets, in the chunks of fla's kernels."""


@dataclass(frozen=True)
class Span:
    """`new` tokens of each of `batch` texts after `past` in a cache; `cached`: the new ones are put there too."""

    batch: Size
    new: Size
    past: Size = 0
    cached: bool = False
    causal: bool = True

    @property
    def keys(self) -> Size:
        """Positions that a query may see."""
        return self.past + self.new

    @property
    def one_token(self) -> bool:
        """Whether this is a decode step, where latent attention works on the latents themselves."""
        return self.new == 1 and self.cached


def mix(w: Writer, x: str, mixer: Mixer, span: Span, rotary: tuple[str, ...]) -> str:
    """x [b, s, hidden] -> [b, s, hidden], before the sum over devices."""
    match mixer:
        case Attention():
            return _attention(w, x, mixer, span, rotary)
        case LatentAttention():
            return _latent(w, x, mixer, span, rotary)
        case Mamba():
            return _mamba(w, x, mixer, span)
        case DeltaNet():
            return _delta(w, x, mixer, span)
        case FirstMamba():
            return _first_mamba(w, x, mixer, span)
        case KimiDelta():
            return _kimi_delta(w, x, mixer, span)
        case ShortConv():
            return _gated_conv(w, x, mixer, span)
        case Beside():
            return _beside(w, x, mixer, span, rotary)


def _beside(w: Writer, x: str, mixer: Beside, span: Span, rotary: tuple[str, ...]) -> str:
    outs = []
    for part in mixer.parts:
        with w.at("self_attn" if isinstance(part, Attention) else "mamba"):
            outs.append(mix(w, x, part, span, rotary))
    return w.pointwise("sum", "add", *outs, ops=len(outs) - 1)


# ---- attention ------------------------------------------------------------------------------------------------------


def _attention(w: Writer, x: str, a: Attention, span: Span, rotary: tuple[str, ...]) -> str:
    heads, kv_heads = w.share("num_attention_heads", a.heads), shared_kv_heads(w, a.kv_heads)
    hidden, d, dv = int(str(w.shape(x)[-1])), a.head_dim, a.v_dim or a.head_dim
    q = w.linear("q_proj", x, heads * (d + dv if a.gated else d), a.qkv_bias)
    k = w.linear("k_proj", x, kv_heads * d, a.qkv_bias)
    v = w.linear("v_proj", x, kv_heads * dv, a.qkv_bias)
    q, k = (_placed(w, name, t, a, rotary, n * d) for name, t, n in (("q", q, heads), ("k", k, kv_heads)))
    k, v = (_cache(w, name, t, span, a.window) for name, t in (("key", k), ("value", v)))
    sinks = (w.weight("sinks", (heads,)),) if a.sinks else ()
    out = attend(w, (q, k, v, *sinks), span, heads, kv_heads, d, dv, a.window)
    if a.gated:
        out = w.act("gate", "sigmoid", out, q)
    out = w.norm("out_norm", out, "rms_norm") if a.out_norm else out
    return w.linear("o_proj", out, hidden, a.out_bias)


def shared_kv_heads(w: Writer, kv_heads: int) -> int:
    """Heads of keys on one device: divided, or copied where there are fewer than devices."""
    return 1 if w.tp % kv_heads == 0 else w.share("num_key_value_heads", kv_heads)


def _placed(w: Writer, name: str, x: str, a: Attention, rotary: tuple[str, ...], width: int) -> str:
    """Queries or keys with their norm and position."""
    if a.qk_norm:
        length = a.head_dim if a.qk_norm == "head" else width
        kind = "layer_norm" if a.norm_bias else "rms_norm"
        x = w.norm(f"{name}_norm", x, kind, a.qk_norm_weight, a.norm_bias, length)
    return w.pointwise(f"{name}_rotary", "rotary", x, *rotary, ops=3) if a.rotary else x


def _cache(w: Writer, name: str, new: str, span: Span, window: int = 0, dtype: str = "") -> str:
    """All keys (or values) that can be seen: the new ones, written behind those of the cache where there is one."""
    width = int(str(w.shape(new)[-1]))
    stored = int(width * DTYPE_BYTES[dtype or w.held.cache]) * w.times
    if window:
        w.windows[window] = w.windows.get(window, 0) + stored
    else:
        w.token_bytes += stored
    if not span.cached:
        return new
    past = w.state(f"past_{name}", (span.batch, span.past, width), dtype)
    out = w.state(f"{name}s", (span.batch, span.keys, width), dtype)
    attrs: dict[str, Any] = {"function": "cache_append", "updates": span.batch * span.new * width}
    w.builder.op("scatter", (past, new), (out,), name=w.path(f"{name}_cache"), source="cache", times=w.times, **attrs)
    return out


def attend(
    w: Writer, ins: tuple[str, ...], span: Span, heads: int, kv_heads: int, d: int, dv: int, window: int = 0
) -> str:
    """softmax(q k^T) v over a span."""
    shape = (span.batch, span.new, heads * dv)
    return w.op(
        "attention", "attention", ins, shape, "attention", batch=span.batch, heads=heads, kv_heads=kv_heads, q=span.new,
        kv=span.keys, d=d, dv=dv, causal=span.causal, window=window,
    )  # fmt: skip


def _latent(w: Writer, x: str, a: LatentAttention, span: Span, rotary: tuple[str, ...]) -> str:
    heads, hidden = w.share("num_attention_heads", a.heads), int(str(w.shape(x)[-1]))
    d = a.nope_dim + a.rope_dim
    q_low = x
    if a.q_rank:
        q_low = w.norm("q_a_layernorm", w.linear("q_a_proj", x, a.q_rank), "rms_norm")
    q = w.linear("q_b_proj" if a.q_rank else "q_proj", q_low, heads * d)
    q = w.pointwise("q_rotary", "rotary", q, *rotary, ops=3)
    latent = w.linear("kv_a_proj_with_mqa", x, a.kv_rank + a.rope_dim)
    latent = w.pointwise("k_rotary", "rotary", latent, *rotary, ops=3)
    latent = w.norm("kv_a_layernorm", latent, "rms_norm", length=a.kv_rank)
    latent = _cache(w, "latent", latent, span)
    chosen = (_chosen(w, q_low, x, a.index, span),) if a.index else ()
    attended = _absorbed if span.one_token else _expanded
    return w.linear("o_proj", attended(w, q, latent, a, span, heads, chosen), hidden)


INDEX_DTYPE = "fp8"
"""What DeepSeek-V3.2 scores keys in, and caches them as."""


def _chosen(w: Writer, q: str, x: str, a: Index, span: Span) -> str:
    """The places of the best keys of every query: small queries times all small keys, weighted by head. Every device
    scores all heads."""
    q = w.linear("indexer.wq_b", q, a.heads * a.dim)
    k = w.norm("indexer.k_norm", w.linear("indexer.wk", x, a.dim), "layer_norm", bias=True)
    weights = w.linear("indexer.weights_proj", x, a.heads)
    keys = _cache(w, "index_key", k, span, dtype=INDEX_DTYPE)
    shape = (span.batch, span.new, span.keys)
    scores = w.op("matmul", "indexer.scores", (q, keys, weights), shape, "bmm", groups=span.batch,
                  m=span.new * a.heads, n=span.keys, k=a.dim, math=INDEX_DTYPE)  # fmt: skip
    return w.op("sort", "indexer.topk", (scores,), (span.batch, span.new, a.top), "topk", "int64", function="topk",
                length=span.keys)  # fmt: skip


def _expanded(
    w: Writer, q: str, latent: str, a: LatentAttention, span: Span, heads: int, chosen: tuple[str, ...]
) -> str:  # fmt: skip
    """Keys and values of all heads are made from the latents."""
    n, width = heads * (a.nope_dim + a.v_dim), span.batch * span.keys
    weight = w.weights("kv_b_proj.weight", (n, a.kv_rank), w.held.weights)
    ins = (w.narrowed(latent, w.held.weights), *weight)
    made = w.op("matmul", "kv_b_proj", ins, (span.batch, span.keys, n), "linear", groups=1, m=width, n=n, k=a.kv_rank,
                **w.math(w.held.weights))  # fmt: skip
    window = a.index.top if a.index else 0
    ins = (q, made, latent, *chosen)
    return attend(w, ins, span, heads, heads, a.nope_dim + a.rope_dim, a.v_dim, window)


def _absorbed(
    w: Writer, q: str, latent: str, a: LatentAttention, span: Span, heads: int, chosen: tuple[str, ...]
) -> str:  # fmt: skip
    """The products that make keys and values act on queries and results instead: all heads share the latents."""
    rows = span.batch * span.new
    up = w.weights("kv_b_proj.k", (heads, a.kv_rank, a.nope_dim), w.held.weights)
    down = w.weights("kv_b_proj.v", (heads, a.v_dim, a.kv_rank), w.held.weights)
    math = w.math(w.held.weights) and {"math": w.held.dtype}
    q = w.op("matmul", "absorb_k", (q, *up), (span.batch, span.new, heads * (a.kv_rank + a.rope_dim)), "bmm",
             groups=heads, m=rows, n=a.kv_rank, k=a.nope_dim, **math)  # fmt: skip
    window = a.index.top if a.index else 0
    out = attend(w, (q, latent, *chosen), span, heads, 1, a.kv_rank + a.rope_dim, a.kv_rank, window)
    return w.op("matmul", "absorb_v", (out, *down), (span.batch, span.new, heads * a.v_dim), "bmm", groups=heads,
                m=rows, n=a.v_dim, k=a.kv_rank, **math)  # fmt: skip


# ---- recurrences ----------------------------------------------------------------------------------------------------


def _mamba(w: Writer, x: str, a: Mamba, span: Span) -> str:
    heads, groups = w.share("mamba_num_heads", a.heads), shared_kv_heads(w, a.groups)
    hidden, inner, bc = int(str(w.shape(x)[-1])), heads * a.head_dim, 2 * groups * a.state
    mixed = w.linear("in_proj", x, 2 * inner + bc + heads, a.bias)
    mixed = _short_conv(w, mixed, inner + bc, a.width, span, a.conv_bias)
    rates = tuple(w.weight(name, (heads,)) for name in ("A_log", "D", "dt_bias"))
    out = _recurrence(w, mixed, span, inner, heads * a.head_dim * a.state, *rates, function="ssd", ops=6, chunk=a.chunk)
    out = w.act("gate", "silu", out, mixed)
    out = w.norm("norm", out, "rms_norm") if a.norm else out
    return w.linear("out_proj", out, hidden, a.bias)


def _first_mamba(w: Writer, x: str, a: FirstMamba, span: Span) -> str:
    inner, hidden = w.share("mamba channels", a.inner), int(str(w.shape(x)[-1]))
    mixed = _short_conv(w, w.linear("in_proj", x, 2 * inner, a.bias), inner, a.width, span, a.conv_bias)
    steps = w.all_reduce("x_proj.all_reduce", w.linear("x_proj", mixed, a.rank + 2 * a.state))
    for name, length in (("dt", a.rank), ("b", a.state), ("c", a.state)) if a.norms else ():
        steps = w.norm(f"{name}_layernorm", steps, "rms_norm", length=length)
    rates = w.linear("dt_proj", w.op("copy", "dt", (steps,), (span.batch, span.new, a.rank), "slice", function="slice"),
                     inner, bias=True)  # fmt: skip
    decays = (w.weight("A_log", (inner, a.state)), w.weight("D", (inner,)))
    out = _recurrence(w, mixed, span, inner, inner * a.state, steps, rates, *decays, function="selective", ops=6)
    return w.linear("out_proj", w.act("gate", "silu", out, mixed), hidden, a.bias)


def _gated_conv(w: Writer, x: str, a: ShortConv, span: Span) -> str:
    hidden = int(str(w.shape(x)[-1]))
    width = w.share("hidden_size", hidden)
    mixed = w.linear("in_proj", x, 3 * width, a.bias)
    gated = w.pointwise("b_gate", "mul", mixed, last=width)
    out = w.pointwise("c_gate", "mul", _short_conv(w, gated, width, a.width, span, a.bias, act=False), mixed)
    return w.linear("out_proj", out, hidden, a.bias)


def _kimi_delta(w: Writer, x: str, a: KimiDelta, span: Span) -> str:
    heads, hidden = w.share("linear_num_heads", a.heads), int(str(w.shape(x)[-1]))
    wide = heads * a.head_dim
    conv = _short_conv(w, w.linear("qkv_proj", x, 3 * wide), 3 * wide, a.width, span, bias=False)
    forget, gate = (_low_rank(w, name, x, a.rank, wide) for name in ("f", "g"))
    rates = w.linear("b_proj", x, heads)
    decays = (w.weight("A_log", (heads,)), w.weight("dt_bias", (wide,)))
    out = _recurrence(w, conv, span, wide, heads * a.head_dim**2, forget, rates, *decays, **DELTA)
    out = w.act("gate", "sigmoid", w.norm("o_norm", out, "rms_norm", length=a.head_dim), gate)
    return w.linear("o_proj", out, hidden)


def _low_rank(w: Writer, name: str, x: str, rank: int, wide: int) -> str:
    """A product, or two with so few numbers between them."""
    return (
        w.linear(f"{name}_b_proj", w.linear(f"{name}_a_proj", x, rank), wide)
        if rank
        else w.linear(f"{name}_proj", x, wide)
    )


def _delta(w: Writer, x: str, a: DeltaNet, span: Span) -> str:
    v_heads, k_heads = w.share("linear_num_value_heads", a.v_heads), w.share("linear_num_key_heads", a.k_heads)
    hidden, keys, values = int(str(w.shape(x)[-1])), k_heads * a.k_dim, v_heads * a.v_dim
    mixed = w.linear("in_proj_qkvz", x, 2 * keys + 2 * values)
    rates = w.linear("in_proj_ba", x, 2 * v_heads)
    conv = _short_conv(w, mixed, 2 * keys + values, a.width, span, bias=False)
    decays = tuple(w.weight(name, (v_heads,)) for name in ("A_log", "dt_bias"))
    out = _recurrence(w, conv, span, values, v_heads * a.k_dim * a.v_dim, rates, *decays, **DELTA)
    out = w.act("gate", "silu", w.norm("norm", out, "rms_norm", length=a.v_dim), mixed)
    return w.linear("out_proj", out, hidden)


def _short_conv(
    w: Writer, x: str, channels: int, width: int, span: Span, bias: bool, act: bool = True
) -> str:  # fmt: skip
    """A depthwise convolution over the last `width` positions, of which the cache holds the older ones."""
    ins = (x, w.weight("conv1d.weight", (channels, width)), *((w.weight("conv1d.bias", (channels,)),) if bias else ()))
    ins += _kept(w, "conv_state", (span.batch, channels, width - 1), span)
    out = w.op(
        "conv", "conv1d", ins, (span.batch, span.new, channels), "conv1d", batch=span.batch, c_in=channels,
        c_out=channels, groups=channels, kernel=(width,), in_spatial=(span.new,), out_spatial=(span.new,),
    )  # fmt: skip
    return w.act("conv_act", "silu", out) if act else out


def _recurrence(w: Writer, x: str, span: Span, width: int, elements: int, *others: str, **rule: Any) -> str:
    """`rule`: its `function`, `ops` for each number of the state and position (decay, input, sum, read-out), and the
    positions of a `chunk` unless they are taken one by one."""
    ins = (x, *others, *_kept(w, "ssm_state", (span.batch, elements), span, STATE_DTYPE))
    return w.op("scan", "scan", ins, (span.batch, span.new, width), "scan", steps=span.new,
                elements=span.batch * elements, **rule)  # fmt: skip


def _kept(w: Writer, name: str, shape: tuple[Size, ...], span: Span, dtype: str = "") -> tuple[str, ...]:
    """A state of fixed size, read and written in place: twice its bytes cross the memory."""
    dtype = dtype or w.held.dtype
    w.sequence_bytes += int(int(str(product(shape[1:]))) * DTYPE_BYTES[dtype]) * w.times
    return (w.state(name, (2, *shape), dtype),) if span.cached else ()
