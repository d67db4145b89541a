"""A model on a machine as one small text file that answers without any framework."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from wattir.cli.arguments import add_machine, add_model
from wattir.cli.progress import progress
from wattir.errors import InputError

HELP = "save a model on a machine as one small .wattir file"
EXAMPLES = """\
examples:
  wattir compile model.onnx --hw h200_sxm -o model.wattir
  wattir estimate model.wattir --batch-size 32
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `compile` accepts."""
    add_model(parser)
    add_machine(parser, several=False)
    parser.add_argument("-o", "--output", metavar="FILE.wattir", required=True, help="the file to write")


def run(arguments: Namespace) -> int:
    """Writes the file and says which sizes it leaves free."""
    from wattir.cli.question import cost_models, one_machine

    if not arguments.output.endswith(".wattir"):
        raise InputError(f"-o {arguments.output}: expected a name that ends in .wattir")
    one_machine(arguments)
    with progress(f"compiling {arguments.model}"):
        (model,) = cost_models(arguments)
        model.save(arguments.output)
    sizes = ", ".join(f"{name}={'?' if value is None else value}" for name, value in model.sizes.items())
    print(
        f"{arguments.output}: {model.graph.name} on {model.device.id}, {model.runtime}; sizes: {sizes or 'all fixed'}"
    )
    return 0
