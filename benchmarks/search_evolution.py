"""A plain evolutionary search with joules in its loop: ``python -m benchmarks.search_evolution [--hw ID]``.

Every generation is one call of the cost model. Prints the best candidate found beside the best of all, and the Pareto
front of joules against the stand-in for accuracy among the candidates seen.
"""

from __future__ import annotations

import argparse

import numpy as np

import wattir
from benchmarks.search_task import NAMES, WIDTHS, Array, accuracy, cost_model, joules, loss, show


def search(model: wattir.CostModel, generations: int = 20, population: int = 32, seed: int = 0) -> Array:
    """All candidates that were asked about, in order of their loss [candidates, names].

    The better half of each generation lives on; the other half is made anew from it, each child of two parents, with
    one width changed.
    """
    rng = np.random.default_rng(seed)
    living = rng.integers(0, len(WIDTHS), (population, len(NAMES)))
    seen = [living]
    for _ in range(generations):
        living = living[loss(model, living).argsort()[: population // 2]]
        parents = living[rng.integers(0, len(living), (2, population - len(living)))]
        children = np.where(rng.random(parents[0].shape) < 0.5, *parents)
        places = np.arange(len(children)), rng.integers(0, len(NAMES), len(children))
        children[places] = rng.integers(0, len(WIDTHS), len(children))
        living = np.concatenate([living, children])
        seen.append(children)
    every = np.unique(np.concatenate(seen), axis=0)
    return every[loss(model, every).argsort()]


def main() -> None:
    """Searches and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_evolution", description=__doc__)
    parser.add_argument("--hw", default="h100_sxm", help="a machine (default: %(default)s)")
    model = cost_model(parser.parse_args().hw)
    found = search(model)
    show(model, "evolution", found[0], f"{len(found)} candidates")
    front = wattir.pareto_front(energy_j=joules(model, found), accuracy=(accuracy(found), "max"))
    for candidate in found[front]:
        row = candidate[None]
        print(
            f"  {1e3 * joules(model, row)[0]:.3f} mJ, accuracy {accuracy(row)[0]:.2f}: {[WIDTHS[i] for i in candidate]}"
        )


if __name__ == "__main__":
    main()
