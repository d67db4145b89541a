"""Differentiable search with expected joules: ``python -m benchmarks.search_gradient [--framework torch|jax]``.

The widths of each layer have logits; their softmax is how likely each width is. The loss is the expectation of joules
less what the expected accuracy is worth, and one step goes down its gradient: through the framework for the softmax
and the accuracy (a supernet, in a real search), through wattir's own rule for the joules.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import wattir
from benchmarks.search_task import NAMES, WIDTHS, WORTH_J, Array, cost_model, gains, show

STEPS = 150
RATE = 0.3


def search_torch(model: wattir.CostModel, steps: int = STEPS, rate: float = RATE) -> tuple[Array, list[float]]:
    """The likeliest candidate in the end, and the expected joules before each step; with PyTorch's Adam."""
    import torch

    expected = model.expected(dict.fromkeys(NAMES, WIDTHS))
    worth = torch.tensor(WORTH_J * gains(), dtype=torch.float64)
    logits = torch.zeros(len(NAMES), len(WIDTHS), dtype=torch.float64, requires_grad=True)
    optimiser, path = torch.optim.Adam([logits], lr=rate), []
    for _ in range(steps):
        optimiser.zero_grad()
        likely = torch.softmax(logits, dim=1)
        joules = expected(**dict(zip(NAMES, likely, strict=True)))
        path.append(joules.item())
        ((joules - (likely * worth).sum()) / joules.detach()).backward()
        optimiser.step()
    return logits.detach().numpy().argmax(axis=1), path


def search_jax(model: wattir.CostModel, steps: int = STEPS, rate: float = RATE) -> tuple[Array, list[float]]:
    """The same with JAX, compiled, by plain steps along the normalised gradient."""
    import jax
    import jax.numpy as jnp

    expected = model.expected(dict.fromkeys(NAMES, WIDTHS))
    worth = jnp.asarray(WORTH_J * gains())

    def loss(logits: Any) -> tuple[Any, Any]:
        likely = jax.nn.softmax(logits, axis=1)
        joules = expected(**dict(zip(NAMES, likely, strict=True)))
        return joules - (likely * worth).sum(), joules

    @jax.jit
    def step(logits: Any) -> tuple[Any, Any]:
        slope, joules = jax.grad(loss, has_aux=True)(logits)
        return logits - rate * slope / jnp.abs(slope).max(axis=1, keepdims=True), joules

    logits, path = jnp.zeros((len(NAMES), len(WIDTHS))), []
    for _ in range(steps):
        logits, joules = step(logits)
        path.append(float(joules))
    return np.asarray(logits).argmax(axis=1), path


SEARCHES: dict[str, Callable[..., tuple[Array, list[float]]]] = {"torch": search_torch, "jax": search_jax}


def main() -> None:
    """Searches and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_gradient", description=__doc__)
    parser.add_argument("--hw", default="h100_sxm", help="a machine (default: %(default)s)")
    parser.add_argument("--framework", choices=SEARCHES, default="torch", help="(default: %(default)s)")
    options = parser.parse_args()
    model = cost_model(options.hw)
    found, path = SEARCHES[options.framework](model)
    show(model, f"gradient ({options.framework})", found, f"{len(path)} steps")
    print(f"expected joules: {1e3 * path[0]:.3f} mJ before the first step, {1e3 * path[-1]:.3f} mJ before the last")


if __name__ == "__main__":
    main()
