"""The verbs and what they accept. Usage errors are one line on stderr and exit code 2."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import NoReturn

from wattir import __version__
from wattir.cli import (
    compare,
    compile,
    devices,
    estimate,
    fit,
    fleet,
    layers,
    measure,
    models,
    serve_plan,
    sweep,
    validate,
)
from wattir.errors import suggestion

VERBS: dict[str, ModuleType] = {
    "estimate": estimate,
    "compile": compile,
    "compare": compare,
    "layers": layers,
    "devices": devices,
    "models": models,
    "fleet": fleet,
    "serve-plan": serve_plan,
    "sweep": sweep,
    "measure": measure,
    "fit": fit,
    "validate": validate,
}

SEVERAL = ("--set", "--input")
"""Options that take several values: ``--set batch=8 seq=128`` is read as ``--set batch=8 --set seq=128``."""

EXAMPLES = """\
examples:
  wattir estimate resnet50 --hw h100_sxm,a100_pcie --batch-size 8
  wattir estimate model.onnx --hw h200_sxm --set seq=512 --json
  wattir layers resnet50 --hw h100_sxm
  wattir compile model.onnx --hw h200_sxm -o model.wattir
  wattir devices h100
  wattir models
  wattir compare 'resnet50 --hw h100_sxm' 'resnet50 --hw l40s'
  wattir fleet
  wattir serve-plan Qwen/Qwen3-8B --hw h100,b200 --isl 512 --osl 300 --rate 10
  wattir sweep bert_base --hw h100_sxm --set batch=1,8 seq=128..4096:128 --out results.parquet
"""


class Parser(ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and leaves with 2."""
        print(f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def parse(argv: Sequence[str]) -> Namespace:
    """The arguments of one command; `run` among them is its verb's function. SystemExit after --help or an error."""
    parser = Parser(
        prog="wattir",
        description="Joules and seconds of neural-network inference, from the model file alone.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wattir {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=Parser)
    for name, verb in VERBS.items():
        added = verbs.add_parser(
            name, help=verb.HELP, description=verb.__doc__, epilog=verb.EXAMPLES, allow_abbrev=False,
            formatter_class=RawDescriptionHelpFormatter,
        )  # fmt: skip
        verb.add_arguments(added)
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        added.set_defaults(run=verb.run)
    _check_verb(parser, argv)
    return parser.parse_args(list(_spread(argv)))


def _check_verb(parser: Parser, argv: Sequence[str]) -> None:
    """A misspelt verb is told apart from argparse's own message, which lists the verbs but suggests none."""
    if not argv:
        parser.error(f"no verb; expected one of {', '.join(VERBS)}")
    if not argv[0].startswith("-") and argv[0] not in VERBS:
        parser.error(f"no verb {argv[0]!r}; expected one of {', '.join(VERBS)}{suggestion(argv[0], VERBS)}")


def _spread(argv: Sequence[str]) -> Iterator[str]:
    option = ""
    for place, word in enumerate(argv):
        if word.startswith("-"):
            option = word
        elif option in SEVERAL and argv[place - 1] != option:
            option = option if "=" in word else ""
            yield from (option,) if option else ()
        yield word
