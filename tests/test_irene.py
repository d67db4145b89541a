"""Transformers from shapes alone: what the readers of irene_transformers build, against counts made by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")

from wattir.backends.fit.irene_models import TRANSFORMERS, Shape, module, primitive, whole


def flop(works):
    return 2 * sum(int(str(work.macs)) * int(str(work.times)) for work in works)


def test_bert_base_is_the_published_count():
    assert flop(whole(Shape(TRANSFORMERS["bert-base-uncased"], 1, 128), 0.0)) == 22_348_431_360


def test_gpt2_has_a_head_only_where_the_row_counts_one():
    shape = Shape(TRANSFORMERS["gpt2"], 2, 64)
    body = 12 * (
        24 * 128 * 768**2 + 2 * 4 * 64**2 * 768
    )  # per block 12 d^2 weights, 2 products of scores each sequence
    head = 2 * 128 * 768 * 50257
    assert flop(whole(shape, body)) == body
    assert flop(whole(shape, body + head)) == body + head


def test_a_layer_is_its_attention_and_its_feed_forward():
    shape = Shape(TRANSFORMERS["bert-base-uncased"], 4, 32)
    parts = [module(name, shape) for name in ("BertSelfAttention", "BertSelfOutput", "BertIntermediate", "BertOutput")]
    assert flop(module("BertLayer", shape)) == sum(flop(part) for part in parts)
    assert module("BertTeapot", shape) is None


@pytest.mark.parametrize(("n", "k"), [(768, 768), (3072, 768), (768, 3072)])
def test_the_sizes_of_a_linear_layer_follow_from_its_flop(n, k):
    shape = Shape(TRANSFORMERS["bert-base-uncased"], 8, 32)
    (work,) = primitive("Linear", shape, 2 * 256 * n * k + 256 * n, 0.0)
    assert (work.m, work.n, work.k) == (256, n, k)


def test_the_rows_of_an_embedding_follow_from_its_bytes():
    shape = Shape(TRANSFORMERS["bert-base-uncased"], 16, 64)
    (work,) = primitive("Embedding", shape, 0.0, 197_120)  # 64 positions of 768 floats and an index of 8 bytes each
    assert work.out_bytes == 64 * 768 * 4


def gathered(works):
    """Numbers looked up in tables."""
    return sum(work.out_bytes * work.times for work in works if work.family == "gather") // 4


def test_places_are_looked_up_for_every_text_where_the_model_expands_their_ids():
    """8 texts of 32 tokens: BERT looks up tokens and types of all, and places once; DistilBERT tokens and places of
    all; RoBERTa all three, and counts the places from the ids before."""
    found = {name: module("Embeddings", Shape(TRANSFORMERS[name], 8, 32)) for name in TRANSFORMERS}
    tokens = 8 * 32 * 768
    assert gathered(found["bert-base-uncased"]) == 2 * tokens + 32 * 768
    assert gathered(found["distilbert-base-uncased"]) == 2 * tokens
    assert gathered(found["roberta-base"]) == 3 * tokens
    launched = {name: sum(work.times for work in works) for name, works in found.items()}
    assert launched["roberta-base"] == launched["bert-base-uncased"] + 8


def test_a_pooler_picks_the_first_tokens_before_it_multiplies():
    first, product, tanh = module("BertPooler", Shape(TRANSFORMERS["bert-base-uncased"], 8, 32))
    assert (first.family, gathered([first])) == ("gather", 8 * 768)
    assert (product.m, product.n, product.k) == (8, 768, 768)
    assert tanh.out_bytes == 8 * 768 * 4
