"""The answer about a generator: seconds and joules of an image or a video, by phase and by what they go to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wattir.device import Device, load_device
from wattir.generation import FACTORS, PHASES, PhaseCost, stack_on
from wattir.generation_engine import Stack
from wattir.generation_model import Generated, Prompt, Sharing, usual_stack
from wattir.interval import LEVEL
from wattir.lending import RELATIONS, relation
from wattir.serving import J_PER_WH


@dataclass(frozen=True)
class GenerationReport:
    """One call of a pipeline. Joules are of all accelerators; `phases`: what each phase of the call costs; `flop`: of
    each, on all devices."""

    model: str
    kind: str
    device: Device
    stack: Stack
    prompt: Prompt
    sharing: Sharing
    weight_bytes: float
    phases: Mapping[str, PhaseCost]
    flop: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def time_s(self) -> float:
        """Seconds of the call, which makes `prompt.batch` outputs."""
        return float(sum(phase.time_s for phase in self.phases.values()))

    @property
    def outputs_per_s(self) -> float:
        """Images or videos in a second."""
        return self.prompt.batch / self.time_s

    @property
    def call_j(self) -> float:
        """Joules of the call."""
        return float(sum(phase.joules for phase in self.phases.values()))

    @property
    def energy_j(self) -> float:
        """Joules of one output."""
        return self.call_j / self.prompt.batch

    @property
    def factors(self) -> dict[str, float]:
        """Joules of one output by factor, over all phases."""
        return {
            name: sum(float(phase.energy_j[name]) for phase in self.phases.values()) / self.prompt.batch
            for name in FACTORS
        }

    @property
    def ends(self) -> tuple[float, float]:
        """What the 90 % interval multiplies joules by."""
        return math.exp(-self.stack.interval), math.exp(self.stack.interval)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, in SI units; watt-hours where their name says so."""
        low, high = self.ends
        joules, wh = self.energy_j, self.energy_j / J_PER_WH
        each = f"energy_j_per_{self.kind}"
        return {
            "model": self.model, "kind": self.kind, "device": self.device.id, "stack": self.stack.name,
            "borrowed_from": self.stack.borrowed_from or None, "prompt": asdict(self.prompt),
            "sharing": asdict(self.sharing) | {"devices": self.sharing.devices}, "weight_bytes": self.weight_bytes,
            "time_s": self.time_s, "outputs_per_s": self.outputs_per_s,
            "power_w": self.call_j / self.time_s,
            each: joules, f"{each}_low": joules * low, f"{each}_high": joules * high,
            f"wh_per_{self.kind}": wh, f"wh_per_{self.kind}_low": wh * low, f"wh_per_{self.kind}_high": wh * high,
            "interval_level": LEVEL,
            "phases": {name: self._phase(phase) for name, phase in self.phases.items()},
            "factors": self.factors, "warnings": list(self.warnings),
        }  # fmt: skip

    def _phase(self, phase: PhaseCost) -> dict[str, Any]:
        """Seconds of the call, joules of one output."""
        each = {name: float(joules) / self.prompt.batch for name, joules in phase.energy_j.items()}
        return {"time_s": float(phase.time_s), "energy_j": sum(each.values()), "factors": each}


def generate(
    model: Any, device: Device, sharing: Sharing | None = None, stack: str | None = None, **asked: Any
) -> GenerationReport:  # fmt: skip
    """What a call of a published generator (or of one in a folder) costs; `asked`: what differs from the pipeline's own
    height, width, frames, steps, guidance and batch of 1. SizeError where a size cannot be or the memory does not hold
    it."""
    placed = Generated(model, device, sharing)
    return report(placed, stack_on(device, stack or usual_stack(placed)), placed.prompt(**asked))


def report(placed: Generated, stack: Stack, prompt: Prompt) -> GenerationReport:
    """`generate` for a generator that is already in place."""
    device = placed.device
    demands, devices = placed.demands(prompt), placed.sharing.devices
    flop = (demands.text.flop * devices, demands.step.flop * devices * prompt.steps,
            demands.decode.flop * placed.decoding, 0.0)  # fmt: skip
    costs = demands.costs(
        stack, device, steps=prompt.steps, pixels=prompt.pixels, devices=devices, decoding=placed.decoding
    )  # fmt: skip
    warnings = []
    if stack.borrowed_from:
        kind = RELATIONS[relation(device, load_device(stack.borrowed_from))]
        warnings.append(f"{device.id}: the stack's coefficients are those of {stack.borrowed_from}, a machine {kind}")
    made = "video" if prompt.frames > 1 else "image"
    return GenerationReport(placed.of.name, made, device, stack, prompt, placed.sharing,
                            placed.phases(prompt).weight_bytes, dict(zip(PHASES, costs, strict=True)),
                            dict(zip(PHASES, map(float, flop), strict=True)), tuple(warnings))  # fmt: skip
