"""Why one run costs other joules than another: the difference by latent factors, adding up exactly.

A and B are questions to `wattir estimate`, each in quotes: a model, one machine, sizes, precision, runtime; or a
served model, its lengths, load and parallelism; or a generator of images or video, its steps and sizes.
"""

from __future__ import annotations

import contextlib
import io
import shlex
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from wattir.cli.arguments import one_of
from wattir.cli.progress import progress
from wattir.errors import InputError
from wattir.writing import write_whole

if TYPE_CHECKING:
    from wattir.cli.waterfall import Comparison, Side

HELP = "why one run costs other joules than another, by latent factors"
EXAMPLES = """\
examples:
  wattir compare 'resnet50 --hw h100_sxm' 'resnet50 --hw h100_sxm --batch-size 64'
  wattir compare 'bert_base --hw a10' 'bert_base --hw l40s --dtype fp8' --per pass
  wattir compare 'Qwen/Qwen3-8B --hw h100 --isl 512 --osl 300' 'Qwen/Qwen3-8B --hw b200 --isl 512 --osl 300'
  wattir compare 'black-forest-labs/FLUX.1-dev --hw h100 --steps 28' 'stabilityai/sdxl-turbo --hw h100'
  wattir compare 'llama_3_2_1b --hw h100 --set seq=512' 'llama_3_8b --hw h100 --set seq=512' --html why.html
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `compare` accepts."""
    parser.add_argument("a", metavar="A", help="the first question, in quotes: 'resnet50 --hw h100_sxm'")
    parser.add_argument("b", metavar="B", help="the second question, in quotes")
    parser.add_argument(
        "--per", metavar="sample|pass|token|request|output|call",
        type=one_of(lambda: ("sample", "pass", "token", "request", "output", "call")),
        help="joules of one sample (default) or of the whole pass, of one token (default) or of the whole request, of "
        "one output (default) or of the whole call",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object in SI units")
    parser.add_argument("--html", metavar="PATH", help="write the waterfall as a page")


def run(arguments: Namespace) -> int:
    """Compares, writes, prints."""
    from wattir.cli.waterfall import compared

    with progress("comparing"):
        found = compared(side(arguments.a, "A"), side(arguments.b, "B"), arguments.per)
    if arguments.html is not None:
        from wattir.cli.waterfall_html import page

        write_whole(arguments.html, page(found))
    if arguments.json:
        import json

        print(json.dumps(found.to_dict(), indent=2))
    else:
        _show(found)
    return 0


def side(text: str, name: str) -> Side:
    """The answer to one question; InputError where it is not one model on one machine."""
    from wattir.cli.generation import asks_for_generation
    from wattir.cli.serving import asks_for_serving

    asked = _question(text, name)
    if asks_for_generation(asked):
        found = _calls(text, asked)
    else:
        found = _served(text, asked) if asks_for_serving(asked) else _passes(text, asked)
    if len(found) != 1:
        raise InputError(f"{name} = {text!r}: {len(found)} machines; expected one")
    return found[0]


def _passes(text: str, asked: Namespace) -> list[Side]:
    from wattir.cli.question import cost_models, sizes_of
    from wattir.cli.sides import side_of_pass

    models = cost_models(asked)
    sizes = sizes_of(models[0].graph, asked)
    return [side_of_pass(text, model, sizes) for model in models]


def _served(text: str, asked: Namespace) -> list[Side]:
    from wattir.cli.serving import serving_reports
    from wattir.cli.sides import side_of_request

    return [side_of_request(text, report) for report in serving_reports(asked)]


def _calls(text: str, asked: Namespace) -> list[Side]:
    from wattir.cli.generation import generation_reports
    from wattir.cli.sides import side_of_call

    return [side_of_call(text, report) for report in generation_reports(asked)]


def _question(text: str, name: str) -> Namespace:
    from wattir.cli.parser import parse

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse(["estimate", *shlex.split(text)])
    except (ValueError, SystemExit) as error:
        reason = said.getvalue().strip() or error
        raise InputError(f"{name} = {text!r}: {reason}; expected such as 'resnet50 --hw h100_sxm'") from None


def _show(found: Comparison) -> None:
    from wattir.cli.waterfall_view import show_waterfall

    show_waterfall(found)
