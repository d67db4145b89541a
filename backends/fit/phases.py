"""Prefill and decode of a served model as measured one by one: ``splitwise_phase_times`` (vLLM of 2023).

A row is one batch of prompts of one length, answered with one length. The engine's coefficients of time are fitted to
both phases by robust least squares on logarithms, each held by a prior; its joules stay those of the machine's other
engine, for only some A100 rows have watts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from wattir.device import Device, device_from_text, load_device
from wattir.serving import Shape, engine_on, step_cost
from wattir.serving_engine import PARTS, Engine
from wattir.serving_model import Deployment, Served
from wattir.serving_steps import Demand

from .datasets_serving import cells_of, demand_of
from .evaluate import covered, errors_of, median_ape, plain
from .fit_serving import robust, with_interval
from .intervals import BORROWED_ENERGY, half_width
from .rows import Array
from .tables import read_table
from .write import rounded, with_engine

FOLDER, ENGINE = "splitwise_phase_times", "vllm_2023"
MODELS = {"llama2-70b": "meta-llama/Llama-2-70b-hf", "bloom-176b": "bigscience/bloom"}
HARDWARE = {"a100-80gb": "a100_sxm", "h100-80gb": "h100_sxm"}
NOT_MEASURED = "-pcap"
"""Rows of a power cap: prompt times are those without it times 1.3, token times the very same."""
PHASES = ("prefill", "decode")
SAME = ["model", "tensor_parallel", "prompt_tokens", "batch_size", "output_tokens"]

PRIORS: Mapping[str, tuple[float, float]] = {
    "time dense": (1.3, 0.3), "time attention": (1.0, 0.5), "time prefill": (1.0, 0.5), "time other": (1.0, 0.5),
    "layer_s": (5e-5, 0.7), "link_s": (8e-6, 0.5), "ring_s": (8e-6, 0.7), "host_step_s": (5e-3, 0.7),
    "host_text_s": (3e-5, 0.7), "bulk_link": (1.5, 0.5), "link_of_memory": (0.05, 0.7),
}  # fmt: skip
"""Where a coefficient is without rows, and how sure that is (standard deviation of its logarithm). `link_of_memory`:
bytes per second of a link as a share of the memory's."""


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
    return PhaseRows(np.array(both).transpose(1, 0, 2), Shape(*np.array(shapes, float).T),
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


def engine_from(device: Device, logs: Array) -> Engine:
    """The engine of these coefficients; joules and watts are those of the machine's other engine."""
    values = dict(zip(PRIORS, np.exp(logs).tolist(), strict=True))
    time = dict.fromkeys(PARTS, 1.0) | {name[5:]: value for name, value in values.items() if name.startswith("time ")}
    numbers: dict[str, Any] = {name: value for name, value in values.items() if name.endswith("_s")}
    return replace(
        engine_on(device), name=ENGINE, time=time, host_layer_s=0.0, overlap=1.0, borrowed_from="",
        bulk_link=max(values["bulk_link"], 1.0), link_bytes_per_s=values["link_of_memory"] * device.memory_bytes_per_s,
        **numbers,
    )  # fmt: skip


def solve(device: Device, rows: PhaseRows, start: Array | None = None) -> Array:
    """The logarithms of the coefficients that fit rows."""
    from scipy.optimize import least_squares

    centre, spread = np.log([value for value, _ in PRIORS.values()]), np.array([each for _, each in PRIORS.values()])
    believed = np.isfinite(rows.time_s)

    def residuals(logs: Array) -> Array:
        errors = np.log(predict(device, engine_from(device, logs), rows) / rows.time_s)[believed]
        return np.concatenate([robust(errors), (logs - centre) / spread])

    return np.asarray(least_squares(residuals, centre if start is None else start, max_nfev=60).x)


def fit_phases(hardware: str, text: str, path: str, data: str, say: Callable[[str], None]) -> str | None:
    """The text of a device's file with its engine fitted; None where the data are not there."""
    folder = os.path.join(data, FOLDER)
    if not os.path.isdir(folder):
        say(f"  skipped {FOLDER}: {folder} is not there")
        return None
    device = device_from_text(text, path)
    table = read_table(folder, "data")
    rows = phase_rows(table[table.hardware.eq(hardware)], device)
    logs = solve(device, rows)
    errors = np.full(rows.time_s.shape, np.nan)
    for model in sorted(set(rows.model.tolist())):
        held = rows.model == model
        without = engine_from(device, solve(device, rows.take(~held), logs))
        errors[:, held] = np.log(predict(device, without, rows.take(held)) / rows.time_s[:, held])
        say(f"  without {model}: {_said(errors[:, held])}")
    width = half_width(errors.ravel(), np.tile(rows.model, 2)) or 0.0
    record = _record(hardware, rows, errors, os.path.basename(path).removesuffix(".toml"))
    return with_engine(text, with_interval(engine_from(device, logs), rounded(width + BORROWED_ENERGY), record))


def _said(errors: Array) -> str:
    return ", ".join(f"{phase} {100 * median_ape(each):.1f} %" for phase, each in zip(PHASES, errors, strict=True))


def _record(hardware: str, rows: PhaseRows, errors: Array, device: str) -> Mapping[str, Any]:
    return {
        "data_set": f"{FOLDER} ({hardware})", "rows": len(rows.model), "grouped_by": "model",
        "groups": len(set(rows.model.tolist())),
        **{f"{phase}_time_median_ape": round(median_ape(each), 4) for phase, each in zip(PHASES, errors, strict=True)},
        "dropped": [f"{count} {why}" for why, count in rows.dropped.items() if count],
        "date": date.today().isoformat(), "command": f"wattir fit --serving --device {device}",
        "note": f"Time only: joules and watts are those of vllm. Interval: that of seconds plus {BORROWED_ENERGY}.",
    }  # fmt: skip


def judge_phases(device_id: str, table: Any) -> Iterator[tuple[str, dict[str, Any]] | Mapping[str, int]]:
    """(what, report) of one machine's rows by phase, with the engine that its file holds; and what was dropped."""
    device = load_device(device_id)
    engine, rows = engine_on(device, ENGINE), phase_rows(table, device)
    yield rows.dropped
    for phase, found, time_s in zip(PHASES, predict(device, engine, rows), rows.time_s, strict=True):
        seen = np.isfinite(time_s)
        if seen.any():
            width = np.full(int(seen.sum()), engine.interval - BORROWED_ENERGY)
            time = errors_of(found[seen], time_s[seen]) | covered(found[seen], time_s[seen], width)
            yield phase, plain({"rows": int(seen.sum()), "groups": len(set(rows.model.tolist())), "time": time})
