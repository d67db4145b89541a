"""wattir: what inference costs in joules and seconds, before it runs.

    import wattir
    report = wattir.estimate("resnet50", device="h100_sxm", sizes={"batch": 8})
    cost = wattir.compile("model.onnx", device="h200_sxm")
    cost(batch=8).energy_j

Names below are imported when they are first used, so that ``import wattir`` costs next to nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if not os.path.isdir(os.path.join(__path__[0], "frontends")):
    __path__.append(os.path.dirname(__path__[0]))  # a checkout: frontends/ and backends/ lie beside this folder

if TYPE_CHECKING:
    from wattir import layers as layers
    from wattir import spaces as spaces
    from wattir.api import compile, devices, estimate, load, lower, measure
    from wattir.costmodel import Answer, CostModel
    from wattir.device import Device, load_device
    from wattir.errors import CheckFailed, InputError, WattirError
    from wattir.ir import Graph
    from wattir.pareto import pareto_front
    from wattir.report import Layer, Report

_HOME = {
    "Answer": "costmodel", "CheckFailed": "errors", "CostModel": "costmodel", "Device": "device", "Graph": "ir",
    "InputError": "errors", "Layer": "report", "Report": "report", "WattirError": "errors", "compile": "api",
    "devices": "api", "estimate": "api", "layers": "", "load": "api", "load_device": "device", "lower": "api",
    "measure": "api", "pareto_front": "pareto", "spaces": "",
}  # fmt: skip

__all__ = [
    "Answer", "CheckFailed", "CostModel", "Device", "Graph", "InputError", "Layer", "Report", "WattirError", "compile",
    "devices", "estimate", "layers", "load", "load_device", "lower", "measure", "pareto_front", "spaces",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wattir' has no attribute {name!r}")
    if _HOME[name] == "":
        return import_module(f"wattir.{name}")
    return getattr(import_module(f"wattir.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
