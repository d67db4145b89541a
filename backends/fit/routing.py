"""How many rows reach one device of several that experts lie on, by what the kernel sets send there.

As aiconfigurator (collector/helper.py, ``balanced_logits`` and ``power_law_logits_v3``) makes its texts. Balanced
tokens go round all experts, and the first device is measured. Under ``power_law_a`` the loads of experts are drawn from
x^-a between 1 and 0.8 tokens (between 0.01 and 2 where choices are fewer than experts), scaled to all choices and
rounded; no expert has more rows than there are tokens, what that leaves over or short is dealt out device by device,
and the device with the most rows is measured. A row of the sets is the mean of five or ten draws.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .rows import Array

DRAWS = 32


@cache
def routed(count: int, chosen: int, devices: int, distribution: str, tokens: int) -> tuple[float, float]:
    """Rows on the measured device, and how many of its experts they reach, where each token has `chosen` of `count`."""
    if distribution.startswith("power_law"):
        return _power_law(count, chosen, devices, tokens, float(distribution.rpartition("_")[2]))
    return _balanced(count, chosen, devices, tokens)


def _balanced(count: int, chosen: int, devices: int, tokens: int) -> tuple[float, float]:
    rounds, rest = divmod(tokens, count)
    loads = rounds * chosen + np.bincount(_in_turn(count, chosen, tokens, rest).ravel(), minlength=count)
    of_device = loads[: count // devices]
    return float(of_device.sum()), float((of_device > 0).sum())


def _in_turn(count: int, chosen: int, tokens: int, first: int) -> Array:
    """The experts of the `first` tokens [first, chosen]: token t has t + i stride, for i of `chosen`; fewer tokens than
    a stride are spread over it."""
    stride = -(-count // chosen)
    start = np.arange(first) * max(1.0, stride / tokens)
    found: Array = (start[:, None] + stride * np.arange(chosen)).astype(int) % count
    return found


def _power_law(count: int, chosen: int, devices: int, tokens: int, exponent: float) -> tuple[float, float]:
    loads, busiest = _loads(count, chosen, devices, tokens, exponent)
    dealt = (tokens * chosen - loads.sum(axis=1)) / devices
    of_device = loads.reshape(DRAWS, devices, -1)[np.arange(DRAWS), busiest]
    idle = (of_device == 0.0).sum(axis=1)
    reached = count // devices - idle + np.clip(dealt, 0.0, idle)
    return float((of_device.sum(axis=1) + dealt).mean()), float(reached.mean())


def _loads(count: int, chosen: int, devices: int, tokens: int, exponent: float) -> tuple[Array, Array]:
    """Rows of every expert [`DRAWS`, count], and the device with the most: the same draws for all numbers of tokens, so
    that neighbours do not differ by chance."""
    low, high = (1.0, 0.8 * tokens) if tokens * chosen > count else (0.01, 2.0)
    share = _bounded(exponent, low, high, _uniform(count))
    loads = np.minimum(np.round(share / share.sum(axis=1, keepdims=True) * tokens * chosen), tokens)
    return loads, loads.reshape(DRAWS, devices, -1).sum(axis=2).argmax(axis=1)


@cache
def visiting(count: int, chosen: int, devices: int, distribution: str, tokens: int) -> float:
    """How many tokens have one of their experts, or more, on the measured device.

    Under a power law the experts by falling load, each as often as it has rows, are dealt to the tokens one after the
    other: an expert's tokens are an arc of the circle of all tokens, a device's the union of its experts' arcs.
    """
    local = count // devices
    if not distribution.startswith("power_law"):
        rounds, rest = divmod(tokens, count)
        visits = [(_in_turn(count, chosen, tokens, n) < local).any(axis=1).sum() for n in (min(count, tokens), rest)]
        return float(rounds * visits[0] + visits[1])
    loads, busiest = _loads(count, chosen, devices, tokens, float(distribution.rpartition("_")[2]))
    order = np.argsort(-loads, axis=1, kind="stable")
    length = np.take_along_axis(loads, order, axis=1)
    start = (np.cumsum(length, axis=1) - length) % tokens
    length = np.where(order // local == busiest[:, None], length, 0.0)
    begin, end = (np.clip(np.hstack([at, at - tokens]), 0.0, tokens) for at in (start, start + length))
    return float(_union(begin, end).mean())


def _union(begin: Array, end: Array) -> Array:
    """The length that intervals [draws, intervals] cover together [draws]."""
    order = np.argsort(begin, axis=1)
    begin, end = (np.take_along_axis(at, order, axis=1) for at in (begin, end))
    before = np.hstack([np.zeros((len(end), 1)), np.maximum.accumulate(end, axis=1)[:, :-1]])
    found: Array = np.maximum(end - np.maximum(begin, before), 0.0).sum(axis=1)
    return found


@cache
def grouped(count: int, chosen: int, devices: int, distribution: str, tokens: int) -> tuple[float, float]:
    """As `routed`, where the router is DeepSeek's: of `GROUPS` groups of experts `KEPT` are kept for each token.

    All of a token's experts have one score and all others a lower one, so groups rank by how many of the former they
    have, two at most, and by their place; experts in the groups that are dropped make way for the first others of those
    kept. Both favour the first experts, which are those of the measured device. Groups of one have no two scores: all
    rows go to the first expert (8 experts, 2 for a token: the same times on 1 to 8 devices and for all distributions).
    """
    if count < 2 * GROUPS:
        return float(tokens * chosen), 1.0
    if count % GROUPS:
        return routed(count, chosen, devices, distribution, tokens)
    asked = _asked(count, chosen, devices, distribution, tokens)
    score = np.zeros((len(asked), count), np.int8)  # narrow integers are sorted by counting
    np.put_along_axis(score, asked, 1, axis=1)
    of_group = np.minimum(score.reshape(len(asked), GROUPS, -1).sum(axis=2), 2)
    kept = np.argsort(-of_group, axis=1, kind="stable")[:, :KEPT]
    np.put_along_axis(of_group, kept, -1, axis=1)
    dropped = np.repeat(of_group >= 0, count // GROUPS, axis=1)
    taken = np.argsort(np.where(dropped, np.int8(1), -score), axis=1, kind="stable")[:, :chosen]
    share = np.bincount(taken.ravel(), minlength=count)[: count // devices] / len(asked)
    return float(share.sum() * tokens), float((1.0 - (1.0 - share) ** tokens).sum())


GROUPS, KEPT = 8, 4
SAMPLED = 32
"""Tokens of each of `SAMPLED_DRAWS` that stand for all, where there are more."""
SAMPLED_DRAWS = 8


def _asked(count: int, chosen: int, devices: int, distribution: str, tokens: int) -> Array:
    """Experts of some tokens [sampled, chosen] before a router of groups, the measured device's numbered first."""
    if not distribution.startswith("power_law"):
        return _in_turn(count, chosen, tokens, min(count, tokens))
    loads, busiest = _loads(count, chosen, devices, tokens, float(distribution.rpartition("_")[2]))
    place = np.unique(np.linspace(0, tokens - 1, SAMPLED).astype(int))[:, None] + tokens * np.arange(chosen)
    found = []
    for load, first in zip(loads[:SAMPLED_DRAWS], busiest[:SAMPLED_DRAWS], strict=True):
        blocks = load.reshape(devices, -1).copy()
        blocks[[0, first]] = blocks[[first, 0]]
        order = np.argsort(-blocks.ravel(), kind="stable")
        dealt = np.searchsorted(np.cumsum(blocks.ravel()[order]), place, side="right")
        found.append(order[np.minimum(dealt, count - 1)])
    return np.concatenate(found)


def _bounded(exponent: float, low: float, high: float, uniform: Array) -> Array:
    """Quantiles of a density in proportion to x^-exponent between two bounds."""
    p = 1.0 - exponent
    found: Array = (low**p + (high**p - low**p) * uniform) ** (1.0 / p)
    return found


@cache
def _uniform(count: int) -> Array:
    return np.random.default_rng(0).random((DRAWS, count))
