"""Seconds and joules of layers, or of a whole model, measured on this very machine, as rows for `wattir fit`.

What is measured: a list of layers (.toml, .csv, or rows measured before), an ONNX file, or nothing said: the built-in
list. Layers run in PyTorch, ONNX files in onnxruntime; any other model from Python, with wattir.measure. Every layer
is warmed up, settled, and called again and again in a metered window. Meters: nvml (NVIDIA), rapl (Intel and AMD on
Linux), zeus (AMD GPUs, Jetson, Apple), and simulated:ID, which runs nothing: it says what the model of a known machine
says, with 3 % of noise. A run that was cut off goes on where it ended when it is started again. Needs wattir[measure].

A list names functions of wattir.layers with their arguments:

  [[layer]]                       layer,m,n,k,dtype
  layer = "matmul"                matmul,4096,4096,4096,bf16
  m = 4096
  n = 4096
  k = 4096
  dtype = "bf16"
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any

from wattir.cli.arguments import add_sizes, count, whole_number
from wattir.errors import InputError

HELP = "measure layers or a model on this machine"
EXAMPLES = """\
examples:
  wattir measure
  wattir measure layers.toml --out my_rows.csv --repeats 3
  wattir measure model.onnx --batch-size 8 --on cpu
  wattir measure --count 20 --meter simulated:h100_sxm --out made_up.csv
  wattir fit --rows rows.csv --device my_machine.toml --like h100_sxm
  wattir validate rows.csv --hw my_machine.toml
"""
LISTS = (".toml", ".csv")


def add_arguments(parser: ArgumentParser) -> None:
    """What `measure` accepts."""
    parser.add_argument("what", metavar="LIST|MODEL", nargs="?", help="what to measure (default: the built-in list)")
    parser.add_argument(
        "--out", metavar="ROWS.csv", default="rows.csv", help="the file to add rows to (default: %(default)s)"
    )
    parser.add_argument(
        "--meter", metavar="NAME", default="auto", help="auto, nvml, rapl, zeus or simulated:ID[:NOISE] (default: auto)"
    )
    parser.add_argument("--on", metavar="DEVICE", help="cuda, cuda:1, cpu or mps (default: a GPU if there is one)")
    parser.add_argument("--window", metavar="S", type=_seconds, default=1.0, help="metered seconds (default: 1)")
    parser.add_argument(
        "--settle", metavar="S", type=_seconds, default=0.25, help="running seconds before the window (default: 0.25)"
    )
    parser.add_argument("--repeats", metavar="N", type=count, default=1, help="rows of each layer (default: 1)")
    parser.add_argument(
        "--count", metavar="N", type=count, default=200, help="layers of the built-in list (default: 200)"
    )
    parser.add_argument("--seed", metavar="N", type=whole_number, default=20, help="which shapes that list draws")
    add_sizes(parser)


def run(arguments: Namespace) -> int:
    """Measures, and says what was added; 130 after Ctrl-C, with all rows so far in the file."""
    from wattir.cli import INTERRUPTED, printable

    try:
        outcome = _measure(arguments)
    except ImportError as error:
        extra = "fit" if arguments.meter.startswith("simulated") else "measure"
        raise InputError(f"measure needs {error.name}, which is not installed; pip install 'wattir[{extra}]'") from None
    except KeyboardInterrupt:
        _say(f"interrupted; the rows so far are in {arguments.out}, and the same command goes on from there")
        return INTERRUPTED
    if outcome.failed and not outcome.added and not outcome.before:
        name, why = next(iter(outcome.failed.items()))
        raise InputError(f"{arguments.out}: no row could be measured; {name}: {why}")
    there = f", {outcome.before} were there" if outcome.before else ""
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    print(printable(f"{arguments.out}: {outcome.added} rows added{there}{failed}"))
    return 0


def _measure(arguments: Namespace) -> Any:
    from wattir.backends.measure.bench import built_in_list, open_bench
    from wattir.backends.measure.layer_list import read_list
    from wattir.backends.measure.run import run_cases

    what = arguments.what
    cases: Sequence[Any] = ()  # first: what is wrong with a list must not wait for a meter
    if what is not None:
        cases = read_list(what) if what.endswith(LISTS) else [_model(arguments)]
    model = what is not None and not what.endswith(LISTS)
    with open_bench(arguments.meter, arguments.on, model, arguments.window, arguments.settle) as bench:
        cases = cases or built_in_list(bench, arguments.seed, arguments.count)
        return run_cases(bench, cases, arguments.out, _say, arguments.repeats)


def _model(arguments: Namespace) -> Any:
    """The model file as a case; InputError where it cannot be run here."""
    from wattir.backends.measure.models import model_case
    from wattir.cli.question import read_model, sizes_of

    what = arguments.what
    if what.endswith(".pt2"):
        raise InputError(
            f"{what}: PyTorch would unpickle what is in it; load it where you trust it, and from Python call "
            "wattir.measure(program.module(), inputs)"
        )
    if not what.endswith(".onnx") and not arguments.meter.startswith("simulated"):
        raise InputError(
            f"{what}: neither a list (.toml, .csv) nor an .onnx file; expected one, or wattir.measure from Python"
        )
    graph = read_model(Namespace(**vars(arguments), model=what, input=[])).graph
    return model_case(what, graph, sizes_of(graph, arguments), arguments.out)


def _seconds(text: str) -> float:
    """A number of seconds, from a hundredth to ten minutes."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.01 <= seconds <= 600.0:
        raise ArgumentTypeError(f"found {text!r}; expected seconds such as 1.5, from 0.01 to 600")
    return seconds


def _say(line: str) -> None:
    """Progress, apart from the result."""
    from wattir.cli import printable

    print(printable(line), file=sys.stderr, flush=True)
