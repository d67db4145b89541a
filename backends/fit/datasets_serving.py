"""Serving configurations as rows: ``mlenergy_v3_llm``, ``mlenergy_v2_llm``.

Prompt lengths are not in the set. The demands of a row's steps are therefore made on a grid of prompt
lengths, between which `ServingRows.at` interpolates: the fit takes one length for each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.errors import WattirError
from wattir.serving import Shape
from wattir.serving_engine import PARTS
from wattir.serving_model import PROGRESS, Deployment, Request, Served, Steps, described
from wattir.serving_steps import Demand

from .rows import Array
from .tables import read_table

PROMPTS = tuple(2**i for i in range(4, 16))
"""The grid of prompt lengths."""
MOST_SPREAD = 2.0
"""Of output lengths, standard deviation over mean: what histograms with open ends say beyond it is not believed."""


@dataclass(frozen=True)
class ServingRows:
    """Measured configurations of one machine.

    `pure`, `mixed` [rows, prompts, cells]: demands (`cells_of`) of the two kinds of steps on the grid of prompt
    lengths; `share` [rows, prompts]: of steps with prompts. `shape`: arrays, a value a row. `texts`: running in a
    lane, of which there are `lanes`, on `devices` devices; `osl`: tokens of an answer. `group`: the architecture, left
    out as a whole. `stalled`: rows that the set marks as such. `place`: a row's index in the set's table. `time_s`: of
    a step; `energy_j`: of a token on all devices, NaN where not measured.
    """

    pure: Array
    mixed: Array
    share: Array
    shape: Shape
    texts: Array
    lanes: Array
    devices: Array
    osl: Array
    task: Array
    model: Array
    group: Array
    stalled: Array
    place: Array
    time_s: Array
    energy_j: Array
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def measured(self) -> Array:
        """Seconds and joules [2, rows]."""
        return np.stack([self.time_s, self.energy_j])

    def take(self, wanted: Array) -> ServingRows:
        """The rows where a mask is true."""
        arrays: dict[str, Any] = {
            name: value[wanted] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        shape = Shape(*(getattr(self.shape, name)[wanted] for name in Shape.__slots__))
        return replace(self, **arrays, shape=shape)

    def at(self, prompts: Array) -> tuple[Demand, Demand, Array]:
        """Demands of both kinds of steps and the share, each row's at its prompt length [rows]."""
        low, part = _between(np.log(np.array(PROMPTS, float)), np.log(prompts))
        return (demand_of(_mix(self.pure, low, part)), demand_of(_mix(self.mixed, low, part)),
                _mix(self.share, low, part))  # fmt: skip


def _between(grid: Array, values: Array) -> tuple[Array, Array]:
    """The place of the grid's value below each value, and how far it is from there to the next."""
    low = np.clip(np.searchsorted(grid, values) - 1, 0, len(grid) - 2)
    return low, np.clip((values - grid[low]) / (grid[low + 1] - grid[low]), 0.0, 1.0)


def _mix(table: Array, low: Array, part: Array) -> Array:
    rows = np.arange(len(table))
    weight = part.reshape(-1, *[1] * (table.ndim - 2))
    return np.asarray(table[rows, low] * (1.0 - weight) + table[rows, low + 1] * weight)


def cells_of(demand: Demand) -> list[float]:
    """A demand as numbers in the order that `demand_of` reads."""
    tables = (demand.time_s, demand.weights_j, demand.cache_j, demand.compute_j)
    return [*(table[part] for table in tables for part in PARTS), demand.links, demand.link_bytes, demand.eager]


def demand_of(cells: Array) -> Demand:
    """A demand of arrays from cells [rows, cells]."""
    columns = iter(cells.T)
    time_s, weights_j, cache_j, compute_j = ({part: next(columns) for part in PARTS} for _ in range(4))
    return Demand(time_s, weights_j, cache_j, compute_j, *columns)


def serving_rows(table: Any, device: Device) -> ServingRows:
    """The rows of a table whose model is known by name and fits; others are counted by what is wrong.

    Columns: model, task, tp, ep, dp, pp, texts, osl, spread, later (`window`), time_s, energy_j, stalled.
    """
    served: dict[tuple[Any, ...], Served | str] = {}
    sized = table[["tp", "ep", "dp", "pp", "texts", "osl"]].gt(0).all(axis=1) & table.model.notna()
    found, kept, dropped = [], [], {"a size is missing or out of range": int((~sized).sum())}
    table = table[sized]
    for place, row in enumerate(table.itertuples()):
        key = (row.model, row.tp, row.ep, row.dp, row.pp)
        if key not in served:
            served[key] = _served(row, device)
        one = served[key]
        if isinstance(one, str):
            dropped[one] = dropped.get(one, 0) + 1
            continue
        found.append((one, _grid(one, row)))
        kept.append(place)
    return _stacked(table.iloc[kept], found, dropped)


def _served(row: Any, device: Device) -> Served | str:
    try:
        tp = row.tp if row.ep == 1 else max(row.ep // row.dp, 1)
        return Served(row.model, device, Deployment(tp_size=int(tp), ep_size=int(row.ep), pp_size=int(row.pp)))
    except WattirError as error:
        return f"{row.model}: {error}"


def _grid(one: Served, row: Any) -> list[Steps]:
    spread = row.spread if 0.0 <= row.spread <= MOST_SPREAD else 0.0
    texts = row.texts / one.deployment.lanes
    seen = window(round(float(row.later), 2), round(spread, 2))
    osl = max(float(row.osl), 1.0)
    return [one.steps(texts, _seen(one.seen(_request(one, row.task, isl, osl, spread)), seen)) for isl in PROMPTS]


@dataclass(frozen=True, slots=True)
class Window:
    """What of the steady state a measurement saw: tokens behind a running text (`age`) and requests that end in a step
    (`rate`), both in units of the mean answer."""

    age: float
    rate: float


STEADY = 6.0
"""From so many answers a slot on, a measurement saw the steady state."""
SLOTS, ANSWERS = 2000, 32


@lru_cache(maxsize=4096)
def window(later: float, spread: float) -> Window | None:
    """What was seen from the time when all slots have a request, all at once, until `later` of these for each slot have
    ended; lengths are lognormal with this `spread`. None for the steady state.

    Where few end, answers are seen to their middle alone: in the steady state the caches of 39 rows of
    `mlenergy_v3_llm` would be larger than the memory, by up to 4 times.
    """
    if later >= STEADY:
        return None
    sigma = np.sqrt(np.log1p(spread**2))
    normal = np.random.default_rng(0).standard_normal((SLOTS, ANSWERS))
    ends = np.cumsum(np.exp(sigma * normal - 0.5 * sigma**2), axis=1)
    last = np.sort(ends.ravel())[int(max(later, FEWEST) * SLOTS)]
    begun = np.minimum(np.hstack([np.zeros((SLOTS, 1)), ends]), last)
    return Window(float(0.5 * (np.diff(begun, axis=1) ** 2).sum() / (SLOTS * last)), max(later, FEWEST) / float(last))


FEWEST = 0.02
"""Of the slots: what a measurement sees end at least."""


@dataclass(frozen=True, slots=True)
class Seen(Request):
    """A request as a `Window` saw it: `age` tokens behind a running text on average."""

    age: float = 0.0

    def contexts(self) -> tuple[tuple[float, float], ...]:
        """Evenly from none to twice the age."""
        return tuple((self.prompt + 2.0 * share * self.age, 1.0 / len(PROGRESS)) for share in PROGRESS)


def _seen(request: Request, seen: Window | None) -> Request:
    if seen is None:
        return request
    values = {each.name: getattr(request, each.name) for each in fields(request)}
    return Seen(**values | {"osl": request.osl / seen.rate}, age=seen.age * request.osl)


SEEING = ("image-chat", "video-chat", "mllm-chat")
"""Tasks whose prompts are mostly images."""


def _request(one: Served, task: str, prompt: int, osl: float, spread: float) -> Request:
    """A request of so many tokens: of images, where the task has them and the tower of the model is known."""
    tower = one.config.vision if task in SEEING else None
    if tower is None:
        return Request(prompt, osl, spread)
    if tower.side:
        images, side = max(round(prompt / one.tokens_of(tower.side)), 1), tower.side
    else:
        images, side = 1, round(tower.patch * tower.merge * prompt**0.5)
    asked = Request(1, osl, spread, images=images, image_size=side)
    return replace(asked, isl=max(prompt - one.seen(asked).image_tokens, 1))


def _stacked(table: Any, found: Sequence[tuple[Served, list[Steps]]], dropped: Mapping[str, int]) -> ServingRows:
    served = [one for one, _ in found]
    column = {name: table[name].to_numpy() for name in ("texts", "task", "model", "stalled", "time_s", "energy_j")}
    lanes = np.array([one.deployment.lanes for one in served], float)
    return ServingRows(
        pure=np.array([[cells_of(step.pure) for step in steps] for _, steps in found]),
        mixed=np.array([[cells_of(step.mixed) for step in steps] for _, steps in found]),
        share=np.array([[step.share for step in steps] for _, steps in found]),
        shape=Shape(*(np.array([getattr(one.shape, name) for one in served], float) for name in Shape.__slots__)),
        texts=column["texts"].astype(float) / lanes, lanes=lanes,
        devices=np.array([one.deployment.devices for one in served], float), osl=table.osl.to_numpy(float),
        task=column["task"].astype(str), model=column["model"].astype(str),
        group=np.array([architecture(one.config) for one in served]), stalled=column["stalled"].astype(bool),
        place=table.index.to_numpy(),
        time_s=column["time_s"].astype(float), energy_j=column["energy_j"].astype(float), dropped=dropped,
    )  # fmt: skip


def architecture(model: Any) -> str:
    """What models that are siblings share: the sizes of their layers, however they were trained and are held."""
    config = described(model)
    experts = max((getattr(layer.feed, "count", 0) for layer, _ in config.layers), default=0)
    return f"{config.depth} layers of {config.hidden}" + (f", {experts} experts" if experts else "")


def mlenergy_v3(folder: str, hardware: str, device: Device) -> ServingRows:
    """vLLM 0.11.1 in the steady state; joules of all boards."""
    table = read_table(folder, "data")
    table = table[table.gpu_model.eq(hardware)]
    spread = (table.output_tokens_std_from_hist / table.output_tokens_mean).fillna(0.0)
    return serving_rows(
        table.assign(
            model=table.model_id, tp=table.tensor_parallel, ep=table.expert_parallel, dp=table.data_parallel, pp=1,
            texts=table.batch_size_mean_running, osl=table.output_tokens_mean, spread=spread,
            time_s=table.batch_size_mean_running / table.output_tokens_per_s,
            energy_j=table.energy_j_per_output_token, stalled=table.flag_stalled.eq(1), later=_later(table),
        ), device,
    )  # fmt: skip


def _later(table: Any) -> Any:
    """Requests that ended while all slots were taken, for each slot: the steady state is measured from the first token
    of as many requests as there are slots until only so many are left (PROVENANCE.md of the set)."""
    known = {"n_requests", "max_num_seqs"} <= set(table)
    return (table.n_requests / table.max_num_seqs - 1.0).fillna(np.inf) if known else np.inf


def mlenergy_v2(folder: str, hardware: str, device: Device) -> ServingRows:
    """vLLM 0.5.4 in the steady state, tensor parallel in stages; joules of all boards."""
    table = read_table(folder, "data")
    table = table[table.gpu_model.eq(hardware)]
    return serving_rows(
        table.assign(
            model=table.model_id, tp=table.tensor_parallel, ep=1, dp=1, pp=table.pipeline_parallel,
            texts=table.batch_size_mean_running, osl=table.output_tokens_mean, spread=0.0,
            time_s=table.batch_size_mean_running / table.output_tokens_per_s,
            energy_j=table.energy_j_per_output_token, stalled=False, later=np.inf,
        ), device,
    )  # fmt: skip
