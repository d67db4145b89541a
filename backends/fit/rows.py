"""Rows: measured samples and the kernels that each of them ran, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wattir.costs import tabulate
from wattir.dims import evaluate
from wattir.ir import Graph
from wattir.work import CELLS, Work, cells_of

from .tables import one_line

Array = np.ndarray[Any, np.dtype[Any]]

WEIGHT_BYTES, ACTIVATION_BYTES, STATE_BYTES = (
    CELLS.index(name) for name in ("weight_bytes", "activation_bytes", "state_bytes")
)
"""Columns of `Rows.work`."""
JOULES_OF = "joules of"
"""How a reason in `Rows.dropped` begins where rows lost their joules alone, and are still there with their seconds."""
NO_JOULES = f"{JOULES_OF} rows where they are no positive number"


@dataclass(frozen=True)
class Rows:
    """`samples` measurements, each of one kernel (a layer) or of many (a network).

    Per kernel: `work` [kernels, cells] (the cells of `wattir.work.CELLS`), `kind_index` into `kinds` (family and
    math), `hot` (1 where the weights stay in
    the last-level cache), `times`, and the `sample` it belongs to (ascending). Per sample: seconds, joules (NaN where
    not measured), the `group` that is left out as a whole, the `label` it is reported under, how many framework ops the
    host launched one by one (0 where launches do not count), the core clock that it ran at (0 where nothing is said of
    it), and the `weight` of its residuals of time and energy.
    `dropped`: what was filtered, and why.
    """

    work: Array
    kinds: tuple[tuple[str, str], ...]
    kind_index: Array
    hot: Array
    times: Array
    sample: Array
    time_s: Array
    energy_j: Array
    group: Array
    label: Array
    host_ops: Array
    clock_hz: Array
    weight: Array
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many measurements."""
        return len(self.time_s)

    @property
    def present(self) -> tuple[tuple[str, str], ...]:
        """The kinds that kernels are of: those of samples that were taken away remain in `kinds`."""
        return tuple(self.kinds[i] for i in np.unique(self.kind_index))

    def take(self, wanted: Array) -> Rows:
        """The samples at these indices (or where this mask is true), with their kernels, in the order given."""
        index = np.flatnonzero(wanted) if wanted.dtype == bool else wanted
        position = np.full(self.samples, -1)
        position[index] = np.arange(len(index))
        kernels = np.flatnonzero(position[self.sample] >= 0)
        kernels = kernels[np.argsort(position[self.sample[kernels]], kind="stable")]
        return replace(
            self, work=self.work[kernels], kind_index=self.kind_index[kernels], hot=self.hot[kernels],
            times=self.times[kernels], sample=position[self.sample[kernels]], time_s=self.time_s[index],
            energy_j=self.energy_j[index], group=self.group[index], label=self.label[index],
            host_ops=self.host_ops[index], clock_hz=self.clock_hz[index], weight=self.weight[index],
        )  # fmt: skip

    def without(self, reasons: Mapping[str, Array]) -> Rows:
        """Without the samples where a mask is true; each mask is counted under its name."""
        bad = np.zeros(self.samples, bool)
        counts = dict(self.dropped)
        for reason, mask in reasons.items():
            counts[reason] = counts.get(reason, 0) + int((mask & ~bad).sum())
            bad |= mask
        return replace(self.take(~bad), dropped=counts)


def layer_rows(graph: Graph, sizes: Mapping[str, Array], **columns: Any) -> Rows:
    """One sample per element of the `sizes` that the graph of one op is evaluated on.

    `columns`: time_s, energy_j, group, and optionally label, hot, host_ops, clock_hz, family, math.
    """
    (work,) = tabulate(graph)
    samples = len(columns["time_s"])
    table = np.stack([np.broadcast_to(evaluate(value, sizes), samples) for value in cells_of(work)], axis=1).astype(
        float
    )
    kind = (columns.get("family", work.family), columns.get("math", work.math))
    return Rows(
        work=table, kinds=(kind,), kind_index=np.zeros(samples, int), hot=_column(columns, "hot", samples),
        times=np.ones(samples), sample=np.arange(samples), time_s=np.asarray(columns["time_s"], float),
        energy_j=np.asarray(columns["energy_j"], float), group=np.asarray(columns["group"]).astype(str),
        label=np.full(samples, columns.get("label", kind[0])), host_ops=_column(columns, "host_ops", samples),
        clock_hz=_column(columns, "clock_hz", samples), weight=np.ones((samples, 2)),
    )  # fmt: skip


def _column(columns: Mapping[str, Any], name: str, samples: int) -> Array:
    return np.broadcast_to(np.asarray(columns.get(name, 0.0), float), samples).copy()


def network_rows(graphs: Sequence[Graph | Sequence[Any]], **columns: Any) -> Rows:
    """One sample per graph (or list of Work); `columns` as in `layer_rows`."""
    works = [tabulate(graph) if isinstance(graph, Graph) else tuple(graph) for graph in graphs]
    distinct = {id(work): work for table in works for work in table}  # networks of one space share most of their Work
    place = {key: i for i, key in enumerate(distinct)}
    kinds = tuple(sorted({(work.family, work.math) for work in distinct.values()}))
    kind_index = np.array([kinds.index((work.family, work.math)) for work in distinct.values()], int)
    cells = np.array([cells_of(work) for work in distinct.values()], dtype=float).reshape(len(distinct), len(CELLS))
    times = np.array([work.times for work in distinct.values()], dtype=float)
    which = np.array([place[id(work)] for table in works for work in table], int)
    samples, kernels = len(works), len(which)
    return Rows(
        work=cells[which], kinds=kinds, kind_index=kind_index[which],
        hot=np.broadcast_to(np.asarray(columns.get("hot", 0.0), float), kernels).copy(), times=times[which],
        sample=np.repeat(np.arange(samples), [len(table) for table in works]),
        time_s=np.asarray(columns["time_s"], float), energy_j=np.asarray(columns["energy_j"], float),
        group=np.asarray(columns["group"]).astype(str),
        label=np.broadcast_to(np.asarray(columns.get("label", "network")).astype(str), samples).copy(),
        host_ops=_column(columns, "host_ops", samples), clock_hz=_column(columns, "clock_hz", samples),
        weight=np.ones((samples, 2)),
    )  # fmt: skip


def one_by_one(items: Iterable[Any], make: Callable[[Any], Any]) -> tuple[list[Any], Array, dict[str, int]]:
    """What `make` gives of each item that it knows, a mask of these, and why of no others, with their counts.

    Files hold what they hold: an odd row is one row less, whatever it trips over.
    """
    found: list[Any] = []
    reasons: dict[type, str] = {}
    counts: Counter[str] = Counter()
    for item in items:
        try:
            one, why = make(item), UNKNOWN
        except Exception as error:
            one, why = None, reasons.setdefault(type(error), f"not as the rows of this set are: {one_line(error)}")
        found.append(one)
        counts[why] += one is None
    return [one for one in found if one is not None], np.array([one is not None for one in found], bool), +counts


UNKNOWN = "of a kind without a graph"


def launches(works: Sequence[Work]) -> float:
    """How many kernels the host launches for a table of Work whose counts are numbers."""
    return float(sum(int(str(work.times)) for work in works))


def together(parts: Sequence[Rows]) -> Rows:
    """Several sets as one; kernels and samples in order."""
    kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.kinds))
    offsets = np.cumsum([0, *(part.samples for part in parts)])
    index = [np.array([kinds.index(kind) for kind in part.kinds])[part.kind_index] for part in parts]
    sample = [part.sample + offset for part, offset in zip(parts, offsets, strict=False)]
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, count in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    stacked = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("work", "hot", "times", "time_s", "energy_j", "group", "label", "host_ops", "clock_hz", "weight")
    }
    return Rows(
        kinds=kinds, kind_index=np.concatenate(index), sample=np.concatenate(sample), dropped=dropped, **stacked
    )


def drawn(samples: int, most: int, seed: int = 0) -> Array:
    """True for at most this many samples, drawn without replacement by a fixed seed."""
    found = np.ones(samples, bool)
    if samples > most:
        found[np.random.default_rng(seed).choice(samples, samples - most, replace=False)] = False
    return found


def joined(table: Any, *columns: str) -> Array:
    """One text per row of a table from several of its columns: a group to leave out."""
    texts = [table[column].tolist() for column in columns]
    return np.array(["x".join(f"{value:g}" if isinstance(value, float) else str(value) for value in row)
                     for row in zip(*texts, strict=True)], dtype=str)  # fmt: skip


def plain(family: str) -> str:
    """A family without the library that follows it."""
    return family.partition("@")[0]
