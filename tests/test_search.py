"""The searches in benchmarks/ find the best candidate, which is known from asking about all of them."""

from __future__ import annotations

import numpy as np
import pytest

import wattir
from benchmarks import search_evolution, search_gradient, search_optuna
from benchmarks.nas_networks import fbnet
from benchmarks.search_task import accuracy, best, cost_model, everyone, joules, loss

MODEL = cost_model()


def test_evolution_finds_the_best() -> None:
    found = search_evolution.search(MODEL)

    assert found[0].tolist() == best(MODEL)[0].tolist()
    assert len(found) < len(everyone()) / 3


def test_optuna_finds_one_of_the_best() -> None:
    pytest.importorskip("optuna")
    found, asked = search_optuna.search(MODEL)
    losses = np.sort(loss(MODEL, everyone()))

    assert asked < len(everyone()) / 3
    assert loss(MODEL, found[None])[0] <= losses[len(losses) // 100]  # among the best hundredth


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_gradients_find_the_best_and_save_joules(framework: str) -> None:
    pytest.importorskip(framework)
    found, path = search_gradient.search_widths(MODEL, framework)

    assert found.tolist() == best(MODEL)[0].tolist()
    assert path[1] < path[0]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_gradients_find_the_best_of_a_supernet(framework):
    """Joules of a supernet's blocks add up: the best of all 9^22 networks is the best block at each position."""
    pytest.importorskip(framework)
    price = fbnet().compile("h100_sxm")
    found, path = search_gradient.search_fbnet(price, framework)
    wanted = search_gradient.best_fbnet(price)

    assert found.tolist() == wanted.tolist()
    assert len(set(wanted.tolist())) > 3  # no block is best everywhere
    assert path[-1] == pytest.approx(price(wanted[None]).energy_j[0], rel=0.2)


def test_front_of_joules_against_accuracy() -> None:
    candidates = everyone()
    energy, gained = joules(MODEL, candidates), accuracy(candidates)
    front = wattir.pareto_front(energy_j=energy, accuracy=(gained, "max"))

    assert best(MODEL)[0].tolist() in candidates[front].tolist()  # what a weighting likes best, nothing beats
    for at in front:
        assert not ((energy < energy[at]) & (gained >= gained[at])).any()
