"""Prefill and decode of a served model as measured one by one: ``splitwise_phase_times`` (vLLM of 2023).

A row is one batch of prompts of one length, answered with one length. The engine's coefficients of time are fitted to
both phases by robust least squares on logarithms, each held by a prior; its joules stay those of the machine's other
engine, for only some A100 rows have watts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wattir.device import Device, device_from_text, load_device
from wattir.serving import Shape, engine_on, step_cost
from wattir.serving_engine import PARTS, Engine
from wattir.serving_model import Deployment, Served
from wattir.serving_steps import Demand

from .datasets_serving import cells_of, demand_of
from .intervals import BORROWED_ENERGY, half_width
from .rows import Array
from .tables import read_table
from .whole_runs import FromSet, Law, Priors, Report, Say, named, nested_widths, record, report_of, unknowns
from .write import rounded, with_engine

FOLDER, ENGINE = "splitwise_phase_times", "vllm_2023"
MODELS = {"llama2-70b": "meta-llama/Llama-2-70b-hf", "bloom-176b": "bigscience/bloom"}
HARDWARE = {"a100-80gb": "a100_sxm", "h100-80gb": "h100_sxm"}
NOT_MEASURED = "-pcap"
"""Rows of a power cap: prompt times are those without it times 1.3, token times the very same."""
PHASES = ("prefill", "decode")
SAME = ["model", "tensor_parallel", "prompt_tokens", "batch_size", "output_tokens"]

PRIORS: Priors = {
    "time dense": (1.3, 0.3), "time attention": (1.0, 0.5), "time prefill": (1.0, 0.5), "time other": (1.0, 0.5),
    "layer_s": (5e-5, 0.7), "link_s": (8e-6, 0.5), "ring_s": (8e-6, 0.7), "host_step_s": (5e-3, 0.7),
    "host_layer_s": (4e-4, 0.7), "host_text_s": (3e-5, 0.7), "overlap": (2.5, 0.4), "bulk_link": (1.5, 0.5),
    "link_of_memory": (0.05, 0.7),
}  # fmt: skip
"""Where a coefficient is without rows, and how sure that is (standard deviation of its logarithm). `link_of_memory`:
bytes per second of a link as a share of the memory's; `overlap` less 1.

vLLM of 2023 replayed no graphs: its host launched every kernel, which 80 layers take 44 ms for on A100, on 4 devices as
on 8. The devices hide behind that where they are faster."""


@dataclass(frozen=True)
class PhaseRows:
    """Rows of one machine, the median of each setting's repeats: `demand` of both phases [2, rows, cells], `time_s`
    [2, rows] (NaN: not believed), `texts` of the batch, `model`."""

    demand: Array
    shape: Shape
    texts: Array
    time_s: Array
    model: Array
    dropped: Mapping[str, int]

    def take(self, wanted: Array) -> PhaseRows:
        """The rows where a mask is true."""
        shape = Shape(*(getattr(self.shape, name)[wanted] for name in Shape.__slots__))
        return replace(self, demand=self.demand[:, wanted], shape=shape, texts=self.texts[wanted],
                       time_s=self.time_s[:, wanted], model=self.model[wanted])  # fmt: skip

    @property
    def group(self) -> Array:
        """Left out as a whole: the model."""
        return self.model

    @property
    def measured(self) -> Array:
        """Seconds of both phases [2, rows]."""
        return self.time_s


def phase_rows(table: Any, device: Device) -> PhaseRows:
    """The rows of a table whose model is known; prompts that took less than the arithmetic at its peak are dropped."""
    known = table[table.model.isin(list(MODELS))]
    found = known.groupby(SAME, as_index=False)[["prompt_time_s", "token_time_s_mean"]].median()
    served: dict[tuple[str, int], Served] = {}
    both, shapes, least_s = [], [], []
    for row in found.itertuples():
        key = (row.model, int(row.tensor_parallel))
        if key not in served:
            served[key] = Served(MODELS[row.model], device, Deployment(tp_size=key[1]))
        one = served[key]
        both.append([cells_of(demand) for demand in _demands(one, row)])
        shapes.append([getattr(one.shape, name) for name in Shape.__slots__])
        tokens = row.batch_size * row.prompt_tokens
        least_s.append(one.config.depth * tokens * _flop_a_layer(one.config) / key[1] / device.flop_per_s["fp16"])
    time_s = np.array([found.prompt_time_s, found.token_time_s_mean], float)
    believed = time_s[0] > np.array(least_s)
    time_s[0, ~believed] = np.nan
    dropped = {"of a model without a configuration here": len(table) - len(known),
               "repeats merged into their median": len(known) - len(found),
               "prompts faster than the peak (their seconds alone)": int((~believed).sum())}  # fmt: skip
    demand = np.array(both).reshape(len(found), 2, len(cells_of(Demand())))
    shape = np.array(shapes, float).reshape(len(found), len(Shape.__slots__))
    return PhaseRows(demand.transpose(1, 0, 2), Shape(*shape.T),
                     found.batch_size.to_numpy(float), time_s, found.model.to_numpy(str), dropped)  # fmt: skip


def _flop_a_layer(config: Any) -> float:
    """At least: products by weights of one token, 8 hidden^2 for a layer of attention and feed-forward."""
    return 16.0 * float(config.hidden) ** 2


def _demands(one: Served, row: Any) -> tuple[Demand, Demand]:
    batch, length = int(row.batch_size), int(row.prompt_tokens)
    texts = one.products.demand("texts", batch, batch=batch, past=0)
    prefill, decode = (
        Demand().add(one.products.demand("tokens", tokens, batch=tokens, past=0)).add(texts)
        for tokens in (batch * length, batch)
    )
    prefill.add(one.prefill.demand("context", batch, batch=batch, seq=length, past=0))
    decode.add(one.decode.demand("context", batch, batch=batch, past=length + int(row.output_tokens) // 2))
    return prefill, decode


def predict(device: Device, engine: Engine, rows: PhaseRows) -> Array:
    """Seconds of a prefill and of a step of decoding [2, rows]."""
    costs = [step_cost(engine, device, rows.shape, demand_of(demand), rows.texts) for demand in rows.demand]
    return np.array([cost.time_s for cost in costs])


def engine_from(device: Device, values: Mapping[str, float]) -> Engine:
    """The engine of these coefficients; joules and watts are those of the machine's other engine."""
    time = dict.fromkeys(PARTS, 1.0) | {name[5:]: value for name, value in values.items() if name.startswith("time ")}
    numbers: dict[str, Any] = {name: value for name, value in values.items() if name.endswith("_s")}
    return replace(
        engine_on(device), name=ENGINE, time=time, eager_layer_s=0.0, overlap=1.0 + values["overlap"], borrowed_from="",
        bulk_link=max(values["bulk_link"], 1.0), link_bytes_per_s=values["link_of_memory"] * device.memory_bytes_per_s,
        **numbers,
    )  # fmt: skip


def law(device: Device) -> Law[PhaseRows]:
    """How rows follow from what is fitted."""
    space = unknowns(PRIORS)
    return Law(space, lambda logs, rows: predict(device, engine_from(device, space.values(logs)), rows))


def _solved(hardware: str, device: Device, folder: str, say: Say) -> tuple[PhaseRows, Array, Array]:
    """The rows, the logarithms of what is fitted, and the errors of every row by a fit without its model."""
    table = read_table(folder, "data")
    rows = phase_rows(table[table.hardware.eq(hardware)], device)
    used = np.ones(len(rows.model), bool)
    return rows, *law(device).crossed(rows, used, say, [f"{phase} seconds" for phase in PHASES])


def _crossed(hardware: str, folder: str, say: Say) -> Iterator[Report]:
    rows, _, errors = _solved(hardware, load_device(HARDWARE[hardware]), folder, say)
    for phase, each, time_s in zip(PHASES, errors, rows.time_s, strict=True):
        width, seen = nested_widths(each, rows.model, np.isfinite(each)), np.isfinite(each)
        pair = np.exp(each[seen]) * time_s[seen], time_s[seen]
        yield f"{ENGINE} {phase}", report_of(rows.model[seen], width[seen], time=pair)


def _fitted(hardware: str, text: str, path: str, folder: str, say: Say) -> str:
    device = device_from_text(text, path)
    rows, logs, errors = _solved(hardware, device, folder, say)
    width = rounded((half_width(errors.ravel(), np.tile(rows.model, 2)) or 0.0) + BORROWED_ENERGY)
    fits = (_record(hardware, rows, errors),)
    return with_engine(text, replace(engine_from(device, unknowns(PRIORS).values(logs)), interval=width, fits=fits))


def _record(hardware: str, rows: PhaseRows, errors: Array) -> Mapping[str, Any]:
    return record(
        f"{FOLDER} ({hardware})", rows.group, "model",
        {f"{phase}_time": each for phase, each in zip(PHASES, errors, strict=True)},
        f"--serving --device {HARDWARE[hardware]}", dropped=named(rows.dropped),
        note=f"Time only: joules and watts are those of vllm. Interval: that of seconds plus {BORROWED_ENERGY}.",
    )  # fmt: skip


FITS = {
    device: FromSet(FOLDER, partial(_fitted, hardware), partial(_crossed, hardware))
    for hardware, device in HARDWARE.items()
}
"""By device: the fit of its engine."""


def judge_phases(device_id: str, table: Any) -> Iterator[tuple[str, dict[str, Any]] | Mapping[str, int]]:
    """(what, report) of one machine's rows by phase, with the engine that its file holds; and what was dropped."""
    device = load_device(device_id)
    engine, rows = engine_on(device, ENGINE), phase_rows(table, device)
    yield rows.dropped
    width = engine.interval - BORROWED_ENERGY
    for phase, found, time_s in zip(PHASES, predict(device, engine, rows), rows.time_s, strict=True):
        seen = np.isfinite(time_s)
        if seen.any():
            yield phase, report_of(rows.model[seen], width, time=(found[seen], time_s[seen]))
