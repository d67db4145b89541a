"""Optuna with joules in its loop: ``python -m benchmarks.search_optuna [--hw ID]``; needs ``optuna``.

Trials are asked for and told by the batch, so that the cost model answers all of them in one call.
"""

from __future__ import annotations

import argparse

import numpy as np

import wattir
from benchmarks.search_task import NAMES, WIDTHS, Array, cost_model, loss, show


def search(model: wattir.CostModel, batches: int = 15, batch: int = 16, seed: int = 0) -> tuple[Array, int]:
    """The best candidate of a study, and how many it asked about."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    for _ in range(batches):
        trials = [study.ask() for _ in range(batch)]
        widths = [[trial.suggest_categorical(name, WIDTHS) for name in NAMES] for trial in trials]
        for trial, value in zip(trials, loss(model, np.searchsorted(WIDTHS, widths)), strict=True):
            study.tell(trial, value)
    chosen = [study.best_params[name] for name in NAMES]
    return np.searchsorted(WIDTHS, chosen), batches * batch


def main() -> None:
    """Searches and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_optuna", description=__doc__)
    parser.add_argument("--hw", default="h100_sxm", help="a machine (default: %(default)s)")
    model = cost_model(parser.parse_args().hw)
    found, asked = search(model)
    show(model, "optuna", found, f"{asked} candidates")


if __name__ == "__main__":
    main()
