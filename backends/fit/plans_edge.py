"""Which CPU, board or phone is fitted to which measurements."""

from __future__ import annotations

from functools import partial

from . import datasets_cpu as cpu
from . import datasets_nas as nas
from .plan import Plan, Source
from .solve import Prior

CORE_TILES = ((8.0, 16.0, 4.0, 16.0, 0.9),)
LAYER_FAMILIES = ("matmul", "conv", "conv3x3", "stem", "pooling")
NAS_FAMILIES = ("matmul", "conv", "conv3x3", "stem", "pooling", "pointwise")

_LAYERS = (
    Plan(
        "xeon_gold_5120",
        (Source("getzner_cpu_layers", "getzner_cpu_layers", cpu.getzner, (*LAYER_FAMILIES, "pointwise", "softmax"),
                "kind and channels"),),
        (*LAYER_FAMILIES, "pointwise", "softmax"), ("fp32",), CORE_TILES, {"static_w": Prior(60.0, 0.3, 5.0, 150.0)},
    ),
    *(
        Plan(
            device, (Source(f"willowec_cpu_layers: {host}", "willowec_cpu_layers", partial(cpu.willowec, host=host),
                            LAYER_FAMILIES, "kind and channels"),),
            LAYER_FAMILIES, ("fp32",), CORE_TILES,
        )
        for device, host in (("xeon_broadwell_ep", "broadwell-ep"), ("core_raptor_lake", "raptorlake"))
    ),
)  # fmt: skip


def _pi_5(device: str, framework: str, name: str) -> Plan:
    source = Source(
        f"nas_bench_201_pi5: {framework}", "nas_bench_201_pi5",
        partial(nas.nas_bench_201, device="pi5", framework=framework), NAS_FAMILIES, "architecture", most=1500,
        network=True, note=f"{name}, one thread; joules of the core's rail above idle.",
    )  # fmt: skip
    return Plan(device, (source,), NAS_FAMILIES, ("fp32",), CORE_TILES, {"static_w": Prior(0.5, 0.5, 0.01, 3.0)})


_PI_5 = (
    _pi_5("raspberry_pi_5", "litert", "LiteRT"),
    _pi_5("raspberry_pi_5_onnx", "onnx", "ONNX Runtime"),
    _pi_5("raspberry_pi_5_torchmobile", "torchmobile", "PyTorch Mobile"),
)

EDGE = (*_LAYERS, *_PI_5)
