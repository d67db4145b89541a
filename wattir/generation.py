"""Seconds and joules of images and video: from the demands of a phase's kernels to what a call costs.

    device  = sum over parts of time[part] * seconds[part] + attention + exchanges among devices
    attention = FLOP of padded heads / attention_flop_per_s + exponentials / attention_exp_per_s
    host    = host_op_s * launches + host_link_s * exchanges
    phase   = (device^overlap + host^overlap)^(1 / overlap)
    J       = static_w * phase + busy_w * kernels + sum of energy[part] * joules of work[part] + link_w * exchanges

per device that takes part; at the power limit the clock falls (`wattir.serving.at_limit`). A device that waits for
another one draws static_w + waiting_w. The formulas work on numbers and on arrays alike; the fit calls them with
arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import hypot
from typing import Any

from wattir.device import Device
from wattir.generation_engine import PARTS, Stack
from wattir.lending import WIDTHS, relation
from wattir.serving import Held, at_limit, hidden, own_or_lent

PHASES = ("text", "denoise", "decode", "call")
"""Encoding the prompts, and an image to start from; the denoiser, all steps; latents to pixels; what the host does
around them."""
FACTORS = ("work", "static", "host", "communication", "waiting")
"""What joules go to. work: kernels that run, their arithmetic and bytes; static: what devices draw anyhow while they
work; host: the same while they wait for its launches; waiting: devices that have no part in a phase."""


@dataclass(slots=True)
class Demand:
    """What kernels ask for: seconds and joules of their work by part, launches; of attention also FLOP with heads
    padded to the sizes that its kernels have, and exponentials; exchanges, and the bytes that each device sends; FLOP.
    Numbers, or arrays of them."""

    time_s: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    energy_j: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    launches: Any = 0.0
    attention_flop: Any = 0.0
    attention_exps: Any = 0.0
    links: Any = 0.0
    link_bytes: Any = 0.0
    flop: Any = 0.0

    def add(self, other: Demand, times: float = 1.0) -> Demand:
        """With `times` another demand added."""
        for mine, theirs in ((self.time_s, other.time_s), (self.energy_j, other.energy_j)):
            for part in PARTS:
                mine[part] = mine[part] + times * theirs[part]
        for name in SCALARS:
            setattr(self, name, getattr(self, name) + times * getattr(other, name))
        return self


SCALARS = ("launches", "attention_flop", "attention_exps", "links", "link_bytes", "flop")


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """Seconds of a phase; joules of all devices by factor."""

    time_s: Any
    energy_j: Mapping[str, Any]

    @property
    def joules(self) -> Any:
        """All of them."""
        return sum(self.energy_j.values())

    def times(self, count: Any) -> PhaseCost:
        """Of so many in a row."""
        return PhaseCost(self.time_s * count, {name: joules * count for name, joules in self.energy_j.items()})


def phase_cost(stack: Stack, device: Device, demand: Demand, working: Any, waiting: Any = 0.0) -> PhaseCost:
    """What a phase costs that `working` devices share while `waiting` others have no part in it."""
    kernels_s = sum(stack.time[part] * demand.time_s[part] for part in PARTS if part != "attention")
    attention_s = demand.attention_flop / stack.attention_flop_per_s + demand.attention_exps / stack.attention_exp_per_s
    link_s = stack.link_s * demand.links + demand.link_bytes / stack.link_bytes_per_s
    busy_s = kernels_s + attention_s
    device_s = busy_s + link_s
    host_s = stack.host_op_s * demand.launches + stack.host_link_s * demand.links
    time_s = hidden(device_s, host_s, stack.overlap)
    energy = {
        "work": stack.busy_w * busy_s + sum(stack.energy[part] * demand.energy_j[part] for part in PARTS),
        "static": stack.static_w * device_s,
        "host": stack.static_w * (time_s - device_s),
        "communication": stack.link_w * link_s,
    }
    slower, kept = at_limit(sum(energy.values()), time_s + (time_s == 0.0), device)  # a phase may have nothing to do
    time_s = time_s * slower
    joules = {name: working * each * kept for name, each in energy.items()}
    return PhaseCost(time_s, {**joules, "waiting": waiting * (stack.static_w + stack.waiting_w) * time_s})


def call_cost(stack: Stack, pixels: Any, devices: Any) -> PhaseCost:
    """What the host does around a call for so many pixels in all, while the devices wait."""
    time_s = stack.call_s + stack.pixel_s * pixels
    return PhaseCost(time_s, {**dict.fromkeys(FACTORS, 0.0 * time_s), "host": devices * stack.static_w * time_s})


def stack_on(device: Device, name: str) -> Stack:
    """A stack on a machine: its own, or another machine's (`own_or_lent`) in proportion to the limits."""
    stack, lender = own_or_lent(device, name, STACKS)
    return stack if lender is device else _scaled(stack, lender, device)


STACKS = Held(lambda device: device.stacks, "stack")
ATTENTION_MOST = 0.73
"""Of the rate of the tensor units, what FlashAttention 2 reaches at most (A100: arXiv 2307.08691)."""


def _scaled(stack: Stack, lender: Device, device: Device) -> Stack:
    """Watts in proportion to the power limits, links to memory bandwidths, attention to multiprocessors times clock:
    FlashAttention 2 issues the instructions of Ampere everywhere, and reaches on B200 what it does on H100.

    The interval is as wide as borrowing took networks, or as the machine's own of networks if that is wider. In 90 % of
    ``mlenergy_v3_diffusion``, B200's joules by H100's stack were within exp(0.38), H100's by B200's within exp(0.47).
    """
    power, memory = device.power_w / lender.power_w, device.memory_bytes_per_s / lender.memory_bytes_per_s
    peak, rate = device.flop_per_s[device.math("bf16")], _attention_rate(lender, device)
    width = max(WIDTHS[relation(device, lender)].network, device.interval_network)
    return replace(
        stack, static_w=stack.static_w * power, busy_w=stack.busy_w * power, waiting_w=stack.waiting_w * power,
        link_w=stack.link_w * power, link_bytes_per_s=stack.link_bytes_per_s * memory,
        attention_flop_per_s=min(stack.attention_flop_per_s * rate, ATTENTION_MOST * peak),
        attention_exp_per_s=stack.attention_exp_per_s * rate,
        interval=hypot(stack.interval, width), borrowed_from=lender.id,
    )  # fmt: skip


def _attention_rate(lender: Device, device: Device) -> float:
    """A machine's rate of attention over that of another one."""
    if device.kind == lender.kind and device.boost_hz and lender.boost_hz:
        return device.boost_hz * device.units / (lender.boost_hz * lender.units)
    return device.flop_per_s[device.math("bf16")] / lender.flop_per_s[lender.math("bf16")]
