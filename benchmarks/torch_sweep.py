"""How many PyTorch architectures lower, by which way, and how much of their energy is known.

    python benchmarks/torch_sweep.py [NAME ...] [--fast] [--out sweep.jsonl] [--jobs 1] [--limit 300] [--device ID]

A NAME is a case (``timm/vgg11``), a library (``timm``) or a part of one's name. Each case runs in a process of its own
with a time limit. Results go to a file of JSON lines; cases that are there are not run again unless with ``--again``.
Needs torch, and timm, torchvision, transformers or diffusers for their cases.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from wattir.frontends.torch.pretrained import declare_torchvision_ops

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

Row = dict[str, Any]
DEFAULT_SIZE = 16
KNOWN_ENOUGH = 0.99


# ---- one case -------------------------------------------------------------------------------------------------------


def run_case(name: str, device: str) -> Row:
    """One row of the table, in this process."""
    declare_torchvision_ops()
    from torch_cases import CASES

    import wattir

    model, inputs = CASES[name]()
    start = time.perf_counter()
    graph = wattir.lower(model, inputs)
    seconds = time.perf_counter() - start
    sizes = {dim: default or DEFAULT_SIZE for dim, default in graph.sizes.items()}
    found = wattir.estimate(graph, device=device, sizes=sizes).to_dict()
    traced = any("trac" in line for line in graph.warnings)
    return {
        "name": name, "way": "trace" if traced else "export", "seconds": seconds, "ops": len(graph.ops),
        "sizes": {dim: default for dim, default in graph.sizes.items()}, "unknown": found["coverage"]["unknown"],
        "unknown_ops": dict(Counter(op.source for op in graph.ops if op.kind == "unknown")),
        "flop": found["totals"]["flop"], "params": found["totals"]["params"], "energy_j": found["totals"]["energy_j"],
        "warnings": list(graph.warnings), "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def failed(name: str, error: BaseException) -> Row:
    return {"name": name, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"}


def one(name: str, device: str) -> None:
    """Prints the row of one case as a line of JSON."""
    import traceback

    warnings.simplefilter("ignore")
    try:
        row = run_case(name, device)
    except Exception as error:  # whatever a library raises is a result here
        traceback.print_exc()
        row = failed(name, error)
    print(json.dumps(row), flush=True)


# ---- the sweep ------------------------------------------------------------------------------------------------------


def in_process(name: str, device: str, limit_s: float) -> Row:
    """The row of one case, run in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--device", device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"over {limit_s:g} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if not lines:
        return {"name": name, "error": f"died with code {done.returncode}: {done.stderr[-300:]}"}
    row: Row = json.loads(lines[-1])
    return row if "error" not in row else {**row, "trace": done.stderr[-3000:]}


def chosen(wanted: list[str], fast: bool) -> list[str]:
    declare_torchvision_ops()
    from torch_cases import CASES, FAST

    names = list(FAST if fast else CASES)
    return [name for name in names if not wanted or any(word in name for word in wanted)]


def earlier(path: Path) -> dict[str, Row]:
    """Rows of an earlier run; the last of each case."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["name"]: row for row in rows}


def sweep(names: list[str], out: Path, jobs: int, device: str, limit_s: float) -> None:
    """Runs cases and appends their rows."""

    def run(name: str) -> Row:
        return in_process(name, device, limit_s)

    with ThreadPoolExecutor(jobs) as pool, out.open("a", encoding="utf-8") as file:
        for row in pool.map(run, names):
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(line(row), flush=True)


def line(row: Row) -> str:
    if "error" in row:
        return f"{row['name']:44} {row['error'][:160]}"
    unknown = ", ".join(f"{op} {count}" for op, count in row["unknown_ops"].items())
    return (
        f"{row['name']:44} {row['way']:6} {row['seconds']:7.1f} {row['ops']:6} {1 - row['unknown']:8.2%} "
        f"{row['flop']:10.3e} {unknown}"
    )


def summary(rows: list[Row]) -> str:
    good = [row for row in rows if "error" not in row and row["unknown"] <= 1 - KNOWN_ENOUGH]
    ways = Counter(row["way"] for row in good)
    unknown = Counter(op for row in rows for op in row.get("unknown_ops", {}))
    return (
        f"{len(good)} of {len(rows)} lower with coverage of {KNOWN_ENOUGH:.0%} or more ({dict(ways)})\n"
        f"unknown ops, by models: {dict(unknown.most_common(40))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true", help="a dozen that stand for the rest")
    parser.add_argument("--again", action="store_true", help="run also what the file has already")
    parser.add_argument("--failed", action="store_true", help="run again what failed or is not wholly known")
    parser.add_argument("--out", type=Path, default=Path("torch_sweep.jsonl"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one case")
    parser.add_argument("--device", default="h200_sxm")
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.device)
    names = chosen(args.names, args.fast)
    before = {} if args.again else earlier(args.out)
    if args.failed:
        before = {name: row for name, row in before.items() if row.get("unknown", 1) <= 1 - KNOWN_ENOUGH}
    print(f"{'model':44} {'way':6} {'seconds':>7} {'ops':>6} {'coverage':>8} {'FLOP':>10} unknown ops or why not")
    for name in names:
        if name in before:
            print(line(before[name]))
    sweep([name for name in names if name not in before], args.out, args.jobs, args.device, args.limit)
    rows = earlier(args.out)
    print(summary([rows[name] for name in names]))


if __name__ == "__main__":
    main()
