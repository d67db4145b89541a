"""Models by configuration: totals by hand and as published, phases, parallelism, quantization, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nets import work

import wattir
from wattir.costs import tabulate
from wattir.dims import CHANCE, evaluate, missed, symbol
from wattir.errors import InputError, ModelFileError, SizeError, UnsupportedError
from wattir.frontends.configs import decoder_graphs, footprint, forward_graph, load_config, names
from wattir.graph_check import check_graph
from wattir.ir import Graph
from wattir.passes import lower_to_kernels

TINY = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = TINY | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


def flop(graph: Graph, causal: bool = False, **sizes: int) -> Any:
    kernels = lower_to_kernels(graph, "compiled")
    return 2 * evaluate(work(kernels, "macs_causal" if causal else "macs"), sizes)


def stream(graph: Graph, name: str, **sizes: int) -> Any:
    return evaluate(work(lower_to_kernels(graph, "compiled"), name), sizes)


PUBLISHED = {
    "meta-llama/Llama-3.2-1B-Instruct": (1_235_814_400, 1_299_764_477_952, 1_282_618_163_200, 2_538_602_496),
    "meta-llama/Meta-Llama-3-8B": (8_030_261_248, 7_822_209_187_840, 7_753_623_928_832, 15_277_752_320),
}
"""Parameters; FLOP of a prefill of 512 tokens with all logits, the same causal; of the step that makes the 512th."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name: str) -> None:
    params, full, causal, step = PUBLISHED[name]
    config = load_config(name)
    graph = forward_graph(config)
    assert graph.params == params
    assert flop(graph, batch=1, seq=512) == full
    assert flop(graph, causal=True, batch=1, seq=512) == causal
    assert flop(decoder_graphs(config)[1], batch=1, past=511) == step


REPORTED = {
    "Qwen/Qwen3-8B": 8.19, "Qwen/Qwen3-235B-A22B-Instruct-2507": 235.09, "openai/gpt-oss-120b": 116.8,
    "deepseek-ai/DeepSeek-R1-0528": 671.0, "mistralai/Mixtral-8x7B-v0.1": 46.7, "google/gemma-3-27b-it": 27.0,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": 8.89, "openai-community/gpt2": 0.1244, "EleutherAI/pythia-6.9b": 6.86,
    "tiiuae/falcon-40b": 41.8, "bigcode/starcoder2-15b": 15.66, "meta-llama/Llama-4-Scout-17B-16E-Instruct": 107.77,
}  # fmt: skip
"""Billions of parameters as their publishers count them; text parts alone."""


@pytest.mark.parametrize("name", REPORTED)
def test_parameters_are_those_published(name: str) -> None:
    assert forward_graph(load_config(name)).params / 1e9 == pytest.approx(REPORTED[name], rel=5e-3)


@pytest.mark.parametrize("name", names())
def test_every_name_gives_legal_graphs(name: str) -> None:
    config = load_config(name)
    prefill, decode = (check_graph(graph) for graph in decoder_graphs(config))
    assert set(prefill.sizes) == {"batch", "seq", "past"} and set(decode.sizes) == {"batch", "past"}
    assert prefill.params == decode.params == forward_graph(config).params
    assert stream(decode, "state_bytes", batch=2, past=64) > stream(decode, "state_bytes", batch=1, past=64) > 0
    assert decode.tensors.keys() >= {name for name in decode.inputs}


def test_decode_reads_the_cache_and_writes_one_token() -> None:
    _, decode = decoder_graphs(load_config(TINY))
    seen, width = 32, 2 * 2 * 16 * 2  # 31 cached and the new one; keys and values, 2 heads of 16 numbers of 2 bytes
    assert stream(decode, "state_bytes", batch=1, past=31) == 2 * (seen * width + width)  # 2 layers: read all, write 1


def test_a_prefix_in_the_cache_is_read_not_computed() -> None:
    prefill, _ = decoder_graphs(load_config(TINY))
    whole, rest = (
        flop(prefill, causal=True, batch=1, seq=96, past=0),
        flop(prefill, causal=True, batch=1, seq=32, past=64),
    )
    first = flop(prefill, causal=True, batch=1, seq=64, past=0)
    head = 2 * 64 * 100  # each call makes the logits of one token
    assert first + rest - head == whole


def test_experts_that_no_token_reaches_are_not_read() -> None:
    _, decode = decoder_graphs(load_config(EXPERTS))
    one = 2 * 3 * 64 * 128 * 2  # 2 layers, three products, bf16
    expected = {1: 2.0, 2: 8 * (1 - 0.75**2), 64: 8.0}  # 8 (1 - (1 - 2/8)^tokens) experts
    others = stream(decode, "weight_bytes", batch=1, past=1) - 2.0 * one
    for batch, touched in expected.items():
        read = stream(decode, "weight_bytes", batch=batch, past=1) - others - (batch - 1) * 128
        assert read == pytest.approx(touched * one, rel=1e-3)


def test_products_of_experts_tell_how_many_tokens_chose_among_how_many() -> None:
    _, decode = decoder_graphs(load_config(EXPERTS), ep=4)
    told = {work.name.rpartition(".")[2]: (evaluate(work.tokens, {"batch": 12, "past": 1}), work.experts)
            for work in tabulate(decode) if work.experts}  # fmt: skip
    assert told == {"up": (48, 8), "down": (48, 8)}  # each of the 4 devices brings 12 tokens of its own


def test_every_token_goes_to_its_experts() -> None:
    prefill, _ = decoder_graphs(load_config(EXPERTS))
    token = 2 * (64 * (64 + 2 * 32 + 64) + 64 * 8 + 2 * 3 * 64 * 128)  # per layer: attention, router, two experts
    pairs = 2 * 2 * 64 * 24 * 24
    assert flop(prefill, batch=1, seq=24, past=0) == 2 * (2 * token // 2 * 24 + pairs) + 2 * 64 * 100


def test_missed_is_a_probability() -> None:
    t = symbol("t")
    quarter = missed(CHANCE // 4, t)
    assert evaluate(quarter, {"t": 2}) == missed(CHANCE // 4, 2) == CHANCE * 9 // 16
    with pytest.raises(SizeError):
        evaluate(quarter, {})


def test_arrays_and_numbers_agree() -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("numba")
    cost = wattir.compile(decoder_graphs(load_config(EXPERTS))[1], device="h100_sxm")
    batch = np.array([1, 2, 3, 100])
    many = cost(batch=batch, past=np.array([7, 0, 500, 9]))
    for place, sizes in enumerate(({"batch": 1, "past": 7}, {"batch": 2, "past": 0}, {"batch": 3, "past": 500})):
        assert many.energy_j[place] == pytest.approx(cost(**sizes).energy_j, rel=1e-12)


def test_a_compiled_model_is_saved_with_its_formulas(tmp_path: Path) -> None:
    cost = wattir.compile(decoder_graphs(load_config(EXPERTS))[1], device="h100_sxm")
    cost.save(str(tmp_path / "m.wattir"))
    again = wattir.load(str(tmp_path / "m.wattir"))
    assert again(batch=3, past=17).energy_j == cost(batch=3, past=17).energy_j


# ---- several devices ------------------------------------------------------------------------------------------------


def test_tensor_parallel_divides_products_and_adds_sums() -> None:
    config = load_config(TINY)
    one, two = decoder_graphs(config)[1], decoder_graphs(config, tp=2)[1]
    shared = 5 * 64  # norms are copied
    assert two.params - shared == (one.params - shared) // 2
    assert flop(two, batch=4, past=9) == flop(one, batch=4, past=9) // 2
    sums = [op for op in two.ops if op.kind == "collective" and op.attrs["function"] == "all_reduce"]
    assert sum(op.times for op in sums) == 2 * 2 + 1  # behind attention and feed-forward of each layer; the embedding
    assert {op.attrs["ranks"] for op in sums} == {2}


def test_heads_of_keys_are_copied_where_there_are_more_devices() -> None:
    config = load_config(TINY)
    assert (
        footprint(config, tp=4).token_bytes == footprint(config, tp=2).token_bytes == footprint(config).token_bytes // 2
    )


def test_expert_parallel_divides_experts_and_shares_their_tokens() -> None:
    config = load_config(EXPERTS)
    one, four = decoder_graphs(config)[1], decoder_graphs(config, ep=4)[1]
    experts = 2 * 8 * 3 * 64 * 128
    assert one.params - four.params == experts * 3 // 4
    assert flop(four, batch=16, past=9) == flop(
        one, batch=16, past=9
    )  # four times the tokens, a quarter of the experts
    assert {op.attrs["function"] for op in four.ops if op.kind == "collective"} == {"all_to_all"}


@pytest.mark.parametrize(
    ("values", "how", "said"),
    [
        (TINY, {"tp": 3}, "tp = 3: .* num_attention_heads = 4, which 3 does not divide"),
        (TINY, {"tp": 0}, "tp = 0; expected a whole number of devices from 1"),
        (EXPERTS, {"ep": 3}, "ep = 3: .* num_experts = 8, which 3 does not divide"),
        (EXPERTS, {"tp": 2, "ep": 3}, "expected an ep that tp divides"),
        (TINY, {"weights": "fp6"}, "weights = 'fp6'; expected one of .*fp8"),
        (TINY, {"kv_cache": "int4"}, "kv_cache = 'int4'; expected one of bf16"),
    ],
)
def test_what_cannot_be_is_refused(values: Any, how: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        decoder_graphs(load_config(values), **how)


# ---- how numbers are held -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "bits"), [("bf16", 16), ("fp8", 8), ("int8", 8), ("int4", 4.125), ("mxfp4", 4.25)])
def test_weights_are_read_as_they_are_held(weights: str, bits: float) -> None:
    graph = decoder_graphs(load_config(TINY), weights=weights)[1]
    products = 2 * (64 * (64 + 2 * 32 + 64) + 3 * 64 * 128)  # scales: 16 bits to 128, 8 bits to 32
    others = 64 * 100 * 2 + 64 * 2 + 5 * 64 * 2  # head, one row of the embedding, norms
    assert stream(graph, "weight_bytes", batch=1, past=1) - others == pytest.approx(products * bits / 8, rel=2e-3)


def test_a_narrow_cache_is_half_as_much() -> None:
    config = load_config(TINY)
    wide, narrow = (decoder_graphs(config, kv_cache=kind)[1] for kind in ("bf16", "fp8"))
    assert stream(narrow, "state_bytes", batch=1, past=99) * 2 == stream(wide, "state_bytes", batch=1, past=99)


def test_declared_quantization_is_used() -> None:
    assert load_config("openai/gpt-oss-20b").expert_weights == "mxfp4"
    assert load_config("deepseek-ai/DeepSeek-V3.1").weights == "fp8"
    assert footprint(load_config("openai/gpt-oss-120b")).weight_bytes == pytest.approx(
        65.2e9, rel=0.02
    )  # its files: 65 GB


def grouped(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = {f"group_{i}": {"weights": each, "input_activations": {"num_bits": 8}} for i, each in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "config_groups": named, **more}


DECLARED: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "fp8"}, "fp8"), ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    ({"quant_method": "fp8", "weight_block_size": None}, "fp8_channel"),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8_channel"),
    ({"quant_method": "fbgemm_fp8"}, "fp8_channel"), ({"quant_method": "awq", "bits": 4}, "int4"),
    ({"quant_method": "gptq", "bits": 8}, "int8_only"), ({"quant_method": "gptq", "bits": 4}, "int4"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
    ({"quant_method": "bitsandbytes", "_load_in_8bit": True}, "int8"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"), ({"quant_method": "modelopt_fp4"}, "nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8_channel"),
    (grouped({"type": "float", "num_bits": 8, "strategy": "channel"}), "fp8_channel"),
    (grouped({"type": "float", "num_bits": 8, "strategy": "block"}), "fp8"),
    (grouped({"type": "float", "num_bits": 4, "group_size": 16}), "nvfp4"),
    (grouped({"type": "int", "num_bits": 4, "group_size": 128}, ignore=["lm_head"]), "int4"),
    (grouped({"type": "int", "num_bits": 8}), "int8"),
    ({"quant_method": "compressed-tensors",
      "config_groups": {"g": {"weights": {"type": "int", "num_bits": 8}, "input_activations": None}}}, "int8_only"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "held"), DECLARED)
def test_declared_methods_say_how_weights_are_held(how: dict[str, Any], held: str) -> None:
    config = load_config(TINY | {"quantization_config": how})
    assert (config.weights, config.expert_weights) == (held, "")
    footprint(config)  # a name that the writer knows


@pytest.mark.parametrize("left", [["re:.*self_attn.*", "lm_head"], ["model.layers.0.self_attn.q_proj",
                                                                    "model.layers.1.self_attn.q_proj"]])  # fmt: skip
def test_experts_alone_are_narrow_where_attention_is_left_out(left: list[str]) -> None:
    how = grouped({"type": "int", "num_bits": 4}, ignore=left)
    config = load_config(EXPERTS | {"quantization_config": how})
    assert (config.weights, config.expert_weights) == ("", "int4")
    with pytest.raises(UnsupportedError, match="attention is left in 16 bits"):
        load_config(TINY | {"quantization_config": how})


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "gptq", "bits": 3}, "bits = 3; expected one of 4, 8"),
    ({"quant_method": "bitsandbytes"}, "neither load_in_8bit"), ({"quant_method": "hqq"}, "quant_method 'hqq'"),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quant_algo 'MIXED_PRECISION'"),
    (grouped({"type": "int", "num_bits": 2}), "num_bits = 2"),
    (grouped({"type": "int", "num_bits": 4}, {"type": "float", "num_bits": 8}), "config_groups of 2 kinds"),
    (grouped({"type": "int", "num_bits": 4}, sparsity_config={"sparsity_structure": "2:4"}), "sparsity_config"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "said"), UNKNOWN)
def test_methods_that_are_not_described_are_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        load_config(TINY | {"quantization_config": how})


def test_footprint_counts_every_layer() -> None:
    found = footprint(load_config("Qwen/Qwen3-8B"))
    assert found.weight_bytes == 2 * 8_190_735_360
    assert found.token_bytes == 36 * 2 * 8 * 128 * 2  # layers, keys and values, heads, numbers, bytes
    sliding = footprint(load_config("openai/gpt-oss-120b"))
    assert sliding.cache_bytes(10_000) - sliding.cache_bytes(9_000) == 1000 * sliding.token_bytes
    assert sliding.token_bytes == 18 * 2 * 8 * 64 * 2 and sliding.windows == {128: 18 * 2 * 8 * 64 * 2}


# ---- files and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["qwen/QWEN3-8b", "Qwen3-8B", "Qwen/Qwen3-8B"])
def test_names_are_found_whatever_their_case(given: str) -> None:
    assert load_config(given).name == "Qwen/Qwen3-8B"


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(InputError, match=r"did you mean .*Qwen/Qwen3-8B"):
        wattir.lower("Qwen/Qwen3-8")


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in TINY.items() if name != key}


HYBRID = TINY | {
    "model_type": "nemotron_h", "hybrid_override_pattern": "MX", "mamba_num_heads": 2, "mamba_head_dim": 8,
    "ssm_state_size": 8, "n_groups": 1,
}  # fmt: skip
MAGIC = TINY | {"quantization_config": {"quant_method": "magic"}}
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no layers": (without("num_hidden_layers"), ModelFileError, "no key 'num_hidden_layers'"),
    "near key": (without("vocab_size") | {"vocabsize": 100}, ModelFileError, "did you mean vocabsize"),
    "text": (TINY | {"hidden_size": "64"}, ModelFileError, "hidden_size = '64'; expected a whole number"),
    "negative": (TINY | {"num_hidden_layers": -1}, ModelFileError, "num_hidden_layers = '-1'"),
    "absurd": (TINY | {"vocab_size": 10**12}, ModelFileError, "vocab_size = '1000000000000'"),
    "experts": (EXPERTS | {"num_experts_per_tok": 9}, ModelFileError, "expected at most the 8 experts"),
    "quantization": (MAGIC, UnsupportedError, "quant_method 'magic'"),
    "pattern": (HYBRID, ModelFileError, "found 'X'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations_name_key_and_file(name: str, tmp_path: Path) -> None:
    values, error, said = BAD[name]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(error, match=said) as raised:
        load_config(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_type_without_transformers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"model_type 'lama'; expected one of .*did you mean llama"):
        load_config(TINY | {"model_type": "lama"})


def test_an_activation_that_is_not_known_is_said() -> None:
    graph = forward_graph(load_config(TINY | {"hidden_act": "frobnicate"}))
    assert any("activation 'frobnicate' is not known" in line for line in graph.warnings)
    assert not forward_graph(load_config(TINY | {"hidden_act": "gelu_10"})).warnings


def test_parts_for_images_are_said_to_be_left_out() -> None:
    plain, seeing = load_config("Qwen/Qwen3-8B"), load_config("Qwen/Qwen3-VL-8B-Instruct")

    assert forward_graph(plain).warnings == ()
    assert "parts for vision are left out" in forward_graph(seeing).warnings[0]
