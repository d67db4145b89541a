"""The transformers of ``irene_transformers`` as eager PyTorch ran them: primitives, modules and whole models.

From shapes alone: a model's width, heads, blocks and vocabulary, and the batch and length of a row. The set has no
output heads but where a row's FLOP say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from wattir import layers
from wattir.costs import tabulate
from wattir.ir import Graph
from wattir.work import Work

from .functions import function_graph

Counted = Sequence[tuple[int, Graph]]


@dataclass(frozen=True)
class Transformer:
    """Sizes of one model; `inner` is the width inside its feed-forward layers, `style` what its blocks are like.

    `places`: how the tokens' places are looked up, once for all texts (``shared``), for every text (``each``), or for
    every text after they were counted from its ids (``counted``).
    """

    style: str
    blocks: int
    width: int = 768
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30522
    places: str = "shared"


TRANSFORMERS = {
    "bert-base-uncased": Transformer("bert", 12),
    "roberta-base": Transformer("bert", 12, vocabulary=50265, places="counted"),
    "distilbert-base-uncased": Transformer("distilbert", 6, places="each"),
    "gpt2": Transformer("gpt2", 12, vocabulary=50257), "distilgpt2": Transformer("gpt2", 6, vocabulary=50257),
    "openai-gpt": Transformer("gpt", 12, vocabulary=40478),
    "sshleifer/tiny-ctrl": Transformer("ctrl", 2, 16, 2, 32, 246534),
}  # fmt: skip
"""Published configurations of the Hugging Face hub."""


@dataclass(frozen=True)
class Shape:
    """One model at one batch and length."""

    model: Transformer
    batch: int
    length: int

    @property
    def rows(self) -> int:
        """Tokens."""
        return self.batch * self.length

    @property
    def points(self) -> int:
        """Elements of the hidden state."""
        return self.rows * self.model.width

    @property
    def scores(self) -> int:
        """Elements of the attention scores."""
        return self.batch * self.model.heads * self.length**2


def _linear(s: Shape, n: int, k: int) -> Graph:
    return layers.matmul(s.rows, n, k, "fp32")


def _pointwise(elements: int, operands: int = 1) -> Graph:
    return layers.pointwise(elements, "fp32", operands=operands)


def _norm(s: Shape) -> Graph:
    return layers.norm(s.rows, s.model.width, "fp32")


def _copy(s: Shape) -> Graph:
    return layers.copy((s.rows, s.model.width), "fp32")


def _products(s: Shape) -> Counted:
    """Queries by keys, softmax, scores by values; heads are made contiguous before and after."""
    groups, head = s.batch * s.model.heads, s.model.width // s.model.heads
    return [
        (1, layers.matmul(s.length, s.length, head, "fp32", groups=groups, weight=False)),
        (1, layers.matmul(s.length, head, s.length, "fp32", groups=groups, weight=False)),
        (1, layers.softmax(groups * s.length, s.length, "fp32")),
        (4, _copy(s)),
    ]


def _add(s: Shape) -> Counted:
    return [(1, _pointwise(s.points, 2))]


def _gelu(s: Shape) -> Counted:
    return [(1, function_graph("gelu", s.rows * s.model.inner, "fp32"))]


def _gelu_written_out(s: Shape) -> Counted:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), one kernel an operation."""
    elements = s.rows * s.model.inner
    return [
        (5, _pointwise(elements)),
        (2, _pointwise(elements, 2)),
        (1, function_graph("tanh", elements, "fp32")),
    ]


def _bert_self_attention(s: Shape) -> Counted:
    d = s.model.width
    return [(3, _linear(s, d, d)), (2, _pointwise(s.scores)), *_products(s)]  # scaled, masked


def _self_output(s: Shape) -> Counted:
    return [(1, _linear(s, s.model.width, s.model.width)), *_add(s), (1, _norm(s))]


def _bert_attention(s: Shape) -> Counted:
    return [*_bert_self_attention(s), *_self_output(s)]


def _intermediate(s: Shape) -> Counted:
    return [(1, _linear(s, s.model.inner, s.model.width)), *_gelu(s)]


def _output(s: Shape) -> Counted:
    return [(1, _linear(s, s.model.width, s.model.inner)), *_add(s), (1, _norm(s))]


def _feed_forward(s: Shape) -> Counted:
    return [*_intermediate(s), (1, _linear(s, s.model.width, s.model.inner))]


def _distil_attention(s: Shape) -> Counted:
    d = s.model.width
    return [(4, _linear(s, d, d)), (1, _pointwise(s.points)), (1, _pointwise(s.scores)), *_products(s)]


def _merged_attention(s: Shape) -> Counted:
    """One product for queries, keys and values; scores are scaled and masked in two operations or, in GPT, four."""
    d, masks = s.model.width, 4 if s.model.style == "gpt" else 2
    return [(1, _linear(s, 3 * d, d)), (1, _linear(s, d, d)), (masks, _pointwise(s.scores)), *_products(s)]


def _ctrl_attention(s: Shape) -> Counted:
    d = s.model.width
    return [(4, _linear(s, d, d)), (2, _pointwise(s.scores)), *_products(s)]


def _gpt_mlp(s: Shape) -> Counted:
    d, inner = s.model.width, s.model.inner
    return [(1, _linear(s, inner, d)), *_gelu_written_out(s), (1, _linear(s, d, inner))]


def _ctrl_mlp(s: Shape) -> Counted:
    d, inner = s.model.width, s.model.inner
    return [(1, _linear(s, inner, d)), (1, _pointwise(s.rows * inner)), (1, _linear(s, d, inner))]


def _block(s: Shape) -> Counted:
    attention, feed_forward = BLOCK_OF_STYLE[s.model.style]
    return [*attention(s), *feed_forward(s), (2, _norm(s)), (2, _pointwise(s.points, 2))]


BLOCK_OF_STYLE: dict[str, tuple[Callable[[Shape], Counted], Callable[[Shape], Counted]]] = {
    "distilbert": (_distil_attention, _feed_forward),
    "gpt2": (_merged_attention, _gpt_mlp),
    "gpt": (_merged_attention, _gpt_mlp),
    "ctrl": (_ctrl_attention, _ctrl_mlp),
}


def _bert_block(s: Shape) -> Counted:
    return [*_bert_attention(s), *_intermediate(s), *_output(s)]


def _stack(s: Shape) -> Counted:
    block = _bert_block(s) if s.model.style == "bert" else _block(s)
    return [(s.model.blocks * times, graph) for times, graph in block]


def _embeddings(s: Shape) -> Counted:
    """Tokens, places, and in BERT types; added, and but in GPT normalized.

    RoBERTa counts a text's places from its ids in eight steps: which are no padding (cast), their running sum (cast,
    and from where it begins), those alone (cast), and past the padding's own place.
    """
    d, bert = s.model.width, s.model.style == "bert"
    normed = 1 if s.model.style in ("bert", "distilbert") else 0
    return [
        (2 if bert else 1, layers.gather(s.model.vocabulary, d, s.rows, "fp32")),
        (1, layers.gather(512, d, s.length if s.model.places == "shared" else s.rows, "fp32")),
        *([(8, _pointwise(s.rows, 1))] if s.model.places == "counted" else []),
        (2 if bert else 1, _pointwise(s.points, 2)),
        *([(1, _norm(s))] * normed),
    ]


def _pooler(s: Shape) -> Counted:
    """The first tokens of all texts are picked, which takes the host as long as looking them up."""
    d = s.model.width
    first = layers.gather(s.rows, d, s.batch, "fp32")
    return [(1, first), (1, layers.matmul(s.batch, d, d, "fp32")), (1, function_graph("tanh", s.batch * d, "fp32"))]


def _whole(s: Shape) -> Counted:
    last = _pooler(s) if s.model.style == "bert" else [(1, _norm(s))] if s.model.style in ("gpt2", "ctrl") else []
    return [*_embeddings(s), *_stack(s), *last]


MODULES: dict[str, Callable[[Shape], Counted]] = {
    "SelfAttention": _bert_self_attention, "SelfOutput": _self_output, "Intermediate": _intermediate,
    "Output": _output, "Layer": _bert_block, "Pooler": _pooler, "Embeddings": _embeddings, "Encoder": _stack,
    "Transformer": _stack, "TransformerBlock": _block, "Block": _block, "EncoderLayer": _block,
    "MultiHeadSelfAttention": _distil_attention, "MultiHeadAttention": _ctrl_attention, "FFN": _feed_forward,
    "MLP": _gpt_mlp, "Sequential": _ctrl_mlp,
}  # fmt: skip
"""By the name of a module's class, without the model's."""


def module(kind: str, shape: Shape) -> tuple[Work, ...] | None:
    """The kernels of a module of this class, or None where it is not known."""
    name = kind.removeprefix("Bert").removeprefix("Roberta").removeprefix("GPT2").removeprefix("OpenAIGPT")
    if name == "Attention":
        bert = shape.model.style == "bert"
        return _works(_bert_attention(shape) if bert else _merged_attention(shape))
    return _works(MODULES[name](shape)) if name in MODULES else None


def whole(shape: Shape, flop: float) -> tuple[Work, ...]:
    """The kernels of a model; with its output head where so many FLOP are counted that it must be there."""
    works = _works(_whole(shape))
    body = 2.0 * sum(int(str(work.macs)) * int(str(work.times)) for work in works)
    head = _linear(shape, shape.model.vocabulary, shape.model.width)
    (last,) = tabulate(head)
    return (*works, last) if flop > body + 1.5 * shape.points * shape.model.vocabulary else works


def primitive(kind: str, shape: Shape, flop: float, moved_bytes: float) -> tuple[Work, ...] | None:
    """The kernel of a primitive, from its FLOP and bytes where its kind leaves its sizes open."""
    makers: dict[str, Callable[[], Graph]] = {
        "Linear": lambda: _linear_of(shape, flop),
        "Conv1D": lambda: _linear_of(shape, flop),
        "MatMul": lambda: _products(shape)[0][1],
        "Softmax": lambda: _products(shape)[2][1],
        "LayerNorm": lambda: _norm(shape),
        "Embedding": lambda: _embedding_of(shape, moved_bytes),
        "Tanh": lambda: function_graph("tanh", shape.batch * shape.model.width, "fp32"),
    }
    return tabulate(makers[kind]()) if kind in makers else None


def _linear_of(s: Shape, flop: float) -> Graph:
    """The linear layer of the model whose 2 m n k + m n FLOP are nearest."""
    d, inner = s.model.width, s.model.inner
    sizes = [(s.rows, d, d), (s.rows, inner, d), (s.rows, d, inner), (s.rows, 3 * d, d), (s.batch, d, d)]
    m, n, k = min(sizes, key=lambda size: abs(2 * size[0] * size[1] * size[2] + size[0] * size[1] - flop))
    return layers.matmul(m, n, k, "fp32")


def _embedding_of(s: Shape, moved_bytes: float) -> Graph:
    """Rows of 4 bytes an element, each found by an index of 8 bytes."""
    found = max(round(moved_bytes / (4 * s.model.width + 8)), 1)
    return layers.gather(s.model.vocabulary, s.model.width, found, "fp32")


def _works(counted: Counted) -> tuple[Work, ...]:
    return tuple(replace(work, times=times) for times, graph in counted for work in tabulate(graph))
