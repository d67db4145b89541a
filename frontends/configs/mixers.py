"""Layers that mix positions: attention, latent attention, state spaces, gated delta nets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wattir.dims import Size, product
from wattir.frontends.configs.architecture import Attention, DeltaNet, LatentAttention, Mamba, Mixer
from wattir.frontends.configs.writer import Writer
from wattir.kinds import DTYPE_BYTES

STATE_DTYPE = "fp32"
"""Of recurrent states: the mamba_ssm and fla kernels keep them in 32 bits."""


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


# ---- attention ------------------------------------------------------------------------------------------------------


def _attention(w: Writer, x: str, a: Attention, span: Span, rotary: tuple[str, ...]) -> str:
    heads, kv_heads = w.share("num_attention_heads", a.heads), shared_kv_heads(w, a.kv_heads)
    hidden, d = int(str(w.shape(x)[-1])), a.head_dim
    q = w.linear("q_proj", x, heads * d * (2 if a.gated else 1), a.qkv_bias)
    k = w.linear("k_proj", x, kv_heads * d, a.qkv_bias)
    v = w.linear("v_proj", x, kv_heads * d, a.qkv_bias)
    q, k = (_placed(w, name, t, a, rotary, n * d) for name, t, n in (("q", q, heads), ("k", k, kv_heads)))
    k, v = (_cache(w, name, t, span, a.window) for name, t in (("key", k), ("value", v)))
    sinks = (w.weight("sinks", (heads,)),) if a.sinks else ()
    out = attend(w, (q, k, v, *sinks), span, heads, kv_heads, d, d, a.window)
    if a.gated:
        out = w.pointwise("gate", "sigmoid_mul", out, q, ops=2, special=2)
    return w.linear("o_proj", out, hidden, a.out_bias)


def shared_kv_heads(w: Writer, kv_heads: int) -> int:
    """Heads of keys on one device: divided, or copied where there are fewer than devices."""
    return 1 if w.tp % kv_heads == 0 else w.share("num_key_value_heads", kv_heads)


def _placed(w: Writer, name: str, x: str, a: Attention, rotary: tuple[str, ...], width: int) -> str:
    """Queries or keys with their norm and position."""
    if a.qk_norm:
        length = a.head_dim if a.qk_norm == "head" else width
        x = w.norm(f"{name}_norm", x, "rms_norm", a.qk_norm_weight, length=length)
    return w.pointwise(f"{name}_rotary", "rotary", x, *rotary, ops=3) if a.rotary else x


def _cache(w: Writer, name: str, new: str, span: Span, window: int = 0) -> str:
    """All keys (or values) that can be seen: the new ones, written behind those of the cache where there is one."""
    width = int(str(w.shape(new)[-1]))
    stored = int(width * DTYPE_BYTES[w.held.cache]) * w.times
    if window:
        w.windows[window] = w.windows.get(window, 0) + stored
    else:
        w.token_bytes += stored
    if not span.cached:
        return new
    past = w.state(f"past_{name}", (span.batch, span.past, width))
    out = w.state(f"{name}s", (span.batch, span.keys, width))
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
    q = x
    if a.q_rank:
        q = w.norm("q_a_layernorm", w.linear("q_a_proj", x, a.q_rank), "rms_norm")
    q = w.linear("q_b_proj" if a.q_rank else "q_proj", q, heads * d)
    q = w.pointwise("q_rotary", "rotary", q, *rotary, ops=3)
    latent = w.linear("kv_a_proj_with_mqa", x, a.kv_rank + a.rope_dim)
    latent = w.pointwise("k_rotary", "rotary", latent, *rotary, ops=3)
    latent = w.norm("kv_a_layernorm", latent, "rms_norm", length=a.kv_rank)
    latent = _cache(w, "latent", latent, span)
    attended = _absorbed if span.one_token else _expanded
    return w.linear("o_proj", attended(w, q, latent, a, span, heads), hidden)


def _expanded(w: Writer, q: str, latent: str, a: LatentAttention, span: Span, heads: int) -> str:
    """Keys and values of all heads are made from the latents."""
    n, width = heads * (a.nope_dim + a.v_dim), span.batch * span.keys
    weight = w.weights("kv_b_proj.weight", (n, a.kv_rank), w.held.weights)
    ins = (w.narrowed(latent, w.held.weights), *weight)
    made = w.op("matmul", "kv_b_proj", ins, (span.batch, span.keys, n), "linear", groups=1, m=width, n=n, k=a.kv_rank,
                **w.math(w.held.weights))  # fmt: skip
    return attend(w, (q, made, latent), span, heads, heads, a.nope_dim + a.rope_dim, a.v_dim)


def _absorbed(w: Writer, q: str, latent: str, a: LatentAttention, span: Span, heads: int) -> str:
    """The products that make keys and values act on queries and results instead: all heads share the latents."""
    rows = span.batch * span.new
    up = w.weights("kv_b_proj.k", (heads, a.kv_rank, a.nope_dim), w.held.weights)
    down = w.weights("kv_b_proj.v", (heads, a.v_dim, a.kv_rank), w.held.weights)
    math = w.math(w.held.weights) and {"math": w.held.dtype}
    q = w.op("matmul", "absorb_k", (q, *up), (span.batch, span.new, heads * (a.kv_rank + a.rope_dim)), "bmm",
             groups=heads, m=rows, n=a.kv_rank, k=a.nope_dim, **math)  # fmt: skip
    out = attend(w, (q, latent), span, heads, 1, a.kv_rank + a.rope_dim, a.kv_rank)
    return w.op("matmul", "absorb_v", (out, *down), (span.batch, span.new, heads * a.v_dim), "bmm", groups=heads,
                m=rows, n=a.v_dim, k=a.kv_rank, **math)  # fmt: skip


# ---- recurrences ----------------------------------------------------------------------------------------------------


def _mamba(w: Writer, x: str, a: Mamba, span: Span) -> str:
    heads, groups = w.share("mamba_num_heads", a.heads), shared_kv_heads(w, a.groups)
    hidden, inner, bc = int(str(w.shape(x)[-1])), heads * a.head_dim, 2 * groups * a.state
    mixed = w.linear("in_proj", x, 2 * inner + bc + heads, a.bias)
    mixed = _short_conv(w, mixed, inner + bc, a.width, span, bias=True)
    rates = tuple(w.weight(name, (heads,)) for name in ("A_log", "D", "dt_bias"))
    out = _recurrence(w, mixed, span, inner, heads * a.head_dim * a.state, 6, *rates)
    out = w.norm("norm", w.act("gate", "silu", out, mixed), "rms_norm")
    return w.linear("out_proj", out, hidden, a.bias)


def _delta(w: Writer, x: str, a: DeltaNet, span: Span) -> str:
    v_heads, k_heads = w.share("linear_num_value_heads", a.v_heads), w.share("linear_num_key_heads", a.k_heads)
    hidden, keys, values = int(str(w.shape(x)[-1])), k_heads * a.k_dim, v_heads * a.v_dim
    mixed = w.linear("in_proj_qkvz", x, 2 * keys + 2 * values)
    rates = w.linear("in_proj_ba", x, 2 * v_heads)
    conv = _short_conv(w, mixed, 2 * keys + values, a.width, span, bias=False)
    decays = tuple(w.weight(name, (v_heads,)) for name in ("A_log", "dt_bias"))
    out = _recurrence(w, conv, span, values, v_heads * a.k_dim * a.v_dim, 8, rates, *decays)
    out = w.act("gate", "silu", w.norm("norm", out, "rms_norm", length=a.v_dim), mixed)
    return w.linear("out_proj", out, hidden)


def _short_conv(w: Writer, x: str, channels: int, width: int, span: Span, bias: bool) -> str:
    """A depthwise convolution over the last `width` positions, of which the cache holds the older ones."""
    ins = (x, w.weight("conv1d.weight", (channels, width)), *((w.weight("conv1d.bias", (channels,)),) if bias else ()))
    ins += _kept(w, "conv_state", (span.batch, channels, width - 1), span)
    out = w.op(
        "conv", "conv1d", ins, (span.batch, span.new, channels), "conv1d", batch=span.batch, c_in=channels,
        c_out=channels, groups=channels, kernel=(width,), in_spatial=(span.new,), out_spatial=(span.new,),
    )  # fmt: skip
    return w.act("conv_act", "silu", out)


def _recurrence(w: Writer, x: str, span: Span, width: int, elements: int, ops: int, *others: str) -> str:
    """`ops` operations for each number of the state and position: decay, input, sum, read-out."""
    ins = (x, *others, *_kept(w, "ssm_state", (span.batch, elements), span, STATE_DTYPE))
    return w.op("scan", "scan", ins, (span.batch, span.new, width), "scan", function="selective", steps=span.new,
                elements=span.batch * elements, ops=ops)  # fmt: skip


def _kept(w: Writer, name: str, shape: tuple[Size, ...], span: Span, dtype: str = "") -> tuple[str, ...]:
    """A state of fixed size, read and written in place: twice its bytes cross the memory."""
    dtype = dtype or w.held.dtype
    w.sequence_bytes += int(int(str(product(shape[1:]))) * DTYPE_BYTES[dtype]) * w.times
    return (w.state(name, (2, *shape), dtype),) if span.cached else ()
