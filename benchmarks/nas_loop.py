"""What a candidate costs in an architecture search: ``python -m benchmarks.nas_loop [--hw ID] [--repeats N] [--json]``.

A network of 50 convolutions whose features are made inside the engine, composed cells as tables, two threads against
one, and boosted trees that predict the 50 layers of a candidate from features handed in (XGBoost and LightGBM with 100
trees, one thread, trained on layer rows of wattir's own; the extra ``bench``). Everything is measured in turn in one
run; a figure is the median over the repeats, a ratio the median of the ratios within each repeat. Nanoseconds per
candidate and thread are CPU time of the process, so that other load counts as little as can be.

The gain of two threads is given twice: by wall time, which says little on a busy machine (the load stands beside it),
and by CPU time: what one thread takes, over what the main thread takes alone plus the longer of two threads that take
the pieces in turn, as they would on two idle cores. Waiting for each other's memory is in the first only.

``--agreement`` compares batches with single answers instead: 10,000 random candidates of each of five built-in models,
and 300 of one model on every machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

import wattir
from benchmarks.nas_networks import fbnet, fifty_layers, nas_bench_201, tables_by_choice
from wattir import threads
from wattir.spaces import MOST_INDEXED
from wattir.tables import Table
from wattir.threads import at_most

COUNT = 1_000_000
"""Candidates of a batch."""
BOOSTED = 2_000
"""Candidates that boosted trees are asked about at a time: 100,000 layer rows."""
TREES = 100
MODELS = {
    "resnet50": {"batch": (1, 257)},
    "bert_base": {"batch": (1, 65), "seq": (1, 513)},
    "llama_3_2_1b": {"batch": (1, 17), "seq": (1, 4097)},
    "llama_3_2_1b_decode": {"batch": (1, 129), "past": (0, 70000)},
    "t5_base_encoder": {"batch": (1, 9), "seq": (1, 65)},
}
Sizes = dict[str, Any]


class Pieces(ThreadPoolExecutor):
    """A pool that notes the CPU seconds of every piece, for each call of `map`."""

    calls: ClassVar[list[list[float]]] = []

    def map(self, function: Any, *pieces: Any, **options: Any) -> Any:
        """As ever; in order."""

        def noted(*piece: Any) -> Any:
            start = time.thread_time()
            result = function(*piece)
            return result, time.thread_time() - start

        found = list(super().map(noted, *pieces, **options))
        self.calls.append([seconds for _, seconds in found])
        return [result for result, _ in found]


def longer_of_two(run: Callable[[], object]) -> float:
    """CPU seconds of the main thread alone plus, of each call of a pool, the longer of two threads."""
    Pieces.calls.clear()
    threads.ThreadPoolExecutor = Pieces  # type: ignore[misc]
    start = time.thread_time()
    try:
        run()
    finally:
        threads.ThreadPoolExecutor = ThreadPoolExecutor  # type: ignore[misc]
    alone = time.thread_time() - start
    for pieces in Pieces.calls:
        ends = [0.0, 0.0]
        for seconds in pieces:
            ends[ends.index(min(ends))] += seconds
        alone += max(ends)
    return alone


def cpu_s(run: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def wall_s(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def drawn(own_widths: bool, values: int, dtype: str, rng: np.random.Generator) -> Sizes:
    """`COUNT` candidates of `fifty_layers`: widths that are multiples of 16, and a few resolutions."""
    widths = np.arange(2, 2 + values) * 16
    sizes = {f"c{i}": rng.choice(widths, COUNT).astype(dtype) for i in range(50 if own_widths else 16)}
    return {**sizes, "side": rng.choice(np.arange(128, 257, 32), COUNT).astype(dtype)}


def layer_rows(sizes: Sizes, count: int) -> np.ndarray[Any, Any]:
    """What boosted trees see of the 50 layers of the first candidates: batch, input and output channels, kernel, stride
    and side [50 count, 6]."""
    side, before, rows = sizes["side"][:count].astype(float), np.full(count, 3.0), []
    for i in range(50):
        width, stride = sizes[f"c{i}"][:count].astype(float), 2.0 if i % 10 == 0 else 1.0
        rows.append(
            np.stack([np.ones(count), before, width, np.full(count, 3.0), np.full(count, stride), side], axis=1)
        )
        before, side = width, np.ceil(side / stride)
    return np.concatenate(rows).astype(np.float32)


def boosted(rows: Any, joules: Any) -> dict[str, Callable[[Any], object]]:
    """Predictors of layer rows with 100 trees on one thread, by name; those that are not installed are left out."""
    found: dict[str, Callable[[Any], object]] = {}
    target = np.log(joules)
    try:
        import xgboost

        booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, target), TREES)
        found["XGBoost-100"] = booster.inplace_predict
    except ImportError:
        pass
    try:
        import lightgbm

        options = {"objective": "regression", "num_threads": 1, "verbose": -1}
        model = lightgbm.train(options, lightgbm.Dataset(rows, target), TREES)
        found["LightGBM-100"] = lambda rows: model.predict(rows, num_threads=1)
    except ImportError:
        pass
    return found


def table_sum(tables: Sequence[Table], index: Any) -> Any:
    """What a loop in NumPy does for joules alone."""
    return sum(table.sums[index[:, place], 0] for place, table in enumerate(tables))


def tasks(hw: str) -> dict[str, tuple[Callable[[], object], int]]:
    """What is measured on one thread, by name, and how many candidates that is."""
    rng = np.random.default_rng(0)
    blocks, own = (wattir.compile(fifty_layers(own_widths), device=hw) for own_widths in (False, True))
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for name, model, sizes in (
        ("50 layers, 17 sizes", blocks, drawn(False, 16, "int64", rng)),
        ("50 layers, 17 sizes, int16", blocks, drawn(False, 16, "int16", rng)),
        ("50 layers, 51 sizes", own, drawn(True, 8, "int64", rng)),
        ("50 layers, 51 sizes, int16", own, drawn(True, 8, "int16", rng)),
    ):
        found[name] = (lambda model=model, sizes=sizes: model(**sizes)), COUNT  # type: ignore[misc]
    wide = drawn(True, 8, "int64", rng)
    rows = layer_rows(wide, BOOSTED)
    energy = own.layers(**{name: column[:BOOSTED] for name, column in wide.items()}).energy_j.ravel()
    for name, predict in boosted(rows, energy).items():
        found[name] = (lambda predict=predict: predict(rows)), BOOSTED  # type: ignore[misc]
    return found | composed(hw, rng)


def composed(hw: str, rng: np.random.Generator) -> dict[str, tuple[Callable[[], object], int]]:
    """The tasks of cells: candidates as indices, as places by column and by row, and what a loop in NumPy does."""
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for name, space in {"NAS-Bench-201 cell": nas_bench_201(), "FBNet": fbnet()}.items():
        price = space.compile(hw)
        rows = space.sample(COUNT).astype(np.uint8)
        columns, tables = np.asfortranarray(rows), tables_by_choice(price)
        asked: dict[str, Callable[[], object]] = {
            name: lambda price=price, columns=columns: price(columns),  # type: ignore[misc]
            f"{name}, rows": lambda price=price, rows=rows: price(rows),  # type: ignore[misc]
            f"{name}, NumPy": lambda tables=tables, columns=columns: table_sum(tables, columns),  # type: ignore[misc]
        }
        if space.size < MOST_INDEXED:
            indices = rng.integers(0, space.size, COUNT)
            asked[f"{name}, indices"] = lambda price=price, indices=indices: price(indices)  # type: ignore[misc]
        found |= {task: (run, COUNT) for task, run in asked.items()}
    return found


def measured(hw: str, repeats: int) -> dict[str, Any]:
    """All figures, by name: nanoseconds per candidate and thread in each repeat, and the gains of two threads."""
    found = tasks(hw)
    ns: dict[str, list[float]] = {name: [] for name in found}
    wall: dict[str, list[float]] = {name: [] for name in found if name.startswith("50 layers")}
    cpu: dict[str, list[float]] = {name: [] for name in wall}
    for run, _ in found.values():
        run()
    for _ in range(repeats):
        for name, (run, count) in found.items():
            with at_most(1):
                ns[name].append(1e9 * cpu_s(run) / count)
        for name in wall:
            run = found[name][0]
            with at_most(1):
                alone, alone_cpu = wall_s(run), cpu_s(run)
            with at_most(2):
                wall[name].append(alone / wall_s(run))
                cpu[name].append(alone_cpu / longer_of_two(run))
    load = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    return {"device": hw, **load, "ns": ns, "two_threads_wall": wall, "two_threads_cpu": cpu}


ASKED = {
    "50 layers, 17 sizes": 100.0, "50 layers, 17 sizes, int16": 100.0, "50 layers, 51 sizes": 100.0,
    "50 layers, 51 sizes, int16": 100.0, "NAS-Bench-201 cell": 10.0, "NAS-Bench-201 cell, rows": 10.0,
    "NAS-Bench-201 cell, indices": 10.0, "FBNet": 10.0, "FBNet, rows": 10.0,
}  # fmt: skip
FASTER_THAN = {"XGBoost-100": 500.0, "LightGBM-100": 2000.0}


def show(found: dict[str, Any]) -> None:
    """A table of medians; then ratios to the trees, then the gain of two threads."""
    from rich.console import Console
    from rich.table import Table as Sheet

    console = Console(width=None if sys.stdout.isatty() else 120)
    sheet = Sheet(title="CPU nanoseconds per candidate and thread", title_justify="left")
    for name in ("what", "median", "least", "most", "asked for"):
        sheet.add_column(name, justify="left" if name == "what" else "right")
    for name, ns in found["ns"].items():
        asked = f"<= {ASKED[name]:g}" if name in ASKED else "-"
        sheet.add_row(name, *(f"{value:.4g}" for value in (statistics.median(ns), min(ns), max(ns))), asked)
    console.print(sheet)
    sheet = Sheet(title="Times faster, pair by pair", title_justify="left")
    for name in ("what", "than", "median", "least", "asked for"):
        sheet.add_column(name, justify="left" if name in ("what", "than") else "right")
    for other, asked in FASTER_THAN.items():
        for name in ASKED:
            if other in found["ns"] and name.startswith("50 layers"):
                ratios = [a / b for a, b in zip(found["ns"][other], found["ns"][name], strict=True)]
                sheet.add_row(name, other, f"{statistics.median(ratios):.0f}", f"{min(ratios):.0f}", f">= {asked:g}")
    gains = ((name, by, ratios) for by in ("wall", "cpu") for name, ratios in found[f"two_threads_{by}"].items())
    for name, by, ratios in gains:
        sheet.add_row(
            f"{name}, 2 threads", f"1 thread, {by}", f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}", ">= 1.7"
        )
    console.print(sheet)
    console.print(f"load of the machine at the end: {found['load']:.1f} on {found['cores']} cores")


def agreement(hw: str) -> dict[str, float]:
    """The largest relative difference of batches from single answers, over all four numbers, by model or machine."""
    found = {}
    for name, ranges in MODELS.items():
        found[name] = difference(wattir.compile(name, device=hw), ranges, 10_000)
    for device in wattir.devices():
        found[f"bert_base on {device}"] = difference(
            wattir.compile("bert_base", device=device), MODELS["bert_base"], 300
        )
    return found


def difference(model: wattir.CostModel, ranges: dict[str, tuple[int, int]], count: int) -> float:
    """The largest relative difference over random candidates."""
    rng = np.random.default_rng(1)
    sizes = {name: rng.integers(low, high, count) for name, (low, high) in ranges.items()}
    many, worst = model(**sizes), 0.0
    for i in range(count):
        one = model(**{name: int(column[i]) for name, column in sizes.items()})
        worst = max(worst, *(abs(getattr(many, field)[i] / getattr(one, field) - 1.0) for field in one.__slots__))
    return worst


def main() -> None:
    """Measures or compares, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nas_loop", description=__doc__)
    parser.add_argument("--hw", default="h100_sxm", help="a machine (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=9, help="how often everything is measured (default: %(default)s)"
    )
    parser.add_argument("--agreement", action="store_true", help="compare batches with single answers instead")
    parser.add_argument("--json", action="store_true", help="print one object instead")
    options = parser.parse_args()
    found: dict[str, Any] = agreement(options.hw) if options.agreement else measured(options.hw, options.repeats)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.agreement:
        for name, worst in found.items():
            print(f"{name:50} {worst:.1e}")
    else:
        show(found)


if __name__ == "__main__":
    main()
