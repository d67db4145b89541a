"""The built-in models against published and hand-derived figures, and laws that networks keep under the passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from onnx_models import LIGHT

from wattir.costs import tabulate
from wattir.dims import evaluate
from wattir.frontends.onnx import lower
from wattir.graph_check import check_graph
from wattir.graph_text import graph_text, parse_graph
from wattir.ir import Graph
from wattir.models import load_model, model_names
from wattir.passes import CANONICAL, RUNTIMES, lower_to_kernels
from wattir.work import Work

# torchvision's weights' metadata: parameters, and multiply-adds in units of 10^9, rounded to 3 digits after the point
TORCHVISION = {
    "alexnet": (61_100_840, 0.714),
    "convnext_tiny": (28_589_128, 4.456),
    "densenet121": (7_978_856, 2.834),
    "efficientnet_b0": (5_288_548, 0.386),
    "efficientnet_v2_s": (21_458_488, 8.366),
    "mobilenet_v2": (3_504_872, 0.301),
    "mobilenet_v3_large": (5_483_032, 0.217),
    "resnet152": (60_192_808, 11.514),
    "resnet18": (11_689_512, 1.814),
    "resnet50": (25_557_032, 4.089),
    "swin_t": (28_288_354, 4.491),
    "vgg16": (138_357_544, 15.47),
    "vit_b_16": (86_567_656, 17.564),
}


def layers(count: int, width: int, inner: int, length: int, context: int | None = None) -> int:
    """FLOP of a transformer's layers on one sequence: 4 projections, 2 of the MLP, scores and their mix."""
    return count * (2 * length * (4 * width**2 + 2 * width * inner) + 4 * length * (context or length) * width)


def llama(count: int, width: int, inner: int, head_dim: int, length: int, context: int, kv_heads: int = 8) -> int:
    """Grouped queries, a gated MLP of 3 products, and the head over 128,256 tokens at every position."""
    products = 2 * width**2 + 2 * width * kv_heads * head_dim + 3 * width * inner
    return 2 * length * (count * products + width * 128_256) + count * 4 * length * context * width


# parameters of the published model, FLOP with its default sizes
TRANSFORMERS = {
    "bert_base": (109_482_240, layers(12, 768, 3072, 128) + 2 * 768 * 768),  # and the pooler, on the first position
    "bert_large": (335_141_888, layers(24, 1024, 4096, 128) + 2 * 1024 * 1024),
    "deit_small": (22_050_664, layers(12, 384, 1536, 197) + 2 * 384 * (196 * 768 + 1000)),  # and patches, and classes
    "distilbert": (66_362_880, layers(6, 768, 3072, 128)),
    "gpt2": (124_439_808, layers(12, 768, 3072, 512) + 2 * 512 * 768 * 50257),  # and the head, tied to the embedding
    "llama_3_2_1b": (1_235_814_400, llama(16, 2048, 8192, 64, 512, 512)),
    "llama_3_2_1b_decode": (1_235_814_400, llama(16, 2048, 8192, 64, 1, 512)),  # 511 cached and the new one
    "llama_3_8b": (8_030_261_248, llama(32, 4096, 14336, 128, 512, 512)),
    "llama_3_8b_decode": (8_030_261_248, llama(32, 4096, 14336, 128, 1, 512)),
    "t5_base_encoder": (109_628_544, layers(12, 768, 3072, 128)),
    # two convolutions over time, the second with stride 2
    "whisper_small_encoder": (88_154_112, layers(12, 768, 3072, 1500) + 2 * 768 * 3 * (3000 * 80 + 1500 * 768)),
    # the box and class heads have 3 layers each on the 100 detection tokens; 4 sides and 91 + 1 classes
    "yolos_tiny": (
        6_488_736,
        layers(12, 192, 768, 1 + 50 * 84 + 100) + 2 * 192 * 768 * 50 * 84 + 2 * 100 * 192 * (4 * 192 + 4 + 92),
    ),
}

EXACT = {
    "resnet50": 8_178_368_512,
    "vit_b_16": 35_127_656_448,
    "bert_base": 22_348_431_360,
    "llama_3_2_1b": 1_299_764_477_952,
    "llama_3_2_1b_decode": 2_538_602_496,
    "llama_3_8b": 7_822_209_187_840,
    "llama_3_8b_decode": 15_277_752_320,
    "densenet121": 5_668_323_328,
    "sd_1_5_unet": 803_273_441_280,  # half of what torch's FlopCounterMode counts at batch 2
}
OTHER_PARAMS = {"sd_1_5_unet": 859_520_964, "clip_vit_b_32": 151_277_312}  # CLIP's without its temperature, a scalar


def lstm(inputs: int, width: int) -> int:
    """Multiply-adds of one step of a layer: four gates of the input and of the state."""
    return 4 * width * (inputs + width)


def chain(*widths: int) -> int:
    """Multiply-adds of a perceptron."""
    return sum(a * b for a, b in pairwise(widths))


def unet(inputs: int, classes: int, voxels: tuple[int, ...], widths: tuple[int, ...]) -> int:
    """Multiply-adds of a 3D U-Net: two 3x3x3 convolutions a level, down and up, and 2x2x2 steps up between."""
    down = sum(n * 27 * (a * b + b * b) for n, a, b in zip(voxels, (inputs, *widths), widths, strict=False))
    up = sum(n * (b * a + 27 * 3 * a * a) for n, a, b in zip(voxels, widths, widths[1:], strict=False))
    return down + up + voxels[0] * widths[0] * classes


BRATS = tuple(224 * 224 * 160 // 8**level for level in range(6))
KITS = tuple(128**3 // 8**level for level in range(6))
HEARD = 2 * (lstm(240, 1024) + lstm(1024, 1024)) + lstm(2048, 1024) + 2 * lstm(1024, 1024)  # of a pair of frames
MLPERF = {
    # Reddi et al. 2019, arXiv:1911.02549, table I: GOP of an image to the digits given; parameters as built
    "ssd_mobilenet": (6_818_111, 2.47e9),
    "ssd_resnet34": (19_972_534, 433e9),
    # parameters as built; not published at 800x800
    "retinanet_resnext50": (37_128_876, 402e9),
    "rnnt": (45_323_869, 2 * (100 * HEARD + 90 * 2 * lstm(320, 320) + 512 * (100 * 1053 + 90 * 349))),
    # two perceptrons, and every feature with every feature
    "dlrm": (24_036_595_969, 2 * (chain(13, 512, 256, 128) + 27 * 27 * 128 + chain(479, 1024, 1024, 512, 256, 1))),
    "unet3d_brats": (29_692_574, 2 * unet(4, 4, BRATS, (30, 60, 120, 240, 320, 320))),
    "unet3d_kits": (31_190_243, 2 * unet(1, 3, KITS, (32, 64, 128, 256, 320, 320))),
}
CAUSAL = {"gpt2", "llama_3_2_1b", "llama_3_8b"}
LIGHT_NAMES = sorted(path.stem for path in LIGHT.glob("light_*.onnx"))
NAMES = [*model_names(), *LIGHT_NAMES]


@cache
def graph_of(name: str) -> Graph:
    return lower(LIGHT / f"{name}.onnx") if name in LIGHT_NAMES else load_model(name)


@cache
def kernels(name: str, runtime: str) -> tuple[Work, ...]:
    return tabulate(lower_to_kernels(graph_of(name), runtime))


def total(name: str, runtime: str, column: str, **sizes: int) -> int:
    """The sum of a column of the Work over all kernels, with the model's default sizes unless given."""
    bound = {**graph_of(name).sizes, **sizes}
    whole: Any = sum((getattr(work, column) * work.times for work in kernels(name, runtime)), start=0)
    return int(evaluate(whole, bound))


def flop(name: str, runtime: str = "eager", **sizes: int) -> int:
    return 2 * total(name, runtime, "macs", **sizes)


# ---- figures ------------------------------------------------------------------------------------------------------


def test_every_built_in_model_has_its_figures() -> None:
    assert {*TORCHVISION, *TRANSFORMERS, *OTHER_PARAMS, *MLPERF} == set(model_names())


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks(name: str) -> None:
    params, giga_macs = TORCHVISION[name]
    assert graph_of(name).params == params
    assert flop(name) / 2e9 == pytest.approx(giga_macs, abs=0.001)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    assert (graph_of(name).params, flop(name)) == TRANSFORMERS[name]


@pytest.mark.parametrize("name", MLPERF)
def test_mlperf_networks(name: str) -> None:
    params, expected = MLPERF[name]
    assert graph_of(name).params == params
    assert flop(name) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("name", EXACT)
def test_flop_to_the_last_digit(name: str) -> None:
    assert flop(name) == EXACT[name]


@pytest.mark.parametrize("name", OTHER_PARAMS)
def test_parameters_of_the_others(name: str) -> None:
    assert graph_of(name).params == OTHER_PARAMS[name]


def test_causal_flop_of_a_prefill() -> None:
    assert 2 * total("llama_3_2_1b", "compiled", "macs_causal") == 1_282_618_163_200
    # of each of 32 layers' 2 products over 32 heads of 128, the pairs above the diagonal: 512 * 511 / 2
    unseen = 32 * 2 * 2 * 32 * 128 * (512 * 511 // 2)
    assert 2 * total("llama_3_8b", "compiled", "macs_causal") == EXACT["llama_3_8b"] - unseen


@pytest.mark.parametrize("name", ["llama_3_2_1b_decode", "llama_3_8b_decode"])
def test_a_decode_step_reads_its_cache_once_and_writes_one_row(name: str) -> None:
    graph = graph_of(name)
    keys = [tensor for key, tensor in graph.tensors.items() if key.startswith(("past_key", "past_value"))]
    assert {tensor.role for tensor in keys} == {"state"}
    row = sum(int(evaluate(tensor.bytes, {"batch": 1, "past": 1})) for tensor in keys)  # bytes of a token in the cache
    assert total(name, "compiled", "state_bytes") == 512 * row + row  # 512 read by attention, 1 written
    assert total(name, "eager", "state_bytes") == (511 + 512 + 512) * row  # copied to be longer, then read


# ---- laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_op_is_known_and_every_size_has_a_default(name: str) -> None:
    graph = graph_of(name)
    assert [op.name for op in graph.ops if op.kind == "unknown"] == []
    assert graph.warnings == ()
    assert None not in graph.sizes.values()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", NAMES)
def test_every_pass_gives_a_legal_graph(name: str, runtime: str) -> None:
    graph = check_graph(graph_of(name))
    for step in (*CANONICAL, *RUNTIMES[runtime]):
        graph = check_graph(step(graph))
        assert {op.name for op in graph.ops}  # something is left


@pytest.mark.parametrize("name", model_names())
def test_work_is_linear_in_the_batch(name: str) -> None:
    pairs = 2 * 512 * (8 * 8 - 8) if name == "clip_vit_b_32" else 0  # every text with every image of the batch
    assert flop(name, "compiled", batch=8) == 8 * flop(name, "compiled", batch=1) + pairs


@pytest.mark.parametrize("name", NAMES)
def test_runtimes_agree_on_work_and_fusion_saves_bytes(name: str) -> None:
    assert flop(name, "eager") == flop(name, "compiled")
    assert total(name, "eager", "macs_causal") >= total(name, "compiled", "macs_causal")
    assert bytes_of(name, "compiled") <= bytes_of(name, "eager")
    assert len(kernels(name, "compiled")) <= len(kernels(name, "eager"))


def bytes_of(name: str, runtime: str) -> int:
    return sum(total(name, runtime, stream) for stream in ("weight_bytes", "in_bytes", "out_bytes", "state_bytes"))


@pytest.mark.parametrize("name", NAMES)
def test_only_causal_models_save_half_of_their_attention(name: str) -> None:
    full, causal = (total(name, "compiled", column) for column in ("macs", "macs_causal"))
    assert causal < full if name in CAUSAL else causal == full


@pytest.mark.parametrize("name", NAMES)
def test_attention_is_found(name: str) -> None:
    left = [work.name for work in kernels(name, "compiled") if work.kind == "softmax"]
    assert len(left) <= (1 if name in LIGHT_NAMES else 0)  # the light classifiers end in a softmax


@pytest.mark.parametrize("name", model_names())
def test_graphs_survive_their_text(name: str) -> None:
    graph = graph_of(name)
    again = parse_graph(graph_text(graph), name)
    assert (again.tensors, again.ops, again.sizes) == (graph.tensors, graph.ops, graph.sizes)


def test_kernels_as_text(golden: Callable[[str, str], None]) -> None:
    golden("compiled_alexnet.txt", graph_text(lower_to_kernels(graph_of("alexnet"), "compiled")))
