"""How much of real ONNX files the frontend covers, and whether its shapes are onnxruntime's.

    python benchmarks/onnx_coverage.py FILE_OR_FOLDER ... [--batch 1] [--size 64] [--no-run] [--wrong 3]

For each file: nodes, kinds that are unknown, coverage by count, values whose shape agrees with onnxruntime run without
optimisation with every value exposed, seconds to lower. A free dim is `--batch` where it is the batch, else `--size`;
`--set NAME=N` gives one of them another size.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import onnx  # noqa: E402  # the checkout comes first on the path
from ort_shapes import true_shapes  # noqa: E402

from wattir.dims import evaluate, names  # noqa: E402
from wattir.errors import WattirError  # noqa: E402
from wattir.frontends.onnx.lowering import lower_model  # noqa: E402
from wattir.ir import Graph  # noqa: E402

Row = dict[str, Any]


def files_in(paths: list[str]) -> list[Path]:
    """The files named, and those in the folders named."""
    found = []
    for path in map(Path, paths):
        found += sorted(path.rglob("*.onnx")) if path.is_dir() else [path]
    return found


def sizes_of(graph: Graph, batch: int, size: int, given: dict[str, int]) -> dict[str, int]:
    return {name: given.get(name, batch if name == graph.batch else size) for name in graph.sizes}


def measured(path: Path, batch: int, size: int, given: dict[str, int], run: bool) -> Row:
    """One row of the table; `wrong` lists values whose shape is not onnxruntime's."""
    start = time.perf_counter()
    graph, values = lower_model(str(path), {})
    row: Row = {"seconds": time.perf_counter() - start, "ops": len(graph.ops), "wrong": [], "agree": "-"}
    row["unknown"] = sum(op.kind == "unknown" for op in graph.ops)
    row["coverage"] = 1 - row["unknown"] / max(len(graph.ops), 1)
    row["warnings"] = list(graph.warnings)
    if not run:
        return row
    model = onnx.load(str(path))
    sizes = sizes_of(graph, batch, size, given)
    shapes = {name: tuple(evaluate(s, sizes) for s in graph.tensors[name].shape) for name in graph.inputs}
    try:
        truth = true_shapes(model, shapes)
    except Exception as error:  # onnxruntime raises its own family of errors, and some of protobuf
        row["agree"] = f"not run: {str(error).splitlines()[0][:60]}"
        return row
    good = total = 0
    for name, shape in truth.items():
        value = values.get(name)
        if value is None or value.items is not None:
            continue
        total += 1
        free = set().union(*(names(s) for s in value.shape)) - sizes.keys()
        found = "free" if free else tuple(evaluate(s, sizes) for s in value.shape)
        good += found == shape
        if found != shape:
            row["wrong"].append(f"{name}: {found} ({', '.join(map(str, value.shape))}) is {shape}")
    row["agree"] = f"{good}/{total}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=N")
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--wrong", type=int, default=3, help="wrong shapes listed for each file")
    parser.add_argument("--warnings", type=int, default=0, help="warnings listed for each file")
    args = parser.parse_args()
    given = {name: int(size) for name, _, size in (text.partition("=") for text in args.set)}
    warnings.simplefilter("ignore")
    print(f"{'file':44} {'ops':>6} {'unknown':>8} {'coverage':>9} {'shapes agree':>14} {'seconds':>8}")
    for path in files_in(args.paths):
        title = "/".join(path.parts[-2:])[-44:]
        try:
            row = measured(path, args.batch, args.size, given, not args.no_run)
        except WattirError as error:
            print(f"{title:44} {type(error).__name__}: {error}")
            continue
        cells = f"{row['ops']:6} {row['unknown']:8} {row['coverage']:9.1%} {row['agree']:>14} {row['seconds']:8.2f}"
        print(f"{title:44} {cells}")
        for line in row["wrong"][: args.wrong]:
            print(f"    {line}")
        for line in row["warnings"][: args.warnings]:
            print(f"    ! {line[:300]}")


if __name__ == "__main__":
    main()
