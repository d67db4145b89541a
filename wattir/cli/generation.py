"""The options of `estimate` that ask for an image or a video: what is generated, in how many steps, on what."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace
from typing import TYPE_CHECKING, Any

from wattir.cli.arguments import count
from wattir.cli.serving import NOT_SERVING, ONLY_SERVING, option, share
from wattir.errors import InputError

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Arguments

    from wattir.chain import Link
    from wattir.generation_report import GenerationReport

ONLY_GENERATION = ("steps", "resolution", "frames", "seconds", "guidance", "ulysses", "ring")
NOT_GENERATION = (*(name for name in NOT_SERVING if name != "batch_size"), "isl", "clock_mhz",
                  *(name for name in ONLY_SERVING if name != "engine"))  # fmt: skip
"""Options of `estimate` that say nothing of a generator."""


def add_generation(parser: Arguments) -> None:
    """What one call of a generator of images or video asks."""
    add = parser.add_argument
    add("--steps", metavar="N", type=count, help="denoising steps of an image or a video (default: the model's)")
    add("--resolution", metavar="W[xH]", type=resolution, help="pixels, such as 1024 or 832x480 (default: the model's)")
    add("--frames", metavar="N", type=count, help="frames of a video (default: the model's)")
    add("--seconds", metavar="X", type=share(3600.0), help="of a video at the model's frame rate, instead of --frames")
    add("--guidance", action=BooleanOptionalAction, default=None,
        help="classifier-free guidance: the denoiser runs twice a step (default: as the model)")  # fmt: skip
    add("--ulysses", metavar="N", type=count, help="devices that share an image's tokens by exchanging heads")
    add("--ring", metavar="N", type=count, help="such devices, or groups of them, that pass keys around a ring")


def resolution(text: str) -> tuple[int, int]:
    """``832x480`` as width and height; one number is both."""
    found = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if found is None or "0" in (found[1].lstrip("0") or "0", (found[2] or "1").lstrip("0") or "0"):
        raise ArgumentTypeError(f"found {text!r}; expected pixels, such as 1024 or 832x480 (width x height)")
    return int(found[1]), int(found[2] or found[1])


def asks_for_generation(arguments: Namespace) -> bool:
    """Whether `estimate` is about a generator; InputError where options of one are given for another model, or others
    for a generator."""
    given = [name for name in ONLY_GENERATION if getattr(arguments, name) is not None]
    if not _is_generator(arguments.model):
        if given:
            raise InputError(
                f"{option(given[0])}: only for generators of images and video; {arguments.model!r} is none; expected a "
                f"name such as {_near(arguments.model)}, or a pipeline's folder"
            )
        return False
    for name in NOT_GENERATION:
        if getattr(arguments, name):
            raise InputError(f"{option(name)}: says nothing of a generator of images or video; leave it out")
    return True


def _is_generator(model: str) -> bool:
    from wattir.models import model_names

    if model in model_names() or os.path.isfile(model):
        return False  # without the time to import all generators
    from wattir.generation_model import is_generator

    return is_generator(model)


def _near(model: str) -> str:
    from difflib import get_close_matches

    from wattir.generation_model import generators

    known = generators().short_names()
    found = get_close_matches(generators().short(model), known, 1)
    return known[found[0]] if found else "black-forest-labs/FLUX.1-dev"


def generation_reports(arguments: Namespace) -> tuple[GenerationReport, ...]:
    """A report for each machine."""
    from wattir.device import load_device
    from wattir.generation_model import Sharing
    from wattir.generation_report import generate

    if not arguments.hw:
        raise InputError(f"{arguments.model}: no machine; expected --hw ID such as --hw h100_sxm; see `wattir devices`")
    sharing = Sharing(arguments.ulysses or 1, arguments.ring or 1)
    machines = {machine.id: machine for machine in map(load_device, arguments.hw)}
    return tuple(
        generate(arguments.model, machine, sharing, arguments.engine, **_asked(arguments))
        for machine in machines.values()
    )


def _asked(arguments: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"steps": arguments.steps, "frames": _frames(arguments), "guidance": arguments.guidance,
                             "batch": arguments.batch_size}  # fmt: skip
    if arguments.resolution is not None:
        found["width"], found["height"] = arguments.resolution
    return {name: value for name, value in found.items() if value is not None}


def _frames(arguments: Namespace) -> int | None:
    """`--frames`, or the frames of `--seconds` that the model can make."""
    if arguments.seconds is None:
        frames: int | None = arguments.frames
        return frames
    if arguments.frames is not None:
        raise InputError("--seconds and --frames: found both; expected one of them")
    from wattir.generation_model import generators

    of = generators().load_generator(arguments.model)
    if not of.is_video:
        raise InputError(f"--seconds {arguments.seconds:g}: {of.name} makes images; leave it out")
    return int(of.nearest_frames(arguments.seconds * of.call.fps))


def chain_of(report: GenerationReport, arguments: Namespace) -> tuple[Link, ...]:
    """From an output's joules to the grid; empty where no region is given."""
    if arguments.region is None:
        return ()
    from wattir.chain import chain, load_node, load_site, node_of

    device = report.device
    node = load_node(arguments.node) if arguments.node else node_of(device.id, device.scope)
    return chain(
        report.energy_j, report.time_s / report.prompt.batch, report.sharing.devices, node,
        load_site(arguments.region, arguments.pue), embodied=arguments.embodied,
        origin=f"estimated: {device.scope} of {device.id}, one {report.kind}",
    )  # fmt: skip
