"""How to serve a language model with the least joules a token within latency targets: machine, parallelism, batch."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wattir.cli.arguments import count, machines, whole_number
from wattir.cli.progress import progress
from wattir.cli.serving import add_load, add_request, load_of, request_of, share
from wattir.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from wattir.serving_plan import Plan
    from wattir.serving_report import ServingReport

HELP = "the configuration that serves a load with the least joules a token"
EXAMPLES = """\
examples:
  wattir serve-plan Qwen/Qwen3-32B --hw h100_sxm,b200_sxm --isl 512 --osl 300 --rate 10 --ttft 0.5 --tpot 0.04
  wattir serve-plan openai/gpt-oss-120b --hw h100 --isl 1000 --osl 500 --concurrency 64 --max-devices 8 --json
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `serve-plan` accepts."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a published name (wattir models), or a config.json")
    add("--hw", metavar="ID[,ID...]", type=machines, required=True, help="machine ids to choose from (wattir devices)")
    add_request(parser)
    add_load(parser)
    add("--ttft", metavar="S", type=share(1e6), help="seconds to the first token, at most")
    add("--tpot", metavar="S", type=share(1e6), help="seconds between tokens, at most")
    add("--max-devices", metavar="N", type=count, default=8, help="devices in all, at most (default 8)")
    add(
        "--weights",
        metavar="DTYPE[,DTYPE...]",
        type=dtypes,
        default=(None,),
        help="ways to hold weights to choose from",
    )
    add("--kv-cache", metavar="DTYPE[,...]", type=dtypes, default=(None,), help="ways to hold the cache to choose from")
    add("--top", metavar="N", type=whole_number, default=10, help="configurations shown (default 10)")
    add("--json", action="store_true", help="print one JSON object in SI units")


def dtypes(text: str) -> tuple[str | None, ...]:
    """``bf16,fp8`` as dtypes; ``model`` as the model says."""
    return tuple(None if part == "model" else part for part in text.split(",") if part)


def run(arguments: Namespace) -> int:
    """Plans and prints; CheckFailed where no configuration keeps the targets."""
    from wattir.device import load_device
    from wattir.serving_plan import Targets, plan

    if arguments.isl is None or arguments.osl is None:
        raise InputError("serve-plan: no lengths; expected --isl and --osl, such as --isl 512 --osl 300")
    given = {"ttft_s": arguments.ttft, "tpot_s": arguments.tpot, "devices": arguments.max_devices}
    targets = Targets(**{name: value for name, value in given.items() if value is not None})
    with progress(f"planning {arguments.model}"):
        found = plan(
            arguments.model, [load_device(wanted) for wanted in arguments.hw], request_of(arguments),
            load_of(arguments), targets, arguments.weights, arguments.kv_cache,
        )  # fmt: skip
    if not found.kept:
        nearest = min(found.every, key=lambda each: max(each.ttft_s / targets.ttft_s, each.tpot_s / targets.tpot_s))
        raise CheckFailed(
            f"{arguments.model}: none of {len(found.every)} configurations keeps the targets; the nearest has TTFT "
            f"{nearest.ttft_s:.3g} s and TPOT {nearest.tpot_s:.3g} s; relax --ttft or --tpot, or raise --max-devices"
        )
    if arguments.json:
        _print_json(found, arguments.top)
    else:
        _show(found, arguments.top)
    return 0


def _print_json(found: Plan, top: int) -> None:
    import json

    counts = {"tried": found.tried, "fit": len(found.every), "kept": len(found.kept)}
    lists = {"best": found.kept[:top], "front": found.front}
    print(json.dumps(counts | {name: [each.to_dict() for each in some] for name, some in lists.items()}, indent=2))


def _show(found: Plan, top: int) -> None:
    print(
        f"{found.tried} configurations tried, {len(found.every)} fit and differ, {len(found.kept)} keep the targets\n"
    )
    _table("Least joules a token", found.kept[:top])
    _table("Front of joules against seconds between tokens", found.front)


def _table(title: str, reports: Sequence[ServingReport]) -> None:
    from wattir.cli.console import Sheet, make_console
    from wattir.cli.serving_view import deployed
    from wattir.cli.units import digits, prefixed

    columns = ("machine", "devices", ">running", ">J/token", ">Wh/query", ">TTFT", ">TPOT", ">tokens/s", ">power")
    sheet = Sheet(make_console(), title, *columns)
    for each in reports:
        found = each.to_dict()
        sheet.row(
            each.device.id, deployed(each.deployment), digits(each.running), prefixed(each.token_j, "J"),
            prefixed(found["wh_per_query"], "Wh"), prefixed(each.ttft_s, "s"), prefixed(each.tpot_s, "s"),
            digits(found["tokens_per_s"]), prefixed(each.power_w, "W"),
        )  # fmt: skip
    sheet.show()
