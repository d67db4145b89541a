"""How long the first answers take: ``python -m benchmarks.one_model``.

Prints a table of medians over several runs, each beside the time that is asked for, and onnx-tool beside them where
it is installed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

import wattir
from wattir import layers
from wattir.dims import symbol
from wattir.ir import Graph, GraphBuilder

RUNS = 7
OPS = 1000
HW = "h100_sxm"
RESNET = str(Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx")

CPU_OF_IMPORT = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"
ONNX_TOOL = f"import onnx_tool; onnx_tool.model_profile({RESNET!r})"


def median_s(measure: Callable[[], float], runs: int = RUNS) -> float:
    """The median of several measurements, after one that fills the caches of the disk."""
    measure()
    return statistics.median(measure() for _ in range(runs))


def import_cpu_s() -> float:
    """CPU seconds of ``import wattir`` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", CPU_OF_IMPORT.format("wattir")], capture_output=True, check=True)
    return float(done.stdout)


def wall_s(*command: str) -> Callable[[], float]:
    """Wall seconds of a command, from nothing."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        return time.perf_counter() - start

    return measure


def chain(ops: int) -> Graph:
    """Alternating products and activations, each of another width: no two kernels are alike."""
    builder, batch = GraphBuilder("chain"), symbol("batch")
    value = builder.tensor("x", (batch, 64), "bf16", "input")
    width = 64
    for i in range(ops // 2):
        wider = 64 + i
        weight = builder.tensor(f"w{i}", (width, wider), "bf16", "weight")
        made = builder.tensor(f"h{i}", (batch, wider), "bf16")
        builder.op(
            "matmul", (value, weight), (made,), name=f"h{i}", source="matmul", groups=1, m=batch, n=wider, k=width
        )
        value = builder.tensor(f"s{i}", (batch, wider), "bf16")
        builder.op("softmax", (made,), (value,), name=f"s{i}", source="softmax", function="softmax", length=wider)
        width = wider
    return builder.finish(("x",), (value,), {"batch": 1}, "batch")


def again_s() -> Callable[[], float]:
    """Seconds of one answer of a compiled model of 1,000 ops, in plain Python."""
    model = wattir.compile(chain(OPS), device=HW, runtime="eager")
    sizes = iter(range(1, 10**9))

    def measure() -> float:
        start = time.perf_counter()
        model(batch=next(sizes))
        return time.perf_counter() - start

    return measure


def one_layer_s() -> float:
    """Seconds of one layer estimated from its description alone."""
    start = time.perf_counter()
    wattir.estimate(layers.matmul(4096, 4096, 4096), device=HW)
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints."""
    estimate = (sys.executable, "-m", "wattir", "estimate")
    rows: list[tuple[str, float, float | None]] = [
        ("import wattir, CPU", median_s(import_cpu_s), 0.1),
        (f"wattir estimate resnet50 --hw {HW}", median_s(wall_s(*estimate, "resnet50", "--hw", HW)), 0.4),
        (f"wattir estimate light_resnet50.onnx --hw {HW}", median_s(wall_s(*estimate, RESNET, "--hw", HW)), 1.2),
        (f"{OPS:,} ops estimated again, in process", median_s(again_s(), 31), 5e-3),
        ("one matmul layer, in process", median_s(one_layer_s, 31), None),
    ]
    tool = (sys.executable, "-c", ONNX_TOOL)
    if subprocess.run(tool, capture_output=True, check=False).returncode == 0:  # it is installed, with what it needs
        rows.append(("onnx-tool on light_resnet50.onnx (MACs alone)", median_s(wall_s(*tool)), None))
    show(rows)


def show(rows: list[tuple[str, float, float | None]]) -> None:
    """The table; the ratio is to the time asked for, under 1 is good."""
    table = Table(title=f"Medians of {RUNS} runs or more", title_justify="left")
    for name in ("what", "ms", "asked for", "ratio"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name, seconds, most in rows:
        asked = ("-", "-") if most is None else (f"< {1e3 * most:g}", f"{seconds / most:.2f}")
        table.add_row(name, f"{1e3 * seconds:.3g}", *asked)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
