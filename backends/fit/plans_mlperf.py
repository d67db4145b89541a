"""Boards that MLPerf metered at the wall: developer kits with accelerators, and CPUs under one framework."""

from __future__ import annotations

from functools import partial

from wattir.device import Coefficients, load_device
from wattir.runtime import load_runtime

from . import datasets_mlperf as mlperf
from .fit_mlperf import FAMILIES
from .plan import Plan, Source, fixed
from .plans_edge import CORE_TILES
from .solve import Prior

KIT_TILES = ((64.0, 64.0, 32.0, 32.0, 0.9),)


def _kit(device: str, lender: Coefficients, note: str = "") -> Plan:
    """A kit of the closed division; its efficiencies are held by the lender's."""
    accelerator = mlperf.KITS[device]
    source = Source(
        f"mlperf_power: {accelerator}", "mlperf_power", partial(mlperf.board_rows, accelerator=accelerator),
        FAMILIES, "benchmark", network=True,
        note=f"Closed division, v1.0 to v2.0; joules of the whole kit.{note}",
    )  # fmt: skip
    held = {
        f"{name} {field}": Prior(getattr(family, field), 0.3, 1e-4, 1.0)
        for name, family in lender.families.items() for field in ("compute_efficiency", "memory_efficiency")
    }  # fmt: skip
    held |= {f"{name} sharpness": fixed(3.0) for name in FAMILIES}
    if note:
        held["cache_bytes_per_s"] = Prior(lender.cache_bytes_per_s, 0.3, 1e9, 1e15)
    return Plan(device, (source,), FAMILIES, mlperf.MATHS, KIT_TILES, held)


CARD_SAW = " Efficiencies held by those of cloud_ai_100_pcie, whose rows are of the same benchmarks."
_GPU, _CARD = load_runtime("tensorrt").coefficients, load_device("cloud_ai_100_pcie").coefficients
_KITS = (
    *(_kit(device, _GPU) for device in ("jetson_agx_xavier", "jetson_xavier_nx", "jetson_agx_orin")),
    _kit("cloud_ai_100_dm2e", _CARD, CARD_SAW),
)

CPU_FAMILIES = (
    "matmul",
    "matmul.int8",
    "conv",
    "conv.int8",
    "conv3x3",
    "stem",
    "stem.int8",
    "depthwise",
    "pooling",
    "pointwise",
)


def _arm(device: str, systems: str) -> Plan:
    """A CPU under one framework: the open division's networks, and ResNet-50."""
    source = Source(
        f"mlperf_power: {systems}", "mlperf_power", partial(mlperf.mobile_rows, systems=systems),
        CPU_FAMILIES, "network, at all sides of its image", network=True,
        note="v1.0 to v2.0; joules of the whole board.",
    )  # fmt: skip
    return Plan(device, (source,), CPU_FAMILIES, ("fp32", "int8"), CORE_TILES)


MLPERF = (*_KITS, *(_arm(device, systems) for device, systems in mlperf.CPUS.items()))
