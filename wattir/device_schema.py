"""What a device file must look like: keys, types and plausible ranges, as one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wattir import generation_engine, serving_engine
from wattir.errors import DeviceError, suggestion
from wattir.kinds import DTYPE_BYTES
from wattir.serving_engine import FACTOR, FIT_KEYS

Range = tuple[float, float]

TEXTS = {
    "id": True,
    "name": True,
    "kind": True,
    "scope": True,
    "vendor": False,
    "architecture": False,
    "memory": False,
    "borrowed_from": False,
}  # name -> required
KINDS_OF_DEVICE = ("gpu", "cpu", "npu", "board")
SCOPES = ("board", "package", "rail", "wall", "node")
NAMES = ("aliases", "relatives", "lent_families")
TOP = (
    *TEXTS,
    *NAMES,
    "limits",
    "coefficients",
    "interval",
    "fit",
    "correction",
    "serving",
    "generation",
)

LIMITS: dict[str, Range] = {
    "power_w": (0.1, 1e5),
    "memory_bytes_per_s": (1e8, 1e14),
    "memory_bytes": (1e6, 1e13),
    "cache_bytes": (1e3, 1e10),
    "units": (1, 1e5),
}
OPTIONAL_LIMITS: dict[str, Range] = {
    "boost_hz": (1e7, 1e11),
    "nominal_hz": (1e7, 1e11),
    "clock_hz": (1e6, 1e11),
    "link_bytes_per_s": (0.0, 1e14),
}
IN_LIMITS = (*LIMITS, *OPTIONAL_LIMITS, "flop_per_s", "source")
FLOP_PER_S: Range = (1e8, 1e17)
MATH_FALLBACK = {
    "fp4": "fp8", "fp8": "bf16", "int2": "int4", "int4": "int8", "uint4": "int8", "uint8": "int8", "int8": "fp16",
    "bf16": "fp16", "fp16": "tf32", "tf32": "fp32", "int16": "int32", "uint16": "int32", "uint32": "int32",
    "int32": "fp32", "int64": "fp32", "uint64": "fp32", "bool": "int8", "fp64": "fp32", "complex64": "fp32",
    "complex128": "fp64", "string": "fp32",
}  # fmt: skip
"""Where a machine has no rate for a math dtype, it computes in this one."""

FAMILY_FALLBACK = {
    "depthwise": "conv", "stem": "conv", "conv3x3": "matmul", "conv": "matmul", "attention": "matmul",
    "decode": "attention", "mla": "attention", "recurrent": "matmul", "experts": "matmul",
    "softmax": "norm", "group_norm": "norm", "norm": "pointwise", "reduction": "pointwise", "pooling": "pointwise",
    "resize": "pointwise", "conv1d": "depthwise",
    "quantize": "pointwise", "copy": "pointwise", "gather": "copy", "scatter": "gather", "random": "pointwise",
    "sort": "pointwise", "fft": "pointwise", "scan": "pointwise", "collective": "pointwise", "host": "pointwise",
    "unknown": "pointwise", "pointwise": "matmul",
}  # fmt: skip
"""A family without efficiencies of its own takes those of this one. 3x3 convolutions reach 0.81 to 1.14 of a product's
share of peak on H200 and A30 (2026-11-28), other convolutions 0.36 to 0.66."""
FAMILIES = (*FAMILY_FALLBACK, "matmul")
MATHS = (*DTYPE_BYTES, "tf32")
COEFFICIENTS: dict[str, Range] = {
    "static_w": (0.0, 1e5),
    "busy_w": (0.0, 1e5),  # optional: 0
    "j_per_op": (0.0, 1e-6),
    "j_per_byte": (0.0, 1e-6),
    "j_per_cache_byte": (0.0, 1e-6),
    "cache_bytes_per_s": (1e8, 1e15),
    "host_op_s": (0.0, 1.0),
    "voltage_floor": (0.3, 1.0),  # optional: as on the A100
    "voltage_knee": (0.0, 0.99),  # optional: as on the A100
}
FAMILY: dict[str, Range] = {
    "compute_efficiency": (1e-6, 4.0),
    "memory_efficiency": (1e-6, 4.0),
    "fixed_s": (0.0, 1.0),
    "sharpness": (1.0, 64.0),
    "wave_s": (0.0, 1.0),
    "ragged_rate": (0.01, 1.0),
    "fill_k": (0.0, 1e5),
    "step_s": (0.0, 1.0),
    "split_s": (0.0, 1.0),
    "cache_rate": (1e-3, 1e3),
}
OPTIONAL_OF_FAMILY = {"wave_s": 0.0, "ragged_rate": 1.0, "fill_k": 0.0, "step_s": 0.0, "split_s": 0.0,
                      "cache_rate": 1.0}  # fmt: skip
"""What a family has where its file says nothing."""
ENSEMBLES = ("time", "power")
STORED_ENSEMBLES = tuple(f"{name}_crc32" for name in ENSEMBLES)
"""Of the ensembles that lie in the ``.trees`` file beside the device file (`wattir.trees_file`)."""
CRC32: Range = (0, 2**32 - 1)
INTERVAL: dict[str, Range] = {"layer": (0.0, 5.0), "network": (0.0, 5.0)}
FIT_TEXTS = ("data_set", "date", "command", "grouped_by", "families")


def check_device(table: Mapping[str, Any], where: str) -> None:
    """Refuses unknown keys, missing keys and sources, wrong types and implausible values, naming file and key."""
    _known({key: value for key, value in table.items() if key not in IN_LIMITS}, TOP, where)
    for key in IN_LIMITS:
        if key in table:
            raise DeviceError(f"{where}: {key!r} stands outside of its table; expected it under [limits]")
    for key, required in TEXTS.items():
        if key in table or required:
            _text(table, key, where)
    for key in NAMES:
        _names(table.get(key, []), f"{where}: {key}")
    _choice(table, "kind", KINDS_OF_DEVICE, where)
    _choice(table, "scope", SCOPES, where)
    _limits(_table(table, "limits", where), f"{where}: [limits]")
    for heading, kind in FITTED_STACKS.items():
        if heading in table:
            _stacks(_table(table, heading, where), f"{where}: [{heading}", kind)
    if "coefficients" in table:
        _coefficients(_table(table, "coefficients", where), f"{where}: [coefficients]")
        _interval(_table(table, "interval", where), f"{where}: [interval]")
        _corrections(table.get("correction", []), f"{where}: [[correction]]")
        if "borrowed_from" not in table:
            _fits(table.get("fit"), f"{where}: [[fit]]")


def _names(found: Any, where: str) -> None:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise DeviceError(f"{where}: found {found!r}; expected a list of texts")


def _limits(limits: Mapping[str, Any], where: str) -> None:
    _known(limits, IN_LIMITS, where)
    _text(limits, "source", where)
    _numbers(limits, LIMITS, where)
    _numbers(limits, {name: span for name, span in OPTIONAL_LIMITS.items() if name in limits}, where)
    rates = _table(limits, "flop_per_s", where)
    _known(rates, MATHS, f"{where} flop_per_s")
    _numbers(rates, dict.fromkeys(rates, FLOP_PER_S), f"{where} flop_per_s")
    if "fp32" not in rates:
        raise DeviceError(f"{where} flop_per_s: 'fp32' is missing; expected the vector units' rate")


def _coefficients(table: Mapping[str, Any], where: str) -> None:
    _known(table, (*COEFFICIENTS, "tiles", "j_per_flop", "families"), where)
    _numbers({"busy_w": 0.0, "voltage_floor": 1.0, "voltage_knee": 0.0} | dict(table), COEFFICIENTS, where)
    energies = _table(table, "j_per_flop", where)
    _known(energies, MATHS, f"{where} j_per_flop")
    _numbers(energies, dict.fromkeys(energies, (0.0, 1e-6)), f"{where} j_per_flop")
    tiles = table.get("tiles")
    if not isinstance(tiles, list) or len(tiles) != 5 or not all(_number(t) and t > 0 for t in tiles):
        raise DeviceError(f"{where} tiles: found {tiles!r}; expected [large m, large n, small m, small n, small rate]")
    families = _table(table, "families", where)
    if "matmul" not in families:
        raise DeviceError(f"{where} families: 'matmul' is missing; every other family falls back to it")
    _kernels(families, f"{where} families")
    for name, family in families.items():
        _known(family, tuple(FAMILY), f"{where} families.{name}")
        _numbers(OPTIONAL_OF_FAMILY | dict(family), FAMILY, f"{where} families.{name}")


def _corrections(found: Any, where: str) -> None:
    if not isinstance(found, list):
        raise DeviceError(f"{where}: found {found!r}; expected tables with `family`, and `time` or `power`")
    for one in found:
        _known(one, ("family", *ENSEMBLES, *STORED_ENSEMBLES), where)
        for key in ("family", *(name for name in ENSEMBLES if name in one)):
            _text(one, key, where)
        _numbers(one, {name: CRC32 for name in STORED_ENSEMBLES if name in one}, where)


FITTED_STACKS: Mapping[str, Any] = {"serving": serving_engine, "generation": generation_engine}
"""Heading of the tables of software stacks -> the module that says their coefficients and parts."""


def _stacks(stacks: Mapping[str, Any], where: str, kind: Any) -> None:
    for name in stacks:
        at, table = f"{where}.{name}]", _table(stacks, name, f"{where}]")
        _known(table, (*kind.NUMBERS, *kind.OPTIONAL, "time", "energy", "fit"), at)
        _numbers(table, kind.NUMBERS | {key: span for key, span in kind.OPTIONAL.items() if key in table}, at)
        for factors in ("time", "energy"):
            found = _table(table, factors, at)
            _known(found, kind.PARTS, f"{at} {factors}")
            _numbers(found, dict.fromkeys(kind.PARTS, FACTOR), f"{at} {factors}")
        _fits(table.get("fit"), f"{at} fit", FIT_KEYS)


def _interval(table: Mapping[str, Any], where: str) -> None:
    _known(table, (*INTERVAL, "families", "source", "time"), where)
    _text(table, "source", where)
    _widths(table, where)
    if "time" in table:
        time = _table(table, "time", where)
        _known(time, (*INTERVAL, "families"), f"{where} time")
        _widths(time, f"{where} time")


def _widths(table: Mapping[str, Any], where: str) -> None:
    families = _table(table, "families", where) if "families" in table else {}
    _kernels(families, f"{where} families")
    _numbers(families, dict.fromkeys(families, INTERVAL["layer"]), f"{where} families")
    _numbers(table, INTERVAL, where)


def _fits(fits: Any, where: str, keys: tuple[str, ...] = (*FIT_TEXTS, "rows")) -> None:
    if not isinstance(fits, list) or not fits:
        raise DeviceError(f"{where}: no record; expected data_set, rows, error, date and command of every fit")
    for fit in fits:
        for key in keys:
            if key not in fit:
                raise DeviceError(f"{where}: {key!r} is missing in the record of {fit.get('data_set', 'a fit')}")


def _known(table: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping):
        raise DeviceError(f"{where}: found {table!r}; expected a table")
    for key in table:
        if key not in keys:
            raise DeviceError(f"{where}: unknown key {key!r}{suggestion(key, keys)}")


def _kernels(names: Iterable[str], where: str) -> None:
    """Refuses what is not ``family``, ``family.math`` or ``family.math@library``."""
    for name in names:
        family, _, math = name.partition("@")[0].partition(".")
        _known({family: 0} | ({math: 0} if math else {}), (*FAMILIES, *MATHS), where)


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = table.get(key)
    if not isinstance(found, Mapping) or not found:
        raise DeviceError(f"{where}: table {key!r} is missing or empty")
    return found


def _text(table: Mapping[str, Any], key: str, where: str) -> None:
    if not isinstance(table.get(key), str) or not table[key].strip():
        raise DeviceError(f"{where}: {key} = {table.get(key)!r}; expected a text")


def _choice(table: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str) -> None:
    if table[key] not in choices:
        raise DeviceError(f"{where}: {key} = {table[key]!r}; expected one of {', '.join(choices)}")


def _numbers(table: Mapping[str, Any], ranges: Mapping[str, Range], where: str) -> None:
    for key, (low, high) in ranges.items():
        value = table.get(key)
        if not _number(value) or not low <= value <= high:  # type: ignore[operator]
            raise DeviceError(f"{where}: {key} = {value!r}; expected a number from {low:g} to {high:g}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
