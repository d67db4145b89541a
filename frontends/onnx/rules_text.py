"""Strings: done by the host. Sizes that the texts decide are free dims, or bounded."""

from __future__ import annotations

from wattir.dims import Size
from wattir.frontends.onnx.broadcast import broadcast_of, text
from wattir.frontends.onnx.node import Node, rule
from wattir.frontends.onnx.unknown_sizes import free_size

EXTENSIONS = "ai.onnx.contrib"


@rule("StringConcat")
def string_concat(node: Node) -> None:
    node.result(broadcast_of(node, node.value(0), node.value(1)), "string")
    node.emit("host", function="string_concat")


@rule("StringNormalizer")
def string_normalizer(node: Node) -> None:
    """Stop words are taken out, so the output is at most as long as the input."""
    x = node.value(0)
    if node.attr("stopwords"):
        node.warn("the output is bounded by its maximum, no stop word found")
    node.result(x.shape, "string")
    node.emit("host", function="string_normalizer")


@rule("StringSplit")
def string_split(node: Node) -> None:
    """The parts of each text on a new last axis, as many as maxsplit allows, and how many there are."""
    x, most = node.value(0), node.attr("maxsplit")
    parts: Size = free_size(node, "parts") if most is None else int(most) + 1
    if most is not None:
        node.warn("the output is bounded by its maximum, maxsplit + 1 parts")
    node.result((*x.shape, parts), "string")
    if node.wanted(1):
        node.result(x.shape, "int64", index=1)
    node.emit("host", function="string_split")


@rule("RegexFullMatch")
def regex_full_match(node: Node) -> None:
    node.result(node.value(0).shape, "bool")
    node.emit("host", function="regex_full_match")


@rule("TfIdfVectorizer")
def tf_idf(node: Node) -> None:
    """[.., words] gives [.., n-grams of the pool]."""
    x = node.value(0)
    count = max(node.attr("ngram_indexes") or (-1,)) + 1
    node.result((*x.shape[:-1], count), "fp32")
    node.emit("host", function="tf_idf")


@rule("Tokenizer", domain="com.microsoft")
def tokenizer(node: Node) -> None:
    x = node.value(0)
    node.result((*x.shape, free_size(node, "tokens")), "string")
    node.emit("host", function="tokenizer")


@rule("SentencepieceTokenizer", domain=EXTENSIONS)
def sentencepiece(node: Node) -> None:
    """Tokens of all texts in a row, where each text starts, and (in new versions) where each token does."""
    tokens, texts = free_size(node, "tokens"), node.value(1 if len(node.ins) > 5 else 0).elements
    for index, size in enumerate((tokens, texts + 1, tokens)[: len(node.out_names)]):
        if node.wanted(index):
            node.result((size,), "int32", index=index)
    node.emit("host", function="sentencepiece")


TOKENIZERS = (
    "BertTokenizer", "BlingFireSentenceBreaker", "CLIPTokenizer", "GPT2Tokenizer", "HfBertTokenizer", "HfJsonTokenizer",
    "RobertaTokenizer", "SpmTokenizer", "TrieTokenizer", "WordpieceTokenizer",
)  # fmt: skip


@rule(*TOKENIZERS, domain=EXTENSIONS)
def extension_tokenizer(node: Node) -> None:
    """[texts] gives ids, mask and types, each [texts, tokens]."""
    tokens = free_size(node, "tokens")
    for index in range(len(node.out_names)):
        if node.wanted(index):
            node.result((node.value(0).elements, tokens), "int64", index=index)
    node.emit("host", function=text(node.op))
