"""The 90 % interval of a device: quantiles of what the fit got wrong on rows that it had not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wattir.interval import LEVEL, WAITING_WIDTH

from .rows import Array

NETWORK_OF_LAYER = 0.5
"""Width for whole networks over width for layers, where only one of them was measured. Where both were, the files of
2026-11-27 have 0.34 on h200_sxm (19 networks), 0.32 on a30 (5), 0.43 and 0.22 on the GTX cards (BERTs alone). This is
of the time when the widths of networks held their kernels' own too (0.47 on h200_sxm, 0.69 on a30): on the wide side.
"""
LEAST_NETWORK = 0.1
BORROWED_ENERGY = 0.25
"""What energies borrowed from a relative add to an interval in log space."""

RULE = "90 % quantile of |log E - log E_hat| over rows whose groups were left out whole"
LAYERS = "layer: every set and family of kernels counting the same"
NETWORKS = (
    "network: what totals take besides their kernels' own widths, of the widest set, every model counting the same, "
    f"less {WAITING_WIDTH} for the share of waiting for the host"
)


def half_width(
    errors: Array, cells: Array, sets: Array | None = None, level: float = LEVEL, groups: Array | None = None
) -> float | None:
    """The quantile of absolute log errors, with split conformal's correction for few groups; NaN are left out.

    Every set counts the same (`sets`; without: all are one), and in it every cell (a model, or a family of kernels),
    however many samples it has. `groups`: what was left out whole (without: every sample by itself). The rows of a
    model err alike, so a hundred rows of three models say no more of a fourth than three samples do.
    """
    kept = np.flatnonzero(np.isfinite(errors))
    if not len(kept):
        return None
    shares = _shares(cells[kept], np.zeros(len(kept)) if sets is None else sets[kept])
    return _quantile(np.abs(errors[kept]), shares, _corrected(level, kept if groups is None else groups[kept]))


def widest(errors: Array, cells: Array, sets: Array, groups: Array) -> float | None:
    """The largest of the sets' own quantiles, so that nine of ten are held in each, however wide the others are.

    In a set every cell counts the same; corrected for few groups in all of them together. One quantile of all sets
    held 94 % of the modules of a GTX 1080 Ti and 82 % of its models.
    """
    kept = np.isfinite(errors)
    if not kept.any():
        return None
    wanted = _corrected(LEVEL, groups[kept])
    parts = (kept & (sets == each) for each in np.unique(sets[kept]))
    return max(_quantile(np.abs(errors[part]), _shares(cells[part], sets[part]), wanted) for part in parts)


def _corrected(level: float, groups: Array) -> float:
    """The share to hold of what was seen, so that `level` of what was not is held."""
    return min(level * (1.0 + 1.0 / len(np.unique(groups))), 1.0)


def _quantile(widths: Array, shares: Array, wanted: float) -> float:
    """The least of the widths that holds this share of all."""
    order = np.argsort(widths)
    at = int(np.searchsorted(np.cumsum(shares[order]), wanted - 1e-9))
    return float(widths[order][min(at, len(widths) - 1)])


def _shares(cells: Array, sets: Array) -> Array:
    """What every sample counts; in all 1."""
    _, of_set = np.unique(sets, return_inverse=True)
    _, of_cell = np.unique(cells, return_inverse=True)
    _, first, which, counts = np.unique(
        of_set * len(cells) + of_cell, return_index=True, return_inverse=True, return_counts=True
    )
    cells_of_set = np.bincount(of_set[first])
    shares: Array = 1.0 / (counts[which] * cells_of_set[of_set] * len(cells_of_set))
    return shares


def interval(layer: float | None, network: float | None) -> dict[str, Any]:
    """The table of a device file from the two quantiles, of which one may be missing."""
    if layer is None:
        assert network is not None
        rule = f"{NETWORKS}; layer: that over {NETWORK_OF_LAYER}, the ratio on devices with both (no layers measured)"
        return {"layer": network / NETWORK_OF_LAYER, "network": network, "source": f"{RULE}; {rule}"}
    if network is None:
        rule = f"{LAYERS}; network: {NETWORK_OF_LAYER} of that, the ratio on devices with both (no networks measured)"
        return {"layer": layer, "network": max(NETWORK_OF_LAYER * layer, LEAST_NETWORK), "source": f"{RULE}; {rule}"}
    return {"layer": max(layer, network), "network": network, "source": f"{RULE}; {LAYERS}; {NETWORKS}"}


def borrowed_energy(time: Mapping[str, Any], beyond: float = BORROWED_ENERGY) -> dict[str, Any]:
    """Where only seconds were measured, of layers or of networks: their interval, and what energies add."""
    rule = "90 % quantile of the left-out rows' log error of time" + time["source"].removeprefix(RULE)
    return {
        "layer": time["layer"] + beyond, "network": time["network"] + beyond,
        "families": {key: width + beyond for key, width in time["families"].items()},
        "source": f"{rule}; plus {beyond} for energies that were borrowed",
    }  # fmt: skip


def no_surer(table: Mapping[str, Any], lent: Mapping[str, float], groups: Mapping[str, int]) -> dict[str, Any]:
    """The table with the `lent` half-width of a layer or a network, of joules as of seconds, where it is the larger one
    and so few `groups` were left out that their own largest error is no 90 % quantile (split conformal:
    1 / (1 - level) - 1)."""
    few = {name: width for name, width in lent.items() if groups[name] < LEAST_GROUPS}
    wider = [name for name, width in few.items() if width > table[name]]
    said = "".join(f"; {name}: that of a machine without rows, as {groups[name]} groups tell none" for name in wider)
    return {**_at_least(table, few), "time": _at_least(table["time"], few), "source": table["source"] + said}


def _at_least(table: Mapping[str, Any], few: Mapping[str, float]) -> dict[str, Any]:
    return {**table, **{name: max(width, table[name]) for name, width in few.items()}}


LEAST_GROUPS = round(1.0 / (1.0 - LEVEL)) - 1


def beyond_waiting(errors: Array, waiting_share: Array) -> Array:
    """Errors less what the interval adds by itself for waiting."""
    return np.maximum(np.abs(errors) - WAITING_WIDTH * waiting_share, 0.0)
