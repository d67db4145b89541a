"""A language model deployed on machines, and what is asked of it: from a load to the demands of its steps."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

from wattir.device import Device
from wattir.errors import SizeError
from wattir.serving import Shape, busiest
from wattir.serving_steps import Demand, Kernels, Phase, Routing, step_kernels

CHUNK_TOKENS = 8192
"""Tokens of one step at most: vLLM's max-num-batched-tokens on server GPUs."""
GRAPH_TOKENS = 512
"""Tokens of the largest step that is replayed from a graph; the host launches larger ones kernel by kernel: vLLM's
max_cudagraph_capture_size."""
MEMORY_SHARE = 0.9
"""Of a device's memory for weights and cache: vLLM's gpu-memory-utilization."""
PROGRESS = (0.125, 0.375, 0.625, 0.875)
"""Where a text in the running batch is in its output: midpoints of equal parts."""
QUANTILES = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)
"""Standard normal 10, 30, 50, 70, 90 % quantiles: midpoints of five equally likely parts of the output lengths."""
MOST_TOKENS = 2**27
MOST_TEXTS = 2**20
MOST_IMAGES = 4096


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a model lies on devices, in the terms of serving engines.

    `tp_size` devices share every layer. Whole experts lie on each of `ep_size`; where that is more than `tp_size`, the
    groups of `tp_size` bring texts of their own (attention in parallel over data). `pp_size` stages follow each other.
    `dp_size` such replicas share the load. `weights`, `kv_cache`: how they are held, None as the model says.
    """

    tp_size: int = 1
    ep_size: int = 1
    pp_size: int = 1
    dp_size: int = 1
    weights: str | None = None
    kv_cache: str | None = None

    def __post_init__(self) -> None:
        for name in ("tp_size", "ep_size", "pp_size", "dp_size"):
            whole(name, getattr(self, name), 1, 4096)

    @property
    def copies(self) -> int:
        """Groups of devices of one replica that bring texts of their own."""
        return max(self.ep_size // self.tp_size, 1)

    @property
    def ranks(self) -> int:
        """Devices of one replica."""
        return self.tp_size * self.copies * self.pp_size

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.ranks * self.dp_size

    @property
    def lanes(self) -> int:
        """Batches that run at a time, each with texts of its own."""
        return self.copies * self.pp_size * self.dp_size


@dataclass(frozen=True, slots=True)
class Request:
    """What one request asks.

    `isl`, `osl`: tokens of input and output; `osl_spread`: standard deviation of the output lengths over their mean
    (lognormal; 1 is close to exponential). `prefix`: tokens of the prompt whose cache is already there. `draft`: tokens
    guessed ahead in each step, of which each is accepted with probability `acceptance` if all before it were;
    `draft_cost`: of guessing, as a share of a step. `images` of `image_size` pixels a side come with the text of `isl`
    tokens, as `image_tokens` more (`Served.seen`).
    """

    isl: int
    osl: float
    osl_spread: float = 0.0
    prefix: int = 0
    draft: int = 0
    acceptance: float = 0.0
    draft_cost: float = 0.0
    images: int = 0
    image_size: int = 1024
    image_tokens: int = 0

    def __post_init__(self) -> None:
        whole("isl", self.isl, 1, MOST_TOKENS)
        between("osl", self.osl, 1, MOST_TOKENS)
        between("osl_spread", self.osl_spread, 0, 10)
        whole("prefix", self.prefix, 0, self.isl - 1)
        whole("draft", self.draft, 0, 64)
        between("acceptance", self.acceptance, 0, 1)
        between("draft_cost", self.draft_cost, 0, 1)
        whole("images", self.images, 0, MOST_IMAGES)
        whole("image_size", self.image_size, 1, 16384)

    @property
    def prompt(self) -> int:
        """Tokens of text and of images."""
        return self.isl + self.image_tokens

    @property
    def new(self) -> int:
        """Tokens of the prompt that have to be computed."""
        return self.prompt - self.prefix

    @property
    def gain(self) -> float:
        """Tokens that a text gets in one step: 1 + a + a^2 + ... + a^draft."""
        return sum(self.acceptance**i for i in range(self.draft + 1))

    def contexts(self) -> tuple[tuple[float, float], ...]:
        """(tokens behind a running text, weight): over its progress, and over lengths, long ones running longer."""
        if self.osl_spread == 0.0:
            return tuple((self.prompt + share * self.osl, 1.0 / len(PROGRESS)) for share in PROGRESS)
        sigma = math.sqrt(math.log1p(self.osl_spread**2))
        lengths = [math.exp(sigma * (quantile + sigma)) for quantile in QUANTILES]
        scale = self.osl * (1.0 + self.osl_spread**2) / (sum(lengths) / len(lengths))
        count = len(lengths) * len(PROGRESS)
        return tuple((self.prompt + share * length * scale, 1.0 / count) for length in lengths for share in PROGRESS)

    @property
    def mean_context(self) -> float:
        """Tokens behind a running text, on average."""
        return sum(context * weight for context, weight in self.contexts())


@dataclass(frozen=True, slots=True)
class Steps:
    """Demands of a step of decoding, and of one with prompts in it; `share`: how many of these a step has on average
    (above 1 where prompts take more steps than outputs), `chunks`: how many one prompt takes."""

    pure: Demand
    mixed: Demand
    share: float
    chunks: int


def described(model: Any) -> Any:
    """The description of a language model: a published name, a ``config.json`` or its folder, or one already."""
    configs = import_module("wattir.frontends.configs")
    return model if isinstance(model, configs.Decoder) else configs.load_config(model)


@lru_cache(maxsize=256)
def _by_tokens(config: Any, **held: Any) -> tuple[Kernels, Any]:
    """The kernels of a step that follow its tokens and texts, and the footprint: the same on every machine."""
    graph, footprint = import_module("wattir.frontends.configs").phase(config, "decode", **held)
    return step_kernels(graph, ("tokens", "texts")), footprint


@lru_cache(maxsize=256)
def _by_context(config: Any, **held: Any) -> tuple[Kernels, Kernels]:
    """The kernels of decoding and of prefill that follow the context of the texts: how weights and experts are held
    and shared does not matter to them."""
    phase = import_module("wattir.frontends.configs").phase
    decode, prefill = (step_kernels(phase(config, name, **held)[0], ("context",)) for name in ("decode", "prefill"))
    return decode, prefill


@lru_cache(maxsize=64)
def _tower(config: Any, side: int, tp: int) -> tuple[Kernels, int, int]:
    """The kernels of a model's tower for images, the tokens of an image, and the tower's bytes."""
    graph, tokens, weight_bytes = import_module("wattir.frontends.configs").tower(config, side, tp)
    return step_kernels(graph, ("images",), lambda work: "images"), tokens, weight_bytes


class Served:
    """A model on a machine in a deployment; `texts` below are those of one lane."""

    def __init__(self, model: Any, device: Device, deployment: Deployment) -> None:
        config = described(model)
        attended: dict[str, Any] = {"tp": deployment.tp_size, "kv_cache": deployment.kv_cache}
        self.config, self.device, self.deployment = config, device, deployment
        kernels, self.footprint = _by_tokens(config, **attended, ep=deployment.ep_size, weights=deployment.weights)
        routing, self.shape = _shape(config, deployment)
        self.products, self.decode, self.prefill = (
            Phase(some, device, routing) for some in (kernels, *_by_context(config, **attended))
        )
        self._towers: dict[int, Phase] = {}

    def steps(self, texts: float, request: Request) -> Steps:
        """The two kinds of steps of a lane that runs `texts` texts."""
        verified = request.draft + 1
        batch = max(round(texts), 1)
        scale = texts / batch
        arriving = texts * request.gain / request.osl
        held = max(CHUNK_TOKENS - batch * verified, CHUNK_TOKENS // 8)
        tokens = min(max(arriving, 1.0) * request.new, held)
        rows = batch * verified
        context = self._context(batch, request)
        pure = Demand().add(self._tokens(rows)).add(self._texts(rows)).add(context, scale)
        mixed = Demand().add(self._tokens(rows + max(round(tokens), 1)))
        mixed.add(self._texts(rows + max(round(max(arriving, 1.0)), 1))).add(context, scale)
        prompts = max(round(arriving), 1)
        prompt = self.prefill.demand(
            "context", prompts * request.new, batch=prompts, seq=request.new, past=request.prefix
        )
        mixed.add(prompt, tokens / request.new / prompts)
        if request.images:
            mixed.add(self._images(request), tokens / request.new)
        pure.eager, mixed.eager = (float(count > GRAPH_TOKENS) for count in (rows, rows + tokens))
        share = _shared(arriving * request.new / tokens, self.deployment.copies)
        return Steps(pure, mixed, share, math.ceil(request.new / held))

    def seen(self, request: Request) -> Request:
        """The request with the tokens that its images become; SizeError where the model sees none."""
        if not request.images:
            return request
        return replace(request, image_tokens=request.images * self._tower(request)[1])

    def tokens_of(self, side: int) -> int:
        """The tokens that an image of `side` pixels a side becomes."""
        return _tower(self.config, side, self.deployment.tp_size)[1]

    def of(self, deployment: Deployment) -> Served:
        """The same replica in another number of copies."""
        found = copy(self)
        found.deployment = deployment
        return found

    @property
    def limit_bytes(self) -> float:
        """Bytes of a device for weights and cache."""
        return MEMORY_SHARE * self.device.memory_bytes

    @property
    def weight_bytes(self) -> float:
        """Bytes of a device for weights, those of the tower for images among them."""
        tower = _tower(self.config, 1024, self.deployment.tp_size)[2] if self.config.vision else 0
        return float(self.footprint.weight_bytes / self.deployment.pp_size + tower)

    def most_texts(self, request: Request) -> int:
        """The texts of one lane that the memory holds; SizeError where it does not hold the weights or one text."""
        limit = self.limit_bytes
        weights = self.weight_bytes
        each = self.footprint.cache_bytes(math.ceil(request.prompt + request.osl))
        where = f"{self.config.name} on {self.device.id}"
        if weights > limit:
            raise SizeError(
                f"{where}: weights take {weights / 1e9:.1f} GB of each device; expected at most {limit / 1e9:.1f} GB "
                f"({MEMORY_SHARE:.0%} of its memory); share them by --tp-size or --pp-size, or hold them in fp8"
            )
        if weights + each > limit:
            raise SizeError(
                f"{where}: the cache of one text of {request.prompt + request.osl:.0f} tokens takes {each / 1e9:.1f} "
                f"GB; expected at most {(limit - weights) / 1e9:.1f} GB beside the weights"
            )
        mean = self.footprint.cache_bytes(math.ceil(request.mean_context))
        return max(int((limit - weights) / max(mean, 1)), 1)

    def _tower(self, request: Request) -> tuple[Kernels, int, int]:
        return _tower(self.config, request.image_size, self.deployment.tp_size)

    def _images(self, request: Request) -> Demand:
        if request.image_size not in self._towers:
            self._towers[request.image_size] = Phase(self._tower(request)[0], self.device, Routing(0, 0, 1))
        return self._towers[request.image_size].demand("images", request.images, images=request.images)

    def _tokens(self, count: int) -> Demand:
        return self.products.demand("tokens", count, batch=count, past=0)

    def _texts(self, count: int) -> Demand:
        return self.products.demand("texts", count, batch=count, past=0)

    def _context(self, batch: int, request: Request) -> Demand:
        found = Demand()
        for context, weight in request.contexts():
            found.add(self.decode.demand("context", batch, batch=batch, past=round(context)), weight)
        return found


def _shape(config: Any, deployment: Deployment) -> tuple[Routing, Shape]:
    """The routing of experts, and what the engine's own costs depend on."""
    routing, held = Routing(0, 0, deployment.copies), ""
    for layer, _ in config.layers:
        if type(layer.feed).__name__ == "Experts":
            held = deployment.weights or config.expert_weights or config.weights
            routing = Routing(layer.feed.count, layer.feed.chosen, deployment.copies, held, deployment.ep_size)
    packed = float(held in ("mxfp4", "int4"))
    return routing, Shape(config.depth, config.recurrent, packed, busiest(deployment.ep_size), deployment.tp_size)


def _shared(share: float, copies: int) -> float:
    """The share of steps with prompts in any of `copies` lanes whose tokens go to the same experts: as long as one
    computes a prompt, the others wait for it, their own tokens padded to as many."""
    return max(share, 1.0 - (1.0 - min(share, 1.0)) ** copies)


def whole(name: str, value: Any, low: int, high: int) -> None:
    """SizeError unless `value` is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SizeError(f"{name} = {value!r}; expected a whole number from {low} to {high}")


def between(name: str, value: Any, low: float, high: float) -> None:
    """SizeError unless `value` is a number in the range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise SizeError(f"{name} = {value!r}; expected a number from {low:g} to {high:g}")
