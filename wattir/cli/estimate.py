"""Joules and seconds of one forward pass, of a request to a served language model, or of a generated image or video, on
one machine or several."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wattir.cli.arguments import add_chain, add_depth, add_machine, add_model, add_sizes, whole_number
from wattir.cli.generation import add_generation, asks_for_generation, generation_reports
from wattir.cli.generation import chain_of as chain_of_generation
from wattir.cli.progress import progress
from wattir.cli.serving import (
    add_deployment,
    add_load,
    add_request,
    asks_for_serving,
    chain_of,
    serving_reports,
)
from wattir.errors import CheckFailed, InputError
from wattir.writing import write_whole

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Arguments

    from wattir.chain import Link
    from wattir.cli.estimates import Estimate
    from wattir.report import Report

HELP = "joules and seconds of a forward pass, a served request, an image or a video, and where they go"
EXAMPLES = """\
examples:
  wattir estimate resnet50 --hw h100_sxm
  wattir estimate resnet50 --hw h100_sxm,h200_sxm,a100_pcie --batch-size 8
  wattir estimate model.onnx --hw l40s --set seq=512 --dtype fp16 --runtime eager
  wattir estimate model.onnx --hw h100 --json --strict > report.json
  wattir estimate resnet50 --hw h100_sxm --region us --pue 1.1 --embodied
  wattir estimate resnet50 --hw gtx_1080_ti --scope wall
  wattir estimate model.wattir --csv layers.csv
  wattir estimate Qwen/Qwen3-8B --hw h100_sxm --isl 512 --osl 300 --concurrency 64
  wattir estimate deepseek-ai/DeepSeek-R1 --hw h200_sxm --tp-size 8 --ep-size 8 --isl 2000 --osl 500 --rate 2
  wattir estimate black-forest-labs/FLUX.1-dev --hw h100_sxm --steps 28 --resolution 1024x768
  wattir estimate Wan-AI/Wan2.1-T2V-1.3B-Diffusers --hw h100_sxm --frames 81 --resolution 832x480 --ulysses 4
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `estimate` accepts."""
    add_model(parser)
    add_machine(parser, several=True)
    add_sizes(parser)
    for title, adders in GROUPS.items():
        group = parser.add_argument_group(title)
        for add in adders:
            add(group)


def add_output(parser: Arguments) -> None:
    """What is shown, checked and written."""
    add = parser.add_argument
    add("--bounds", action="store_true", help="show both bounds: fused (compiled) and unfused (eager)")
    add("--strict", action="store_true", help="fail (exit code 1) where any op has no cost rule")
    add("--json", action="store_true", help="print JSON in SI units; a list for several machines")
    add("--csv", metavar="PATH", help="write one row a layer to this file, in SI units")
    add_depth(parser)
    add("--top", metavar="N", type=whole_number, default=10, help="dearest layers shown (default 10)")


GROUPS = {
    "what is shown, checked and written": (add_output,),
    "beyond the machine: the plug, the grid, carbon and water": (add_chain,),
    "a served language model, asked for by --isl": (add_request, add_load, add_deployment),
    "an image or a video of a published generator": (add_generation,),
}
"""Of the many arguments: title -> what adds them."""


def run(arguments: Namespace) -> int:
    """Estimates, checks, writes, prints, in this order: nothing is written or printed on an error."""
    if asks_for_generation(arguments):
        return _run_reports(arguments, generation_reports, chain_of_generation, "wattir.cli.generation_view")
    if asks_for_serving(arguments):
        return _run_reports(arguments, serving_reports, chain_of, "wattir.cli.serving_view")
    from wattir.cli.estimates import make_estimates

    with progress(f"estimating {arguments.model}"):
        found = make_estimates(arguments)
    if arguments.strict:
        for estimate in found:
            refuse_unknown(estimate.report)
    if arguments.csv is not None:
        _write_csv(arguments.csv, found, arguments.depth)
    if arguments.json:
        _print_json(found)
    else:
        from wattir.cli.estimate_view import show_estimates

        show_estimates(found, arguments.top, arguments.depth)
    return 0


def _run_reports(arguments: Namespace, reports_of: Callable[..., Any], chain_of: Callable[..., Any], view: str) -> int:
    """A served request, or an image or a video, on each machine; `view` is the module that shows them."""
    if arguments.scope is not None:
        raise InputError(
            f"--scope: joules of a call of {arguments.model} are those of the accelerators; expected --region "
            "for those of the node, which its chain goes through"
        )
    with progress(f"estimating {arguments.model}"):
        reports = reports_of(arguments)
        chains = [chain_of(report, arguments) for report in reports]
    if arguments.json:
        return _print_reports(reports, chains)
    import_module(view).show(reports, chains)
    return 0


def _print_reports(reports: Sequence[Any], chains: Sequence[tuple[Link, ...]]) -> int:
    """Reports as objects, each with its chain where there is one."""
    _print([
        {**report.to_dict(), **({"chain": [link.to_dict() for link in links]} if links else {})}
        for report, links in zip(reports, chains, strict=True)
    ])  # fmt: skip
    return 0


def refuse_unknown(report: Report) -> None:
    """CheckFailed where an op has no cost rule."""
    counts = report.coverage["unknown_op_counts"]
    if counts:
        listed = ", ".join(f"{op} ({count})" for op, count in sorted(counts.items()))
        total = sum(counts.values())
        found = f"{total} op{'' if total == 1 else 's'} without a cost rule: {listed}"
        raise CheckFailed(f"{report.model}: --strict: {found}; expected none; without --strict they cost their bytes")


def _write_csv(path: str, found: tuple[Estimate, ...], depth: int) -> None:
    from wattir.cli.layer_csv import layer_csv

    write_whole(path, layer_csv(estimate.report.folded(depth) for estimate in found))


def _print_json(found: tuple[Estimate, ...]) -> None:
    _print([estimate.to_dict() for estimate in found])


def _print(objects: list[dict[str, Any]]) -> None:
    """One object as itself, several as a list."""
    import json

    print(json.dumps(objects[0] if len(objects) == 1 else objects, indent=2))
