"""A generator of images or video on a machine: from what is asked to the demands of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from wattir.costmodel import CostModel, compile_graph
from wattir.device import Device
from wattir.errors import SizeError
from wattir.generation import Demand, PhaseCost, call_cost, phase_cost
from wattir.generation_engine import PARTS, Stack
from wattir.kinds import DTYPE_BYTES
from wattir.roofline import kernel_cost
from wattir.serving_model import whole
from wattir.tape import TapeBuilder
from wattir.work import CELLS, Work, cells_of

XDIT, DIFFUSERS = "xdit", "diffusers"
MEMORY_SHARE = 0.95
"""Of a device's memory for weights and what a kernel reads and writes."""
HEAD_SIZES = (32, 64, 96, 128, 192, 256)
"""Head sizes that FlashAttention 2 has kernels for; others are padded to the next (flash-attn csrc/flash_attn)."""
MOST_STEPS, MOST_BATCH, MOST_PIXELS, MOST_FRAMES, MOST_DEVICES = 10_000, 4096, 16384, 4096, 64
MACS, K, GROUPS, LAUNCHES, ACTIVATION_BYTES, LINK_BYTES = (
    CELLS.index(name) for name in ("macs_causal", "k", "groups", "launches", "activation_bytes", "link_bytes")
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one call asks: pixels, `frames` of a video, denoising `steps`, `batch` outputs at a time, and whether under
    classifier-free `guidance`, where the denoiser runs twice a step."""

    height: int
    width: int
    frames: int
    steps: int
    guidance: bool
    batch: int = 1

    def __post_init__(self) -> None:
        for name, most in (("height", MOST_PIXELS), ("width", MOST_PIXELS), ("frames", MOST_FRAMES),
                           ("steps", MOST_STEPS), ("batch", MOST_BATCH)):  # fmt: skip
            whole(name, getattr(self, name), 1, most)

    @property
    def samples(self) -> int:
        """What the denoiser sees at a time."""
        return self.batch * (2 if self.guidance else 1)

    @property
    def pixels(self) -> int:
        """Of all outputs of a call."""
        return self.height * self.width * self.frames * self.batch


@dataclass(frozen=True, slots=True)
class Sharing:
    """Devices that share the tokens of a sequence: `ulysses` of them exchange heads, `ring` of these pass keys on."""

    ulysses: int = 1
    ring: int = 1

    def __post_init__(self) -> None:
        for name in ("ulysses", "ring"):
            whole(name, getattr(self, name), 1, MOST_DEVICES)

    @property
    def devices(self) -> int:
        """All of them."""
        return self.ulysses * self.ring


@dataclass(frozen=True)
class Demands:
    """What a call asks for: reading the prompts, one step of the denoiser, making the pixels."""

    text: Demand
    step: Demand
    decode: Demand

    def costs(
        self, stack: Stack, device: Device, *, steps: Any, pixels: Any, devices: Any, decoding: Any
    ) -> tuple[PhaseCost, ...]:
        """Of each of `PHASES` on so many devices, of which `decoding` make the pixels; arrays where the demands are."""
        return (
            phase_cost(stack, device, self.text, devices),
            phase_cost(stack, device, self.step, devices).times(steps),
            phase_cost(stack, device, self.decode, decoding, devices - decoding),
            call_cost(stack, pixels, devices),
        )


def generators() -> Any:
    """The frontend that describes generators."""
    return import_module("wattir.frontends.configs.diffusion")


def is_generator(model: str) -> bool:
    """Whether a name or a folder is of a generator of images or video."""
    found = generators()
    return bool(found.is_folder(model) or found.find(model))


class Kernels:
    """The kernels of a graph on a machine, ready to be asked for a batch."""

    def __init__(self, model: CostModel, dtype: str = "bf16") -> None:
        c = model.device.coefficients
        self.static_w, self.busy_w, self.trees = c.static_w, c.busy_w, model.trees
        self.weight_bytes = DTYPE_BYTES[dtype] * int(str(model.graph.params))
        self.sizes = dict(model.sizes)
        tape = TapeBuilder(tuple(self.sizes))
        rows = tuple(zip(model.kernels, model.rows, strict=True))
        handles = [tape.add(size) for work, _ in rows for size in (*cells_of(work), work.times)]
        finished, register = tape.finish()
        self.rows = tuple((part_of(work), work.source, row.constants) for work, row in rows)
        self.function = finished.python([register(handle) for handle in handles])
        self._known: dict[int, tuple[Demand, float]] = {}

    def demand(self, batch: int) -> Demand:
        """Of one run; what was asked before is remembered."""
        return self._asked(batch)[0]

    def most_bytes(self, batch: int) -> float:
        """The most activations that one kernel reads and writes."""
        return self._asked(batch)[1]

    def _asked(self, batch: int) -> tuple[Demand, float]:
        if batch not in self._known:
            self._known[batch] = self._worked_out(batch)
        return self._known[batch]

    def _worked_out(self, batch: int) -> tuple[Demand, float]:
        values = self.function(*({**self.sizes, "batch": batch}[name] for name in self.sizes))
        found, most, width = Demand(), 0.0, len(CELLS) + 1
        for place, (part, source, constants) in enumerate(self.rows):
            *cells, times = values[place * width : (place + 1) * width]
            if part == "link":
                found.links += times * (cells[GROUPS] - 1 if source == "ring" else 1)
                found.link_bytes += times * cells[LINK_BYTES]
                continue
            taken: tuple[Any, ...] = (*cells, *constants, self.trees)
            self._add(found, part, cells, times, kernel_cost(*taken))
            most = max(most, cells[ACTIVATION_BYTES])
        return found, most

    def _add(self, found: Demand, part: str, cells: Sequence[float], times: float, cost: tuple[float, ...]) -> None:
        """Adds a kernel; its work's joules are those beyond what the device draws by the second."""
        seconds, joules, *_, launch_s = cost[:6]
        by_second = self.static_w * seconds + self.busy_w * max(seconds - launch_s, 0.0)
        found.time_s[part] += seconds * times
        found.energy_j[part] += max(joules - by_second, 0.0) * times
        found.launches += cells[LAUNCHES] * times
        found.flop += 2.0 * cells[MACS] * times
        if part == "attention":
            pairs = cells[MACS] / cells[K] * times
            found.attention_exps += pairs
            found.attention_flop += 4.0 * pairs * padded_head(cells[K] / 2.0)


def padded_head(size: float) -> float:
    """The head size that attention computes with."""
    return next((each for each in HEAD_SIZES if each >= size), size)


def part_of(work: Work) -> str:
    """The part that a kernel belongs to; ``link`` for exchanges among devices."""
    if work.kind == "collective":
        return "link"
    if work.kind == "matmul":
        return "wide" if work.math == "fp32" else "matmul"
    if work.kind == "conv":
        return "depthwise" if work.family == "depthwise" else ("conv3d" if work.source == "conv3d" else "conv")
    return work.kind if work.kind in PARTS else "other"


@dataclass(frozen=True)
class Phases:
    """The kernels of a call's phases at one size of picture; `experts`: how many denoisers there are besides the one
    that runs a step."""

    text: tuple[Kernels, ...]
    image: tuple[Kernels, ...]
    prior: tuple[Kernels, ...]
    step: Kernels
    decode: Kernels
    experts: int

    @property
    def weight_bytes(self) -> float:
        """Of all components, each in the type that it runs in."""
        steps = (self.step,) * (1 + self.experts)
        return float(sum(each.weight_bytes for each in (*self.text, *self.image, *self.prior, *steps, self.decode)))


class Generated:
    """A generator on a machine, its components on every device: in 16 bits but for decoders that run in 32."""

    def __init__(self, model: Any, device: Device, sharing: Sharing | None = None) -> None:
        self.of = generators().load_generator(model) if isinstance(model, str) else model
        self.device, self.sharing = device, sharing or Sharing()
        self._phases: dict[tuple[int, int, int], Phases] = {}

    @property
    def decoding(self) -> int:
        """Of the devices that share a call, those that make its pixels."""
        return 1 if self.of.call.decodes_alone else self.sharing.devices

    def prompt(self, **given: Any) -> Prompt:
        """What is asked, with the pipeline's own defaults for what is not; SizeError where guidance takes no second
        pass."""
        picture, call = self.of.picture, self.of.call
        usual = {"height": picture.height, "width": picture.width, "frames": picture.frames, "steps": call.steps,
                 "guidance": call.two_passes and call.guided}  # fmt: skip
        if given.get("guidance") and not call.two_passes:
            raise SizeError(f"{self.of.name}: guidance is distilled into it and takes no second pass of the denoiser; "
                            "leave --guidance out")  # fmt: skip
        return Prompt(**{**usual, **given})

    def demands(self, prompt: Prompt, *, checked: bool = True) -> Demands:
        """Of a call's phases; SizeError where a size cannot be or, if it is `checked`, the memory does not hold it."""
        phases, text = self.phases(prompt), Demand()
        for kernels in phases.text:
            text.add(kernels.demand(prompt.samples))
        for kernels in phases.image:
            text.add(kernels.demand(prompt.batch))
        for kernels in phases.prior:
            text.add(kernels.demand(prompt.samples), self.of.call.prior_steps)
        found = Demands(text, phases.step.demand(prompt.samples), phases.decode.demand(prompt.batch))
        if checked:
            self._check_memory(phases, prompt)
        return found

    def phases(self, prompt: Prompt) -> Phases:
        """The kernels of every phase; what was asked before is remembered."""
        size = (prompt.height, prompt.width, prompt.frames)
        if size not in self._phases:
            make, of, picture = generators(), self.of, generators().Picture(*size)
            step = make.denoiser_graph(of, picture, ulysses=self.sharing.ulysses, ring=self.sharing.ring)
            text = tuple(self._kernels(make.encoder_graph(of, part)) for part in of.encoders)
            prior = (self._kernels(make.prior_graph(of, picture)),) if of.prior else ()
            image = make.image_graph(of, picture)
            images = (self._kernels(image),) if image else ()
            decode = self._kernels(make.decoder_graph(of, picture), of.call.decoder_dtype)
            self._phases[size] = Phases(text, images, prior, self._kernels(step), decode, len(of.experts))
        return self._phases[size]

    def _kernels(self, graph: Any, dtype: str = "bf16") -> Kernels:
        return Kernels(compile_graph(graph, self.device, "eager"), dtype)

    @property
    def limit_bytes(self) -> float:
        """Bytes of a device for weights and what a kernel reads and writes."""
        return MEMORY_SHARE * self.device.memory_bytes

    def _check_memory(self, phases: Phases, prompt: Prompt) -> None:
        weights, limit = phases.weight_bytes, self.limit_bytes
        where = f"{self.of.name} on {self.device.id}"
        if weights > limit:
            raise SizeError(f"{where}: weights take {weights / 1e9:.1f} GB of each device; expected at most "
                            f"{limit / 1e9:.1f} GB ({MEMORY_SHARE:.0%} of its memory)")  # fmt: skip
        largest = phases.step.most_bytes(prompt.samples)
        if weights + largest > limit:
            raise SizeError(
                f"{where}: a kernel of batch {prompt.batch} takes {largest / 1e9:.1f} GB; expected at most "
                f"{(limit - weights) / 1e9:.1f} GB beside the weights; ask for a smaller --batch-size"
            )


def usual_stack(placed: Generated) -> str:
    """The stack that serves a generator: xDiT for transformers, diffusers alone for UNets."""
    return DIFFUSERS if placed.of.denoiser.slot == "unet" else XDIT
