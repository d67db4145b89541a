"""Every layer of a model on one machine: joules, seconds, FLOP, bytes and the roof it hits."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from wattir.cli.arguments import add_depth, add_machine, add_model, add_sizes
from wattir.cli.progress import progress
from wattir.writing import write_whole

HELP = "every layer of a model on one machine"
EXAMPLES = """\
examples:
  wattir layers resnet50 --hw h100_sxm
  wattir layers resnet50 --hw h100_sxm --depth 1
  wattir layers model.onnx --hw a100_pcie --batch-size 8 --csv layers.csv
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `layers` accepts."""
    add_model(parser)
    add_machine(parser, several=False)
    add_sizes(parser)
    add_depth(parser)
    parser.add_argument("--csv", metavar="PATH", help="write the table to this file instead, in SI units")


def run(arguments: Namespace) -> int:
    """Prints the table, or writes it."""
    from wattir.cli.estimates import make_estimates
    from wattir.cli.layer_csv import layer_csv
    from wattir.cli.question import one_machine

    one_machine(arguments)
    with progress(f"estimating {arguments.model}"):
        (estimate,) = make_estimates(arguments)
    if arguments.csv is not None:
        report = estimate.report.folded(arguments.depth)
        write_whole(arguments.csv, layer_csv([report]))
        print(f"{arguments.csv}: {len(report.layers)} layers")
        return 0
    from wattir.cli.estimate_view import show_layers

    show_layers(estimate, arguments.depth)
    return 0
