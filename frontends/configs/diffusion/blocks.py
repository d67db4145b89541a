"""Parts that diffusion transformers share: conditioning, attention over tokens, feed-forward."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wattir.dims import Size
from wattir.frontends.configs.diffusion.canvas import ROTARY_KERNELS, Canvas

TIME_CHANNELS = 256
"""Of the sinusoidal embedding of a timestep."""


@dataclass(frozen=True)
class Latent:
    """What a denoiser sees: `batch` samples of `frames` by `height` by `width` latents, the tokens of each text, and
    those of `images` of the same size beside its own."""

    batch: Size
    frames: int
    height: int
    width: int
    tokens: tuple[int, ...]
    images: int = 0

    @property
    def packed(self) -> int:
        """Tokens of two by two latents each, of all images."""
        return self.points // 4 * (1 + self.images)

    @property
    def text(self) -> int:
        """The tokens of the (first) text."""
        return self.tokens[0]

    @property
    def points(self) -> int:
        """Latent positions of one sample."""
        return self.frames * self.height * self.width


def two_layers(w: Canvas, name: str, x: str, width: int, act: str = "silu", out: int = 0) -> str:
    """A product, an activation, a product: embeddings of timesteps, captions and the like."""
    with w.at(name):
        x = w.act("act", act, w.linear("linear_1", x, width, bias=True))
        return w.linear("linear_2", x, out or width, bias=True)


def timestep(w: Canvas, name: str, batch: Size, width: int, channels: int = TIME_CHANNELS) -> str:
    """The embedding of a timestep (or of a guidance scale) [batch, width]."""
    with w.at(name):
        return two_layers(w, "embedder", w.waves("proj", batch, channels), width)


def projected(w: Canvas, name: str, emb: str, width: int, bias: bool = True) -> str:
    """silu and a product: shifts, scales and gates from the conditioning."""
    with w.at(name):
        return w.linear("linear", w.act("silu", "silu", emb), width, bias)


def continuous_norm(w: Canvas, name: str, x: str, emb: str, bias: bool = True) -> str:
    """A layer norm without weights, modulated by the conditioning (diffusers `AdaLayerNormContinuous`)."""
    with w.at(name):
        by = projected(w, "emb", emb, 2 * w.width(x), bias)
        return w.modulated("modulate", w.layer_norm("norm", x), by)


LOOSE = "loose_rms_norm"
"""The RMS norm of diffusers' own class, which is several kernels."""


@dataclass(frozen=True)
class Heads:
    """How tokens attend: `heads` of `d`; `qkv_bias`, `out_bias`; `qk_norm`: a norm's function (or `LOOSE`), `norm_over`
    each ``head`` or ``all`` heads, with `norm_weight` and `norm_bias`; `rotary`; `kv_heads`: fewer keys and values than
    queries, repeated for them (0: as many)."""

    heads: int
    d: int
    qkv_bias: bool = True
    out_bias: bool = True
    qk_norm: str = ""
    norm_over: str = "head"
    norm_bias: bool = False
    rotary: bool = False
    norm_weight: bool = True
    kv_heads: int = 0

    @property
    def width(self) -> int:
        """Channels of all heads."""
        return self.heads * self.d

    @property
    def kv_width(self) -> int:
        """Channels of the keys, and of the values."""
        return (self.kv_heads or self.heads) * self.d


@dataclass(frozen=True)
class Feed:
    """A feed-forward part of `width`; `gated`: ``joined`` where half of twice as wide a product gates the other half,
    ``apart`` where a product of its own does."""

    width: int
    act: str = "gelu_tanh"
    gated: str = ""
    bias: bool = True


def queries(w: Canvas, prefix: str, x: str, a: Heads, name: str, suffix: str = "") -> str:
    """Queries or keys: product, norm, rotary embedding. Their names in diffusers: ``to_q``, ``add_q_proj``."""
    width = a.width if name == "q" else a.kv_width
    q = w.linear(f"{prefix}_{name}{suffix}", x, width, a.qkv_bias)
    if a.qk_norm:
        length = a.d if a.norm_over == "head" else width
        if a.qk_norm == LOOSE:
            return w.loose_rms_norm(f"norm_{prefix}_{name}", q, length)
        q = w.norm(f"norm_{prefix}_{name}", q, a.qk_norm, weight=a.norm_weight, bias=a.norm_bias, length=length)
    return q


def repeated(w: Canvas, name: str, x: str, a: Heads) -> str:
    """Keys or values as often as there are queries for them."""
    return w.moved(name, x, *w.shape(x)[:2], a.width) if a.kv_width < a.width else x


def turned(w: Canvas, name: str, x: str, a: Heads) -> str:
    """The rotary embedding, kernel by kernel in 32 bits."""
    if not a.rotary:
        return x
    wide = w.kernels(f"{name}.cast", x, dtype="fp32")
    wide = w.kernels(f"{name}.rotary", wide, ROTARY_KERNELS - 2, dtype="fp32")
    return w.kernels(f"{name}.back", wide, dtype=w.held.dtype)


def attention(
    w: Canvas, name: str, x: str, a: Heads, context: str = "", out: int = 0, turn_queries: bool = False, whole: Size = 0
) -> str:
    """Tokens x look at each other, which all devices share, or at a `context` that each of them holds whole."""
    with w.at(name):
        source = context or x
        q, k = queries(w, "to", x, a, "q"), queries(w, "to", source, a, "k")
        v = w.linear("to_v", source, a.kv_width, a.qkv_bias)
        if not context or turn_queries:
            q = turned(w, "q", q, a)
        if not context:
            k = turned(w, "k", k, a)
        k, v = repeated(w, "k.repeat", k, a), repeated(w, "v.repeat", v, a)
        mixed = w.attend("attn", q, k, v, a.heads, shared=not context, whole=whole)
        return w.linear("to_out", mixed, out or w.width(x), a.out_bias)


def joint_attention(
    w: Canvas, name: str, x: str, text: str, a: Heads, *, text_out: bool = True, whole: Size = 0
) -> tuple[str, str]:
    """Tokens of an image and of a text, each with its own products, look at all of both; `whole`: of the text's, those
    that every device holds, if it is not shared; `text_out`: whether the text has a product after it (else it is of no
    use beyond this layer)."""
    batch, rows, _ = w.shape(x)
    with w.at(name):
        both = []
        for part in ("q", "k", "v"):
            normed = a if part != "v" else replace(a, qk_norm="")
            own = queries(w, "to", x, normed, part)
            other = queries(w, "add", text, normed, part, "_proj")
            total = rows + w.shape(text)[1]
            both.append(w.joined(f"{part}.cat", (own, other), batch, total, a.width))
        both[:2] = [turned(w, part, each, a) for part, each in zip("qk", both[:2], strict=True)]
        mixed = w.attend("attn", both[0], both[1], both[2], a.heads, shared=True, whole=whole)
        image = w.seen("image", mixed, batch, rows, a.width)
        words = w.seen("text", mixed, batch, w.shape(text)[1], a.width)
        image = w.linear("to_out", image, w.width(x), a.out_bias)
        return image, (w.linear("to_add_out", words, w.width(text), a.out_bias) if text_out else "")


def feed_forward(w: Canvas, name: str, x: str, feed: Feed) -> str:
    """out(act(up(x))), or out(act(gate(x)) up(x))."""
    width, bias = feed.width, feed.bias
    with w.at(name):
        up = w.linear("up", x, (2 if feed.gated == "joined" else 1) * width, bias)
        if feed.gated == "joined":
            up = w.act("act", feed.act, up, up, last=width)
        elif feed.gated == "apart":
            up = w.pointwise("gate", "mul", w.act("act", feed.act, up), w.linear("gate_proj", x, width, bias))
        else:
            up = w.act("act", feed.act, up)
        return w.linear("down", up, w.width(x), bias)


def patches(w: Canvas, name: str, at: Latent, channels: int, width: int, patch: tuple[int, ...], *, bias: bool = True,
            dense: bool = False) -> str:  # fmt: skip
    """The tokens of a latent, of which each device has its share: a convolution as wide as its stride, or a product
    (`dense`) of what a patch holds. Pipelines fill up frames that make no whole patch (CogVideoX 1.5)."""
    grid = tuple(-(-size // step) for size, step in zip(_axes(at, patch), patch, strict=True))
    count = int(grid[0] * grid[1] * (grid[2] if len(grid) > 2 else at.frames))
    taps = patch[0] * patch[1] * (patch[2] if len(patch) > 2 else 1)
    if dense:
        x = w.linear(name, w.given(f"{name}.latent", at.batch, count, channels * taps), width, bias)
    else:
        batch = at.batch if len(patch) > 2 else at.batch * at.frames
        x = w.given(f"{name}.latent", batch, channels, *_axes(at, patch))
        x = w.conv(name, x, width, patch, patch, bias=bias)
    return w.moved(f"{name}.tokens", x, at.batch, w.local(count), width)


def _axes(at: Latent, patch: tuple[int, ...]) -> tuple[int, ...]:
    return (at.frames, at.height, at.width) if len(patch) > 2 else (at.height, at.width)
