"""What a stack that generates images and video adds to the kernels it launches: coefficients fitted per machine, in its
file's `[generation.*]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wattir.serving_engine import Range, tables_under

PARTS = ("matmul", "wide", "conv", "conv3d", "depthwise", "attention", "norm", "other")
"""Kinds of kernels: products; products in 32 bits; convolutions; those over time too; those of one channel each;
attention; norms; all others, which are elementwise or copies."""

NUMBERS: dict[str, Range] = {
    "attention_flop_per_s": (1e9, 1e17),
    "attention_exp_per_s": (1e7, 1e15),
    "link_s": (0.0, 1e-1),
    "link_bytes_per_s": (1e8, 1e14),
    "host_op_s": (0.0, 1e-2),
    "host_link_s": (0.0, 1e-1),
    "call_s": (0.0, 10.0),
    "pixel_s": (0.0, 1e-3),
    "overlap": (1.0, 32.0),
    "static_w": (0.0, 1e5),
    "busy_w": (0.0, 1e5),
    "waiting_w": (0.0, 1e5),
    "link_w": (0.0, 1e5),
    "interval": (0.0, 5.0),
}
"""The coefficients of a stack and their plausible ranges; `Stack` says what each is."""
OPTIONAL: dict[str, Range] = {}
"""Coefficients that a file may leave out: none."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A software stack on a machine: ``xdit`` (xDiT on diffusers) or ``diffusers``, both PyTorch in eager mode.

    `time`, `energy`: by part, what its kernels' seconds and the joules of their work are multiplied by; the seconds of
    attention come from `attention_flop_per_s` and `attention_exp_per_s` instead (FlashAttention 2). `link_s`,
    `link_bytes_per_s`: of an exchange among devices. `host_op_s`, `host_link_s`: what the host needs to launch a kernel
    and an exchange. `call_s`, `pixel_s`: of a call, and of a pixel that is handed over, while the devices wait.
    `overlap`: how well host and devices hide behind each other (1: not at all). `static_w`, `busy_w`, `waiting_w`,
    `link_w`: what a device draws always, and besides while kernels run, while it waits for another one, and while it
    exchanges. `interval`: half-width of the 90 % interval of joules, in log space.
    """

    name: str
    time: Mapping[str, Any]
    energy: Mapping[str, Any]
    attention_flop_per_s: Any
    attention_exp_per_s: Any
    link_s: Any
    link_bytes_per_s: Any
    host_op_s: Any
    host_link_s: Any
    call_s: Any
    pixel_s: Any
    overlap: Any
    static_w: Any
    busy_w: Any
    waiting_w: Any
    link_w: Any
    interval: float
    borrowed_from: str = ""
    fits: tuple[Mapping[str, Any], ...] = field(default=())


def stack_of(name: str, table: Mapping[str, Any]) -> Stack:
    """The stack that a checked table of a device file describes."""
    numbers: dict[str, Any] = {key: float(table[key]) for key in NUMBERS}
    return Stack(name, dict(table["time"]), dict(table["energy"]), **numbers, fits=tuple(table["fit"]))


def stack_tables(stack: Stack) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables of a device file that `stack_of` reads back, each with its heading."""
    return tables_under(f"generation.{stack.name}", stack, NUMBERS)
