"""A device's constants for one row of the Work table, in the order that `wattir.roofline.kernel_cost` takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wattir.device import Device
from wattir.kinds import FLOATS
from wattir.trees import Ensemble, unpack

ROW_CONSTANTS = (
    "s_per_flop", "s_per_op", "s_per_byte", "s_per_cache_byte", "fixed_s",
    "j_per_flop", "j_per_op", "j_per_byte", "j_per_cache_byte",
    "static_w", "limit_w", "sharpness", "units", "cache_bytes", "hot_weights",
    "tile_m", "tile_n", "small_m", "small_n", "small_rate", "wave_s", "ragged_rate",
    "fill_k", "step_s", "split_s", "busy_w", "s_per_link_byte", "time_at", "power_at",
)  # fmt: skip

MATH_OF_FAMILY = {"conv": "tf32", "conv3x3": "tf32"}
"""What fp32 becomes in these families by the frameworks' own defaults: PyTorch runs fp32 convolutions on TF32 tensor
cores where there are any (`torch.backends.cudnn.allow_tf32`), and matrix products in true fp32."""


ON_VECTOR_UNITS = {"depthwise": FLOATS | {"tf32"}, "stem": frozenset({"tf32"})}
"""Families and maths whose products run on the vector units, in fp32 or at its rate. The three channels of an image
fill no vector of 32 bit numbers: on A30 nearly all stems take as long with TF32 allowed as without."""
UNTILED = frozenset({"depthwise"})
"""Families without tiles of a matrix unit to fill."""
PACKED = 2.0
"""Numbers of 16 bits that a vector unit takes at once."""
NO_TILES = (1.0, 1.0, 1.0, 1.0, 1.0)
PRODUCTS = frozenset({"matmul", "experts", "conv", "conv3x3", "stem", "recurrent"})
"""Families whose tiles walk along the inner dimension; in attention a row of tiles walks over the keys."""


@dataclass(frozen=True, slots=True)
class Row:
    """Constants of one row, and what they say of their origin.

    `key` is what corrections and intervals are kept under: ``family.math`` or ``family.math@library``. `measured`:
    whether its family was fitted on this very machine; `fitted`: or on the one that this borrows from. `spread`: see
    `wattir.interval.width_of`. `linked`: whether the machine's link to others is known. `corrections`: the ensembles of
    time and of power, empty where there is none; `assembled` puts them in one table and their places into the
    constants.
    """

    key: str
    constants: tuple[float, ...]
    math: str
    measured: bool
    fitted: bool
    spread: float
    linked: bool
    corrections: tuple[Ensemble, Ensemble]


def assembled(rows: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[float, ...]]:
    """The rows with `time_at` and `power_at` filled in, and the table of trees that these point into."""
    table, places = [0.0], dict[Ensemble, float]({"": -1.0})
    for row in (rows := tuple(rows)):
        for ensemble in row.corrections:
            if ensemble not in places:
                places[ensemble] = float(len(table))
                table += unpack(ensemble)
    return tuple(
        replace(row, constants=(*row.constants[:-2], *(places[each] for each in row.corrections))) for row in rows
    ), tuple(table)


def row_of(
    device: Device, family: str, wanted_math: str, *, strict_fp32: bool = False, hot_weights: bool = False
) -> Row:
    """The constants of a kernel of this family asked for in this math dtype; `strict_fp32` keeps fp32 off TF32.

    A family may name a library after an at sign (``matmul@torch_flow``): its own corrections, where there are any, and
    the family's efficiencies.
    """
    family, _, library = family.partition("@")
    if wanted_math == "fp32" and not strict_fp32:
        wanted_math = MATH_OF_FAMILY.get(family, wanted_math)
    at_once = PACKED if family in UNTILED and wanted_math in ("bf16", "fp16") else 1.0
    if wanted_math in ON_VECTOR_UNITS.get(family, ()):
        wanted_math = "fp32"
    math = device.math(wanted_math)
    found, fitted = device.family(family, math)
    key = f"{family}.{math}" + (f"@{library}" if library else "")
    learned = device.corrections.get(key)
    c = device.coefficients
    constants = (
        1.0 / (device.flop_per_s[math] * found.compute_efficiency * at_once),
        1.0 / (device.flop_per_s["fp32"] * 0.5 * found.compute_efficiency),
        1.0 / (device.memory_bytes_per_s * found.memory_efficiency),
        1.0 / (c.cache_bytes_per_s * found.memory_efficiency * found.cache_rate),
        found.fixed_s,
        device.j_per_flop(math) / at_once, c.j_per_op, c.j_per_byte, c.j_per_cache_byte,
        c.static_w, device.power_w, found.sharpness, device.units, device.cache_bytes, float(hot_weights),
        *(NO_TILES if family in UNTILED else c.tiles), found.wave_s, found.ragged_rate,
        *((found.fill_k, found.step_s, found.split_s) if family in PRODUCTS else (0.0, 0.0, 0.0)),
        c.busy_w, 1.0 / (device.link_bytes_per_s * found.memory_efficiency) if device.link_bytes_per_s else 0.0,
        -1.0, -1.0,
    )  # fmt: skip
    fitted = fitted and math in c.j_per_flop
    return Row(
        key, constants, math, device.measured and fitted, fitted,
        spread_of(device, key), device.link_bytes_per_s > 0.0,
        (learned.time, learned.power) if learned else ("", ""),
    )  # fmt: skip


def spread_of(device: Device, key: str) -> float:
    """The square of a layer's half-width, less that of networks. By the kind of its kernel (`Row.key`), or that of any
    library, or its family, whichever is the first to have a width."""
    keys = (key, key.partition("@")[0], key.partition(".")[0])
    width = next((device.interval_families[key] for key in keys if key in device.interval_families), None)
    return float((device.interval_layer if width is None else width) ** 2 - device.interval_network**2)
