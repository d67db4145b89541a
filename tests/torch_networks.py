"""Published networks on the meta device with what they are called with; their totals; both ways to lower them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torchvision_stub import imported

import wattir
from wattir.costs import tabulate
from wattir.graph_check import check_graph
from wattir.ir import Graph, Op
from wattir.passes import lower_to_kernels

Network = tuple[Any, Any]


def meta(*shape: int, whole: bool = False) -> Any:
    """A tensor without content; `whole`: of token numbers."""
    import torch

    return torch.zeros(*shape, dtype=torch.int64 if whole else torch.float32, device="meta")


def on_meta(make: Callable[[], Any]) -> Any:
    import torch

    with torch.device("meta"):
        return make().eval()


def resnet50() -> Network:
    models = imported("torchvision.models")
    return on_meta(models.resnet50), meta(1, 3, 224, 224)


def vit() -> Network:
    models = imported("torchvision.models")
    return on_meta(models.vit_b_16), meta(1, 3, 224, 224)


def timm_vit() -> Network:
    timm = imported("timm")
    return on_meta(lambda: timm.create_model("vit_base_patch16_224")), meta(1, 3, 224, 224)


def bert() -> Network:
    hf = imported("transformers")
    given = {"input_ids": meta(1, 128, whole=True), "attention_mask": meta(1, 128, whole=True)}
    return on_meta(lambda: hf.BertModel(hf.BertConfig())), given


LLAMA_1B = {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
            "tie_word_embeddings": True}  # fmt: skip
LLAMA_8B = {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "tie_word_embeddings": False}  # fmt: skip


def llama(sizes: dict[str, Any], past: int = 0) -> Network:
    """512 tokens at once, or one behind `past` in a cache."""
    hf = imported("transformers")
    config = hf.LlamaConfig(**sizes)
    model = on_meta(lambda: hf.LlamaForCausalLM(config))
    if not past:
        return model, {"input_ids": meta(1, 512, whole=True), "use_cache": False}
    cache = hf.DynamicCache(config=config)
    rows = (1, sizes["num_key_value_heads"], past, sizes["head_dim"])
    for layer in range(sizes["num_hidden_layers"]):
        cache.update(meta(*rows), meta(*rows), layer)
    return model, {"input_ids": meta(1, 1, whole=True), "past_key_values": cache, "use_cache": True}


NETWORKS: dict[str, Callable[[], Network]] = {
    "resnet50": resnet50,
    "vit": vit,
    "timm_vit": timm_vit,
    "bert": bert,
    "llama_1b": lambda: llama(LLAMA_1B),
    "llama_1b_step": lambda: llama(LLAMA_1B, past=511),
    "llama_8b": lambda: llama(LLAMA_8B),
    "llama_8b_step": lambda: llama(LLAMA_8B, past=511),
}

TRUTH: dict[str, tuple[int, int, int]] = {
    "resnet50": (8_178_368_512, 8_178_368_512, 25_557_032),
    "vit": (35_127_656_448, 35_127_656_448, 86_567_656),
    "timm_vit": (35_127_656_448, 35_127_656_448, 86_567_656),
    "bert": (22_348_431_360, 22_348_431_360, 109_482_240),
    "llama_1b": (1_299_764_477_952, 1_282_618_163_200, 1_235_814_400),
    "llama_1b_step": (2_538_602_496, 2_538_602_496, 1_235_814_400),
    # 2 less half of the pairs: 512 * 511 / 2 pairs, 32 layers, 32 heads, 2 * (128 + 128) FLOP each
    "llama_8b": (7_822_209_187_840, 7_822_209_187_840 - 512 * 511 // 2 * 32 * 32 * 512, 8_030_261_248),
    "llama_8b_step": (15_277_752_320, 15_277_752_320, 8_030_261_248),
}
"""FLOP of all pairs, FLOP of those that a causal mask keeps, parameters; derived by hand."""


def totals(graph: Graph, runtime: str | None = None) -> dict[str, Any]:
    work = tabulate(graph if runtime is None else lower_to_kernels(graph, runtime))
    return {
        "flop": 2 * sum(w.macs * w.times for w in work),
        "flop_causal": 2 * sum(w.macs_causal * w.times for w in work),
        "bytes": sum(w.bytes * w.times for w in work),
        "kernels": sum(w.launches * w.times for w in work),
    }


def lowered(module: Any, inputs: Any) -> Graph:
    return check_graph(wattir.lower(module, inputs))


def traced(module: Any, inputs: Any) -> Graph:
    from wattir.frontends.torch.containers import known_containers
    from wattir.frontends.torch.inputs import inputs_of
    from wattir.frontends.torch.lowering import lower_program
    from wattir.frontends.torch.traced import trace

    given = inputs_of(inputs)
    with known_containers(given.args, given.kwargs):
        return check_graph(lower_program(trace(module, given)))


def of_kind(graph: Graph, kind: str) -> list[Op]:
    return [op for op in graph.ops if op.kind == kind]


@cache
def published(name: str) -> Graph:
    """The graph of one of `NETWORKS`, lowered once for all tests."""
    return lowered(*NETWORKS[name]())
