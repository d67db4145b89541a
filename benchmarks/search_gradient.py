"""Differentiable search with expected joules: ``python -m benchmarks.search_gradient [--framework torch|jax]``.

Every choice has logits; their softmax is how likely each option is. The loss is the expectation of joules less what the
expected accuracy is worth, and one step goes down its gradient: through the framework for the softmax and the accuracy
(a supernet, in a real search), through wattir's own rule for the joules. Two spaces: the widths of a small network, and
the 9^22 networks of FBNet, of which each position has one of nine blocks (``--space fbnet``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import wattir
from benchmarks.nas_networks import fbnet, tables_by_choice
from benchmarks.search_task import NAMES, WIDTHS, WORTH_J, Array, cost_model, gains, show
from wattir.expected import Expected
from wattir.priced import PricedSpace

STEPS = 150
RATE = 0.3


def search_torch(
    expected: Expected, worth: Array, steps: int = STEPS, rate: float = RATE
) -> tuple[Array, list[float]]:  # fmt: skip
    """The likeliest candidate in the end, and the expected joules before each step; with PyTorch's Adam.

    `worth` [choices, options] is what an option's accuracy is worth in joules.
    """
    import torch

    worths = torch.tensor(worth, dtype=torch.float64)
    logits = torch.zeros(worths.shape, dtype=torch.float64, requires_grad=True)
    optimiser, path = torch.optim.Adam([logits], lr=rate), []
    for _ in range(steps):
        optimiser.zero_grad()
        likely = torch.softmax(logits, dim=1)
        joules = expected(**dict(zip(expected.values, likely, strict=True)))
        path.append(joules.item())
        ((joules - (likely * worths).sum()) / joules.detach()).backward()
        optimiser.step()
    return logits.detach().numpy().argmax(axis=1), path


def search_jax(
    expected: Expected, worth: Array, steps: int = STEPS, rate: float = RATE
) -> tuple[Array, list[float]]:  # fmt: skip
    """The same with JAX, compiled, by plain steps along the normalised gradient."""
    import jax
    import jax.numpy as jnp

    def loss(logits: Any) -> tuple[Any, Any]:
        likely = jax.nn.softmax(logits, axis=1)
        joules = expected(**dict(zip(expected.values, likely, strict=True)))
        return joules - (likely * jnp.asarray(worth)).sum(), joules

    @jax.jit
    def step(logits: Any) -> tuple[Any, Any]:
        slope, joules = jax.grad(loss, has_aux=True)(logits)
        return logits - rate * slope / jnp.abs(slope).max(axis=1, keepdims=True), joules

    logits, path = jnp.zeros(worth.shape), []
    for _ in range(steps):
        logits, joules = step(logits)
        path.append(float(joules))
    return np.asarray(logits).argmax(axis=1), path


SEARCHES: dict[str, Callable[..., tuple[Array, list[float]]]] = {"torch": search_torch, "jax": search_jax}


def search_widths(model: wattir.CostModel, framework: str) -> tuple[Array, list[float]]:
    """The search among the widths of `search_task`."""
    return SEARCHES[framework](model.expected(dict.fromkeys(NAMES, WIDTHS)), WORTH_J * gains())


def search_fbnet(price: PricedSpace, framework: str) -> tuple[Array, list[float]]:
    """The search among the networks of FBNet."""
    return SEARCHES[framework](price.expected(), fbnet_worth(price))


def fbnet_worth(price: PricedSpace) -> Array:
    """What a stand-in for accuracy is worth [positions, blocks], in joules: more where a block is wide, its kernel
    large or its position late, in shares of the dearest block there, so that no block is best everywhere."""
    gain = np.add.outer((0.0, 0.35, 0.6), (0.0, 0.05, 0.08)).ravel()
    late = np.linspace(0.5, 1.5, len(price.space.names))
    return np.outer([table.sums[:, 0].max() for table in tables_by_choice(price)] * late, gain)


def best_fbnet(price: PricedSpace) -> Array:
    """The best of all networks of FBNet, whose joules add up over the positions: the best block of each."""
    joules = np.stack([table.sums[:, 0] for table in tables_by_choice(price)])
    return np.asarray((joules - fbnet_worth(price)).argmin(axis=1))


def main() -> None:
    """Searches and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_gradient", description=__doc__)
    parser.add_argument("--hw", default="h100_sxm", help="a machine (default: %(default)s)")
    parser.add_argument("--framework", choices=SEARCHES, default="torch", help="(default: %(default)s)")
    parser.add_argument("--space", choices=("widths", "fbnet"), default="widths", help="(default: %(default)s)")
    options = parser.parse_args()
    if options.space == "fbnet":
        price = fbnet().compile(options.hw)
        found, path = search_fbnet(price, options.framework)
        labels = (labels[block] for labels, block in zip(price.space.labels.values(), found, strict=True))
        print(f"gradient ({options.framework}): {' '.join(labels)}")
        print(f"best at {(found == best_fbnet(price)).sum()} of {len(found)} positions after {len(path)} steps")
    else:
        model = cost_model(options.hw)
        found, path = search_widths(model, options.framework)
        show(model, f"gradient ({options.framework})", found, f"{len(path)} steps")
    print(f"expected joules: {1e3 * path[0]:.3f} mJ before the first step, {1e3 * path[-1]:.3f} mJ before the last")


if __name__ == "__main__":
    main()
