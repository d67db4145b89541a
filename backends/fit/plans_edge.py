"""Which CPU, board or phone is fitted to which measurements, and which GPU to those of the same networks."""

from __future__ import annotations

from functools import partial

from . import datasets_cpu as cpu
from . import datasets_nas as nas
from .intervals import BORROWED_ENERGY
from .plan import Plan, Source
from .solve import Prior

CORE_TILES = ((8.0, 16.0, 4.0, 16.0, 0.9),)
LAYER_FAMILIES = ("matmul", "conv", "conv3x3", "stem", "pooling")
NAS_FAMILIES = ("matmul", "conv", "conv3x3", "stem", "pooling", "pointwise")
EAGER_NAS_FAMILIES = (*NAS_FAMILIES, "norm")
COMPUTED = "what a cell computes"

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
        partial(nas.nas_bench_201, device="pi5", framework=framework), NAS_FAMILIES, COMPUTED, most=1500,
        network=True, note=f"{name}, one thread; joules of the core's rail above idle.",
    )  # fmt: skip
    return Plan(device, (source,), NAS_FAMILIES, ("fp32",), CORE_TILES, {"static_w": Prior(0.5, 0.5, 0.01, 3.0)})


_PI_5 = (
    _pi_5("raspberry_pi_5", "litert", "LiteRT"),
    _pi_5("raspberry_pi_5_onnx", "onnx", "ONNX Runtime"),
    _pi_5("raspberry_pi_5_torchmobile", "torchmobile", "PyTorch Mobile"),
)

_MOST = 400
"""Of the networks of a column: more tell no more of some twenty numbers."""
_TIME_ONLY = "Time only: powers and energies are those of {} in proportion to the limits."


def _timed(device: str, lender: str, tiles: tuple[tuple[float, ...], ...], beyond: float = BORROWED_ENERGY) -> Plan:
    """A machine of ``nas_latency_27_devices``; `beyond`: what energies that nothing measured add to the interval."""
    runtimes = {column.runtime for column in nas.COLUMNS.values() if column.device == device}
    families = EAGER_NAS_FAMILIES if runtimes == {"eager"} else NAS_FAMILIES
    sources = tuple(
        Source(
            f"nas_latency_27_devices: {name}", "nas_latency_27_devices", partial(nas.nas_latency, column=name),
            families, COMPUTED, most=_MOST, network=True,
            note=f"Batch {column.batch}, {RUNTIME_NAMES[column.runtime]}.",
        )
        for name, column in nas.COLUMNS.items() if column.device == device
    )  # fmt: skip
    host = {"host_op_s": Prior(2.5e-5, 0.5, 1e-7, 1e-3)} if device.startswith(nas.GPUS) else {}
    return Plan(
        device, sources, families, ("fp32",), tiles, host, energies_from=lender, energies_beyond=beyond,
        note=_TIME_ONLY.format(lender),
    )  # fmt: skip


RUNTIME_NAMES = {"eager": "eager PyTorch", "tflite": "TensorFlow Lite"}
GPU_TILES = ((128.0, 128.0, 64.0, 64.0, 0.7),)
UNKNOWN_POWER = 0.7
"""Of phones nobody publishes the watts of their cores: a factor of two either way."""

_TIMED = (
    *(_timed(device, "rtx_2080_ti", GPU_TILES) for device in ("titan_rtx", "rtx_2080_ti_eager")),
    *(_timed(device, "gtx_1080_ti", GPU_TILES) for device in ("titan_x", "titan_xp", "gtx_1080_ti_eager")),
    *(_timed(f"xeon_{name}", "xeon_gold_5120", CORE_TILES)
      for name in ("silver_4114", "silver_4210r", "gold_6226", "gold_6240")),
    *(_timed(device, "raspberry_pi_5_torchmobile", CORE_TILES, UNKNOWN_POWER)
      for device in ("pixel_2", "essential_ph_1", "galaxy_s7", "galaxy_a50")),
    *(_timed(device, "raspberry_pi_5", CORE_TILES, UNKNOWN_POWER) for device in ("pixel_3", "raspberry_pi_4")),
)  # fmt: skip

EDGE = (*_LAYERS, *_PI_5, *_TIMED)
