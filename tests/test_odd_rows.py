"""Measured sets as others keep them: what is odd costs its own row and is named; nothing else is lost or guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")
pytest.importorskip("numba")

from benchmarks import accuracy  # noqa: E402
from wattir.backends.fit.plans import PLANS  # noqa: E402
from wattir.backends.fit.rows import UNKNOWN, one_by_one  # noqa: E402
from wattir.backends.fit.sets import Left  # noqa: E402
from wattir.backends.fit.tables import read_table  # noqa: E402

LAYER = {
    "layer_kind": "Linear", "batch": 32, "image_size": 0, "kernel_size": 0, "in_channels": 0, "out_channels": 0,
    "stride": 1, "padding": 0, "in_features": 512, "out_features": 256, "latency_s": 1e-3, "energy_j": 0.1,
    "quality": "ok",
}  # fmt: skip
DECODER = {
    "device": "gpu", "hardware": "NVIDIA A40", "scale": "s", "embed_dim": 384, "n_layer": 2, "n_head": "6 6",
    "mlp_ratio": "4 4", "seq_len": 1024, "batch_latency": 1, "latency_s": 0.01,
}  # fmt: skip


def written(data: Path, folder: str, *rows: dict[str, Any]) -> str:
    (data / folder).mkdir()
    pd.DataFrame(rows).to_csv(data / folder / "data.csv", index=False)
    return str(data)


def judged(data: str) -> tuple[dict[str, int], dict[str, int | None]]:
    """Rows that were predicted by machine, and those that were not by reason."""
    found = list(accuracy.evaluate(data, lambda line: None))
    left = {each.why: each.rows for each in found if isinstance(each, Left)}
    return {each["device"]: each["rows"] for each in found if isinstance(each, dict) and each["what"] == "all"}, left


def test_an_odd_row_costs_no_other(tmp_path):
    odd = [
        {"layer_kind": "Conv4d"}, {"batch": None}, {"batch": -32}, {"in_features": 1e30}, {"latency_s": None},
        {"latency_s": 0.0}, {"batch": "many"},
    ]  # fmt: skip
    data = written(tmp_path, "getzner_cpu_layers", LAYER, {**LAYER, "batch": 64}, *({**LAYER, **one} for one in odd))
    predicted, left = judged(data)
    assert predicted == {"xeon_gold_5120": 2}
    assert left[UNKNOWN] == 1 and left["a size is missing or out of range"] == 2  # a negative one, and 1e30
    missing = "not as the rows of this set are: ValueError: cannot convert float NaN to integer"
    assert left[missing] == 1  # `many` is no number either: both are one setting, whose repeats are merged
    assert sum(count or 0 for count in left.values()) == len(odd)


def test_what_makes_nothing_is_counted_by_why():
    found, known, why = one_by_one(["1", "x", "", "4", "y"], lambda text: int(text) if text else None)
    assert (found, known.tolist()) == ([1, 4], [True, False, False, True, False])
    first = "not as the rows of this set are: ValueError: invalid literal for int() with base 10: 'x'"
    assert why == {first: 2, UNKNOWN: 1}


def test_a_column_of_numbers_stays_one_with_a_word_in_it(tmp_path):
    rows = [{"m": value, "name": name} for value, name in ((1, "a"), (2, "2"), ("OOM", "c"))]
    table = read_table(written(tmp_path, "set", *rows) + "/set", "data")
    assert table.m.tolist()[:2] == [1.0, 2.0] and table.m.isna().tolist() == [False, False, True]
    assert table.name.tolist() == ["a", "2", "c"]  # more words than numbers


def test_rows_of_an_unknown_machine_are_not_taken_for_those_of_a_known_one(tmp_path):
    """Both are called `gpu` by their set, as two machines of a copy may be."""
    data = written(tmp_path, "hw_gpt_bench_latency", DECODER, {**DECODER, "hardware": "Abacus 3", "latency_s": 9.0})
    predicted, left = judged(data)
    assert predicted == {"a40": 1} and left == {"no device file for Abacus 3": 1}


def test_a_decoder_whose_lists_are_short_of_a_number_is_named(tmp_path):
    data = written(tmp_path, "hw_gpt_bench_latency", DECODER, {**DECODER, "n_head": "6 six"})
    predicted, left = judged(data)
    assert predicted == {"a40": 1}
    assert left == {"not as the rows of this set are: ValueError: invalid literal for int() with base 10: 'six'": 1}


def test_a_set_without_its_columns_is_still_counted(tmp_path):
    assert judged(written(tmp_path, "willowec_cpu_layers", {"batch": 1}, {"batch": 2})) == (
        {}, {"not as the rows of this set are: KeyError: 'host'": 2},
    )  # fmt: skip


def test_tables_that_are_not_read_are_named(tmp_path):
    data = written(tmp_path, "getzner_cpu_layers", LAYER)
    pd.DataFrame([LAYER] * 3).to_parquet(tmp_path / "getzner_cpu_layers" / "data.parquet")
    (tmp_path / "getzner_cpu_layers" / "more.csv.gz").write_bytes(b"")
    predicted, left = judged(data)
    assert predicted == {"xeon_gold_5120": 1}
    assert left == {"not read: there is data.csv too": None, "not read: expected a table as .csv or .parquet": None}


def test_cross_validation_names_the_rows_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "PLANS", {"xeon_gold_5120": PLANS["xeon_gold_5120"]})
    rows = [{**LAYER, "in_features": 64 * i, "latency_s": 1e-3 * i} for i in range(1, 7)]
    data = written(tmp_path, "getzner_cpu_layers", *rows, {**LAYER, "layer_kind": "Conv4d"})
    found = list(accuracy.cross_validate(data, lambda line: None))
    assert [(each.rows, each.why) for each in found if isinstance(each, Left)] == [(1, UNKNOWN)]
    assert [each["rows"] for each in found if isinstance(each, dict)] == [6]


def test_cross_validation_names_what_it_cannot_fit_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "PLANS", {name: PLANS[name] for name in ("xeon_gold_5120", "core_raptor_lake")})
    (tmp_path / "getzner_cpu_layers").mkdir()
    (tmp_path / "getzner_cpu_layers" / "data.csv").write_bytes(b"")
    (left,) = accuracy.cross_validate(str(tmp_path), lambda line: None)
    assert isinstance(left, Left) and left.folder == "getzner_cpu_layers" and "cannot be read" in left.why
