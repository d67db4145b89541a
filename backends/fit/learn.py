"""What the physics gets wrong by a library's habits: boosted trees over a kernel's shape, by family, math and library.

Trained on logarithms of measured over predicted seconds, and of joules given the measured seconds, with LightGBM; used
as `wattir.roofline.correction` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from wattir.device import Correction, Device
from wattir.machine import row_of
from wattir.roofline import FEATURES, MOST_CORRECTED, SPECIAL_OPS, features
from wattir.trees import LEAF, Node, pack
from wattir.work import CELLS

from .cross_validate import fold_of
from .library import spread_of, without_spread
from .model import kernel_costs, predict
from .rows import Array, Rows, drawn, plain
from .solve import energy_given_time

LEAST_ROWS = 40
"""Of a kind of kernel, in at least `LEAST_GROUPS` groups: fewer tell no habits."""
LEAST_GROUPS = 5
LEAST_OFFSET_GROUPS = 3
"""Of fewer rows with joules than `LEAST_ROWS`, which may be right or wrong by an offset alone."""
UNSEEN = 4.0
"""Left out by group, B200: latent products' energies, 16 rows of 3 groups, 33 % to 17; fused recurrent, 24 of 5, 34 %
to 11; the products' scales, 23 of 6, 7.9 % to 2.4."""
MOST_ROWS = 30000
"""Of more, as many are drawn, for time."""
ROUNDS = 100
TIME_ROWS_PER_LEAF, POWER_ROWS_PER_LEAF = 50, 120
"""Watts are noisier than seconds: trees as fine as those of time learn the meter's noise."""
MOST_TOGETHER = 6000
"""Kinds of experts that differ by how tokens are spread alone (`spread_of`) learn together while they have so few rows.
Left out by group, time on B200: w4a8 9.6 % instead of 12.4, fp8 in blocks by DeepGEMM 5.1 instead of 5.8, products
without gates 6.3 instead of 9.0 in fp4 and 18 instead of 21 in bf16; of the 13,000 rows of vLLM's they tell nothing."""
MOST_LEAVES = 190
FEW = 200
"""Of up to this many rows trees of either fineness are tried."""
INNER_FOLDS = 5
MOST_TRIED = 1000
"""Of more rows, as many are drawn to see whether a correction wins on groups that it did not learn from."""
Fineness = tuple[int, int]
"""The least leaves of a tree, and the least rows of a leaf."""
MANY_ROWS: Fineness = (8, 15)
FEW_ROWS: tuple[Fineness, ...] = ((8, 4), (16, 2))
"""Of which the one is taken that leaves less of what is wrong with groups left out. Exchanges on L40S 3.2 % (its
servers' own) and 2.9 (NCCL) instead of 4.1 and 3.1, on A100 3.5 and 2.2 instead of 3.4 and 2.4."""
SURROUNDINGS = tuple(FEATURES.index(name) for name in ("ops", "bytes", "intensity"))
"""What does not correct a contraction: its bytes and its fused operations are its surroundings', not its own."""
MODULES = ("mla",)
"""Families measured as whole modules of a layer, whose bytes and operations are all their own. Left out by group, in
seconds and joules of prompts on B200: fp4 2.5 and 9.0 % instead of 3.4 and 9.9, fp8 in blocks 3.5 and 9.9 instead of
4.1 and 11.0. Decode attention is none of them: its seconds came out 2 to 7 % worse in the mean."""
SPREAD = len(FEATURES)
"""One more column, by which kinds that learn together are told apart; each keeps the trees with this decided."""
Kind = tuple[str, str]
"""Family and math."""


def learned(device: Device, rows: Rows) -> Device:
    """The device with a correction for every kind of kernel of which there are enough rows of it alone, where it wins
    on groups of rows that it did not learn from."""
    found = dict(device.corrections)
    for kinds, samples in _lessons(rows):
        made = _corrections(device, rows.take(samples), [spread_of(family) for family, _ in kinds])
        keys = [row_of(device, *kind, strict_fp32=True).key for kind in kinds]
        found |= zip(keys, made, strict=True)
    return replace(device, corrections={key: each for key, each in found.items() if each.time or each.power})


def taught(device: Device, rows: Rows) -> Array:
    """Which samples the corrections of a device that `learned` from these rows are from."""
    found = np.zeros(rows.samples, bool)
    for kinds, samples in _lessons(rows):
        found[samples] = row_of(device, *kinds[0], strict_fp32=True).key in device.corrections
    return found


def _lessons(rows: Rows) -> Iterator[tuple[list[Kind], Array]]:
    """Kinds of kernel that learn together, and the samples that teach their corrections, where there are enough."""
    for each in _alike(rows):
        samples = np.sort(np.concatenate(list(each.values())))
        if len(samples) >= LEAST_ROWS and len(set(rows.group[samples].tolist())) >= LEAST_GROUPS:
            yield list(each), samples[drawn(len(samples), MOST_ROWS)]


def _alike(rows: Rows) -> Iterator[dict[Kind, Array]]:
    """The samples of kinds of kernel that differ by how tokens are spread alone, or of each where those are many."""
    found: dict[Kind, dict[Kind, Array]] = {}
    for kind, samples in _kinds_alone(rows):
        if len(samples):
            found.setdefault((without_spread(kind[0]), kind[1]), {})[kind] = samples
    for each in found.values():
        many = sum(map(len, each.values())) > MOST_TOGETHER
        yield from ({kind: samples} for kind, samples in each.items()) if many else (each,)


def _kinds_alone(rows: Rows) -> Iterator[tuple[Kind, Array]]:
    """Each kind of kernel, and the samples that are of no other."""
    lowest, highest = np.full(rows.samples, len(rows.kinds)), np.full(rows.samples, -1)
    np.minimum.at(lowest, rows.sample, rows.kind_index)
    np.maximum.at(highest, rows.sample, rows.kind_index)
    layers = (lowest == highest) & (rows.host_ops <= 1.0)
    return ((kind, np.flatnonzero(layers & (lowest == i))) for i, kind in enumerate(rows.kinds))


def _corrections(device: Device, rows: Rows, spreads: Sequence[float]) -> list[Correction]:
    """One correction for each of the spreads that the rows are of."""
    bare = replace(device, corrections={})
    spread = np.array([spread_of(family) for family, _ in rows.kinds])[rows.kind_index]
    table = np.column_stack([_own(table_of(bare, rows), plain(rows.present[0][0])), spread])
    group = rows.group[rows.sample]
    kernels = len(table) / rows.samples
    wrong = np.log(rows.time_s / predict(bare, rows)[0])[rows.sample]
    time = _ensemble(table, wrong, group, TIME_ROWS_PER_LEAF * kernels)
    if not time:  # power is learned given the measured seconds: it would add to what their error hides
        return [Correction("", "")] * len(spreads)
    given = np.log(rows.energy_j / energy_given_time(bare, rows))[rows.sample]
    power = _ensemble(table, given, group, POWER_ROWS_PER_LEAF * kernels)
    return [Correction(_text(time, each), _text(power, each)) for each in spreads]


def _own(table: Array, family: str) -> Array:
    """The features of kernels of a family, with zeros for what is not their own."""
    shared = table[:, 1].max() > 0.0 and family not in MODULES  # others are fused into contractions
    hidden = np.isin(np.arange(table.shape[1]), SURROUNDINGS) & shared
    return np.where(hidden, 0.0, table)


def _text(trees: Sequence[Node], spread: float) -> str:
    return pack([_of_spread(tree, spread) for tree in trees]) if trees else ""


def _of_spread(node: Node, spread: float) -> Node:
    """What a tree asks once it is known how tokens are spread."""
    if len(node) == 2:
        return node
    feature, threshold, smaller, larger = node
    if feature == SPREAD:
        return _of_spread(smaller if spread <= threshold else larger, spread)
    return feature, threshold, _of_spread(smaller, spread), _of_spread(larger, spread)


def _ensemble(table: Array, wrong: Array, group: Array, rows_per_leaf: float) -> list[Node]:
    """The trees that predict what is wrong, of few rows one leaf; none where they lose on groups left out."""
    seen = np.isfinite(wrong)
    table, wrong, group = table[seen], np.clip(wrong[seen], -MOST_CORRECTED, MOST_CORRECTED), group[seen]
    if len(wrong) < LEAST_ROWS:
        return [(LEAF, _offset(wrong))] if _offset_wins(wrong, group) else []
    choices = FEW_ROWS if len(wrong) <= FEW else (MANY_ROWS,)
    left = {each: _left(table, wrong, group, rows_per_leaf, each) for each in choices}
    best = min(choices, key=left.__getitem__)
    return _nodes(*_boosted(table, wrong, rows_per_leaf, best)) if left[best] < 1.0 else []


def _offset(wrong: Array) -> float:
    """What few rows say is wrong with all: their median, drawn to nothing by `UNSEEN` rows of which nothing is."""
    return float(np.median(wrong)) * len(wrong) / (len(wrong) + UNSEEN)


def _offset_wins(wrong: Array, group: Array) -> bool:
    """Whether the offset of the other groups leaves less of what is wrong than there was, each group left out."""
    names = np.unique(group)
    if len(names) < LEAST_OFFSET_GROUPS:
        return False
    rest = [wrong[group == name] - _offset(wrong[group != name]) for name in names]
    return bool(np.abs(np.concatenate(rest)).sum() < np.abs(wrong).sum())


def _left(table: Array, wrong: Array, group: Array, rows_per_leaf: float, fineness: Fineness) -> float:
    """The share of what is wrong that a correction leaves so on groups that it has not seen; below 1 it wins."""
    tried = drawn(len(wrong), MOST_TRIED)
    table, wrong, group = table[tried], wrong[tried], group[tried]
    fold = fold_of(group, np.full(len(group), ""), INNER_FOLDS)
    if not fold.any():
        return math.inf  # of one group nothing can be left out
    rest = [_rest(table, wrong, fold == number, rows_per_leaf, fineness) for number in np.unique(fold)]
    was = float(np.abs(wrong).sum())
    return float(np.abs(np.concatenate(rest)).sum()) / was if was else math.inf


def _rest(table: Array, wrong: Array, held: Array, rows_per_leaf: float, fineness: Fineness) -> Array:
    """What is still wrong with the rows held out, after a correction by the others."""
    model, used = _boosted(table[~held], wrong[~held], rows_per_leaf, fineness)
    found: Array = wrong[held] - model.predict(table[held][:, used])
    return found


def _boosted(table: Array, wrong: Array, rows_per_leaf: float, fineness: Fineness) -> tuple[Any, list[int]]:
    """A model of LightGBM, and which columns it looks at: of `FEATURES`, and `SPREAD`."""
    import lightgbm

    used = [i for i in range(table.shape[1]) if np.ptp(table[:, i]) > 0.0]
    least_leaves, least_rows = fineness
    settings = {
        "objective": "l1", "num_leaves": int(np.clip(len(wrong) / rows_per_leaf, least_leaves, MOST_LEAVES)),
        "learning_rate": 0.12, "min_data_in_leaf": least_rows,
        "max_bin": 255, "use_missing": False, "verbose": -1,
        "deterministic": True, "force_col_wise": True, "num_threads": 1, "seed": 0,
    }  # fmt: skip
    return lightgbm.train(settings, lightgbm.Dataset(table[:, used], wrong), ROUNDS), used


def _nodes(model: Any, used: list[int]) -> list[Node]:
    return [_node(tree["tree_structure"], used) for tree in model.dump_model()["tree_info"]]


def _node(found: Any, used: list[int]) -> Node:
    if "leaf_value" in found:
        return LEAF, float(found["leaf_value"])
    threshold = float(np.float32(found["threshold"]))
    children = (_node(found[side], used) for side in ("left_child", "right_child"))
    return used[found["split_feature"]], threshold, *children


SHAPE = ("macs_causal", "m", "n", "k", "groups", "window", "in_points", "tokens", "experts")
"""The cells that `features` takes as they are."""


def table_of(device: Device, rows: Rows) -> Array:
    """The features of every kernel [kernels, `FEATURES`]."""
    seconds, _ = kernel_costs(device, rows)
    cells = {name: rows.work[:, place] for place, name in enumerate(CELLS)}
    ops = cells["ops"] + SPECIAL_OPS * cells["special"]
    moved = cells["weight_bytes"] + cells["activation_bytes"] + cells["state_bytes"]
    columns = [cells[name] for name in SHAPE]
    return _loop()(np.stack([*columns, ops, moved, seconds], axis=1), float(device.units))  # type: ignore[no-any-return]


@lru_cache
def _loop() -> Any:
    from numba import njit

    import_module("wattir.backends.engine")  # lets compiled code call the formula's parts
    compiled: Any = njit(features)

    @njit
    def loop(cells: Any, units: float) -> Any:
        table = np.empty((len(cells), len(FEATURES)))
        for i in range(len(cells)):
            c = cells[i]
            found = compiled(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], units)
            for j in range(len(FEATURES)):
                table[i, j] = found[j]
        return table

    return loop
