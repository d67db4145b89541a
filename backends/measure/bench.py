"""What a measurement runs on: a device and its meter opened together, or a machine that is simulated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from wattir.errors import InputError

from .cases import LayerCase, default_cases
from .meter import Meter
from .meters import open_counter
from .models import ModelBench, onnx_call
from .run import Bench
from .simulated import SimulatedBench, simulated
from .window import Window


@contextmanager
def open_bench(meter: str, device: str | None, model: bool, window_s: float, settle_s: float) -> Iterator[Bench]:
    """The bench for layers, or for a model file; its meter polls while the context is open."""
    if meter.startswith("simulated"):
        yield simulated(meter)
        return
    where = _model_device(device) if model else _layer_device(device)
    with Meter(open_counter(meter, where)) as polled:
        if model:
            window = Window(polled, window_s, settle_s)
            yield ModelBench(where, window, lambda case: onnx_call(case, where), "onnxruntime")
        else:
            from .torch_bench import TorchBench, sync_of

            yield TorchBench(where, Window(polled, window_s, settle_s, sync_of(where)))


def built_in_list(bench: Bench, seed: int, count: int) -> list[LayerCase]:
    """The layers that a bench measures where no list is given."""
    if isinstance(bench, SimulatedBench):
        return list(islice((case for case in default_cases("cuda", seed) if bench.knows(case)), count))
    return default_cases(bench.device, seed)[:count]


def _layer_device(device: str | None) -> str:
    from .torch_bench import best_device, has_device

    if device is None:
        return best_device()
    if not re.fullmatch(r"cuda(:\d{1,2})?|cpu|mps", device):
        raise InputError(f"--on {device}: expected cuda, cuda:1, cpu or mps")
    if not has_device(device):
        raise InputError(f"--on {device}: this PyTorch finds no such device; expected {best_device()}")
    return device


def _model_device(device: str | None) -> str:
    try:
        import onnxruntime
    except ImportError:
        raise InputError("an ONNX file needs onnxruntime; pip install 'wattir[measure]'") from None
    there = "cuda" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else "cpu"
    if device not in (None, "cpu", there):
        raise InputError(f"--on {device}: this onnxruntime cannot run there; expected {there}")
    return device or there
