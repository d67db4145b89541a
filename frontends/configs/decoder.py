"""A `Decoder` as graphs: one forward pass, or the two phases of generation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from wattir.dims import Size, ceildiv, symbol
from wattir.errors import InputError
from wattir.frontends.configs.architecture import Attention, Decoder, LatentAttention, Layer
from wattir.frontends.configs.feeds import Spread, feed_forward
from wattir.frontends.configs.mixers import Span, mix
from wattir.frontends.configs.vision import seen, vision_graph
from wattir.frontends.configs.writer import Held, Writer
from wattir.ir import Graph

SEQ = 128
PAST = 1024
MOST_RANKS = 4096


@dataclass(frozen=True)
class Sharing:
    """`tp` devices share every layer; whole experts lie on each of `ep` devices, which may be more: then every `tp` of
    them bring tokens of their own."""

    tp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for key, value in (("tp", self.tp), ("ep", self.ep)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_RANKS:
                raise InputError(f"{key} = {value!r}; expected a whole number of devices from 1 to {MOST_RANKS}")
        if self.ep > 1 and self.ep % self.tp:
            raise InputError(f"ep = {self.ep}, tp = {self.tp}; expected an ep that tp divides")

    @property
    def spread(self) -> Spread:
        """How experts lie on the devices."""
        return Spread(self.ep, max(self.ep // self.tp, 1))


@dataclass(frozen=True)
class Footprint:
    """Bytes in the memory of one device: of the weights, of one token in the cache, of tokens that a window forgets
    (`windows`: by its length), of states that do not grow with the text."""

    weight_bytes: int
    token_bytes: int
    windows: dict[int, int]
    sequence_bytes: int

    def cache_bytes(self, tokens: int) -> int:
        """Of one text of so many tokens."""
        windowed = sum(min(tokens, window) * each for window, each in self.windows.items())
        return self.token_bytes * tokens + windowed + self.sequence_bytes


def held_as(config: Decoder, weights: str | None = None, kv_cache: str | None = None) -> Held:
    """How numbers are held: as asked, else as the configuration says. Experts follow `weights` where it is given."""
    plain = weights or config.weights or config.dtype
    return Held(config.dtype, plain, weights or config.expert_weights or plain, kv_cache or config.dtype)


def forward_graph(config: Decoder, held: Held | None = None, sharing: Sharing | None = None) -> Graph:
    """One pass over `seq` tokens of each of `batch` texts, without a cache; logits of every token."""
    span = Span(symbol("batch"), symbol("seq"))
    return _graph(config, held, sharing, span, {"batch": 1, "seq": SEQ}, every_logit=True)[0]


def decoder_graphs(
    config: Decoder, *, tp: int = 1, ep: int = 1, weights: str | None = None, kv_cache: str | None = None
) -> tuple[Graph, Graph]:
    """Prefill and decode of one device.

    Prefill: `seq` new tokens of each of `batch` texts behind `past` ones in the cache (a prefix, or earlier chunks),
    logits of each text's last token. Decode: one new token behind `past`, which counts none of the new. `tp`, `ep`: how
    many devices share the layers and the experts; `weights`: one of `writer.WEIGHTS`, such as fp8, int4 or nvfp4;
    `kv_cache`: bf16, fp16, fp32 or fp8. The cache is tensors of role ``state``; sums and exchanges are ops of kind
    ``collective``.
    InputError names the key and the limit where the parallelism is impossible.
    """
    how: dict[str, Any] = {"tp": tp, "ep": ep, "weights": weights, "kv_cache": kv_cache}
    return phase(config, "prefill", **how)[0], phase(config, "decode", **how)[0]


def footprint(
    config: Decoder, *, tp: int = 1, ep: int = 1, weights: str | None = None, kv_cache: str | None = None
) -> Footprint:
    """What the weights and the cache take of one device's memory."""
    return phase(config, "decode", tp=tp, ep=ep, weights=weights, kv_cache=kv_cache)[1]


def phase(
    config: Decoder, name: str, *, tp: int = 1, ep: int = 1, weights: str | None = None, kv_cache: str | None = None
) -> tuple[Graph, Footprint]:
    """One of `decoder_graphs`, ``prefill`` or ``decode``, and the `footprint`."""
    if not isinstance(config, Decoder):
        raise InputError(f"{getattr(config, 'name', config)!s}: no language model; expected a decoder's configuration")
    batch, seq, past = symbol("batch"), symbol("seq"), symbol("past")
    span, sizes = (
        (Span(batch, seq, past, True), {"batch": 1, "seq": SEQ, "past": 0}) if name == "prefill" else
        (Span(batch, 1, past, True), {"batch": 1, "past": PAST})
    )  # fmt: skip
    graph, w = _graph(config, held_as(config, weights, kv_cache), Sharing(tp, ep), span, sizes)
    return graph, Footprint(w.weight_bytes, w.token_bytes, dict(w.windows), w.sequence_bytes)


def tower(config: Decoder, side: int, tp: int = 1) -> tuple[Graph, int, int]:
    """One pass over images of `side` pixels a side by the tower that a model sees them with, on one of `tp` devices;
    the tokens that an image becomes, and the bytes of its weights. InputError where no tower is described."""
    if config.vision is None:
        raise InputError(f"{config.name}: no tower for images is described; leave --images out")
    graph, w = vision_graph(config.vision, held_as(replace(config, weights="")), side, tp)
    return graph, seen(config.vision, side)[2], w.weight_bytes


def _graph(
    config: Decoder, held: Held | None, sharing: Sharing | None, span: Span, sizes: dict[str, int],
    every_logit: bool = False,
) -> tuple[Graph, Writer]:  # fmt: skip
    sharing = sharing or Sharing()
    w = Writer(config.name, held or held_as(config), sharing.tp)
    x, ids = _embedded(w, config, span)
    with w.at("model"):
        rotary = _rotary_tables(w, config, span)
        for place, (layer, times) in enumerate(config.layers):
            with w.at(_label(config, place, times), times):
                x = _layer(w, x, layer, config, span, rotary, sharing.spread)
        x = _norm(w, "norm", x, config)
    logits = _head(w, config, x, span, every_logit)
    if config.towers:
        w.builder.warn(f"{config.name}: its parts for {' and '.join(config.towers)} are left out: tokens of text alone")
    states = tuple(name for name, t in w.builder.tensors.items() if t.role == "state" and "past_" in name)
    kept = tuple(name for op in w.builder.ops if op.kind == "scatter" for name in op.outs)
    others = tuple(n for n, t in w.builder.tensors.items() if t.role == "state" and n not in (*states, *kept))
    graph = w.builder.finish((ids, *states, *others), (logits, *kept), sizes, _batch_name(span), w.params)
    return graph, w


def _batch_name(span: Span) -> str | None:
    return None if isinstance(span.batch, int) else "batch"


def _label(config: Decoder, place: int, times: int) -> str:
    """``layers.0-35`` where all are alike; hybrids name their kinds of layer by a letter, whatever their order."""
    return f"layers.0-{times - 1}" if len(config.layers) == 1 else f"layers.{'abcdefgh'[place % 8]}"


def _embedded(w: Writer, config: Decoder, span: Span) -> tuple[str, str]:
    ids = w.builder.tensor("input_ids", (span.batch, span.new), "int64", "input")
    rows = ceildiv(config.vocab, w.tp)
    table = w.weight("model.embed_tokens.weight", (rows, config.hidden))
    x = w.op(
        "gather",
        "model.embed_tokens",
        (table, ids),
        (span.batch, span.new, config.hidden),
        "embedding",
        function="embedding",
    )
    x = w.all_reduce("model.embed_tokens.all_reduce", x)
    if config.embedding_norm:
        x = _norm(w, "model.embed_norm", x, config)
    if not config.positions:
        return x, ids
    table = w.weight("model.embed_positions.weight", (config.positions, config.hidden))
    places = w.op(
        "gather", "model.embed_positions", (table,), (span.new, config.hidden), "embedding", function="embedding"
    )
    return w.pointwise("model.embed", "add", x, places), ids


def _rotary_tables(w: Writer, config: Decoder, span: Span) -> tuple[str, ...]:
    """cos and sin of every new position."""
    widths = {
        mixer.rope_dim if isinstance(mixer, LatentAttention) else int(mixer.head_dim * mixer.rotary)
        for layer, _ in config.layers
        for mixer in layer.mixers
        if isinstance(mixer, (Attention, LatentAttention))
    } - {0}
    shape = (span.new, max(widths, default=0))
    return tuple(
        w.op("pointwise", f"rotary_emb.{name}", (), shape, name, function=name, ops=2, special=2)
        for name in (("cos", "sin") if widths else ())
    )


def _layer(
    w: Writer, x: str, layer: Layer, config: Decoder, span: Span, rotary: tuple[str, ...], spread: Spread
) -> str:
    def mixed(source: str) -> str:
        assert layer.mixer is not None
        with w.at("self_attn" if isinstance(layer.mixer, (Attention, LatentAttention)) else "mixer"):
            return w.all_reduce("all_reduce", mix(w, source, layer.mixer, span, rotary))

    def fed(source: str) -> str:
        assert layer.feed is not None
        with w.at("mlp"):
            out = feed_forward(w, source, layer.feed, spread)
            return w.all_reduce("all_reduce", out) if w.tp > 1 else out

    if layer.norms in ("shared", "parallel"):
        return _side_by_side(w, x, layer, config, mixed, fed)
    for name, part, there in (("input", mixed, layer.mixer), ("post_attention", fed, layer.feed)):
        if there is not None:
            x = _part(w, name, x, part, layer, config)
    return x


def _part(w: Writer, name: str, x: str, part: Any, layer: Layer, config: Decoder) -> str:
    source = x if layer.norms == "post" else _norm(w, f"{name}_layernorm", x, config)
    out = part(source)
    if layer.norms in ("both", "post"):
        out = _norm(w, f"{name}_post_layernorm", out, config)
    return w.pointwise(f"{name}_residual", "add", out, x)


def _side_by_side(w: Writer, x: str, layer: Layer, config: Decoder, mixed: Any, fed: Any) -> str:
    first = _norm(w, "input_layernorm", x, config)
    second = first if layer.norms == "shared" else _norm(w, "post_attention_layernorm", x, config)
    attended = w.pointwise("attention_residual", "add", mixed(first), x)
    return w.pointwise("residual", "add", fed(second), attended)


def _norm(w: Writer, name: str, x: str, config: Decoder) -> str:
    return w.norm(name, x, config.norm, config.norm_weight, config.norm_bias)


def _head(w: Writer, config: Decoder, x: str, span: Span, every_logit: bool) -> str:
    """Logits; a tied head reads the embedding's weight, and is counted once."""
    rows: Size = span.batch * span.new if every_logit else span.batch
    n = ceildiv(config.vocab, w.tp)
    weight = "model.embed_tokens.weight" if config.tied else w.weight("lm_head.weight", (n, config.hidden))
    bias = (w.weight("lm_head.bias", (n,)),) if config.head_bias else ()
    if not every_logit and span.new != 1:
        x = w.op("copy", "last_token", (x,), (span.batch, config.hidden), "slice", function="slice")
    shape = (span.batch, span.new, n) if every_logit else (span.batch, n)
    logits = w.op("matmul", "lm_head", (x, weight, *bias), shape, "linear", groups=1, m=rows, n=n, k=config.hidden)
    if w.tp == 1:
        return logits
    return w.op(
        "collective", "logits", (logits,), (*shape[:-1], config.vocab), "all_gather", function="all_gather", ranks=w.tp
    )
