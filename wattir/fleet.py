"""A fleet's joules top-down: what a query costs where throughput and node power are already known.

    E = PUE * P_node * u * L_out / TPS(L_in, L_out)          joules at the meter of the site, decode alone
    ln TPS = b0 + b1 ln L_in + b2 ln L_out                   least squares over the measured points, capped at their top

The output length, the utilisation u and the PUE are drawn; a day of the fleet is queries times the mean. Source of
method and inputs: Oviedo et al., Energy Use of AI Inference (arXiv 2509.20241). What it leaves out: the prefill, the
error of the throughput law, and that P_node is a nameplate; `wattir.fleet_predict` asks for none of the three.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from wattir.errors import FleetError, suggestion
from wattir.reading import read_toml

Array = np.ndarray[Any, np.dtype[np.float64]]

PUBLISHED = os.path.join(os.path.dirname(__file__), "fleet.toml")
Z95 = 1.645
"""Standard normal quantile of 95 %, to the digits of the source."""
LEAST_POINTS = 3
"""A throughput law has three coefficients; with fewer points the largest throughput stands for all lengths."""
MOST_DRAWS = 10_000_000
SERVED = ("model", "device", "tp_size", "ep_size", "pp_size", "dp_size", "weights", "kv_cache")
"""Keys of how a model is served; the first two are required."""
J_PER_WH = 3600.0


@dataclass(frozen=True, slots=True)
class Spread:
    """A lognormal given by its 5 % and 95 % quantiles."""

    p5: float
    p95: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p95 / self.p5) / (2.0 * Z95)

    @property
    def median(self) -> float:
        """exp(ln p5 + 1.645 sigma)."""
        return math.sqrt(self.p5 * self.p95)

    def draw(self, rng: np.random.Generator, draws: int) -> Array:
        """That many values."""
        return rng.lognormal(math.log(self.median), self.sigma, draws)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model on its node: `node_w` of the nameplate, `points` of (input tokens, output tokens, output tokens/s);
    `served`: the published model, its machine and how it lies on it (`wattir.fleet_predict`)."""

    id: str
    name: str
    parameters: float
    node_w: float
    points: tuple[tuple[float, float, float], ...]
    served: Mapping[str, Any] | None = None

    @property
    def most_tokens_per_s(self) -> float:
        """The largest throughput measured."""
        return max(point[2] for point in self.points)

    def law(self) -> tuple[float, float, float]:
        """b0, b1, b2 of the throughput law."""
        if len(self.points) < LEAST_POINTS:
            return math.log(self.most_tokens_per_s), 0.0, 0.0
        logs = np.log(np.array(self.points))
        columns = np.column_stack([np.ones(len(logs)), logs[:, :2]])
        b0, b1, b2 = np.linalg.lstsq(columns, logs[:, 2], rcond=None)[0].tolist()
        return b0, b1, b2

    def tokens_per_s(self, input_tokens: float, output_tokens: Array) -> Array:
        """Output tokens per second of the whole node at these lengths."""
        b0, b1, b2 = self.law()
        found = np.exp(b0 + b1 * math.log(input_tokens) + b2 * np.log(output_tokens))
        return np.minimum(found, self.most_tokens_per_s)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked and how the node runs; `output_tokens` is the median of an exponential."""

    input_tokens: float
    output_tokens: float
    utilisation: Spread
    pue: Spread


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet file: its models, the workloads by name, and the levers. `long_gain` divides the long queries' joules."""

    source: str
    models: tuple[ServedModel, ...]
    workloads: Mapping[str, Workload]
    levers: Mapping[str, Spread]
    blend_parameters: float
    queries: float
    overheads: tuple[float, ...]
    long_share: float
    long_gain: float


def query_j(model: ServedModel, work: Workload, draws: int, rng: np.random.Generator) -> Array:
    """Joules per query, that many draws of it; the lengths one from each of as many equally likely strata."""
    chance = (np.arange(draws) + rng.random(draws)) / draws
    lengths = np.maximum(np.round(work.output_tokens * -np.log2(1.0 - chance)), 1.0)
    power_w = work.pue.draw(rng, draws) * model.node_w * work.utilisation.draw(rng, draws)
    joules: Array = power_w * lengths / model.tokens_per_s(work.input_tokens, lengths)
    return joules


def between(values: Array, low: float, high: float) -> Array:
    """The values from one percentile to another."""
    ends = np.percentile(values, (low, high))
    kept: Array = values[(values >= ends[0]) & (values <= ends[1])]
    return kept


def blended(parts: Sequence[Array]) -> Array:
    """Several models' draws as one: each cut to its P5 to P95, the rest to its P10 to P90, then pooled."""
    return np.concatenate([between(between(part, 5, 95), 10, 90) for part in parts])


def quartiles(values: Array) -> dict[str, float]:
    """`median_j`, `q1_j`, `q3_j` and `mean_j`."""
    q1, median, q3 = np.percentile(values, (25, 50, 75)).tolist()
    return {"median_j": median, "q1_j": q1, "q3_j": q3, "mean_j": float(values.mean())}


def simulate(fleet: Fleet, draws: int = 100_000, seed: int = 0) -> dict[str, Any]:
    """Joules per query of every model, of the blend of the large ones and under each lever; joules of a day.

    `workloads` maps each workload to `models`, `blend` and `levers`, all of them `quartiles`; `day` to joules: all
    traditional, all long, mixed, and mixed with the long ones improved.
    """
    if not 1000 <= draws <= MOST_DRAWS:
        raise FleetError(f"draws = {draws}; expected from 1000 to {MOST_DRAWS}")
    found: dict[str, Any] = {}
    means: list[float] = []
    for name, work in fleet.workloads.items():
        rng = np.random.default_rng(seed)
        drawn = {model.id: query_j(model, work, draws, rng) for model in fleet.models}
        large = [drawn[model.id] for model in fleet.models if model.parameters >= fleet.blend_parameters]
        blend = blended(large or list(drawn.values()))
        means.append(float(np.mean(large or list(drawn.values()))))
        found[name] = {
            "models": {model: quartiles(values) for model, values in drawn.items()},
            "blend": quartiles(blend),
            "levers": {
                lever: quartiles(blend / gain.draw(rng, len(blend))) for lever, gain in fleet.levers.items()
            },
        }  # fmt: skip
    return {"draws": draws, "seed": seed, "workloads": found, "day": _day(fleet, means[0], means[-1])}


def _day(fleet: Fleet, query: float, long_query: float) -> dict[str, float]:
    """Joules a day: of the mean query of the large models, times the queries and the fleet's overheads."""
    times, share = fleet.queries * math.prod(fleet.overheads), fleet.long_share
    rest = (1.0 - share) * query
    return {
        "traditional_j": times * query,
        "long_j": times * long_query,
        "mixed_j": times * (rest + share * long_query),
        "improved_j": times * (rest + share * long_query / fleet.long_gain),
    }


def load_fleet(path: str = PUBLISHED) -> Fleet:
    """A fleet file; FleetError names the file, the key and what was expected."""
    return _Reader(path).fleet(read_toml(path, "a fleet file in TOML", FleetError))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes a fleet file apart; `where` names it in errors."""

    where: str

    def fleet(self, table: Mapping[str, Any]) -> Fleet:
        self._keys(table, ("source", "workload", "levers", "fleet", "models"), "")
        work, whole = self._table(table, "workload"), self._table(table, "fleet")
        names = ("input_tokens", "output_tokens", "utilisation", "pue", "blend_parameters")
        self._keys(work, names, "workload ")
        self._keys(whole, ("queries", "overheads", "long_share", "long_gain"), "fleet ")
        medians = self._numbers(work, "output_tokens", "workload ", 1e9)
        if len(medians) > 2:
            raise FleetError(f"{self.where}: workload output_tokens has {len(medians)} values; expected 1 or 2 medians")
        models = self._table(table, "models")
        return Fleet(
            source=str(table["source"]),
            models=tuple(self._model(name, self._table(models, name)) for name in models),
            workloads={
                name: Workload(self._number(work, "input_tokens", "workload ", 1e9), median,
                               self._spread(work, "utilisation", "workload "), self._spread(work, "pue", "workload "))
                for name, median in zip(("traditional", "long"), medians, strict=False)
            },
            levers={name: self._spread(table["levers"], name, "levers ") for name in self._table(table, "levers")},
            blend_parameters=self._number(work, "blend_parameters", "workload ", 1e15),
            queries=self._number(whole, "queries", "fleet ", 1e15),
            overheads=tuple(self._numbers(whole, "overheads", "fleet ", 10.0)),
            long_share=self._number(whole, "long_share", "fleet ", 1.0),
            long_gain=self._number(whole, "long_gain", "fleet ", 1e6),
        )  # fmt: skip

    def _model(self, name: str, table: Mapping[str, Any]) -> ServedModel:
        key = f"models.{name} "
        names = tuple(field.name for field in fields(ServedModel) if field.name not in ("id", "served"))
        self._keys(table, names, key, ("served",))
        points = table["points"]
        if not isinstance(points, list) or not points:
            raise FleetError(
                f"{self.where}: {key}points = {points!r}; expected [[input, output tokens, tokens/s], ...]"
            )
        rows = [self._numbers({"points": point}, "points", key, 1e9) for point in points]
        if any(len(row) != 3 for row in rows):
            raise FleetError(f"{self.where}: {key}points: a point is not [input tokens, output tokens, tokens/s]")
        return ServedModel(
            name, str(table["name"]), self._number(table, "parameters", key, 1e15),
            self._number(table, "node_w", key, 1e6), tuple((row[0], row[1], row[2]) for row in rows),
            self._served(table, key),
        )  # fmt: skip

    def _served(self, table: Mapping[str, Any], at: str) -> Mapping[str, Any] | None:
        if "served" not in table:
            return None
        served = self._table(table, "served")
        self._keys(served, SERVED[:2], f"{at}served ", SERVED[2:])
        return served

    def _keys(
        self, table: Mapping[str, Any], names: Sequence[str], at: str, others: Sequence[str] = ()
    ) -> None:  # fmt: skip
        for key in table:
            if key not in (*names, *others):
                raise FleetError(f"{self.where}: unknown key {at}{key!r}{suggestion(key, (*names, *others))}")
        for name in names:
            if name not in table:
                raise FleetError(f"{self.where}: {at}{name!r} is missing; see wattir/fleet.toml for a whole file")

    def _table(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = table[key]
        if not isinstance(found, Mapping) or not found:
            raise FleetError(f"{self.where}: {key} = {found!r}; expected a table with entries")
        return found

    def _number(self, table: Mapping[str, Any], key: str, at: str, most: float) -> float:
        value = table[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            raise FleetError(f"{self.where}: {at}{key} = {value!r}; expected a number above 0 and up to {most:g}")
        return float(value)

    def _numbers(self, table: Mapping[str, Any], key: str, at: str, most: float) -> list[float]:
        values = table[key]
        if not isinstance(values, list) or not values:
            raise FleetError(f"{self.where}: {at}{key} = {values!r}; expected a list of numbers")
        return [self._number({key: value}, key, at, most) for value in values]

    def _spread(self, table: Mapping[str, Any], key: str, at: str) -> Spread:
        ends = self._numbers(table, key, at, 1e6)
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise FleetError(f"{self.where}: {at}{key} = {table[key]!r}; expected [P5, P95] with P5 below P95")
        return Spread(*ends)
