"""Calls of generators as rows: ``mlenergy_v3_diffusion`` (xDiT) and ``mlenergy_v2_diffusion`` (diffusers)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np

from wattir.device import Device
from wattir.errors import WattirError
from wattir.generation import SCALARS, Demand
from wattir.generation_engine import PARTS
from wattir.generation_model import Demands, Generated, Sharing, usual_stack

from .rows import Array
from .tables import read_table


@dataclass(frozen=True)
class GenerationRows:
    """Measured calls of one machine.

    `demands`: of each phase, as arrays of a value a row. `devices` share a call, `decoding` of them make the pixels.
    `pixels` of all outputs of a call, `outputs` of which there are. `time_s` of the call, `energy_j` of one output on
    all devices. `group`: models of one architecture, left out as a whole. `stack`: what runs it.
    """

    demands: Demands
    steps: Array
    devices: Array
    decoding: Array
    pixels: Array
    outputs: Array
    model: Array
    group: Array
    stack: Array
    time_s: Array
    energy_j: Array
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def measured(self) -> Array:
        """Seconds and joules [2, rows]."""
        return np.stack([self.time_s, self.energy_j])

    def take(self, wanted: Array) -> GenerationRows:
        """The rows where a mask is true."""
        arrays: dict[str, Any] = {
            name: value[wanted] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        demands = Demands(*(_taken(getattr(self.demands, name), wanted) for name in ("text", "step", "decode")))
        return replace(self, **arrays, demands=demands)


def _taken(demand: Demand, wanted: Array) -> Demand:
    tables = ({part: table[part][wanted] for part in PARTS} for table in (demand.time_s, demand.energy_j))
    scalars: dict[str, Any] = {name: getattr(demand, name)[wanted] for name in SCALARS}
    return Demand(*tables, **scalars)


def stacked(demands: list[Demand]) -> Demand:
    """Demands of arrays, a value for each of these."""
    tables = (
        {part: np.array([getattr(each, name)[part] for each in demands], float) for part in PARTS}
        for name in ("time_s", "energy_j")
    )
    scalars: dict[str, Any] = {name: np.array([getattr(each, name) for each in demands], float) for name in SCALARS}
    return Demand(*tables, **scalars)


def generation_rows(table: Any, device: Device) -> GenerationRows:
    """The rows of a table whose model is known by name (or is a pipeline's folder) and can run so; others are counted
    by what is wrong.

    Columns: model, height, width, frames, steps, batch, guidance, ulysses, ring, stack, time_s, energy_j; where a size,
    the guidance or the stack is missing (NaN) it is the pipeline's own.
    """
    placed: dict[tuple[Any, ...], Generated | str] = {}
    found, kept, dropped = [], [], dict[str, int]()
    for place, row in enumerate(table.itertuples()):
        key = (row.model, row.ulysses, row.ring)
        one = placed.setdefault(key, _placed(row, device)) if key not in placed else placed[key]
        asked = one if isinstance(one, str) else _asked(one, row)
        if isinstance(asked, str):
            dropped[asked] = dropped.get(asked, 0) + 1
            continue
        found.append((one, *asked))
        kept.append(place)
    return _rows(table.iloc[kept], found, dropped)


def _placed(row: Any, device: Device) -> Generated | str:
    try:
        return Generated(str(row.model), device, Sharing(_whole(row, "ulysses"), _whole(row, "ring")))
    except (WattirError, ValueError) as error:
        return _why(row, error)


def _asked(one: Generated, row: Any) -> Any:
    try:
        given: dict[str, Any] = {name: _whole(row, name) for name in SIZES if _is_given(getattr(row, name))}
        prompt = one.prompt(**given, guidance=_guidance(row, one))
        return prompt, one.demands(prompt, checked=False)
    except (WattirError, ValueError) as error:
        return _why(row, error)


def _why(row: Any, error: Exception) -> str:
    said = str(error)
    return said if str(row.model) in said else f"{row.model}: {said}"


def _guidance(row: Any, one: Generated) -> bool:
    if not _is_given(row.guidance):
        return bool(one.of.call.two_passes)
    if not isinstance(row.guidance, (bool, np.bool_)):
        raise ValueError(f"guidance = {row.guidance!r}; expected true or false")
    return bool(row.guidance)


SIZES = ("height", "width", "frames", "steps", "batch")


def _is_given(value: Any) -> bool:
    return not isinstance(value, float) or not isnan(value)


def _whole(row: Any, name: str) -> int:
    value = getattr(row, name)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or value != int(value):
        raise ValueError(f"{name} = {value!r}; expected a whole number")
    return int(value)


def _rows(table: Any, found: list[Any], dropped: Mapping[str, int]) -> GenerationRows:
    demands = Demands(*(stacked([getattr(each, name) for _, _, each in found]) for name in ("text", "step", "decode")))
    column = {name: np.array([getattr(prompt, name) for _, prompt, _ in found], float) for name in ("steps", "pixels")}
    return GenerationRows(
        demands=demands, steps=column["steps"], pixels=column["pixels"],
        outputs=np.array([prompt.batch for _, prompt, _ in found], float),
        devices=np.array([one.sharing.devices for one, _, _ in found], float),
        decoding=np.array([one.decoding for one, _, _ in found], float),
        model=table["model"].to_numpy().astype(str), group=np.array([one.of.family for one, _, _ in found]),
        stack=np.array([name if _is_given(name) else usual_stack(one)
                        for name, (one, _, _) in zip(table["stack"], found, strict=True)], dtype=str),
        time_s=table["time_s"].to_numpy().astype(float),
        energy_j=table["energy_j"].to_numpy().astype(float), dropped=dropped,
    )  # fmt: skip


def mlenergy(folder: str, hardware: str, device: Device) -> GenerationRows:
    """Joules of all boards over a call, a mean of several; both versions of the benchmark. Guidance is the pipelines'
    own, also for models that can do without it."""
    table = read_table(folder, "data")
    table = table[table.gpu_model.eq(hardware)]
    one, none = np.ones(len(table)), np.full(len(table), np.nan)
    return generation_rows(
        table.assign(
            model=table.model_id, height=table.height_px, width=table.width_px, frames=table.num_frames.fillna(1),
            steps=table.denoising_steps, batch=table.batch_size,
            ulysses=table.ulysses_degree if "ulysses_degree" in table else one,
            ring=table.ring_degree if "ring_degree" in table else one,
            guidance=none, stack=none, time_s=table.batch_latency_s, energy_j=table.energy_j_per_output,
        ), device,
    )  # fmt: skip
