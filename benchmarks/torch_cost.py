"""What reading a PyTorch module costs beside torch itself: seconds of both ways in, and memory.

    python benchmarks/torch_cost.py [NAME ...]

Each network is measured in a process of its own: `torch.export.export` alone, then wattir's whole lowering (export
included), best of three after one more; on the tracing path, FlopCounterMode and wattir's trace with its lowering.
Memory is what one lowering adds to the peak of a process that has imported torch and made the network; exporting alone
is given beside it. Goals: export ratio at most 1.3, tracing ratio at most 2, under 200 MB for 8 billion parameters.
Needs torch, and torchvision or transformers for their networks.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

NAMES = ("resnet50", "vit", "llama_1b", "llama_8b")
COLUMNS = ("export_s", "lower_s", "ratio", "counter_s", "trace_s", "trace_ratio", "export_mb", "lower_mb")
REPEATS = 3


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best_s(run: Callable[[], Any]) -> float:
    """Seconds of the fastest of some runs; not a number where it cannot run without the tensors' contents."""
    found = []
    try:
        run()
    except RuntimeError:
        return math.nan
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def ways(name: str) -> dict[str, Callable[[], Any]]:
    """What is measured of a network, by name."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from torch_networks import NETWORKS, traced

    import wattir

    module, inputs = NETWORKS[name]()
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})

    def count() -> None:
        with torch.no_grad(), FlopCounterMode(display=False):
            module(*args, **kwargs)

    def export() -> None:
        with torch.no_grad():
            torch.export.export(module, args, kwargs, strict=False)

    return {"export": export, "lower": lambda: wattir.lower(module, inputs), "counter": count,
            "trace": lambda: traced(module, inputs)}  # fmt: skip


def memory_mb(name: str, way: str) -> float:
    """What one way adds to this process's peak."""
    run = ways(name)[way]
    before = peak_mb()
    run()
    return peak_mb() - before


def seconds(name: str) -> dict[str, float]:
    return {f"{way}_s": best_s(run) for way, run in ways(name).items()}


def in_process(*arguments: str) -> Any:
    """What this file prints when it is run with these arguments."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str) -> dict[str, float]:
    found = dict(in_process("--seconds", name))
    found["ratio"] = found["lower_s"] / found["export_s"]
    found["trace_ratio"] = found["trace_s"] / found["counter_s"]
    return found | {f"{way}_mb": in_process("--memory", name, way) for way in ("export", "lower")}


def main(arguments: list[str]) -> None:
    warnings.simplefilter("ignore")  # of the libraries
    if arguments[:1] == ["--seconds"]:
        return print(json.dumps(seconds(arguments[1])))
    if arguments[:1] == ["--memory"]:
        return print(json.dumps(memory_mb(*arguments[1:])))
    print(f"{'model':16}" + "".join(f"{column:>12}" for column in COLUMNS))
    for name in arguments or NAMES:
        found = row(name)
        print(f"{name:16}" + "".join(f"{found[column]:12.3f}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
