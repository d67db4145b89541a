"""Arrays of sizes give what single calls give, candidate by candidate, and refuse what single calls refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wattir
from wattir import layers
from wattir.batch import FIRST
from wattir.dims import symbol
from wattir.errors import SizeError
from wattir.ir import Graph, GraphBuilder
from wattir.tables import Table, merged
from wattir.threads import at_most
from wattir.totals import SUMS

ROOT = Path(__file__).parents[1]
REAL = {
    "resnet50": {"batch": (1, 257)},
    "bert_base": {"batch": (1, 65), "seq": (1, 513)},
    "llama_3_2_1b": {"batch": (1, 17), "seq": (1, 4097)},
    "llama_3_2_1b_decode": {"batch": (1, 129), "past": (0, 70000)},
    "t5_base_encoder": {"batch": (1, 9), "seq": (1, 65)},
}
"""Built-in models and ranges of their sizes: tables in one size, tables in two, and too many values for a table."""


def drawn(ranges: dict[str, tuple[int, int]], count: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(low, high, count) for name, (low, high) in ranges.items()}


def worst(model: Any, sizes: dict[str, Any], places: Any) -> float:
    """The largest relative difference of an array answer from single ones, over all fields."""
    many = model(**sizes)
    found = 0.0
    for i in places:
        one = model(**{name: int(column[i]) for name, column in sizes.items()})
        for field in one.__slots__:
            found = max(found, abs(getattr(many, field)[i] / getattr(one, field) - 1.0))
    return found


@pytest.mark.parametrize("runtime", ["compiled", "eager"])
@pytest.mark.parametrize("name", REAL)
def test_a_real_network_gives_the_same_one_by_one_and_in_a_batch(name: str, runtime: str) -> None:
    model = wattir.compile(name, device="h100_sxm", runtime=runtime)

    assert worst(model, drawn(REAL[name], 10_000), range(0, 10_000, 400)) < 1e-12


@pytest.mark.parametrize(("device", "name"), [("a30", "resnet50"), ("xeon_gold_5120", "resnet50")])
def test_learned_corrections_are_the_same_one_by_one_and_in_a_batch(device: str, name: str) -> None:
    model = wattir.compile(name, device=device)

    assert len(model.trees) > 1  # the machine has some of these kernels
    assert worst(model, drawn(REAL[name], 2_000), range(0, 2_000, 100)) < 1e-12


@pytest.mark.parametrize("device", ["h100_sxm", "xeon_gold_5120"])  # with a link, and without one
def test_exchanges_are_the_same_one_by_one_and_in_a_batch(device: str) -> None:
    model = wattir.compile(summed(symbol("n")), device=device)

    assert worst(model, drawn({"n": (1, 5_000_000)}, 500), range(500)) < 1e-12


def summed(elements: Any) -> Graph:
    """An all-reduce over four devices."""
    builder = GraphBuilder("sum")
    builder.tensor("x", (elements,), "bf16", "input")
    builder.tensor("y", (elements,), "bf16")
    builder.op("collective", ("x",), ("y",), name="sum", source="psum", function="all_reduce", ranks=4)
    return builder.finish(("x",), ("y",))


@pytest.mark.parametrize("device", wattir.devices())
def test_every_machine_gives_the_same_one_by_one_and_in_a_batch(device: str) -> None:
    model = wattir.compile("bert_base", device=device)

    assert worst(model, drawn(REAL["bert_base"], 2_000), range(0, 2_000, 100)) < 1e-12


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_few_candidates_and_few_values_make_no_difference(count: int, few: int, many: int, seed: int) -> None:
    model = wattir.compile(layers.matmul(symbol("m"), symbol("n"), 64), device="h100_sxm")
    sizes = drawn({"m": (1, few + 1), "n": (1, many * 1000)}, count, seed)

    assert worst(model, sizes, range(count)) < 1e-12


def test_a_kernel_that_does_not_run_costs_nothing() -> None:
    model = wattir.compile(layers.matmul(symbol("m"), 64, 64), device="h100_sxm")
    zero = model(m=0)

    assert zero.energy_j == 0.0 or zero.energy_j < model(m=1).energy_j
    assert model(m=np.array([0, 1])).energy_j.tolist() == pytest.approx([zero.energy_j, model(m=1).energy_j])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint64", "float32", "float64"])
def test_any_number_type_will_do(dtype: str) -> None:
    model = wattir.compile("resnet18", device="h100_sxm")
    batch = np.array([[1, 2, 3], [100, 5, 6]])

    assert model(batch=batch.astype(dtype)).energy_j.tolist() == model(batch=batch).energy_j.tolist()


def test_views_and_lists_broadcast() -> None:
    model = wattir.compile("bert_base", device="h100_sxm")
    seq = np.arange(1, 100)[::7]
    found = model(batch=[[1], [2]], seq=seq)

    assert found.time_s.shape == (2, len(seq))
    assert found.time_s[1, 3] == pytest.approx(model(batch=2, seq=int(seq[3])).time_s, rel=1e-12)


def test_a_shape_that_turns_negative_is_refused_with_its_candidate() -> None:
    model = wattir.compile(layers.conv(1, 3, 8, (symbol("size"),) * 2, (7, 7), padding=0), device="h100_sxm")
    size = np.full(5000, 32)
    size[4321] = 3  # 3 - 7 + 1 = -3 rows

    with pytest.raises(SizeError, match=r"size = 3|axis of .* = -3"):
        model(size=3)
    with pytest.raises(SizeError, match=r"candidate \[4321\]: .*axis of .* = -3"):
        model(size=size)


@pytest.mark.parametrize("sizes", [{"m": 2**30, "n": 2**24}, {"m": 2**40, "n": 2**13 + 1}])
def test_more_than_a_double_counts_is_refused_by_name(sizes: dict[str, int]) -> None:
    model = wattir.compile(layers.matmul(symbol("m"), symbol("n"), 1), device="h100_sxm")

    with pytest.raises(SizeError, match=r"of 'matmul' is \d+ .*at most 2\^53"):
        model(**sizes)
    with pytest.raises(SizeError, match=r"candidate \[1\]: .*at most 2\^53"):
        model(**{name: np.array([1, value, 1]) for name, value in sizes.items()})


def test_the_first_bad_size_of_many_is_named() -> None:
    model = wattir.compile("bert_base", device="h100_sxm")
    seq = np.arange(1, 10_001)
    seq[7000], seq[8000] = -5, -6

    with pytest.raises(SizeError, match=r"size seq\[7000\] = -5; expected a whole number from 0 to 1099511627776"):
        model(batch=1, seq=seq)


def test_merged_tables_add_up_to_the_same() -> None:
    rng = np.random.default_rng(3)
    counts = (4, 5, 6, 2)
    tables = [
        Table(columns, rng.random((int(np.prod([counts[c] for c in columns])), len(SUMS))))
        for columns in ((0, 1), (1, 2), (1,), (), (3,), (0, 1, 2))
    ]
    fewer = merged(tables, counts, most=40)

    def total(found: Any, candidate: tuple[int, ...]) -> Any:
        return sum(
            t.sums[np.ravel_multi_index([candidate[c] for c in t.columns], [counts[c] for c in t.columns])]
            if t.columns else t.sums[0]
            for t in found
        )  # fmt: skip

    assert len(fewer) < len(tables)
    for candidate in np.ndindex(*counts):
        assert total(fewer, candidate) == pytest.approx(total(tables, candidate), rel=1e-14)


@pytest.mark.parametrize("runtime", ["compiled", "eager"])
def test_threads_make_no_difference(runtime: str) -> None:
    model = wattir.compile("llama_3_2_1b_decode", device="h100_sxm", runtime=runtime)
    sizes = drawn(REAL["llama_3_2_1b_decode"], 20 * FIRST)
    with at_most(1):
        alone = model(**sizes)
    with at_most(3):
        together = model(**sizes)

    for name in alone.__slots__:
        assert getattr(alone, name).tolist() == getattr(together, name).tolist()


def test_several_threads_may_ask_at_once() -> None:
    model = wattir.compile("resnet50", device="h100_sxm")
    sizes = drawn(REAL["resnet50"], 20 * FIRST)
    expected = model(**sizes).energy_j.tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model(**sizes).energy_j.tolist(), range(8)))

    assert found == [expected] * 8


@pytest.mark.parametrize("late", [7, 65_000, 65_535, 70_000, 10**6])
def test_values_that_come_late_are_seen(late: int) -> None:
    """Tables are made from the values of the first candidates; later ones may bring others, small and large."""
    model = wattir.compile(layers.matmul(symbol("m"), symbol("n"), 64), device="h100_sxm")
    sizes = drawn({"m": (100, 110), "n": (100, 110)}, 5 * FIRST)
    sizes["m"][[FIRST + 5, 4 * FIRST]] = late
    places = [0, FIRST + 4, FIRST + 5, FIRST + 6, 4 * FIRST, 5 * FIRST - 1]

    assert worst(model, sizes, places) < 1e-12


@settings(max_examples=30)
@given(st.integers(0, 65_000), st.integers(0, 13), st.integers(1, 9), st.integers(-9, 45))
@example(32, 4, 8, 32)  # just behind the last one
@example(32, 4, 8, -4)  # just before the first one
@example(32, 4, 8, 2)  # between the first two
def test_values_beside_the_steps_of_the_first_ones_are_seen(first: int, shift: int, count: int, quarters: int) -> None:
    """Values that are some steps of a power of two apart are numbered without a map: others must not pass for them."""
    late = min(max(first + (quarters << shift) // 4, 0), 65_535)
    model = wattir.compile(layers.matmul(symbol("m"), 64, 64), device="h100_sxm")
    m = np.resize(np.minimum(first + (np.arange(count) << shift), 65_534), FIRST + 2)
    m[-1] = late

    assert worst(model, {"m": m}, [0, count - 1, FIRST, FIRST + 1]) < 1e-12


@pytest.mark.parametrize("runtime", ["compiled", "eager"])
def test_a_large_table_gives_the_same(runtime: str) -> None:
    """More rows than 16 bits tell apart."""
    model = wattir.compile(layers.matmul(symbol("m"), symbol("n"), 64), device="h100_sxm", runtime=runtime)

    assert worst(model, drawn({"m": (1, 101), "n": (1, 101)}, 40_000), range(0, 40_000, 900)) < 1e-12


def test_tables_of_other_values_are_not_taken_for_those_of_these() -> None:
    model = wattir.compile("bert_base", device="h100_sxm")
    batch = np.array([1, 2, 4, 8])
    expected = {seq: [model(batch=int(b), seq=seq).energy_j for b in batch] for seq in (16, 32)}

    for seq in (16, 32, 16):
        assert model(batch=batch, seq=seq).energy_j == pytest.approx(expected[seq], rel=1e-12)
        assert model(batch=batch[::-1], seq=[seq]).energy_j[::-1] == pytest.approx(expected[seq], rel=1e-12)
    assert model(batch=batch + 1, seq=16).energy_j[0] == pytest.approx(expected[16][1], rel=1e-12)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", ">i8", "int64"])
@pytest.mark.parametrize("layout", ["contiguous", "columns of a matrix", "backwards"])
def test_columns_are_read_where_they_lie(dtype: str, layout: str) -> None:
    model = wattir.compile("bert_base", device="h100_sxm")
    whole = np.random.default_rng(5).integers(1, 100, (500, 2)).astype(dtype)
    matrix = {"contiguous": np.asfortranarray(whole), "columns of a matrix": whole, "backwards": whole[::-1]}[layout]
    found = model(batch=matrix[:, 0], seq=matrix[:, 1])
    batch, seq = matrix.T.astype(np.int64)

    assert found.energy_j.tolist() == model(batch=batch, seq=seq).energy_j.tolist()


def test_the_place_in_the_given_array_is_named() -> None:
    model = wattir.compile("bert_base", device="h100_sxm")
    seq = np.full((3, 4), 16)
    seq[2, 1] = -7

    with pytest.raises(SizeError, match=r"size seq\[2, 1\] = -7"):
        model(batch=np.array([[1], [2], [3]]), seq=seq)
    conv = wattir.compile(layers.conv(1, 3, 8, (symbol("size"),) * 2, (7, 7), padding=0), device="h100_sxm")
    with pytest.raises(SizeError, match=r"candidate \[1, 0\]: .*axis of .* = -3"):
        conv(size=np.array([[32, 33], [3, 34]]))


def test_batches_need_no_place_for_compiled_code() -> None:
    """As in a container whose folders are all read-only."""
    code = """if True:
        from numba.core import caching
        caching.CacheImpl._locator_classes = []
        import wattir
        from wattir.dims import symbol
        model = wattir.compile(wattir.layers.matmul(symbol("m"), 64, 64), device="h100_sxm")
        print(model(m=[1, 2, 3]).energy_j.tolist())
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    model = wattir.compile(layers.matmul(symbol("m"), 64, 64), device="h100_sxm")

    assert json.loads(found) == [model(m=m).energy_j for m in (1, 2, 3)]


def test_intervals_of_batches_take_exp_to_the_last_bits() -> None:
    from wattir.backends.gather import _ends

    widths = np.concatenate([np.linspace(-20.0, 20.0, 510), [0.0, np.nan]])
    low, high = np.transpose([_ends(width) for width in widths])

    assert high[:-1] == pytest.approx(np.exp(widths[:-1]), rel=1e-15)
    assert low[:-1] == pytest.approx(np.exp(-widths[:-1]), rel=1e-15)
    assert np.isnan([low[-1], high[-1]]).all()
