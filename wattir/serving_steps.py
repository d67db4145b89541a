"""What the kernels of one engine step ask of a machine, by part: seconds, and dynamic joules by what they go to.

A step holds one new token of every running text (decode) and, in some steps, new prompts beside them (prefill), whose
tokens share the products by weights. So a step is put together from three kinds of kernels: those that depend on how
many tokens there are, on how many texts, and on what the texts' caches hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from wattir.costs import op_work
from wattir.device import Device
from wattir.dims import CHANCE, maximum, missed_parts
from wattir.ir import Graph, Op
from wattir.machine import ROW_CONSTANTS, Row, assembled, row_of
from wattir.passes import lower_to_kernels
from wattir.roofline import kernel_cost
from wattir.serving_engine import PARTS
from wattir.tape import TapeBuilder
from wattir.work import CELLS, Work, cells_of

ALIKE = 0.8
"""Texts of one kind ask for the same experts: t tokens reach as many as t^0.8 independent ones would.

Fitted freely on mlenergy_v3_llm it was 0.80 on H100 and 0.85 on B200; at 1 the text rows of architectures left out were
off by 10.9 and 13.6 % in the median instead of 7.6 and 11.4 % (2026-11-25, before the kernels' learned corrections)."""

MACS, M, N, K, GROUPS, WEIGHT_BYTES, ACTIVATION_BYTES, STATE_BYTES, LINK_BYTES = (
    CELLS.index(name) for name in
    ("macs_causal", "m", "n", "k", "groups", "weight_bytes", "activation_bytes", "state_bytes", "link_bytes")
)  # fmt: skip


VOLUMES = ("flop", "flop_s", "weight_bytes", "cache_bytes")
"""What a step's work is measured by: FLOP of products with their padding, their seconds at the peaks of their
precisions, bytes read of weights, bytes read and written of caches and states."""


@dataclass(slots=True)
class Demand:
    """What a step asks for, by part: seconds of its kernels, and dynamic joules for weights, cache and all else; how
    often devices exchange results, and the bytes that each sends; `eager`: 1 where the host launches every kernel;
    `volume`: by `VOLUMES`. Numbers, or arrays of them, of one device."""

    time_s: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    weights_j: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    cache_j: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    compute_j: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    links: Any = 0.0
    link_bytes: Any = 0.0
    eager: Any = 0.0
    volume: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(VOLUMES, 0.0))

    def add(self, other: Demand, times: float = 1.0) -> Demand:
        """With `times` another demand added."""
        for mine, theirs in zip(self._tables(), other._tables(), strict=True):
            for name, value in theirs.items():
                mine[name] = mine[name] + times * value
        self.links = self.links + times * other.links
        self.link_bytes = self.link_bytes + times * other.link_bytes
        self.eager = self.eager + times * other.eager
        return self

    def _tables(self) -> tuple[dict[str, Any], ...]:
        return self.time_s, self.weights_j, self.cache_j, self.compute_j, self.volume


@dataclass(frozen=True)
class Routing:
    """`chosen` of `count` experts for each token; 0 where there are none. `copies`: groups of devices that bring
    tokens of their own to the same experts. `held`: how these are, such as ``mxfp4``. `spread`: devices that they lie
    on, each whole."""

    count: int
    chosen: int
    copies: int
    held: str = ""
    spread: int = 1

    def alike(self, tokens: int) -> float:
        """Experts reached by `tokens` tokens of texts of one kind, over those reached by independent ones."""
        everywhere = tokens * self.copies
        chance = self.chosen * CHANCE // self.count
        return (CHANCE - missed_parts(chance, everywhere**ALIKE)) / (CHANCE - missed_parts(chance, everywhere))

    def padding(self, tokens: int) -> float:
        """Rows that a product of experts multiplies besides those of this device's experts, where it `pads`.

        DeepGEMM takes whole blocks of `EXPERT_ROWS` of one expert. vLLM lays rows out for the worst case, chosen *
        tokens + (EXPERT_ROWS - 1) * experts of the device, before it is known which are whose (compute_aligned_M in
        its fused_moe/deep_gemm_utils.py).
        """
        foreign = self.chosen * tokens * self.copies * (1.0 - 1.0 / self.spread)
        return foreign + (EXPERT_ROWS - 1) * self.count / self.spread


PADDING = ("Hopper", "Blackwell")
"""Architectures on which experts in blocks of 8 bit numbers are multiplied by DeepGEMM."""
EXPERT_ROWS = 128
"""Rows of a block in DeepGEMM's grouped products.

Qwen3-235B takes 15 ms more a step of 8 texts in 8 bits on 4 H100 than in 16 bits on 8, where each reads as many bytes.
With these rows, and with lanes that wait for each other's prompts, architectures left out of mlenergy_v3_llm are off by
6.7 % (H100) and 10.9 % (B200) of the joules in the median instead of 7.9 and 12.0 % (2026-11-27)."""


def pads(device: Device, held: str) -> bool:
    """Whether experts `held` so are multiplied with rows that only fill blocks."""
    return held == "fp8" and device.architecture in PADDING


def depends_on(work: Work | Op) -> str:
    """Whether a kernel's cost follows the step's ``tokens``, its ``texts`` or their ``context``."""
    if work.kind in ("attention", "scan", "conv"):
        return "context"
    return "texts" if work.name in ("lm_head", "logits", "last_token") else "tokens"


def part_of(work: Work) -> str:
    """The part of a step that a kernel belongs to; ``link`` for exchanges among devices."""
    if work.kind == "collective":
        return "link"
    if work.kind == "attention":
        return "attention" if work.family == "decode" else "prefill"
    if work.kind in ("scan", "conv"):
        return "scan"
    if work.kind == "matmul":
        return "experts" if ".experts." in work.name else "dense"
    return "other"


def merged(works: Iterable[Work]) -> list[Work]:
    """Kernels with products side by side as one: engines stack the weights of queries, keys and values, of gate and up.

    Products follow each other in a layer's part, with as many rows and as deep: they read the same tokens.
    """
    found: list[Work] = []
    for work in works:
        if found and side_by_side(found[-1], work):
            work = _stacked(found.pop(), work)
        found.append(work)
    return found


def side_by_side(first: Work, second: Work) -> bool:
    """Whether two products, one after the other, read the same rows."""
    if first.kind != "matmul" or second.kind != "matmul" or first.groups != 1:
        return False
    same = ("m", "k", "groups", "math", "times")
    place = [work.name.rpartition(".")[0] for work in (first, second)]
    return place[0] == place[1] and all(getattr(first, name) == getattr(second, name) for name in same)


def _stacked(first: Work, second: Work) -> Work:
    summed = ("n", "macs", "macs_causal", "ops", "special", "weight_bytes", "out_bytes")
    sums = {name: getattr(first, name) + getattr(second, name) for name in summed}
    return replace(first, in_bytes=maximum(first.in_bytes, second.in_bytes), **sums)


WIDE = ("bf16", "fp16", "fp32", "tf32")
EXPERTS = {
    "bf16": (("vllm_fused_moe_power_law_1.2", "bf16"),
             ("vllm_unquantizedfusedmoe_triton_tritonexperts_power_law_1.2", "bf16")),
    "fp8": (("deepgemm_power_law_1.2_fp8_block", "fp8"),
            ("vllm_fp8moe_flashinfer_cutlass_flashinferexperts_power_law_1.2_fp8_block", "fp8")),
    "mxfp4": (("moe_torch_flow_power_law_1.2_w4a8_mxfp4_mxfp8", "fp8"),
              ("vllm_gptossmxfp4moe_triton_oaitritonmxfp4expertsmonolithic_power_law_1.2_w4a16_mxfp4", "bf16")),
    "nvfp4": (("moe_torch_flow_cutlass_power_law_1.2", "fp4"),),
}  # fmt: skip
"""Libraries that vLLM calls for experts held so, the first that a machine knows, and what they compute in: its own in
Triton; DeepGEMM, which it prefers for 8 bits since 0.11; for mxfp4 TensorRT-LLM's on Blackwell and Triton's on Hopper,
for nvfp4 CUTLASS. With tokens spread over experts by a power law, as texts of one kind do."""
NO_WORSE = tuple(ROW_CONSTANTS.index(name) for name in ("s_per_byte", "s_per_cache_byte", "fixed_s"))


def step_row(device: Device, work: Work, held: str, decoding: bool) -> Row:
    """A machine's constants for a kernel of a step, whose experts are `held` so.

    Experts run as the servers' own kernels where the machine knows them (`EXPERTS`). Narrow products by weights that
    every token needs read memory, and are launched, as well as wide ones: steps are replayed from graphs, and the sets
    that machines are fitted to timed narrow products with what wraps them. A step of a recurrence streams its state as
    pointwise kernels do: what was measured of recurrences are the kernels that scan whole prompts.
    """
    for library, math in EXPERTS.get(held, ()) if part_of(work) == "experts" else ():
        if f"experts.{math}@{library}" in device.corrections:
            return row_of(device, f"experts@{library}", math)
    row = row_of(device, work.family, work.math)
    if work.kind == "scan" and decoding:
        return _no_worse(row, row_of(device, "pointwise", work.math))
    if work.math in WIDE or part_of(work) != "dense":
        return row
    return _no_worse(row, row_of(device, work.family, device.math("bf16")))


def _no_worse(row: Row, other: Row) -> Row:
    """The row with the other's bytes and launches where these take less."""
    constants = list(row.constants)
    for at in NO_WORSE:
        constants[at] = min(row.constants[at], other.constants[at])
    return replace(row, constants=tuple(constants))


@dataclass(frozen=True)
class Kernels:
    """Kernels of one phase by what they depend on, the same on every machine: their Work, and the function from
    `names`, the free sizes, to `WIDTH` numbers for each."""

    names: tuple[str, ...]
    warnings: tuple[str, ...]
    groups: Mapping[str, tuple[tuple[Work, ...], Callable[..., tuple[float, ...]]]]


def step_kernels(graph: Graph, groups: Sequence[str], by: Callable[[Work | Op], str] = depends_on) -> Kernels:
    """The kernels of these groups of a phase's graph, told apart by what they depend on."""
    names = tuple(graph.sizes)
    lowered = lower_to_kernels(graph, "compiled")
    works = merged(op_work(op, lowered) for op in lowered.ops if op.kind != "view" and by(op) in groups)
    by_group = {group: tuple(work for work in works if by(work) == group) for group in groups}
    return Kernels(names, graph.warnings, {group: (some, _compiled(names, some)) for group, some in by_group.items()})


class Phase:
    """The kernels of one phase on a machine, ready to be asked group by group."""

    def __init__(self, kernels: Kernels, device: Device, routing: Routing) -> None:
        self.static_w, self.busy_w = device.coefficients.static_w, device.coefficients.busy_w
        self.padded = pads(device, routing.held)
        self.dense = dict(zip(ROW_CONSTANTS, row_of(device, "matmul", device.math("fp8")).constants, strict=True))
        self.warnings, self.routing, self.names = kernels.warnings, routing, kernels.names
        self._known: dict[tuple[Any, ...], Demand] = {}
        works = [work for some, _ in kernels.groups.values() for work in some]
        decoding = "seq" not in kernels.names
        rows, self.trees = assembled(step_row(device, work, routing.held, decoding) for work in works)
        placed = iter(zip(works, rows, strict=True))
        self.groups = {
            group: ([(part_of(work), row.constants, device.flop_per_s[row.math])
                     for work, row in islice(placed, len(some))], function)
            for group, (some, function) in kernels.groups.items()
        }  # fmt: skip

    def demand(self, group: str, tokens: int, **sizes: int) -> Demand:
        """Of the kernels of a group at these sizes; `tokens` new ones in all. What was asked before is remembered."""
        key = (group, tokens, *sizes.values())
        if key not in self._known:
            self._known[key] = self._worked_out(group, tokens, sizes)
        return self._known[key]

    def _worked_out(self, group: str, tokens: int, sizes: Mapping[str, int]) -> Demand:
        kernels, function = self.groups[group]
        values = function(*(sizes[name] for name in self.names))
        found = Demand()
        for place, (part, constants, flop_per_s) in enumerate(kernels):
            *cells, times = values[place * WIDTH : (place + 1) * WIDTH]
            if part == "link":
                found.links += times
                found.link_bytes += times * cells[LINK_BYTES]
                continue
            if part == "experts":
                cells = _alike(cells, self.routing.alike(tokens))
            taken: tuple[Any, ...] = (*cells, *constants, self.trees)
            _add(found, part, cells, times, kernel_cost(*taken), self.static_w)
            _add_volume(found, cells, times, flop_per_s)
            if part == "experts" and self.padded:
                flop = 2.0 * times * self.routing.padding(tokens) * cells[N] * cells[K]
                self._add_padding(found, flop, flop / flop_per_s)
        return found

    def _add_padding(self, demand: Demand, flop: float, peak_s: float) -> None:
        """Rows more of an expert's product: arithmetic alone, at the pace of dense products of many rows."""
        seconds = flop * self.dense["s_per_flop"]
        demand.time_s["padding"] += seconds
        demand.compute_j["padding"] += flop * self.dense["j_per_flop"] + self.busy_w * seconds
        demand.volume["flop"] += flop
        demand.volume["flop_s"] += peak_s


WIDTH = len(CELLS) + 1
"""Cells of a kernel, and how often it runs."""


def _compiled(names: tuple[str, ...], works: Iterable[Work]) -> Callable[..., tuple[float, ...]]:
    tape = TapeBuilder(names)
    handles = [tape.add(size) for work in works for size in (*cells_of(work), work.times)]
    finished, register = tape.finish()
    return finished.python([register(handle) for handle in handles])


def _alike(cells: list[float], share: float) -> list[float]:
    """The cells of experts of which only this share is reached: as many rows in fewer groups."""
    found = list(cells)
    found[M], found[GROUPS], found[WEIGHT_BYTES] = cells[M] / share, cells[GROUPS] * share, cells[WEIGHT_BYTES] * share
    return found


def _add(demand: Demand, part: str, cells: Iterable[float], times: float, cost: Any, static_w: float) -> None:
    """Adds a kernel; its dynamic joules go to bytes and to arithmetic as its seconds under the roofs do."""
    seconds, joules, compute_s, vector_s, memory_s = cost[:5]
    dynamic = max(joules - static_w * seconds, 0.0) * times
    weights, activations, state = (list(cells)[at] for at in (WEIGHT_BYTES, ACTIVATION_BYTES, STATE_BYTES))
    moved = memory_s / ((compute_s + vector_s + memory_s) or 1.0) / ((weights + activations + state) or 1.0)
    demand.time_s[part] += seconds * times
    demand.weights_j[part] += dynamic * moved * weights
    demand.cache_j[part] += dynamic * moved * state
    demand.compute_j[part] += dynamic * (1.0 - moved * (weights + state))


def _add_volume(demand: Demand, cells: Sequence[float], times: float, flop_per_s: float) -> None:
    flop = 2.0 * cells[MACS] * times
    demand.volume["flop"] += flop
    demand.volume["flop_s"] += flop / flop_per_s
    demand.volume["weight_bytes"] += cells[WEIGHT_BYTES] * times
    demand.volume["cache_bytes"] += cells[STATE_BYTES] * times
