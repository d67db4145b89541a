"""Measure time and energy of layers and whole networks on one CUDA GPU.

    python benchmarks/measure_cuda.py --part layers --out results
    python benchmarks/measure_cuda.py --part networks --out results

Rows are written as they are made; a failed case is one row of the errors file. `--dry` rehearses every case on the
host at tiny sizes with a simulated meter: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import pathlib
import statistics
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

STARTED_S = time.perf_counter()
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import measure_calls  # noqa: E402
import measure_cases  # noqa: E402
import measure_networks  # noqa: E402
import torch  # noqa: E402
from measure_meter import Meter, NvmlBackend, SimulatedBackend  # noqa: E402
from measure_rig import Rig, deadline, measure_layer, measure_network, set_math, utc_now  # noqa: E402
from measure_sheet import ERROR_COLUMNS, LAYER_COLUMNS, NETWORK_COLUMNS, Sheet  # noqa: E402

REFERENCE_EVERY = {"layers": 100, "networks": 60}
PRINT_EVERY = 25
CASE_LIMIT_S, COMPILE_LIMIT_S = 45.0, 75.0
COMPILE_RESERVE_S, COMPILED_RESERVE_S = 120.0, 15.0
FUSED_RESERVE_S = 6.0
GRACE_S = 12.0
IDLE_S = 3.0
CUDNN_PLANS = 5


@dataclass
class Run:
    """Everything one part of the program works with."""

    args: argparse.Namespace
    rig: Rig
    layers: Sheet
    networks: Sheet
    errors: Sheet
    meta: dict[str, Any]
    done: int = 0

    def left_s(self) -> float:
        """Seconds of the budget not spent yet."""
        return self.args.budget_s - self.args.elapsed_s - (time.perf_counter() - STARTED_S)

    def fail(self, case_id: str, stage: str, failure: BaseException) -> None:
        """One row of the errors file."""
        text = " ".join(f"{type(failure).__name__}: {failure}".split())[:300]
        self.errors.add({"case_id": case_id, "stage": stage, "error": text, "measured_at": utc_now()})
        print(f"  failed {case_id} ({stage}): {text[:140]}", flush=True)

    def case(self, case_id: str, limit_s: float, body: Callable[[], None]) -> None:
        """Run one case; whatever it raises is recorded and the run goes on."""
        try:
            with deadline(min(limit_s, self.left_s() + GRACE_S / 2)):
                body()
        except Exception as failure:
            self.fail(case_id, "run", failure)
        self.recover()
        self.done += 1
        if self.done % PRINT_EVERY == 0:
            self.progress()

    def recover(self) -> None:
        """Free memory; a device that no longer answers needs a fresh process, which skips what is done."""
        try:
            self.rig.sync()
            self.rig.release()
        except Exception as failure:
            self.fail("device", "recover", failure)
            self.save_meta()
            restart(self.args)

    def progress(self) -> None:
        """A short line."""
        rows = self.layers.rows + self.networks.rows
        last = rows[-1] if rows else {}
        power_w, time_s = last.get("power_w", math.nan), last.get("time_s", math.nan)
        where = f"{self.done:4d} cases, {len(self.errors.rows)} errors, {self.left_s():.0f} s left"
        print(f"{where}: {last.get('case_id')} {1e3 * time_s:.4g} ms {power_w:.0f} W", flush=True)

    def save_meta(self) -> None:
        """Write what holds for all rows."""
        self.meta |= {"finished_at": utc_now(), "cases": self.done, "errors": len(self.errors.rows)}
        path = self.args.out / f"{self.args.part}_meta.json"
        path.write_text(json.dumps(self.meta, indent=1, default=str) + "\n")


def restart(args: argparse.Namespace) -> None:
    """Replace this process by one that resumes with the budget that is left."""
    spent_s = args.elapsed_s + time.perf_counter() - STARTED_S
    if spent_s > args.budget_s:
        return
    kept = [word for word in sys.argv if not word.startswith("--elapsed-s=")]
    os.execv(sys.executable, [sys.executable, *kept, f"--elapsed-s={spent_s:.0f}"])


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("layers", "networks"), required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the CSV and JSON files")
    parser.add_argument("--budget-s", type=float, default=560.0, help="stop cleanly after this many seconds")
    parser.add_argument("--window-s", type=float, default=0.9, help="metered time of a case")
    parser.add_argument("--settle-s", type=float, default=0.25, help="running time before the window")
    parser.add_argument("--count", type=int, default=440, help="at most this many cases")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="rehearse on the host with a simulated meter")
    parser.add_argument("--elapsed-s", type=float, default=0.0, help="seconds an interrupted run had spent")
    return parser.parse_args(words)


def open_run(args: argparse.Namespace) -> Run:
    """Start the meter and open the files."""
    args.out.mkdir(parents=True, exist_ok=True)
    device = "cpu" if args.dry else "cuda"
    torch.manual_seed(args.seed)
    torch.zeros(1, device=device)
    meter = Meter(SimulatedBackend() if args.dry else NvmlBackend())
    meter.start()
    rig = Rig(device, meter, args.window_s, args.settle_s, args.dry)
    sheets = [
        Sheet(args.out / f"{args.part}_{name}.csv" if name != args.part else args.out / f"{name}.csv", columns)
        for name, columns in (("layers", LAYER_COLUMNS), ("networks", NETWORK_COLUMNS), ("errors", ERROR_COLUMNS))
    ]
    run = Run(args, rig, *sheets, meta=settings(args) | meter.backend.describe())
    run.meta |= meter.period(0.2 if args.dry else 2.0)
    print(json.dumps(run.meta, default=str), flush=True)
    return run


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Fix the framework's settings and say what they are."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = CUDNN_PLANS
    device = {} if args.dry else device_facts()
    return device | {
        "started_at": utc_now(),
        "arguments": {key: str(value) for key, value in vars(args).items() if key != "out"},
        "seed": args.seed,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": True,
        "cudnn_benchmark_limit": CUDNN_PLANS,
        "allow_tf32": "per case: on where math is tf32, off elsewhere",
        "flash_sdp": torch.backends.cuda.flash_sdp_enabled(),
        "cudnn_sdp": torch.backends.cuda.cudnn_sdp_enabled(),
    }


def device_facts() -> dict[str, Any]:
    """What the framework says of the device."""
    facts = torch.cuda.get_device_properties(0)
    return {
        "device": facts.name,
        "multiprocessors": facts.multi_processor_count,
        "memory_bytes": facts.total_memory,
        "l2_bytes": getattr(facts, "L2_cache_size", None),
        "compute_capability": f"{facts.major}.{facts.minor}",
    }


def add_idle(run: Run, place: str) -> None:
    """A row of the device doing nothing."""

    def body() -> None:
        row = run.rig.idle(0.1 if run.args.dry else IDLE_S)
        run.layers.add({"case_id": f"idle-{place}", "kind": "idle", "mode": "idle"} | row)
        run.meta[f"idle_{place}_w"] = row["power_w"]

    run.case(f"idle-{place}", CASE_LIMIT_S, body)


def add_layer(run: Run, case: measure_cases.LayerCase, suffix: str = "") -> None:
    """One layer row."""
    case_id = case.case_id + suffix

    def body() -> None:
        sized = measure_cases.shrink(case) if run.args.dry else case
        row = measure_layer(sized, run.rig, lambda stage, failure: run.fail(case_id, stage, failure))
        run.layers.add(row | {"case_id": case_id})

    run.case(case_id, COMPILE_LIMIT_S if case.params.get("fused") else CASE_LIMIT_S, body)


def add_references(run: Run, place: int) -> None:
    """The repeated cases that show drift."""
    for case in measure_cases.references():
        add_layer(run, case, f"-{place:03d}")


def run_layers(run: Run) -> None:
    """All layer cases; compiled ones start while there is time left for them."""
    cases = measure_cases.layer_cases(run.args.seed, run.args.count)
    seen = run.layers.ids() | run.errors.ids()
    cases = [case for case in cases if case.case_id not in seen]
    fused = [case for case in cases if case.params.get("fused")]
    plain = [case for case in cases if not case.params.get("fused")]
    tail_s = 0.0 if run.args.dry else FUSED_RESERVE_S * len(fused) + 2 * IDLE_S
    for group, reserve_s in ((plain, tail_s), (fused, 2 * IDLE_S)):
        run_group(run, group, reserve_s)


def run_group(run: Run, cases: Sequence[measure_cases.LayerCase], reserve_s: float) -> None:
    """Layer cases in order, references in between, until only the reserve is left."""
    for index, case in enumerate(cases):
        if run.left_s() < reserve_s + 1.0:
            print(f"budget: {len(cases) - index} of {len(cases)} cases left out", flush=True)
            return
        if index % REFERENCE_EVERY["layers"] == 0:
            add_references(run, run.done)
        if index and index == len(cases) // 2:
            add_idle(run, f"middle-{run.done:03d}")
        add_layer(run, case)


@dataclass
class Loaded:
    """The network in memory."""

    model: str = ""
    module: Any = None

    def get(self, case: measure_networks.NetworkCase, run: Run) -> Any:
        """The case's network; another one leaves memory first."""
        if self.model != case.model:
            self.module, self.model = None, ""
            gc.collect()
            run.rig.release()
            self.module = measure_networks.build(case.model, run.rig.device, run.args.dry)
            self.model = case.model
        return measure_networks.prepare(self.module, case)


def add_network(run: Run, case: measure_networks.NetworkCase, loaded: Loaded) -> None:
    """One network row."""

    def body() -> None:
        sized = measure_networks.shrink(case) if run.args.dry else case
        set_math(sized.dtype)
        module = loaded.get(sized, run)
        target = compiled(module, run) if sized.mode == "compile" else module
        call = measure_calls.caller(target, sized, run.rig.device)
        row = measure_networks.describe(module, sized, run.args.dry)
        run.networks.add(row | measure_network(call, sized.mode, run.rig) | {"case_id": case.case_id})

    run.case(case.case_id, COMPILE_LIMIT_S if case.mode == "compile" else CASE_LIMIT_S, body)


def compiled(module: Any, run: Run) -> Any:
    """The compiled network; a rehearsal runs it as it is."""
    if run.args.dry:
        return module
    torch.compiler.reset()
    return torch.compile(module, dynamic=False)


def run_networks(run: Run) -> None:
    """All network cases, then the compiled ones in the time kept for them."""
    seen = run.networks.ids() | run.errors.ids()
    loaded = Loaded()
    plain = measure_networks.network_cases()[: run.args.count]
    for cases, reserve_s in ((plain, COMPILE_RESERVE_S), (measure_networks.compiled_cases(), COMPILED_RESERVE_S)):
        todo = [case for case in cases if case.case_id not in seen]
        run_network_group(run, todo, loaded, 0.0 if run.args.dry else reserve_s)


def run_network_group(
    run: Run, cases: Sequence[measure_networks.NetworkCase], loaded: Loaded, reserve_s: float
) -> None:
    """Network cases in order until only the reserve is left."""
    for index, case in enumerate(cases):
        if run.left_s() < reserve_s + 1.0:
            print(f"budget: {len(cases) - index} of {len(cases)} cases left out", flush=True)
            return
        if index % REFERENCE_EVERY["networks"] == 0:
            add_references(run, run.done)
        if index and index == len(cases) // 2:
            add_idle(run, f"middle-{run.done:03d}")
        add_network(run, case, loaded)


def summarise(run: Run) -> None:
    """Print rows, median time and median power by kind."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in run.layers.rows + run.networks.rows:
        groups[row.get("kind") or f"{row.get('library')} {row['mode']}"].append(row)
    print(f"{'kind':24s} {'rows':>5s} {'median ms':>10s} {'median W':>9s}")
    for kind, rows in sorted(groups.items()):
        time_s = statistics.median(row.get("time_s", math.nan) for row in rows)
        power_w = statistics.median(row["power_w"] for row in rows)
        print(f"{kind:24s} {len(rows):5d} {1e3 * time_s:10.4f} {power_w:9.1f}")
    print(f"errors: {len(run.errors.rows)}; seconds left: {run.left_s():.0f}", flush=True)


def finish(run: Run) -> None:
    """Last words: meta data and the table."""
    run.save_meta()
    summarise(run)


def guard(run: Run) -> None:
    """A case that hangs outside of Python must not cost the rows: end the process when the budget is over."""

    def expire() -> None:
        print("budget overrun: ending", flush=True)
        finish(run)
        os._exit(0)

    timer = threading.Timer(max(1.0, run.left_s() + GRACE_S), expire)
    timer.daemon = True
    timer.start()


PARTS = {"layers": run_layers, "networks": run_networks}


def main(words: Sequence[str] | None = None) -> int:
    """Measure one part."""
    warnings.filterwarnings("ignore")
    args = parse(words)
    run = open_run(args)
    guard(run)
    with torch.inference_mode():
        add_idle(run, f"start-{round(args.elapsed_s):03d}")
        try:
            PARTS[args.part](run)
        except (Exception, KeyboardInterrupt) as failure:
            run.fail("part", args.part, failure)
        add_idle(run, "end")
    finish(run)
    run.rig.meter.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
