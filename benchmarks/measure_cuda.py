"""Measure networks of torchvision and transformers on this machine: ``python benchmarks/measure_cuda.py [OUT.csv]``.

Layers are what ``wattir measure`` measures; this adds networks with random weights, in eager PyTorch, captured in a
CUDA graph and by torch.compile, in the columns of measurements/ID/networks.csv. Rows are written as they are made, and
a run that was cut off goes on. ``--smallest`` rehearses every case at a tiny size.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import measure_calls  # noqa: E402
import measure_networks  # noqa: E402
import torch  # noqa: E402

from wattir.backends.measure.bench import open_bench  # noqa: E402
from wattir.backends.measure.run import run_cases  # noqa: E402
from wattir.backends.measure.sheet import COLUMNS  # noqa: E402
from wattir.backends.measure.torch_bench import TorchBench, set_math  # noqa: E402
from wattir.backends.measure.window import clamp  # noqa: E402

NAMES = (
    "model",
    "library",
    "config",
    "phase",
    "mode",
    "dtype",
    "math",
    "layout",
    "batch",
    "image",
    "seq",
    "context",
    "params",
)
NETWORK_COLUMNS = ("case_id", "repeat", "kind", *NAMES, *COLUMNS[COLUMNS.index("calls") :])
GRAPH_MIN_S, GRAPH_CALLS_MAX = 2e-3, 8


@dataclass
class NetworkBench:
    """Networks on a bench for layers: the one in memory stays until another is asked for."""

    bench: TorchBench
    smallest: bool
    model: str = ""
    module: Any = None
    labels: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.labels, self.device = self.bench.labels, self.bench.device

    def measure(self, case: measure_networks.NetworkCase) -> dict[str, Any]:
        """One row of a network."""
        sized = measure_networks.shrink(case) if self.smallest else case
        set_math(sized.dtype)
        module = measure_networks.prepare(self._module(sized.model), sized)
        target = torch.compile(module, dynamic=False) if sized.mode == "compile" else module
        with torch.inference_mode():
            call = measure_calls.caller(target, sized, self.bench.device)
            return measure_networks.describe(module, sized, self.smallest) | self._observed(call, sized.mode)

    def _module(self, model: str) -> Any:
        if self.model != model:
            self.module, self.model = None, ""
            gc.collect()
            self.bench.recover()
            self.module = measure_networks.build(model, self.bench.device, self.smallest)
            self.model = model
        return self.module

    def _observed(self, call: Any, mode: str) -> dict[str, Any]:
        window = self.bench.window
        each_s = min(window.timed(call, 3) / 3, window.timed(call, 1))
        if mode != "graph":
            return window.observe(call)
        calls = clamp(GRAPH_MIN_S / each_s, 1, GRAPH_CALLS_MAX)
        step, found, graph = self.bench.captured(lambda: [call() for _ in range(calls)])
        readings = window.observe(step, calls) | {"mode": found}
        del graph
        return readings

    def idle(self, wait_s: float) -> dict[str, Any]:
        return self.bench.idle(wait_s)

    def recover(self) -> None:
        torch.compiler.reset()
        self.bench.recover()

    def describe(self) -> dict[str, Any]:
        return self.bench.describe()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="networks.csv", help="the file to add rows to (default: %(default)s)")
    parser.add_argument("--on", help="cuda, cuda:1 or cpu (default: a GPU if there is one)")
    parser.add_argument("--meter", default="auto")
    parser.add_argument("--window-s", type=float, default=0.7)
    parser.add_argument("--count", type=int, default=500, help="at most this many cases")
    parser.add_argument("--smallest", action="store_true", help="rehearse every case at a tiny size")
    options = parser.parse_args()
    cases = [*measure_networks.network_cases(), *measure_networks.compiled_cases()][: options.count]
    with open_bench(options.meter, options.on, False, options.window_s, 0.2) as bench:
        outcome = run_cases(NetworkBench(bench, options.smallest), cases, options.out, print, columns=NETWORK_COLUMNS)
    print(f"{options.out}: {outcome.added} rows added, {outcome.before} were there, {len(outcome.failed)} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
