"""Which device is fitted to which measurements; `sets` says how a set is added."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from . import datasets_irene as irene
from . import datasets_models as models
from . import datasets_networks as networks
from . import datasets_own as own
from . import datasets_torch as torch
from .datasets_anchors import anchors
from .datasets_kernels import JOULES, TABLES, kernels
from .plan import Plan, Source, fixed
from .plans_edge import EDGE
from .plans_gpt import GPT
from .plans_mlperf import MLPERF
from .solve import Prior

GPU_TILES = ((256.0, 128.0, 64.0, 64.0, 0.7), (128.0, 128.0, 64.0, 64.0, 0.7))


def _kernel_sources(folder: str, system: str, tables: Mapping[str, tuple[str, ...]]) -> tuple[Source, ...]:
    """The tables of one system of aiconfigurator, with the number types of each (none: all at once)."""
    return tuple(
        Source(f"{folder}: {' '.join((name, dtype)).strip()} ({system})", folder,
               partial(kernels, name=name, system=system, dtype=dtype), TABLES[name].families, TABLES[name].grouped_by,
               1500, copies=TABLES[name].copies,
               note=NO_JOULES if "power" in folder and name not in JOULES else "")
        for name, dtypes in tables.items() for dtype in dtypes
    )  # fmt: skip


_ATTENTION = {"context_attention": ("bfloat16", "fp8"), "encoder_attention": ("bfloat16",),
              "generation_attention": ("bfloat16", "fp8")}  # fmt: skip
_LATENCY = {"gemm": ("bfloat16", "fp8", "fp8_block", "int8_wo", "int4_wo", "sq"), **_ATTENTION,
            "moe": ("bfloat16", "fp8", "fp8_block", "int4_wo", "w4a16_mxfp4"), "custom_allreduce": ("bfloat16",),
            "nccl": ("half", "int8")}  # fmt: skip
_POWER = {"gemm": ("bfloat16", "fp8", "fp8_block", "nvfp4"), **_ATTENTION,
          "moe": ("bfloat16", "fp8", "fp8_block", "nvfp4", "w4a16_mxfp4", "w4a8_mxfp4_mxfp8"),
          "mla_context_module": ("bfloat16", "fp8_block", "nvfp4"),
          "mla_generation_module": ("bfloat16", "fp8_block", "nvfp4"), "context_mla": ("bfloat16", "fp8"),
          "generation_mla": ("bfloat16", "fp8"), "mla_bmm": ("bfloat16",), "gdn": ("",), "mamba2": ("",),
          "computescale": ("fp8",), "scale_matrix": ("fp8",)}  # fmt: skip


def _torch_sources(hardware: str, precisions: tuple[str, ...], *, networks: bool) -> tuple[Source, ...]:
    """Modules, and whole models where there are clean ones, of the A30 and RTX 2080 Ti set."""
    folder = "torch_layers_a30_2080ti"
    layers = [
        Source(f"{folder}: modules, {hardware}, {precision}", folder,
               partial(torch.torch_layers, hardware=hardware, precision=precision), TORCH_FAMILIES, "kind and channels")
        for precision in precisions
    ]  # fmt: skip
    whole = [
        Source(f"{folder}: torchvision models, {hardware}, {precision}", folder,
               partial(torch.torch_models, hardware=hardware, precision=precision), TORCH_FAMILIES, "model",
               network=True, note="Some layers of a model left out occur among the modules.")
        for precision in precisions
    ]  # fmt: skip
    return (*layers, *(whole if networks else ()))


def _eager_source(which: str, peak: float, note: str) -> Source:
    """Whole eager forwards of one GPU."""
    return Source(
        f"whole_models_eager: {which}", "whole_models_eager",
        partial(models.whole_models, which=which, peak_flop_per_s=peak), EAGER_FAMILIES, "model family", network=True,
        note=note,
    )  # fmt: skip


def _irene_sources(name: str) -> tuple[Source, ...]:
    folder = "irene_transformers"
    families = ("matmul", "softmax", "norm", "gather")
    inside = (*families, "pointwise", "copy")
    return (
        Source(f"{folder}: primitives, {name}", folder, partial(irene.primitives, name=name), families,
               "kind, batch and length"),
        Source(f"{folder}: modules, {name}", folder, partial(irene.modules, name=name), inside,
               "kind, batch and length"),
        Source(f"{folder}: models, {name}", folder, partial(irene.models, name=name), inside, "model", network=True,
               note="BERT and RoBERTa are one group. Parts of these widths remain among the rows."),
    )  # fmt: skip


def _own_sources(device: str) -> tuple[Source, ...]:
    """First-party layers and whole networks of one GPU, where they have been measured."""
    folder = f"benchmarks/measurements/{device}"
    families = (*KERNEL_FAMILIES, *OWN_FAMILIES)
    return (
        Source(f"wattir: {folder}/layers.csv", folder, own.own_layers, families, "kind and type of layer"),
        Source(
            f"wattir: {folder}/networks.csv", folder, networks.own_networks, (), "model", network=True, held_out=True
        ),
    )


NO_JOULES = ("Its watts inform its own libraries' corrections, not the physics: those of attention are far below what "
             "first-party rows of the same kernels on H200 draw; most likely inputs that do not toggle.")  # fmt: skip
KERNEL_FAMILIES = ("matmul", "attention", "decode", "experts", "experts.fp8", "mla", "scan", "conv1d",
                   "quantize", "collective")  # fmt: skip
TORCH_FAMILIES = ("matmul", "conv", "conv3x3", "stem", "depthwise", "norm", "pointwise", "pooling", "reduction")
EAGER_FAMILIES = ("matmul", "norm", "pointwise", "softmax")
OWN_FAMILIES = ("conv", "conv3x3", "stem", "depthwise", "norm", "group_norm", "softmax", "pointwise", "reduction",
                "pooling", "copy", "gather", "recurrent")  # fmt: skip
IRENE_FAMILIES = ("matmul", "norm", "pointwise", "softmax", "gather")
EAGER = {"host_op_s": Prior(2.5e-5, 0.5, 1e-7, 1e-3)}
RAGGED = {"matmul ragged_rate": fixed(0.146)}
"""As fitted for h200_sxm on first-party layers before its last fit, which has 0.154: all sizes of kernels_power and
kernels_latency are multiples of 8."""
OF_LONG_ROWS = {"matmul.fp8 fixed_s": Prior(3e-6, 0.1, 1e-7, 1e-3), "matmul.fp8 fill_k": fixed(150.0),
                "matmul.fp8 step_s": fixed(1.5e-10), "matmul.fp8 split_s": fixed(3e-6),
                "matmul.fp8 sharpness": fixed(2.0), "matmul.fp8 memory_efficiency": fixed(0.6)}  # fmt: skip
"""Where fp8 comes in blocks alone, only its long products inform the physics, which say little of what short ones take:
about as on B200 in fp8 and on H100 in bf16 and fp8."""
HOST = fixed(1.6e-5)
"""`host_op_s` where no eager rows are: as fitted for h100_sxm on whole_models_eager."""
AT_900 = "Measured at a locked 900 MHz: what holds at the boost clock follows from it by `wattir.clock`."
VOLTAGE = {"voltage_floor": Prior(0.776, 0.1, 0.5, 0.95), "voltage_knee": Prior(0.72, 0.15, 0.3, 0.95)}
LAYERWISE = {"host_op_s": Prior(1e-5, 0.5, 1e-7, 1e-3)}

CUT = {"j_per_flop int8": Prior(1.5e-13, 0.7, 1e-15, 1e-10), "j_per_flop fp64": Prior(1.8e-11, 0.7, 1e-13, 1e-9)}
"""Of b200_sxm, as they are: Blackwell Ultra has a thirtieth of its int8 and fp64 units, which draw about the same."""

_SERVER = (
    Plan(
        "h200_sxm", (*_kernel_sources("kernels_power", "h200_sxm", _POWER), *_own_sources("h200_sxm")),
        (*KERNEL_FAMILIES, "attention.fp8", "matmul.fp8", "matmul.fp32", "matmul.tf32", "matmul.int8", *OWN_FAMILIES,
         "conv.fp32", "conv3x3.fp32", "stem.fp32"),
        ("bf16", "fp16", "fp8", "tf32", "fp32", "int8"), GPU_TILES[:1],
        {"static_w": fixed(126.0), "host_op_s": HOST, **OF_LONG_ROWS, "matmul ragged_rate": Prior(0.3, 0.5, 0.02, 1.0)},
    ),
    Plan(
        "h100_sxm",
        (*_kernel_sources("kernels_latency", "h100_sxm", _LATENCY),
         _eager_source("h100", 989e12, "At a locked 1830 MHz.")),
        (*KERNEL_FAMILIES, "attention.fp8", "matmul.fp8", "norm", "pointwise", "softmax"),
        ("bf16", "fp8", "fp32"), GPU_TILES[:1],
        {**EAGER, **RAGGED, "static_w": fixed(118.22)}, energies_from="h200_sxm", energy_spread=0.3,
        note="Energies of fp8 from h200_sxm, of the rest from the whole models.",
    ),
    Plan(
        "a100_sxm", _kernel_sources("kernels_latency", "a100_sxm", _LATENCY), KERNEL_FAMILIES, ("bf16", "int8"),
        GPU_TILES, {**RAGGED, "static_w": fixed(82.29), "host_op_s": HOST}, energies_from="a100_pcie_40gb",
        note="Time only: energies are those of a100_pcie_40gb in proportion to the limits.",
    ),
    Plan(
        "l40s", _kernel_sources("kernels_latency", "l40s", _LATENCY), (*KERNEL_FAMILIES, "attention.fp8", "matmul.fp8"),
        ("bf16", "fp8"), GPU_TILES, {**RAGGED, "host_op_s": HOST}, energies_from="h100_sxm",
        note="Time only: powers and energies are those of h100_sxm in proportion to the limits.",
    ),
    Plan(
        "b200_sxm", _kernel_sources("kernels_power", "b200_sxm", _POWER),
        (*KERNEL_FAMILIES, "attention.fp8", "matmul.fp8", "matmul.fp4", "experts.fp4"),
        ("bf16", "fp8", "fp4"), GPU_TILES[:1],
        {**RAGGED, "static_w": fixed(241.0), "host_op_s": HOST},
    ),
    Plan(
        "b300_sxm",
        (Source("gpu_power_anchors: products (B300)", "gpu_power_anchors",
                partial(anchors, hardware="NVIDIA B300 SXM6 AC"), ("matmul",), "number type",
                note="Square products run flat out, at power limits of 450 to 1100 W."),),
        ("matmul",), ("bf16", "fp16", "fp8", "tf32", "fp64", "int8"), GPU_TILES[:1],
        {**RAGGED, **VOLTAGE, **CUT, "static_w": fixed(183.0), "host_op_s": HOST}, folds=6, energies_from="b200_sxm",
        energy_spread=0.5,
    ),
)  # fmt: skip

_EAGER = (
    Plan(
        "a10", (_eager_source("a10", 125e12, AT_900),), (*EAGER_FAMILIES, "matmul.fp32"), ("bf16", "fp32"),
        GPU_TILES, {**EAGER, **RAGGED}, folds=4,
    ),
    Plan(
        "a100_pcie_40gb",
        (_eager_source("a100", 312e12, "At a locked 900 MHz."),
         _eager_source("dvfs", 312e12, "At 11 locked clocks, at the highest throttled by the power cap.")),
        (*EAGER_FAMILIES, "matmul.fp32"), ("bf16", "fp32"), GPU_TILES,
        {**EAGER, **RAGGED, **VOLTAGE, "static_w": fixed(67.34)}, folds=4,
    ),
    Plan(
        "a30", _torch_sources("NVIDIA A30", ("tf32", "fp32"), networks=True),
        (*TORCH_FAMILIES, "conv.fp32", "conv3x3.fp32"), ("tf32", "fp32"), GPU_TILES[1:], EAGER,
    ),
    Plan(
        "rtx_2080_ti", _torch_sources("NVIDIA RTX 2080 Ti", ("fp32",), networks=False), TORCH_FAMILIES, ("fp32",),
        GPU_TILES[1:], LAYERWISE,
    ),
    Plan("gtx_1080_ti", _irene_sources("GTX 1080 Ti"), IRENE_FAMILIES, ("fp32",), GPU_TILES[1:], EAGER, folds=4),
    Plan("gtx_1070", _irene_sources("GTX 1070"), IRENE_FAMILIES, ("fp32",), GPU_TILES[1:], EAGER, folds=4),
)  # fmt: skip

PLANS = {plan.device: plan for plan in (*_EAGER, *_SERVER, *EDGE, *GPT, *MLPERF)}
"""By device. `static_w` where it is given: the idle floor, with a context and at the set's clock, as the set has it."""
