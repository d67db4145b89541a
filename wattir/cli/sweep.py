"""Joules and seconds of every candidate of a search space, or of a sample, into one Parquet file.

SPACE is a space file (.toml, see wattir/space_file.py), or a model with several values for its sizes (--set). A sweep
that was interrupted goes on where it stopped: give the same command again.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from wattir.cli.arguments import add_machine, count, whole_number
from wattir.cli.progress import counting, progress
from wattir.errors import InputError, SpaceError

if TYPE_CHECKING:
    from wattir.spaces import Space

HELP = "joules and seconds of every candidate of a search space, to a Parquet file"
EXAMPLES = """\
examples:
  wattir sweep space.toml --hw h100_sxm,raspberry_pi_5 --out results.parquet
  wattir sweep bert_base --hw h100_sxm --set batch=1,8,64 seq=128..4096:128 --out results.parquet
  wattir sweep space.toml --hw h100_sxm --keep 1000 --out best.parquet
  wattir sweep space.toml --hw h100_sxm --out results.parquet --scheduler tcp://10.0.0.1:8786
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `sweep` accepts."""
    parser.add_argument("model", metavar="SPACE", help="a space file (.toml), or a model file or name")
    add_machine(parser, several=True)
    parser.add_argument(
        "--set", metavar="DIM=VALUES", type=named_values, action="append", default=[],
        help="values of a size: width=32,64,96 or seq=128..4096:128; several may follow",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE.parquet", required=True, help="the file to write")
    parser.add_argument("--sample", metavar="N", type=count, help="this many candidates, drawn independently")
    parser.add_argument("--seed", metavar="N", type=whole_number, default=0, help="seed of the sample (default 0)")
    parser.add_argument("--keep", metavar="N", type=count, help="only the N of least joules on each machine")
    parser.add_argument("--no-sizes", action="store_true", help="no columns of sizes beside the index")
    parser.add_argument("--chunk", metavar="N", type=count, default=500_000, help="candidates at once (default 500000)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask cluster to work on, such as tcp://10.0.0.1:8786")


def named_values(text: str) -> tuple[str, tuple[int, ...]]:
    """``width=32,64,96``."""
    from wattir.space_file import values_of

    name, equals, values = text.partition("=")
    if not equals or not name:
        raise ArgumentTypeError(f"found {text!r}; expected DIM=VALUES such as width=32,64,96")
    try:
        return name, values_of(values)
    except SpaceError as error:
        raise ArgumentTypeError(f"{name}: {error}") from None


def run(arguments: Namespace) -> int:
    """Sweeps, and says where the rows are."""
    from wattir.clock import at_clock
    from wattir.device import load_device
    from wattir.sweep import Sweep, run_sweep

    clock_hz = None if arguments.clock_mhz is None else 1e6 * arguments.clock_mhz
    machines = {device.id: device for device in (at_clock(load_device(m), clock_hz) for m in arguments.hw)}
    if not machines:
        raise InputError(f"{arguments.model}: no machine; expected --hw ID such as --hw h100_sxm; see `wattir devices`")
    with progress(f"reading {arguments.model}"):
        space = space_of(arguments)
    sweep = Sweep(
        space, tuple(machines.values()), arguments.runtime or "compiled", arguments.dtype, arguments.chunk,
        arguments.sample, arguments.seed, arguments.keep, not arguments.no_sizes,
    )  # fmt: skip
    started = time.monotonic()
    with counting(f"sweeping {space.graph.name}", sweep.count) as advance:
        run_sweep(sweep, arguments.out, arguments.scheduler, advance)
    shown = f"{sweep.count:,} candidates of {space.graph.name} on {', '.join(machines)}"
    print(f"{arguments.out}: {shown}; {time.monotonic() - started:.1f} s")
    return 0


def space_of(arguments: Namespace) -> Space:
    """The space of a file, or a model over the values of `--set`; SpaceError where they do not go together."""
    from wattir.space_file import load_space
    from wattir.spaces import Space

    values = dict(arguments.set)
    if arguments.model.endswith(".toml"):
        space = load_space(arguments.model)
        return Space(space.graph, {**space.values, **values}, space.labels)
    from wattir.api import lower

    return Space(lower(arguments.model), values)
