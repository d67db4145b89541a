"""Arguments that several verbs share, and the types of their values."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from wattir.errors import suggestion

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Arguments  # a parser, or a group of its arguments

NamedSize = tuple[str, int]
NamedShape = tuple[str, tuple[int | str, ...]]


def add_model(parser: ArgumentParser) -> None:
    """The model, and what is fixed about it before it meets a machine."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model file (.onnx, .pt2, .mlir, .jaxexport, .wattir, config.json), a pipeline's folder, or a built-in "
        "or published name (wattir models)",
    )
    parser.add_argument(
        "--input", metavar="NAME=1x3x224x224", type=named_shape, action="append", default=[],
        help="another shape for an input; separate by commas to name sizes: x=batch,3,h,w",
    )  # fmt: skip


def add_machine(parser: ArgumentParser, several: bool) -> None:
    """The machine or machines, and how the model runs on them."""
    parser.add_argument(
        "--hw", metavar="ID[,ID...]" if several else "ID", type=machines, default=(),
        help="machine ids or aliases (wattir devices), or paths of device files ending in .toml"
        if several
        else "a machine's id or alias (wattir devices), or the path of a device file ending in .toml",
    )  # fmt: skip
    parser.add_argument(
        "--runtime", type=one_of(runtimes), metavar="eager|compiled|tensorrt",
        help="eager: one kernel per framework op; compiled: fused kernels (default); tensorrt: its own, of GPUs",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", type=one_of(precisions), metavar="bf16|fp16|fp32|tf32|int8|fp8",
        help="what-if precision (default: as in the model)",
    )  # fmt: skip
    parser.add_argument(
        "--clock-mhz", metavar="N", type=megahertz,
        help="core clock: rates follow it, joules its voltage (default: as the machine boosts; wattir devices ID)",
    )  # fmt: skip


def add_sizes(parser: ArgumentParser) -> None:
    """Values for the model's free sizes."""
    parser.add_argument(
        "--batch-size", metavar="N", type=count, help="samples at once, whatever the model calls that size"
    )
    parser.add_argument(
        "--set", metavar="DIM=VALUE", type=named_size, action="append", default=[],
        help="a value for a free size; several may follow: --set seq=512 height=640",
    )  # fmt: skip


def add_depth(parser: Arguments) -> None:
    """How far layers are summed into the modules they belong to."""
    parser.add_argument(
        "--depth", metavar="N", type=whole_number, default=0,
        help="sum the layers of each module, by the first N parts of its path (default: every layer)",
    )  # fmt: skip


def add_chain(parser: Arguments) -> None:
    """What surrounds the machine, up to the grid."""
    parser.add_argument(
        "--scope", metavar="board|wall|node|...", type=one_of(scopes),
        help="what the joules cover; wall and node are at the plug (default: what the machine's own do)",
    )  # fmt: skip
    parser.add_argument(
        "--region", metavar="ID", help="go on to node, site, carbon and water of this region, such as us or world"
    )
    parser.add_argument(
        "--node", metavar="ID",
        help="the node around the accelerator (default: its usual one), or its parts: form sxm, pcie or hhhl, "
        "accelerators x sockets, such as pcie-4x2",
    )  # fmt: skip
    parser.add_argument("--pue", metavar="X", type=pue, help="power of the site over that of its nodes (default: 1.2)")
    parser.add_argument("--embodied", action="store_true", help="with the node's manufacture in the carbon")


def pue(text: str) -> float:
    """A number of at least 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= 10.0:
        raise ArgumentTypeError(f"found {text!r}; expected a number from 1 to 10 such as 1.2")
    return value


def machines(text: str) -> tuple[str, ...]:
    """``h100_sxm,a100_pcie`` as ids, each once."""
    ids = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not ids:
        raise ArgumentTypeError(f"found {text!r}; expected machine ids such as h100_sxm")
    return ids


def whole_number(text: str) -> int:
    """A number of at least 0, written in digits."""
    if not text.isascii() or not text.isdigit() or len(text) > 30:
        raise ArgumentTypeError(f"found {text!r}; expected a whole number such as 8")
    return int(text)


def megahertz(text: str) -> float:
    """A positive number of MHz."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.0 < found < 1e6:
        raise ArgumentTypeError(f"found {text!r}; expected a core clock in MHz such as 900")
    return found


def count(text: str) -> int:
    """A whole number of at least 1."""
    found = whole_number(text)
    if found == 0:
        raise ArgumentTypeError("found 0; expected at least 1")
    return found


def named_size(text: str) -> NamedSize:
    """``seq=512``."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise ArgumentTypeError(f"found {text!r}; expected DIM=VALUE such as seq=512")
    try:
        return name, whole_number(value)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{name} = {value!r}; expected a whole number such as {name}=512") from None


def named_shape(text: str) -> NamedShape:
    """``x=1x3x224x224``, or with commas and names ``x=batch,3,224,224``."""
    name, equals, shape = text.rpartition("=")
    parts = [part.strip() for part in (shape.split(",") if "," in shape else shape.split("x"))]
    wrong = not equals or not name or not all(part.isdecimal() or part.isidentifier() for part in parts)
    if wrong:
        raise ArgumentTypeError(f"found {text!r}; expected NAME=1x3x224x224 or NAME=batch,3,224,224")
    return name, tuple(int(part) if part.isdecimal() else part for part in parts)


def one_of(choices: Callable[[], Iterable[str]]) -> Callable[[str], str]:
    """A type that accepts one of the words of `choices`, looked up when it is first needed."""

    def check(text: str) -> str:
        known = list(choices())
        if text not in known:
            near = suggestion(text, known)
            raise ArgumentTypeError(f"{text!r} is not known; expected one of {', '.join(known)}{near}")
        return text

    return check


def runtimes() -> Iterable[str]:
    """The runtimes that `wattir.passes` knows."""
    names: Iterable[str] = import_module("wattir.passes").RUNTIMES
    return names


def scopes() -> Iterable[str]:
    """What joules may cover."""
    names: Iterable[str] = import_module("wattir.device_schema").SCOPES
    return names


def precisions() -> Iterable[str]:
    """The precisions that `wattir.passes.precision` knows."""
    names: Iterable[str] = import_module("wattir.passes.precision").PRECISIONS
    return names
