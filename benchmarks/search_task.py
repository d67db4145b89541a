"""The task of the search examples: widths of four convolutions, for few joules and much of a stand-in for accuracy.

The space has 1,296 candidates, so that its best is known from one batch call over all of them. A real search puts a
trained supernet or a predictor where `accuracy` stands.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import wattir
from benchmarks.nas_networks import small_network

WIDTHS = (16, 32, 48, 64, 96, 128)
NAMES = ("c0", "c1", "c2", "c3")
GAINS = (0.9, 0.6, 1.2, 0.5)
"""How much the stand-in gains from each layer's width."""
WORTH_J = 2e-4
"""Joules that one unit of the stand-in is worth."""

Array = np.ndarray[Any, np.dtype[Any]]


def cost_model(hw: str = "h100_sxm") -> wattir.CostModel:
    """The network as a function of its widths."""
    return wattir.compile(small_network(len(NAMES)), device=hw)


def gains() -> Array:
    """What each width of each layer adds to `accuracy` [names, widths]."""
    return np.outer(GAINS, np.log2(WIDTHS))


def accuracy(candidates: Array) -> Array:
    """The stand-in for accuracy of candidates [candidates, names], places in `WIDTHS`."""
    return np.asarray(gains()[np.arange(len(NAMES)), candidates].sum(axis=1))


def joules(model: wattir.CostModel, candidates: Array) -> Array:
    """Joules of candidates, in one call."""
    widths = np.array(WIDTHS)[candidates]
    return np.asarray(model(**dict(zip(NAMES, widths.T, strict=True))).energy_j)


def loss(model: wattir.CostModel, candidates: Array) -> Array:
    """What the searches minimise: joules less what the accuracy is worth."""
    return joules(model, candidates) - WORTH_J * accuracy(candidates)


def everyone() -> Array:
    """All candidates."""
    return np.stack(np.meshgrid(*[np.arange(len(WIDTHS))] * len(NAMES), indexing="ij"), axis=-1).reshape(-1, len(NAMES))


def best(model: wattir.CostModel) -> tuple[Array, float]:
    """The candidate with the least loss of all, and its loss."""
    candidates = everyone()
    losses = loss(model, candidates)
    return candidates[losses.argmin()], float(losses.min())


def show(model: wattir.CostModel, method: str, found: Array, effort: str) -> None:
    """What was found, with how much effort, and the best there is."""
    wanted, least = best(model)
    mine = float(loss(model, found[None])[0])
    print(f"{method}: widths {[WIDTHS[i] for i in found]}, loss {mine:.4g} after {effort}")
    print(f"best of all {len(everyone())}: widths {[WIDTHS[i] for i in wanted]}, loss {least:.4g}")
