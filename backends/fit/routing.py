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
    """Token t has experts t + i stride, for i of `chosen`; fewer tokens than a stride are spread over it."""
    stride = -(-count // chosen)
    rounds, rest = divmod(tokens, count)
    first = np.arange(rest) * max(1.0, stride / tokens)
    experts = (first[:, None] + stride * np.arange(chosen)).astype(int) % count
    loads = rounds * chosen + np.bincount(experts.ravel(), minlength=count)[: count // devices]
    return float(loads.sum()), float((loads > 0).sum())


def _power_law(count: int, chosen: int, devices: int, tokens: int, exponent: float) -> tuple[float, float]:
    """Means over the same `DRAWS` for all numbers of tokens: neighbours do not differ by chance."""
    low, high = (1.0, 0.8 * tokens) if tokens * chosen > count else (0.01, 2.0)
    share = _bounded(exponent, low, high, _uniform(count))
    loads = np.minimum(np.round(share / share.sum(axis=1, keepdims=True) * tokens * chosen), tokens)
    dealt = (tokens * chosen - loads.sum(axis=1)) / devices
    of_device = loads.reshape(DRAWS, devices, count // devices)
    busiest = of_device[np.arange(DRAWS), of_device.sum(axis=2).argmax(axis=1)]
    idle = (busiest == 0.0).sum(axis=1)
    reached = count // devices - idle + np.clip(dealt, 0.0, idle)
    return float((busiest.sum(axis=1) + dealt).mean()), float(reached.mean())


def _bounded(exponent: float, low: float, high: float, uniform: Array) -> Array:
    """Quantiles of a density in proportion to x^-exponent between two bounds."""
    p = 1.0 - exponent
    found: Array = (low**p + (high**p - low**p) * uniform) ** (1.0 / p)
    return found


@cache
def _uniform(count: int) -> Array:
    return np.random.default_rng(0).random((DRAWS, count))
