"""The fit: known coefficients come back, groups stay whole, the writer keeps what it does not fit."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")
pytest.importorskip("numba")

from wattir import layers  # noqa: E402
from wattir.backends.fit import plan as plans  # noqa: E402
from wattir.backends.fit.cross_validate import fold_of, left_out  # noqa: E402
from wattir.backends.fit.intervals import NETWORK_OF_LAYER, beyond_waiting, half_width, interval  # noqa: E402
from wattir.backends.fit.model import predict  # noqa: E402
from wattir.backends.fit.plans import PLANS  # noqa: E402
from wattir.backends.fit.priors import limits_of, priors_of  # noqa: E402
from wattir.backends.fit.rows import drawn, layer_rows, network_rows, together  # noqa: E402
from wattir.backends.fit.run import fit_device  # noqa: E402
from wattir.backends.fit.solve import Prior, coefficients_of, solve, solve_in_turn, with_values  # noqa: E402
from wattir.backends.fit.write import rounded, with_fit, without_fit, write_device  # noqa: E402
from wattir.cli import main  # noqa: E402
from wattir.costs import tabulate  # noqa: E402
from wattir.device import Correction, TimeInterval, device_folder, device_from_text, load_device  # noqa: E402
from wattir.dims import symbol  # noqa: E402
from wattir.errors import DeviceError  # noqa: E402
from wattir.interval import WAITING_WIDTH  # noqa: E402
from wattir.machine import row_of  # noqa: E402
from wattir.roofline import kernel_cost  # noqa: E402
from wattir.trees import LEAF, pack, text_of  # noqa: E402

TREE = pack([(LEAF, 0.125)])
TILES = (256.0, 128.0, 64.0, 64.0, 0.8)
TRUE = {
    "static_w": 110.0, "busy_w": 90.0, "j_per_op": 8e-12, "j_per_byte": 7e-11, "j_per_cache_byte": 2e-11,
    "cache_bytes_per_s": 9e12,
    "host_op_s": 0.0, "j_per_flop bf16": 4e-13, "matmul compute_efficiency": 0.8, "matmul memory_efficiency": 0.85,
    "matmul fixed_s": 4e-6, "matmul sharpness": 3.5, "matmul fill_k": 300.0, "matmul step_s": 1e-9,
    "matmul split_s": 6e-6, "pointwise compute_efficiency": 0.6,
    "pointwise memory_efficiency": 0.75, "pointwise fixed_s": 2e-6, "pointwise sharpness": 5.0, "small_rate": 0.8,
}  # fmt: skip
"""Plausible numbers of a large GPU, chosen away from the priors of `priors_of`."""


def head(name: str = "h200_sxm") -> str:
    with open(os.path.join(device_folder(), f"{name}.toml"), encoding="utf-8") as file:
        return without_fit(file.read())


def bare():
    return limits_of(head(), "h200_sxm.toml")


def made_rows(samples: int = 600):
    """Products and pointwise ops of all sizes; seconds and joules by the formula itself."""
    rng = np.random.default_rng(1)
    m, n, k = (np.round(2.0 ** rng.uniform(0, top, samples)) for top in (14, 15, 15))
    elements = np.round(2.0 ** rng.uniform(10, 29, samples))
    nothing = {"time_s": np.ones(samples), "energy_j": np.ones(samples)}
    product = layers.matmul(symbol("m"), symbol("n"), symbol("k"), "bf16")
    busy, light = (layers.pointwise(symbol("e"), "bf16", ops=ops) for ops in (40, 1))
    group = (n * 1e6 + k).astype(int) // 7
    rows = together([
        layer_rows(product, {"m": m, "n": n, "k": k}, group=group, **nothing),
        layer_rows(busy, {"e": elements}, group=elements.astype(int) % 50, **nothing),
        layer_rows(light, {"e": elements}, group=elements.astype(int) % 50, **nothing),
    ])  # fmt: skip
    time_s, energy_j = predict(with_values(bare(), TRUE, TILES), rows)
    return replace(rows, time_s=time_s, energy_j=energy_j)


def wide_priors():
    """Almost no pull: what comes back comes from the rows."""
    priors = priors_of(bare(), ["bf16"], ["matmul", "pointwise"], {})
    return {
        name: prior if name == "host_op_s" else replace(prior, spread=50.0, low=prior.low / 10, high=prior.high * 10)
        for name, prior in priors.items()
    } | {name: replace(priors[name], spread=50.0) for name in ("matmul sharpness", "pointwise sharpness", "small_rate")}


def test_known_coefficients_come_back():
    found = solve(bare(), made_rows(), wide_priors(), TILES, most_evaluations=200)
    for name, value in TRUE.items():
        assert found[name] == pytest.approx(value, rel=0.02), name


def test_energies_are_of_the_rows_with_joules():
    """Pointwise rows without joules that take twice their time would, as if slowed by the power limit, raise them."""
    rows, priors = made_rows(150), wide_priors()
    metered = np.array([family == "matmul" for family, _ in rows.kinds])[rows.kind_index]
    timed = replace(
        rows, energy_j=np.where(metered, rows.energy_j, np.nan),
        time_s=np.where(metered, rows.time_s, 2 * rows.time_s),
        weight=np.stack([np.ones(rows.samples), metered.astype(float)], axis=1),
    )  # fmt: skip
    found = solve_in_turn(bare(), timed, priors, TILES, most_evaluations=60)
    alone = solve_in_turn(bare(), timed.take(metered), priors, TILES, most_evaluations=60)
    for name in ("busy_w", "j_per_byte", "j_per_flop bf16"):
        assert found[name] == pytest.approx(alone[name], rel=1e-3), name
    assert found["pointwise memory_efficiency"] == pytest.approx(0.75 / 2, rel=0.1)


def test_the_same_rows_give_the_same_coefficients():
    rows, priors = made_rows(60), wide_priors()
    assert solve(bare(), rows, priors, TILES) == solve(bare(), rows, priors, TILES)


def test_compiled_and_plain_formula_agree():
    rows, device = made_rows(40), with_values(bare(), TRUE, TILES)
    time_s, energy_j = predict(device, rows)
    for i, work in enumerate(rows.work):
        family, math = rows.kinds[rows.kind_index[i]]
        seconds, joules, *_ = kernel_cost(*work, *row_of(device, family, math, strict_fp32=True).constants, (0.0,))
        assert time_s[i] == pytest.approx(seconds, rel=1e-12)
        assert energy_j[i] == pytest.approx(joules, rel=1e-12)


def test_a_parameter_without_rows_stays_at_its_prior():
    priors = priors_of(bare(), ["bf16"], ["matmul", "pointwise", "norm"], {})
    found = solve(bare(), made_rows(60), priors, TILES)
    assert found["norm memory_efficiency"] == pytest.approx(priors["norm memory_efficiency"].value, rel=1e-6)


def test_a_number_type_without_joules_keeps_its_ratio_to_the_nearest_that_has_some():
    given = {"j_per_flop fp8": Prior(3e-13, 0.3, 1e-15, 1e-9), "j_per_flop bf16": Prior(6e-13, 50.0, 1e-15, 1e-9)}
    priors = priors_of(bare(), ["bf16", "fp8"], ["matmul", "pointwise"], given)
    rows = made_rows(60)
    found = solve(bare(), rows, priors, TILES)
    assert found["j_per_flop bf16"] / 6e-13 < 0.9  # the rows say otherwise
    assert found["j_per_flop fp8"] / found["j_per_flop bf16"] == pytest.approx(0.5)
    silent = replace(rows, energy_j=np.full(rows.samples, np.nan))
    assert solve(bare(), silent, priors, TILES)["j_per_flop fp8"] / 3e-13 == pytest.approx(1.0)


def test_groups_are_never_split_and_a_small_set_is_spread_over_all_folds():
    groups = np.array([f"g{i % 37}" for i in range(500)] + ["gpt2", "opt", "qwen2"])
    labels = np.array(["layer"] * 500 + ["network"] * 3)
    folds = fold_of(groups, labels, 5)
    assert set(folds[:500]) == set(range(5))
    assert len(set(folds[500:])) == 3  # else two of three model families would be left out at once
    for name in set(groups):
        assert len(set(folds[groups == name])) == 1


def test_a_fit_never_sees_the_group_it_is_judged_on():
    rows, seen = made_rows(40), []

    def spy(part):
        seen.append(set(part.group))
        return with_values(bare(), TRUE, TILES)

    errors = left_out(rows, spy, 4)
    assert not set.intersection(*seen)  # every group was left out once
    assert np.abs(errors.time).max() < 1e-12 and np.abs(errors.energy).max() < 1e-12


def test_half_width_is_the_conformal_quantile():
    errors = np.array([0.1, -0.2, 0.3, -0.4, 0.5, 0.6, 0.7, 0.8, -0.9, np.nan])
    assert half_width(errors, np.zeros(10)) == 0.9  # rank ceil(10 * 0.9) = 9 of 9
    assert half_width(np.full(3, np.nan), np.zeros(3)) is None


def test_a_hundred_rows_of_three_models_say_as_little_of_a_fourth_as_three_samples():
    errors, models = np.concatenate([np.linspace(0.0, 0.1, 99), [0.4]]), np.arange(100) % 3
    assert half_width(errors, models) < 0.1  # rows by themselves: rank 91 of 100
    assert half_width(errors, models, groups=models) == 0.4  # 0.9 (1 + 1 / 3) > 1: the largest


def test_a_small_cell_counts_as_much_as_a_large_one_in_the_interval():
    errors = np.concatenate([np.full(1000, 0.1), np.full(10, 0.5)])
    cells = np.concatenate([np.zeros(1000), np.ones(10)])
    assert half_width(errors, cells) == 0.5


def test_a_large_set_of_many_cells_counts_as_much_as_a_small_set():
    errors = np.concatenate([np.linspace(0.0, 1.0, 90), np.full(10, 2.0)])
    cells, sets = np.concatenate([np.arange(90), np.zeros(10)]), np.concatenate([np.zeros(90), np.ones(10)])
    assert half_width(errors, cells, sets) == 2.0  # half of the weight is the small set's
    assert half_width(errors, cells) < 1.0  # one cell of ninety


def test_waiting_for_the_host_explains_a_part_of_an_error():
    found = beyond_waiting(np.array([-0.5, 0.5, 0.1]), np.array([0.0, 1.0, 1.0]))
    assert found == pytest.approx([0.5, 0.5 - WAITING_WIDTH, 0.0])


def test_an_interval_says_what_it_was_not_measured_on():
    both, layers_alone, networks_alone = interval(0.6, 0.2), interval(0.6, None), interval(None, 0.2)
    assert (both["layer"], both["network"]) == (0.6, 0.2)
    assert layers_alone["network"] == 0.6 * NETWORK_OF_LAYER and "no networks measured" in layers_alone["source"]
    assert networks_alone["layer"] == 0.2 / NETWORK_OF_LAYER and "no layers measured" in networks_alone["source"]


def test_the_host_is_timed_on_networks_that_wait_for_it():
    (work,) = tabulate(layers.pointwise(1000, "bf16"))
    rows = network_rows([[replace(work, times=100)]] * 3, time_s=[2e-3, 2.2e-3, 1e-9], energy_j=[1, 1, 1],
                        group=["a", "b", "c"], host_ops=[100.0, 100.0, 100.0])  # fmt: skip
    device = with_values(bare(), TRUE, TILES)
    assert plans.with_host(device, rows).coefficients.host_op_s == pytest.approx(2.1e-5)  # the third does not wait
    assert plans.with_host(device, rows.take(np.array([2]))) == device


def test_networks_sum_their_kernels_and_wait_for_the_host():
    (work,) = tabulate(layers.pointwise(1000, "bf16"))
    device = with_values(bare(), TRUE | {"host_op_s": 1e-3}, TILES)
    rows = network_rows([[replace(work, times=3)], [work, work]], time_s=[1, 1], energy_j=[1, 1], group=["a", "b"],
                        host_ops=[0.0, 2.0])  # fmt: skip
    alone, hosted = predict(device, rows)[0]
    kernel_s = alone / 3
    assert hosted == pytest.approx(2e-3)  # 2 ops of 1 ms on the host, against 2 kernels of microseconds
    energies = predict(device, rows)[1]
    assert energies[1] == pytest.approx(energies[0] * 2 / 3 + (2e-3 - 2 * kernel_s) * TRUE["static_w"])


def test_taking_and_thinning_keep_kernels_with_their_sample():
    rows = made_rows(50)
    some = rows.take(np.array([70, 3, 99]))
    whole = predict(with_values(bare(), TRUE, TILES), rows)[0]
    assert predict(with_values(bare(), TRUE, TILES), some)[0] == pytest.approx(whole[[70, 3, 99]])
    assert drawn(50, 20).sum() == 20 and (drawn(50, 20) == drawn(50, 20)).all() and drawn(20, 50).all()


def test_kinds_whose_rows_were_taken_away_inform_nothing():
    """Their families fall back to what was fitted, instead of to priors under their own names."""
    rows = made_rows(20)
    products = rows.take(np.arange(20))  # the pointwise ops come after them
    assert products.kinds == rows.kinds and products.present == (("matmul", "bf16"),)
    families = [plans.informed(PLANS["h200_sxm"], some, bare())[0] for some in (rows, products)]
    assert families == [["matmul", "pointwise"], ["matmul"]]


def test_writer_round_trips_and_keeps_the_head():
    coefficients = coefficients_of(TRUE | {"matmul.fp8 compute_efficiency": 0.5, "matmul.fp8 memory_efficiency": 0.5,
                                           "matmul.fp8 fixed_s": 1e-6, "matmul.fp8 sharpness": 2.0}, TILES)  # fmt: skip
    record = {"data_set": 'a "quoted" set', "rows": 3, "date": "2026-11-20", "command": "none", "grouped_by": "none",
              "families": ["matmul"], "dropped": []}  # fmt: skip
    learned = {"matmul.bf16@lib": Correction(pack([(LEAF, 0.25)]), "")}
    fitted = replace(bare(), coefficients=coefficients, corrections=learned)
    widths = {"layer": 0.31234567, "network": 0.2, "source": "made up", "families": {"matmul.bf16@lib": 0.1}}
    widths["time"] = {"layer": 0.2, "network": 0.1, "families": {"matmul.bf16@lib": 0.05}}
    text = with_fit(head(), fitted, widths, [record])
    again = with_fit(text, fitted, widths, [record])
    assert text == again and text.startswith(head())
    device = device_from_text(text, "made up")
    own = {name: device.coefficients.families[name] for name in coefficients.families}  # a relative lends it others
    assert replace(device.coefficients, families=own) == coefficients and device.fits == (record,)
    assert device.interval_layer == rounded(0.31234567) == 0.3123
    assert device.time_interval == TimeInterval(0.2, 0.1, {"matmul.bf16@lib": 0.05})
    assert device.interval_families == {"matmul.bf16@lib": 0.1} and device.corrections == learned
    assert tomllib.loads(head()) == {key: tomllib.loads(text)[key] for key in tomllib.loads(head())}


def test_ensembles_of_libraries_are_written_beside_the_file_and_go_with_it(tmp_path):
    learned = {"matmul.bf16@lib": Correction(pack([(LEAF, 0.25)]), ""), "matmul.bf16": Correction("", TREE)}
    record = {"data_set": "none", "rows": 3, "date": "2026-11-20", "command": "none", "grouped_by": "none",
              "families": ["matmul"]}  # fmt: skip
    fitted = replace(bare(), coefficients=coefficients_of(TRUE, TILES), corrections=learned)
    text = with_fit(head(), fitted, {"layer": 0.3, "network": 0.2, "source": "made up"}, [record])
    first, second = str(tmp_path / "first.toml"), str(tmp_path / "second.toml")
    write_device(text, first, first)
    write_device(Path(first).read_text(), second, first)

    assert TREE in Path(first).read_text() and learned["matmul.bf16@lib"].time not in Path(first).read_text()
    for path in (first, second):
        found = load_device(path).corrections
        assert text_of(found["matmul.bf16@lib"].time) == learned["matmul.bf16@lib"].time
        assert found["matmul.bf16"] == learned["matmul.bf16"]


def test_absent_data_are_said_and_leave_the_file_alone(tmp_path, capsys):
    before = load_device("raspberry_pi_5")
    assert main(["fit", "--data", str(tmp_path), "--device", "raspberry_pi_5", "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "skipped nas_bench_201_pi5" in said and "stays as it is" in said
    assert load_device("raspberry_pi_5") == before and not list((tmp_path / "new").iterdir())


def test_a_device_without_a_plan_is_refused():
    with pytest.raises(DeviceError, match=r"--device h300_sxm: no plan to fit it.*did you mean .*h100_sxm"):
        fit_device("h300_sxm", "nowhere", None, print)


def test_priors_of_no_parameter_are_refused():
    with pytest.raises(KeyError, match="matmull fixed_s"):
        priors_of(bare(), ["bf16"], ["matmul"], {"matmull fixed_s": Prior(1e-6, 0.1, 1e-9, 1.0)})


def test_what_no_row_informs_gets_no_coefficient():
    rows = made_rows(30)
    plan = plans.Plan("made_up", (), ("matmul", "matmul.fp8", "pointwise", "norm"), ("bf16", "fp8"), (TILES,))
    assert plans.informed(plan, rows, bare()) == (["matmul", "pointwise"], ["bf16"])
