"""Learned corrections: texts of trees, the walk over them, and what they do to a kernel's cost."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir.costmodel import compile_graph
from wattir.device import Correction, device_from_text, load_device, physics_only
from wattir.device_text import device_text
from wattir.dims import symbol
from wattir.errors import DeviceError
from wattir.layers import matmul
from wattir.roofline import FEATURES, MOST_CORRECTED, correction, features
from wattir.trees import LEAF, pack, unpack

halves = st.floats(-1, 1, width=16)
singles = st.floats(-20, 40, width=32)
trees = st.recursive(
    st.tuples(st.just(LEAF), halves),
    lambda inner: st.tuples(st.integers(0, len(FEATURES) - 1), singles, inner, inner),
    max_leaves=12,
)


def value_of(tree, found):
    """What one tree answers, by its definition."""
    while tree[0] != LEAF:
        tree = tree[2] if found[tree[0]] <= tree[1] else tree[3]
    return tree[1]


@given(st.lists(trees, min_size=1, max_size=5), st.lists(singles, min_size=len(FEATURES), max_size=len(FEATURES)))
def test_a_packed_ensemble_answers_like_its_trees(ensemble, found):
    total = sum(value_of(tree, found) for tree in ensemble)

    expected = math.exp(min(max(total, -MOST_CORRECTED), MOST_CORRECTED))
    assert correction((0.0, 7.0, *unpack(pack(ensemble))), 2, found) == pytest.approx(expected, rel=1e-9)


def test_features_have_a_name_each_and_are_finite_for_nothing():
    found = features(*[0.0] * 8, 132.0)

    assert len(found) == len(FEATURES) and all(map(math.isfinite, found))


def corrected(time: float, power: float, family: str = "matmul.bf16"):
    """An H100 on which a family takes exp(time) as long and draws exp(power) as much as physics says."""
    device = physics_only(load_device("h100_sxm"))
    learned = Correction(pack([(LEAF, time)]), pack([(LEAF, power)]))
    return replace(device, power_w=1e5, corrections={family: learned})


def test_a_correction_multiplies_seconds_and_joules_of_its_family_alone():
    sizes = (512, 1024, 2048)
    plain, slow, other = (
        compile_graph(matmul(*sizes), device)()
        for device in (corrected(0, 0), corrected(0.25, -0.125), corrected(0.25, 0.25, "attention.bf16"))
    )
    assert slow.time_s == pytest.approx(math.exp(0.25) * plain.time_s, rel=1e-12)
    assert plain.energy_j < slow.energy_j * math.exp(0.125) < math.exp(0.25) * plain.energy_j  # work costs the same
    assert (other.time_s, other.energy_j) == (plain.time_s, plain.energy_j)


def test_batches_files_and_texts_keep_corrections(tmp_path):
    device = corrected(0.25, -0.125)
    device = replace(device, corrections={**device.corrections, "matmul.bf16@lib": Correction(pack([(LEAF, 1.0)]), "")})
    model = compile_graph(matmul(symbol("m"), 1024, 2048), device)
    model.save(str(tmp_path / "m.wattir"))

    assert "@lib" in device_text(device) and "@lib" not in (tmp_path / "m.wattir").read_text()
    assert device_from_text(device_text(device), "text").corrections == device.corrections
    assert wattir.load(str(tmp_path / "m.wattir"))(m=512) == model(m=512)
    assert model(m=np.array([512, 7])).energy_j[0] == pytest.approx(model(m=512).energy_j, rel=1e-12)


@pytest.mark.parametrize("text", ["", "?", "é", "AAAA", pack([(LEAF, 0.5)])[:-6], pack([(LEAF, math.nan)])])
def test_a_damaged_text_is_refused_in_one_line(text):
    with pytest.raises(DeviceError, match="damaged"):
        unpack(text)
