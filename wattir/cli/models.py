"""The built-in and published models: all of them, or one with its inputs, sizes and work."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from wattir.cli.progress import progress

HELP = "the built-in and published models, or one with its inputs, sizes and work"
EXAMPLES = """\
examples:
  wattir models
  wattir models resnet50
  wattir models Qwen/Qwen3-8B
  wattir models model.onnx
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `models` accepts."""
    parser.add_argument("model", metavar="NAME", nargs="?", help="a built-in or published name, or a model file")
    parser.set_defaults(input=[])


def run(arguments: Namespace) -> int:
    """Prints the list, or one model."""
    from wattir.cli.model_view import show_model, show_models
    from wattir.frontends import model_names as published
    from wattir.models import model_names

    if arguments.model is None:
        show_models(model_names(), published())
        return 0
    from wattir.cli.question import read_model

    with progress(f"reading {arguments.model}"):
        graph = read_model(arguments).graph
    show_model(graph)
    return 0
