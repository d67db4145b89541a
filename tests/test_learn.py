"""Learned corrections: kept where they win on groups of rows that they did not learn from, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("numba")
pytest.importorskip("lightgbm")

import wattir  # noqa: E402
from wattir import layers  # noqa: E402
from wattir.backends.fit.datasets_torch import additions  # noqa: E402
from wattir.backends.fit.learn import learned, taught  # noqa: E402
from wattir.backends.fit.library import spread_of, without_spread  # noqa: E402
from wattir.backends.fit.model import predict  # noqa: E402
from wattir.backends.fit.rows import layer_rows  # noqa: E402
from wattir.backends.fit.solve import energy_given_time  # noqa: E402
from wattir.device import Correction, load_device, physics_only  # noqa: E402
from wattir.dims import symbol  # noqa: E402
from wattir.frontends.configs.writer import ACTIVATIONS  # noqa: E402
from wattir.kinds import FUNCTIONS  # noqa: E402
from wattir.trees import LEAF, pack  # noqa: E402
from wattir.work import CELLS  # noqa: E402

SAMPLES, GROUPS = 150, 15


def rows_that_miss_by(missed):
    """Products of random sizes whose seconds and joules the physics misses by exp(missed(m, group))."""
    rng = np.random.default_rng(3)
    m, n, k = (np.round(2.0 ** rng.uniform(5, 12, SAMPLES)) for _ in range(3))
    group = np.arange(SAMPLES) % GROUPS
    nothing = {"time_s": np.ones(SAMPLES), "energy_j": np.ones(SAMPLES)}
    graph = layers.matmul(symbol("m"), symbol("n"), symbol("k"), "bf16")
    rows = layer_rows(graph, {"m": m, "n": n, "k": k}, group=group, **nothing)
    time_s, energy_j = predict(device(), rows)
    factor = np.exp(missed(m, group))
    return replace(rows, time_s=time_s * factor, energy_j=energy_j * factor)


def device():
    return physics_only(load_device("a10"))


def test_a_habit_of_all_groups_is_learned():
    rows = rows_that_miss_by(lambda m, group: np.where(m > 300.0, 0.5, -0.2))
    found = learned(device(), rows)
    assert found.corrections["matmul.bf16"].time and taught(found, rows).all()
    before, after = (np.abs(np.log(predict(one, rows)[0] / rows.time_s)).mean() for one in (device(), found))
    assert after < 0.3 * before


def test_few_rows_that_swing_alike_in_all_groups_get_trees_fine_enough_to_follow():
    m, n = np.tile(np.round(2.0 ** np.linspace(5, 12, 30)), 5), np.repeat(2.0 ** np.arange(6, 11), 30)
    ones = np.ones(len(m))
    graph = layers.matmul(symbol("m"), symbol("n"), 256, "bf16")
    rows = layer_rows(graph, {"m": m, "n": n}, group=n, time_s=ones, energy_j=ones)
    rows = replace(rows, time_s=predict(device(), rows)[0] * np.exp(0.6 * np.sin(9.0 * np.log2(m))))
    found = np.abs(np.log(predict(learned(device(), rows), rows)[0] / rows.time_s)).mean()
    assert found < 0.02  # a mean of 0.38 without trees; leaves of four rows and more leave 0.05


def test_what_tells_nothing_of_other_groups_is_not_learned():
    luck = np.random.default_rng(5).normal(0.0, 0.3, GROUPS)  # of each group alone, whatever its sizes
    rows = rows_that_miss_by(lambda m, group: luck[group])
    found = learned(device(), rows)
    assert not found.corrections and not taught(found, rows).any()


@pytest.mark.parametrize("family", ["matmul", "mla"])
def test_operations_teach_whole_modules_but_no_products_that_others_are_fused_into(family):
    ops = 2.0 ** (np.random.default_rng(6).permutation(SAMPLES) % 10)  # too few to show in seconds
    rows = replace(rows_that_miss_by(lambda m, group: 0.0 * m), kinds=((family, "bf16"),))
    rows.work[:, CELLS.index("ops")] = ops
    rows = replace(rows, time_s=predict(device(), rows)[0] * np.exp(np.where(ops > 30.0, 0.5, -0.2)))
    found = learned(device(), rows)
    before, after = (np.abs(np.log(predict(one, rows)[0] / rows.time_s)).mean() for one in (device(), found))
    assert (after < 0.3 * before) == (family == "mla")


def with_joules_of(rows, wanted):
    return replace(rows, energy_j=np.where(wanted, rows.energy_j, np.nan))


def rows_with_few_joules(count, missed):
    """Seconds with a habit, and joules of the first `count` alone, which the measured seconds miss by exp(missed)."""
    rows = rows_that_miss_by(lambda m, group: np.where(m > 300.0, 0.5, -0.2))
    energy_j = energy_given_time(device(), rows) * np.exp(missed(rows.group.astype(int)))
    return with_joules_of(replace(rows, energy_j=energy_j), np.arange(SAMPLES) < count)


def test_a_few_rows_with_joules_teach_one_offset_drawn_to_nothing():
    rows = rows_with_few_joules(16, lambda group: np.full(SAMPLES, -0.4))
    found = learned(device(), rows).corrections["matmul.bf16"]
    of_time_alone = replace(device(), corrections={"matmul.bf16": Correction(found.time, "")})
    with_power = replace(device(), corrections={"matmul.bf16": found})
    offset = np.log(predict(with_power, rows)[1] / predict(of_time_alone, rows)[1])
    assert offset == pytest.approx(-0.4 * 16 / 20, abs=0.01)


def test_a_few_rows_that_disagree_from_group_to_group_teach_no_power():
    rows = rows_with_few_joules(14, lambda group: np.where(group % 2 == 0, 0.4, -0.4))
    found = learned(device(), rows).corrections["matmul.bf16"]
    assert found.time and not found.power


def test_joules_of_one_group_alone_teach_no_power():
    rows = rows_that_miss_by(lambda m, group: np.where(m > 300.0, 0.5, -0.2))
    first = np.arange(SAMPLES) < 60  # enough rows for trees, but none to judge them by
    rows = with_joules_of(replace(rows, group=np.where(first, "first", rows.group)), first)
    found = learned(device(), rows).corrections["matmul.bf16"]
    assert found.time and not found.power


def test_power_is_left_as_it_is_where_seconds_are():
    luck = np.random.default_rng(5).normal(0.0, 0.3, GROUPS)  # nothing to learn of seconds
    rows = rows_that_miss_by(lambda m, group: luck[group])
    rows = replace(rows, energy_j=energy_given_time(device(), rows) * np.exp(-0.4))
    assert not learned(device(), rows).corrections


def test_joules_at_a_measured_time_are_positive_where_a_correction_leaves_less_than_idle_watts():
    rows = rows_that_miss_by(lambda m, group: 0.0 * m)
    found = replace(device(), corrections={"matmul.bf16": Correction("", pack([(LEAF, -2.5)]))})
    time_s, energy_j = predict(replace(found, power_w=1e12), rows)
    assert (energy_j < found.coefficients.static_w * time_s).all()
    twice_as_fast = replace(rows, time_s=time_s / 2.0)
    assert energy_given_time(found, twice_as_fast) == pytest.approx(energy_j / 2.0)  # all that lasts, at its watts


def test_experts_that_differ_by_how_tokens_are_spread_learn_together():
    few = np.arange(SAMPLES) % 5 == 0  # 30 rows: not enough to learn from alone
    rows = rows_that_miss_by(lambda m, group: np.where(m > 300.0, 0.5, -0.2) + np.where(few, 0.6, 0.0))
    rows = replace(rows, kinds=(("matmul@x_fp8_block", "bf16"), ("matmul@x_power_law_1.2_fp8_block", "bf16")),
                   kind_index=few.astype(int))  # fmt: skip
    found = learned(device(), rows)
    assert len(found.corrections) == 2 and taught(found, rows).all()
    for kind in (few, ~few):
        before, after = (np.abs(np.log(predict(one, rows)[0] / rows.time_s))[kind].mean() for one in (device(), found))
        assert after < 0.3 * before


def test_the_kind_without_its_spread():
    family = "experts@deepgemm_power_law_1.01_fp8_block"
    assert (spread_of(family), without_spread(family)) == (1.01, "experts@deepgemm_fp8_block")
    assert (spread_of("experts@deepgemm_fp8_block"), without_spread("decode@x_1.2")) == (0.0, "decode@x_1.2")


def test_functions_are_counted_alike_by_every_frontend():
    torch = pytest.importorskip("wattir.frontends.torch.rules_math").POINTWISE
    by_rule = {"gelu", "gelu_tanh", "quick_gelu"}  # by arguments: see the next test
    assert {name: torch[name] for name in FUNCTIONS if name not in by_rule} | {
        name: FUNCTIONS[name] for name in by_rule
    } == FUNCTIONS
    jax = {
        name: counted for name, *counted in pytest.importorskip("wattir.frontends.jax.rules_math").POINTWISE.values()
    }
    onnx = {
        name: counted
        for name, *counted, _ in pytest.importorskip("wattir.frontends.onnx.rules_math").POINTWISE.values()
    }
    for table in (jax, onnx):
        shared = {name: tuple(table[name]) for name in FUNCTIONS if name in table}
        assert {"sigmoid", "tanh"} <= set(shared) and shared.items() <= FUNCTIONS.items()


@pytest.mark.parametrize(("approximate", "name"), [("none", "gelu"), ("tanh", "gelu_tanh")])
def test_a_gelu_is_counted_by_its_formula_wherever_it_comes_from(approximate, name):
    torch, parser = pytest.importorskip("torch"), pytest.importorskip("onnx.parser")
    module = wattir.lower(torch.nn.GELU(approximate), (torch.zeros(2, 8),))
    head = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> net (float[2,8] x) => (float[2,8] y)'
    fast = {"gelu": "com.microsoft.Gelu(x)", "gelu_tanh": "com.microsoft.FastGelu(x)"}[name]
    files = [parser.parse_model(f"{head} {{y = {made}}}") for made in (f'Gelu<approximate = "{approximate}">(x)', fast)]
    for graph in (module, *map(wattir.lower, files)):
        (op,) = graph.ops
        assert (op.attrs["ops"], op.attrs["special"]) == FUNCTIONS[name]
    assert ACTIVATIONS["gelu_pytorch_tanh" if approximate == "tanh" else "gelu"] == FUNCTIONS[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152"])
def test_residual_networks_add_as_often_and_as_much_as_the_built_in_model(name):
    graph = wattir.lower(name)
    added = [graph.tensors[op.outs[0]].shape[1:] for op in graph.ops if op.source == "Add"]
    whole = sum(int(np.prod(shape)) for shape in added)
    found = list(additions(name, (1, 3, 224, 224)))
    assert len(found) == len(added)
    assert sum(int(np.prod(each.tensors[each.outputs[0]].shape)) for each in found) == whole


def test_a_network_without_blocks_adds_nothing():
    assert not list(additions("alexnet", (32, 3, 224, 224)))
