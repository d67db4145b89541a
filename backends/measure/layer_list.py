"""Lists of layers to measure: TOML or CSV in the words of `wattir.layers`, or rows that were measured before.

    [[layer]]                       layer,m,n,k,dtype
    layer = "matmul"                matmul,4096,4096,4096,bf16
    m = 4096
    n = 4096
    k = 4096
    dtype = "bf16"

A layer is a function of `wattir.layers` and its arguments. Several numbers in one cell of a CSV stand as ``56x56``.
"""

from __future__ import annotations

import csv
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from io import StringIO
from typing import Any

from wattir import layers
from wattir.errors import InputError, suggestion
from wattir.reading import read_text, read_toml

from .cases import LayerCase
from .flops import Params
from .sheet import COLUMNS

Arguments = dict[str, Any]
Described = tuple[str, str, Params]
MOST_BYTES = 50_000_000


def read_list(path: str) -> list[LayerCase]:
    """The layers of a list, in its order; InputError names the entry and what is wrong with it."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; expected a list of layers (.toml or .csv)")
    entries = list(_toml(path) if path.endswith(".toml") else _csv(path))
    if not entries:
        raise InputError(f"{path}: no layers in it; expected some, as `wattir measure --help` shows")
    if any("op" in entry for entry in entries):
        return [_measured(entry, f"{path}: row {i}") for i, entry in enumerate(entries, 2) if _is_layer(entry)]
    return [_described(entry, f"{path}: layer {i}") for i, entry in enumerate(entries, 1)]


def _toml(path: str) -> Iterable[Arguments]:
    found = read_toml(path, "[[layer]] tables in TOML", InputError)
    entries = found.get("layer")
    if set(found) != {"layer"} or not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise InputError(f"{path}: found {', '.join(found) or 'nothing'}; expected [[layer]] tables alone")
    return entries


def _csv(path: str) -> Iterable[Arguments]:
    text = read_text(path, "a list of layers", InputError, MOST_BYTES)
    try:
        rows = [{name: cell for name, cell in row.items() if cell and name} for row in csv.DictReader(StringIO(text))]
    except csv.Error as error:
        raise InputError(f"{path}: not CSV ({error}); expected a column `layer` and its arguments") from None
    return [{name: _cell(cell) for name, cell in row.items() if isinstance(cell, str)} for row in rows]


def _cell(text: str) -> Any:
    """A whole number, several of them as ``3x3``, a truth, or else a text."""
    text = text.strip()
    parts = text.split("x")
    if all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        numbers = tuple(int(part) for part in parts)
        return numbers[0] if len(numbers) == 1 else numbers
    return {"true": True, "false": False}.get(text.lower(), text)


def _is_layer(row: Arguments) -> bool:
    return row.get("kind") not in (None, "idle", "reference", "model")


def _measured(row: Arguments, where: str) -> LayerCase:
    """The layer of a row that was measured before."""
    missing = [name for name in ("case_id", "kind", "op", "dtype", "math") if name not in row]
    if missing:
        raise InputError(f"{where}: no {', '.join(missing)}; expected a row that `wattir measure` wrote")
    results = {name: row[name] for name in row if name in SIZES or name in ("function", "layout")}
    case_id, kind, op, dtype, math_name = (str(row[name]) for name in ("case_id", "kind", "op", "dtype", "math"))
    return LayerCase(case_id, kind, op, dtype, math_name, results, bool(row.get("cold", 1)))


SIZES = frozenset(COLUMNS[COLUMNS.index("m") : COLUMNS.index("flop")]) - {"layout"}


def _described(entry: Arguments, where: str) -> LayerCase:
    """The case of a layer of `wattir.layers`, named by all that it is: a file of rows may come of several lists."""
    name = entry.get("layer")
    if name not in MAKERS:
        found = "no `layer`" if name is None else f"layer {name!r}"
        raise InputError(f"{where}: {found}; expected one of {', '.join(MAKERS)}{suggestion(str(name), MAKERS)}")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "layer"}
    math_name, arguments = _arguments(name, given, where)
    try:
        kind, op, params = MAKERS[name](arguments)
    except _Unmeasurable as error:
        raise InputError(f"{where}: {name} {error}") from None
    sizes = (f"{key}={value}" for key, value in params.items())
    return LayerCase(" ".join((op, *sizes, math_name)), kind, op, arguments["dtype"], math_name, params)


def _arguments(name: str, given: Arguments, where: str) -> tuple[str, Arguments]:
    """The math dtype, and the arguments of a layer with their defaults; InputError for what it does not take."""
    known = inspect.signature(getattr(layers, name)).parameters
    for key in given:
        if key not in known:
            raise InputError(f"{where}: {name} takes no {key!r}; expected {', '.join(known)}{suggestion(key, known)}")
    missing = [key for key, each in known.items() if each.default is inspect.Parameter.empty and key not in given]
    if missing:
        raise InputError(f"{where}: {name} needs {', '.join(missing)}")
    defaults = {key: each.default for key, each in known.items() if each.default is not inspect.Parameter.empty}
    found = {**defaults, **{key: _value(value, known[key], f"{where}: {key}") for key, value in given.items()}}
    math_name = str(found["dtype"])
    if math_name not in DTYPES:
        raise InputError(
            f"{where}: dtype {math_name!r}; expected one of {', '.join(DTYPES)}{suggestion(math_name, DTYPES)}"
        )
    return math_name, {**found, "dtype": "fp32" if math_name == "tf32" else math_name}


DTYPES = ("bf16", "fp16", "fp32", "tf32", "fp8", "int8")


def _value(value: Any, parameter: inspect.Parameter, where: str) -> Any:
    """An argument of a list, if it is of the parameter's type; one number stands for a shape of one axis."""
    kinds = str(parameter.annotation).split(" | ")
    found = (value,) if kinds == ["Shape"] and isinstance(value, int) else value
    if found == parameter.default or any(LEGAL[kind](found) for kind in kinds):
        return found
    raise InputError(f"{where} = {value!r}; expected {' or '.join(EXPECTED[kind] for kind in kinds if kind != 'None')}")


def _whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**40


def _all_whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, tuple) and bool(value) and all(_whole(each, least) for each in value)


LEGAL: dict[str, Callable[[Any], bool]] = {
    "Size": _whole,
    "Shape": _all_whole,
    "int": partial(_whole, least=0),
    "tuple[int, ...]": partial(_all_whole, least=0),
    "bool": lambda value: value in (0, 1),
    "str": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
}
EXPECTED = {
    "Size": "a whole number of at least 1", "Shape": "whole numbers such as 3x3 (in TOML [3, 3])",
    "int": "a whole number", "tuple[int, ...]": "several such as 1x1", "bool": "true or false", "str": "a text",
}  # fmt: skip
"""By the types of the parameters in `wattir.layers`."""


class _Unmeasurable(Exception):
    """What of a layer cannot be run; its text goes after the layer's name."""


def _only(holds: Any, said: str) -> None:
    if not holds:
        raise _Unmeasurable(said)


def _matmul(a: Arguments) -> Described:
    sizes = {name: a[name] for name in ("m", "n", "k")}
    if a["groups"] != 1:
        return "gemm", "bmm", {**sizes, "batch_count": a["groups"]}
    return "gemm", {"fp8": "gemm_fp8", "int8": "gemm_int8"}.get(a["dtype"], "gemm"), sizes


def _conv(a: Arguments) -> Described:
    rank = len(a["kernel"])
    _only(rank == len(a["in_spatial"]) and 1 <= rank <= 3, "runs over 1 to 3 axes, as many in kernel as in in_spatial")
    stride, dilation = (_one(a[name], name) for name in ("stride", "dilation"))
    same = tuple(dilation * (taps - 1) // 2 for taps in a["kernel"])
    pad = _one(same if a["padding"] is None else a["padding"], "padding")
    _only(not a["transposed"] or rank == 2, "is measured transposed over two axes alone")
    _only(a["c_in"] % a["groups"] == a["c_out"] % a["groups"] == 0, "needs channels that are multiples of groups")
    axes = {name: size for name, size in zip(("depth", "h", "w")[-rank:], a["in_spatial"], strict=True)}
    taps = {name: size for name, size in zip(("kernel_d", "kernel_h", "kernel_w")[-rank:], a["kernel"], strict=True)}
    layout = "nhwc" if rank == 2 and a["dtype"] in ("bf16", "fp16") else "nchw"
    params = {
        "n_batch": a["batch"],
        "c_in": a["c_in"],
        "c_out": a["c_out"],
        "stride": stride,
        "pad": pad,
        **axes,
        **taps,
    }
    op = "conv_transpose2d" if a["transposed"] else f"conv{rank}d"
    return "conv", op, {**params, "groups": a["groups"], "dilation": dilation, "layout": layout}


def _one(value: Any, name: str) -> int:
    """The one number that holds for all axes."""
    values = value if isinstance(value, tuple) else (value,)
    _only(len(set(values)) == 1, f"is measured with one {name} for all axes (found {value})")
    return int(values[0])


def _attention(a: Arguments) -> Described:
    _only(not a["window"], "with a window is not measured")
    _only(a["v_dim"] in (None, a["head_dim"]), "is measured with values as wide as keys")
    kv_heads = a["heads"] if a["kv_heads"] is None else a["kv_heads"]
    sizes = {"b": a["batch"], "s_q": a["q"], "s_kv": a["kv"], "heads": a["heads"], "kv_heads": kv_heads}
    return "attention", "attention", {**sizes, "head_dim": a["head_dim"], "causal": int(a["causal"])}


def _norm(a: Arguments) -> Described:
    _only(
        a["function"] in ("layer_norm", "rms_norm"), f"{a['function']!r} is not measured; layer_norm and rms_norm are"
    )
    return "norm", a["function"], {"rows": a["rows"], "cols": a["length"]}


def _rows_of(kind: str, functions: Mapping[str, str]) -> Callable[[Arguments], Described]:
    def described(a: Arguments) -> Described:
        function = functions.get(a.get("function", kind))
        _only(function, f"{a.get('function')!r} is not measured; {', '.join(functions)} are")
        return kind, "rows", {"rows": a["rows"], "cols": a["length"], "function": function}

    return described


def _pointwise(a: Arguments) -> Described:
    sizes = {"elements": a["elements"], "operands": OPERANDS.get(a["function"], 0), "function": a["function"]}
    _only(sizes["operands"], f"{a['function']!r} is not measured; {', '.join(OPERANDS)} are")
    return "pointwise", "pointwise", sizes


OPERANDS = {
    "add": 2, "mul": 2, "div": 2, "addcmul": 3, "lerp": 3, "relu": 1, "gelu": 1, "gelu_tanh": 1, "silu": 1, "exp": 1,
    "hardswish": 1, "sigmoid": 1, "tanh": 1, "rsqrt": 1, "scale": 1,
}  # fmt: skip
"""Of the functions that are measured."""


def _pooling(a: Arguments) -> Described:
    _only(a["function"] in ("max", "avg"), f"{a['function']!r} is not measured; max and avg are")
    _only(len(a["in_shape"]) == len(a["out_shape"]) == 4, "is measured over images [n, c, h, w]")
    kernel, size, out = math.isqrt(a["window"]), a["in_shape"][2], a["out_shape"][2]
    fitting = [
        (stride, pad) for stride in range(1, kernel + 1) for pad in range(kernel // 2 + 1)
        if (size + 2 * pad - kernel) // stride + 1 == out
    ]  # fmt: skip
    square = kernel**2 == a["window"] and a["in_shape"][3] == size and a["out_shape"][3] == out
    _only(square and fitting, "is measured with square images and windows whose stride and padding give out_shape")
    n, channels = a["in_shape"][:2]
    stride, pad = fitting[-1]
    shape = {"n_batch": n, "c_in": channels, "h": size, "w": size, "layout": "nchw"}
    return "pool", "image", {
        **shape, "kernel_h": kernel, "kernel_w": kernel, "stride": stride, "pad": pad, "function": a["function"],
    }  # fmt: skip


def _copy(a: Arguments) -> Described:
    _only(a["function"] in ("copy", "transpose"), f"{a['function']!r} is not measured; copy and transpose are")
    rows, cols = math.prod(a["shape"][:-1]), a["shape"][-1]
    return "move", "rows", {"rows": rows, "cols": cols, "function": a["function"]}


def _gather(a: Arguments) -> Described:
    sizes = {"table_rows": a["rows"], "cols": a["length"], "indices": a["indices"]}
    return "gather", "gather", {**sizes, "function": "embedding"}


def _recurrent(a: Arguments) -> Described:
    _only(a["function"] in ("lstm", "gru") and a["directions"] == 1, "is measured as an LSTM or GRU of one direction")
    sizes = {"b": a["batch"], "s_q": a["steps"], "cols": a["input"], "hidden": a["hidden"], "layers": 1}
    return "recurrent", "recurrent", {**sizes, "function": a["function"]}


MAKERS: dict[str, Callable[[Arguments], Described]] = {
    "matmul": _matmul,
    "conv": _conv,
    "attention": _attention,
    "norm": _norm,
    "softmax": _rows_of("softmax", {"softmax": "softmax"}),
    "reduction": _rows_of("reduce", {"sum": "sum_last", "mean": "mean_last", "max": "max_last"}),
    "pointwise": _pointwise,
    "pooling": _pooling,
    "copy": _copy,
    "gather": _gather,
    "recurrent": _recurrent,
}
"""From the arguments of a function of `wattir.layers` to kind, op and columns of a row."""
