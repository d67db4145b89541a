"""What a decoder is made of, whatever a configuration calls it: frozen descriptions, sizes as plain numbers.

A `Decoder` is a token embedding, `layers` (each kind with how often it occurs), a norm and a head; a `Layer` a mixer
of positions and a feed-forward part, of which hybrids have one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention with `kv_heads` keys and values for `heads` queries; `window`: keys seen by one query, 0: all.

    `qk_norm`: norms of queries and keys over a ``head`` or over ``all`` heads; `rotary`: the share of a head that
    turns, 0 for none; `gated`: a gate as wide as the heads; `sinks`: a learned logit a head; `v_dim`: of a value, where
    it is not that of a key; `norm_bias`: of the norms of queries and keys; `out_norm`: a norm before the last product.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: str = ""
    qk_norm_weight: bool = True
    rotary: float = 1.0
    gated: bool = False
    sinks: bool = False
    v_dim: int = 0
    norm_bias: bool = False
    out_norm: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """Sparse attention (DeepSeek-V3.2): `heads` small queries of `dim` score every key of one small head; only the
    `top` best are attended to. The small keys are cached in 8 bits."""

    heads: int
    dim: int
    top: int


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2): keys and values of all heads come from one latent of `kv_rank` and a
    shared rotary part of `rope_dim`; these two are what the cache holds. `q_rank` 0: queries come straight. `index`:
    what chooses the keys, None: all are attended to."""

    heads: int
    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class Mamba:
    """Mamba-2: `heads` of `head_dim` with `state` numbers for each channel, `groups` of inputs and outputs, a
    convolution over `width` positions, prompts in chunks of `chunk`. `bias`: of the products; `norm`: of the results,
    before the last product."""

    heads: int
    head_dim: int
    state: int
    groups: int
    width: int = 4
    chunk: int = 256
    bias: bool = False
    conv_bias: bool = True
    norm: bool = True


@dataclass(frozen=True, slots=True)
class FirstMamba:
    """Mamba: `inner` channels with `state` numbers each, steps from a product of rank `rank`, a convolution over
    `width` positions. `norms`: of steps, inputs and outputs (Jamba)."""

    inner: int
    state: int
    rank: int
    width: int = 4
    bias: bool = False
    conv_bias: bool = True
    norms: bool = False


@dataclass(frozen=True, slots=True)
class ShortConv:
    """A gated convolution over `width` positions and nothing else (LFM2)."""

    width: int
    bias: bool = False


@dataclass(frozen=True, slots=True)
class DeltaNet:
    """Gated delta net: a state of [k_dim, v_dim] for each of `v_heads`, a convolution over `width` positions."""

    k_heads: int
    v_heads: int
    k_dim: int
    v_dim: int
    width: int = 4


@dataclass(frozen=True, slots=True)
class KimiDelta:
    """Kimi delta attention: a gated delta net of `heads` of `head_dim` whose state forgets by channel. `rank`: of the
    products that make forgetting and the gate, 0: full."""

    heads: int
    head_dim: int
    rank: int = 0
    width: int = 4


@dataclass(frozen=True, slots=True)
class Beside:
    """Mixers that read the same positions side by side; their results are added (Falcon-H1)."""

    parts: tuple[Attention | Mamba, ...]


@dataclass(frozen=True, slots=True)
class Mlp:
    """Two products, three where `gated`; `norm`: before the last one."""

    width: int
    gated: bool = True
    bias: bool = False
    act: str = "silu"
    norm: bool = False


@dataclass(frozen=True, slots=True)
class Experts:
    """`count` experts of `width`, of which each token goes to `chosen`; and a shared one of `shared_width` (0: none),
    behind a gate of its own where `shared_gate`. `bias`: of the experts' products; `router_bias`: of the router, a
    weight where it takes part in the product, else ``correction``. `latent`: how wide the tokens are that the experts
    see, narrowed and widened by a product each (0: as they come)."""

    count: int
    chosen: int
    width: int
    shared_width: int = 0
    shared_gate: bool = False
    gated: bool = True
    bias: bool = False
    router_bias: str = ""
    act: str = "silu"
    latent: int = 0


Recurrent: TypeAlias = Mamba | FirstMamba | DeltaNet | KimiDelta
Mixer: TypeAlias = Attention | LatentAttention | Recurrent | ShortConv | Beside
Feed: TypeAlias = Mlp | Experts


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `norms`: before each part (``pre``), also after it (``both``), after it alone (``post``), or one for
    two parts side by side (``shared``); ``parallel``: side by side with a norm each."""

    mixer: Mixer | None
    feed: Feed | None
    norms: str = "pre"

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """Its mixers, one by one."""
        if self.mixer is None:
            return ()
        return self.mixer.parts if isinstance(self.mixer, Beside) else (self.mixer,)


@dataclass(frozen=True, slots=True)
class Vision:
    """A tower for images: a transformer of `layers` over patches of `patch` pixels a side, of which `merge` by `merge`
    become one token of the language model through `mergers` chains of products of widths `out`.

    `frames`: images that a patch is of; `classes`: tokens of no patch; `places`: learned positions; `opening`,
    `closing`: norms before and after the layers; `scaled`: results of a layer's parts times a weight. `window`: patches
    a side of what all but `full` layers attend within, 0: everything. `side`: the only side of an image, of which up to
    `tiles` are cut where there are more pixels, 0: any side. `tokens`: of an image, pooled, 0: as merged.
    `merger_norm`: over a ``patch``, over ``merged`` ones, or ``rms``. `qkv_bias` None: as `bias`.
    """

    hidden: int
    layers: int
    heads: int
    width: int
    patch: int
    out: tuple[int, ...]
    merge: int = 1
    mergers: int = 1
    frames: int = 1
    gated: bool = False
    act: str = "gelu"
    norm: str = "layer_norm"
    bias: bool = True
    qkv_bias: bool | None = None
    patch_bias: bool = True
    out_bias: bool = True
    merger_norm: str = ""
    classes: int = 0
    places: int = 0
    opening: bool = False
    closing: bool = False
    scaled: bool = False
    window: int = 0
    full: int = 0
    side: int = 0
    tiles: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Decoder:
    """A language model. `layers`: each kind of layer and how often it occurs. `weights`, `expert_weights`, `cache`:
    how products', experts' and cached numbers are held, as a configuration says; `dtype`: the rest. `towers`: what else
    than text the configuration has parts for (vision, audio); `vision`: the one for images, where its type is known."""

    name: str
    source: str
    hidden: int
    vocab: int
    layers: tuple[tuple[Layer, int], ...]
    tied: bool = False
    norm: str = "rms_norm"
    norm_weight: bool = True
    norm_bias: bool = False
    head_bias: bool = False
    positions: int = 0
    embedding_norm: bool = False
    towers: tuple[str, ...] = ()
    dtype: str = "bf16"
    weights: str = ""
    expert_weights: str = ""
    vision: Vision | None = None

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return sum(times for _, times in self.layers)

    @property
    def recurrent(self) -> int:
        """How many layers keep a state that every position changes."""
        return sum(times for layer, times in self.layers if any(isinstance(each, Recurrent) for each in layer.mixers))
