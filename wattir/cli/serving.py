"""The serving options of `estimate` and `serve-plan`: what a request asks, how much is asked, and on what."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from wattir.cli.arguments import count, whole_number
from wattir.errors import InputError

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Arguments

    from wattir.chain import Link
    from wattir.device import Device
    from wattir.serving_model import Request
    from wattir.serving_report import Load, ServingReport

ONLY_SERVING = ("osl", "osl_spread", "concurrency", "rate", "prefix", "draft", "acceptance", "draft_cost", "images",
                "image_size", "tp_size", "ep_size", "pp_size", "dp_size", "weights", "kv_cache", "engine")  # fmt: skip
NOT_SERVING = ("batch_size", "set", "input", "bounds", "strict", "csv", "runtime", "dtype")
"""Options of `estimate` that say nothing of a served model."""


def add_request(parser: Arguments) -> None:
    """What one request asks."""
    add = parser.add_argument
    add("--isl", metavar="N", type=count, help="tokens of a prompt; asks for serving a language model")
    add("--osl", metavar="N", type=count, help="tokens of an answer, on average")
    add("--osl-spread", metavar="X", type=share(10.0), help="standard deviation of --osl over it (default: 0)")
    add("--images", metavar="N", type=whole_number, help="images that come with the text, each as tokens more")
    add("--image-size", metavar="N", type=count, help="pixels of an image's side (default: 1024)")
    add("--prefix", metavar="N", type=whole_number, help="tokens of the prompt that are in the cache already")
    add("--draft", metavar="N", type=whole_number, help="speculative decoding: tokens guessed ahead in each step")
    add("--acceptance", metavar="X", type=share(1.0), help="chance that a guess is accepted, if all before it were")
    add("--draft-cost", metavar="X", type=share(1.0), help="what guessing adds to a step, as a share of it")


def add_load(parser: Arguments) -> None:
    """How much is asked at a time."""
    add = parser.add_argument
    add("--concurrency", metavar="N", type=count, help="requests under way at a time (default: 1)")
    add("--rate", metavar="X", type=share(1e9), help="requests per second that arrive; the batch follows from it")


def add_deployment(parser: Arguments) -> None:
    """How a model lies on devices."""
    add = parser.add_argument
    add("--tp-size", metavar="N", type=count, help="devices that share every layer (tensor parallel)")
    add("--ep-size", metavar="N", type=count, help="devices that share the experts (expert parallel)")
    add("--pp-size", metavar="N", type=count, help="stages that follow each other (pipeline parallel)")
    add("--dp-size", metavar="N", type=count, help="replicas of all that (data parallel)")
    add_held(parser)


def add_held(parser: Arguments) -> None:
    """How numbers are held, and by which engine they are served."""
    add = parser.add_argument
    add("--weights", metavar="DTYPE", help="bf16, fp16, fp8, fp8_channel, int8, int8_only, int4, mxfp4 or nvfp4 "
        "(default: as the model)")  # fmt: skip
    add("--kv-cache", metavar="DTYPE", help="bf16, fp16, fp32 or fp8 (default: as the model)")
    add("--engine", metavar="NAME", help="serving engine of the machine's file (default: vllm)")


def share(most: float) -> Any:
    """A type of numbers from 0 to `most`."""

    def check(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.0 <= value <= most:
            raise ArgumentTypeError(f"found {text!r}; expected a number from 0 to {most:g}")
        return value

    return check


def asks_for_serving(arguments: Namespace) -> bool:
    """Whether `estimate` is about a served model; InputError where it is half about one."""
    given = [name for name in ONLY_SERVING if getattr(arguments, name) is not None]
    if arguments.isl is None:
        if given:
            raise InputError(f"{option(given[0])}: only for serving; expected --isl and --osl with it")
        return False
    if arguments.osl is None:
        raise InputError("--isl without --osl; expected the tokens of an answer, such as --osl 300")
    for name in NOT_SERVING:
        if getattr(arguments, name):
            raise InputError(f"{option(name)}: says nothing of a served model; leave it or --isl out")
    return True


def option(name: str) -> str:
    """``osl_spread`` as ``--osl-spread``."""
    return f"--{name.replace('_', '-')}"


def request_of(arguments: Namespace) -> Request:
    """What one request asks."""
    from wattir.serving_model import Request

    names = ("osl_spread", "prefix", "draft", "acceptance", "draft_cost", "images", "image_size")
    return Request(arguments.isl, arguments.osl, **_given(arguments, names))


def load_of(arguments: Namespace) -> Load:
    """How much is asked at a time; one request where nothing is said."""
    from wattir.serving_report import Load

    given = _given(arguments, ("concurrency", "rate"))
    return Load(**(given or {"concurrency": 1}))


def serving_reports(arguments: Namespace) -> tuple[ServingReport, ...]:
    """A report for each machine."""
    from wattir.device import load_device
    from wattir.serving_model import Deployment, described
    from wattir.serving_report import serve

    if not arguments.hw:
        raise InputError(f"{arguments.model}: no machine; expected --hw ID such as --hw h100_sxm; see `wattir devices`")
    names = ("tp_size", "ep_size", "pp_size", "dp_size", "weights", "kv_cache")
    deployment = Deployment(**_given(arguments, names))
    machines = {machine.id: machine for machine in map(load_device, arguments.hw)}
    model, engine = described(arguments.model), _given(arguments, ("engine",))
    request, load = request_of(arguments), load_of(arguments)
    return tuple(serve(model, machine, request, load, deployment, **engine) for machine in machines.values())


def _given(arguments: Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def chain_of(report: ServingReport, arguments: Namespace) -> tuple[Link, ...]:
    """From a request's joules to the grid; empty where no region is given."""
    if arguments.region is None:
        return ()
    from wattir.chain import chain, load_node, load_site, node_of

    device: Device = report.device
    node = load_node(arguments.node) if arguments.node else node_of(device.id, device.scope)
    return chain(
        report.request_j, 1.0 / report.requests_per_s, report.deployment.devices, node,
        load_site(arguments.region, arguments.pue), origin=f"estimated: {device.scope} of {device.id}, one request",
        embodied=arguments.embodied,
    )  # fmt: skip
