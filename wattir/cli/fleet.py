"""Wh per query and GWh a day of a fleet, top-down: from measured throughput, node power, utilisation and PUE.

Pairs are the 5 % and 95 % quantiles of a lognormal. Without --file: models and assumptions of arXiv 2509.20241.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from wattir.cli.arguments import count, whole_number

if TYPE_CHECKING:
    from wattir.fleet import Fleet
    from wattir.fleet_predict import Beside

HELP = "Wh per query of served models and of a fleet, from measured throughput"
EXAMPLES = """\
examples:
  wattir fleet
  wattir fleet llama_3_1_405b deepseek_r1
  wattir fleet --pue 1.1,1.2 --utilisation 0.5,0.8 --queries 2e9
  wattir fleet --file my_fleet.toml --json
  wattir fleet --bottom-up --concurrency 512
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What `fleet` accepts."""
    parser.add_argument("model", metavar="MODEL", nargs="*", help="only these models of the file (default: all)")
    parser.add_argument(
        "--file", metavar="PATH.toml", help="throughput and assumptions of your own, as wattir/fleet.toml"
    )
    parser.add_argument("--pue", metavar="P5,P95", type=pair, help="power of the site over power of its nodes")
    parser.add_argument("--utilisation", metavar="P5,P95", type=pair, help="share of the node's power that is drawn")
    parser.add_argument("--queries", metavar="N", type=positive, help="queries a day, such as 1e9")
    parser.add_argument("--long-share", metavar="SHARE", type=share, help="share of the queries that are long")
    parser.add_argument("--draws", metavar="N", type=count, default=100_000, help="draws (default 100000)")
    parser.add_argument("--seed", metavar="N", type=whole_number, default=0, help="seed of the draws (default 0)")
    parser.add_argument(
        "--bottom-up", action="store_true", help="beside it throughput and node power as predicted, prefill with them"
    )
    parser.add_argument(
        "--concurrency", metavar="N", type=count, default=256,
        help="with --bottom-up: requests at a time on a node (default 256)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object in SI units")


def run(arguments: Namespace) -> int:
    """Simulates and prints."""
    from wattir.fleet import PUBLISHED, load_fleet, simulate

    fleet = asked(load_fleet(arguments.file or PUBLISHED), arguments)
    found = simulate(fleet, arguments.draws, arguments.seed)
    both: tuple[Beside, ...] = ()
    if arguments.bottom_up:
        from wattir.fleet_predict import beside

        both = beside(fleet, arguments.concurrency)
    if arguments.json:
        import json

        more = {"bottom_up": [one.to_dict() for one in both]} if both else {}
        print(json.dumps({"source": fleet.source, **found, **more}, indent=2))
    else:
        from wattir.cli.fleet_view import show_beside, show_fleet

        show_fleet(fleet, found)
        show_beside(fleet, both, arguments.concurrency)
    return 0


def asked(fleet: Fleet, arguments: Namespace) -> Fleet:
    """The fleet with the models and assumptions that the command line asks for."""
    from dataclasses import replace

    from wattir.errors import FleetError, suggestion
    from wattir.fleet import Spread

    known = {model.id: model for model in fleet.models}
    for name in arguments.model:
        if name not in known:
            raise FleetError(f"{name!r}: no such model; expected one of {', '.join(known)}{suggestion(name, known)}")
    spreads: dict[str, Any] = {
        name: Spread(*ends) for name in ("pue", "utilisation") if (ends := getattr(arguments, name))
    }
    changes: dict[str, Any] = {
        name: value for name in ("queries", "long_share") if (value := getattr(arguments, name)) is not None
    }
    return replace(
        fleet, models=tuple(known[name] for name in arguments.model or known), **changes,
        workloads={name: replace(work, **spreads) for name, work in fleet.workloads.items()},
    )  # fmt: skip


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e18:
        raise ArgumentTypeError(f"found {text!r}; expected a number above 0 such as 1e9")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ArgumentTypeError(f"found {text!r}; expected a share from 0 to 1 such as 0.1")
    return value


def pair(text: str) -> tuple[float, float]:
    """``1.05,1.6``."""
    low, _, high = text.partition(",")
    ends = positive(low), positive(high)
    if ends[0] >= ends[1]:
        raise ArgumentTypeError(f"found {text!r}; expected P5,P95 with P5 below P95 such as 1.05,1.6")
    return ends
