"""Cost rules against slow obvious counting."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir import layers
from wattir.costs import RULES, attention_pairs, tabulate
from wattir.dims import evaluate, symbol
from wattir.ir import GraphBuilder
from wattir.kinds import KINDS
from wattir.work import cells_of

small = st.integers(1, 5)


def work(graph):
    (only,) = tabulate(graph)
    return only


def test_every_kind_has_a_rule():
    assert RULES.keys() == KINDS.keys()


@given(small, small, small, small)
def test_matmul_counts_every_multiply_add(groups, m, n, k):
    counted = sum(1 for _ in itertools.product(range(groups), range(m), range(n), range(k)))

    assert work(layers.matmul(m, n, k, groups=groups)).macs == counted


@given(small, small, st.integers(3, 8), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2))
def test_convolution_counts_every_tap_of_every_output(c_in, c_out, size, kernel, stride, padding, groups):
    found = work(
        layers.conv(
            2,
            c_in * groups,
            c_out * groups,
            (size, size),
            (kernel, kernel),
            stride=stride,
            padding=padding,
            groups=groups,
        )
    )

    positions = len(range(0, size + 2 * padding - kernel + 1, stride))
    counted = sum(
        1
        for _ in itertools.product(
            range(2), range(positions**2), range(c_out * groups), range(c_in), range(kernel), range(kernel)
        )
    )
    assert found.macs == counted
    assert found.macs == found.groups * found.m * found.n * found.k


def test_transposed_convolution_spreads_every_input_point():
    found = work(layers.conv(1, 3, 5, (4, 4), (2, 2), stride=2, padding=0, transposed=True))

    assert found.macs == 16 * 3 * 5 * 4  # 16 input points, each into 2 x 2 outputs of 5 channels from 3
    assert found.out_bytes == 5 * 8 * 8 * 2  # (4 - 1) * 2 + 2 = 8 wide, fp16


@pytest.mark.parametrize(
    ("graph", "m", "n", "channels", "groups", "window", "in_points"),
    [
        (layers.conv(2, 6, 8, (10, 10), (3, 3)), 2 * 10 * 10, 8, 6, 1, 9, 2 * 10 * 10),
        (layers.conv(2, 6, 8, (10, 10), (1, 1)), 2 * 10 * 10, 8, 6, 1, 1, 2 * 10 * 10),
        (layers.conv(2, 6, 8, (10, 10), (3, 3), groups=2), 2 * 10 * 10, 4, 3, 2, 9, 2 * 10 * 10),
        (layers.conv(2, 6, 6, (10, 10), (5, 5), groups=6), 2 * 10 * 10, 1, 1, 6, 25, 2 * 10 * 10),
        (layers.conv(2, 6, 8, (10, 10), (3, 3), stride=2), 2 * 5 * 5, 8, 6, 1, 9, 2 * 10 * 10),
        # dilated by 3 it reaches over 7 points and still reads 9 of them: 10 - 7 + 1 = 4 outputs a side
        (layers.conv(2, 6, 8, (10, 10), (3, 3), dilation=3, padding=0), 2 * 4 * 4, 8, 6, 1, 9, 2 * 10 * 10),
        # transposed: each of the 100 points of an image is spread by itself over 4 outputs of 8 channels
        (layers.conv(2, 6, 8, (10, 10), (2, 2), stride=2, transposed=True), 2 * 10 * 10, 8 * 4, 6, 1, 1, 2 * 10 * 10),
        (layers.conv(2, 6, 8, (10,), (3,)), 2 * 10, 8, 6, 1, 3, 2 * 10),
        (layers.conv(2, 6, 8, (4, 10, 10), (3, 1, 3)), 2 * 4 * 10 * 10, 8, 6, 1, 9, 2 * 4 * 10 * 10),
    ],
    ids=["plain", "1x1", "grouped", "depthwise", "strided", "dilated", "transposed", "1d", "3d"],
)
def test_cells_of_a_convolution(graph, m, n, channels, groups, window, in_points):
    found = work(graph)

    assert (found.m, found.n, found.groups, found.window, found.in_points) == (m, n, groups, window, in_points)
    assert found.k == channels * window


def test_a_pooling_says_what_its_outputs_are_made_of_and_a_product_reads_no_image():
    pooling, product = work(layers.pooling((1, 8, 8, 8), (1, 8, 4, 4), 9)), work(layers.matmul(4, 4, 4))

    assert (pooling.window, pooling.ops) == (9, 8 * 4 * 4 * 9)
    assert pooling.special == 8 * 4 * 4 * 4  # an output's number is divided by each of four axes
    assert (product.window, product.in_points) == (0, 0)


def test_pooling_a_whole_image_is_a_reduction():
    batch = symbol("batch")
    pooled, windows = (work(layers.pooling((batch, 8, 7, 7), (batch, 8, *out), 49)) for out in ((1, 1), (7, 7)))
    reduced = work(layers.reduction(8 * batch, 49, "fp16"))

    for name in ("family", "ops", "special", "m", "groups", "window", "bytes"):
        assert getattr(pooled, name) == getattr(reduced, name)
    assert (reduced.m, reduced.groups) == (1, 8 * batch)  # one block of threads for each sum
    assert windows.family == "pooling"


def test_an_embedding_has_a_block_of_threads_for_every_row_that_is_looked_up():
    table = GraphBuilder("table")
    table.tensor("x", (100, 64), "fp32", "input")
    table.tensor("y", (5, 64), "fp32")
    table.op("gather", ("x",), ("y",), name="y", source="Gather", function="gather")

    found, elements = work(layers.gather(1000, 64, symbol("ids"))), work(table.finish(("x",), ("y",)))

    assert (found.m, found.groups) == (1, symbol("ids"))
    assert elements.groups == 0  # by single elements, along any axis: one thread each


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 6))
def test_attention_pairs_are_the_ones_of_the_mask(q, past, window):
    kv = q + past
    seen = [
        (i, j)
        for i in range(q)
        for j in range(kv)
        if j <= past + i and (window == 0 or j > past + i - window)
    ]  # fmt: skip

    assert attention_pairs(q, kv, True, window) == len(seen)
    assert attention_pairs(q, kv, False) == q * kv


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 6))
def test_attention_formula_in_free_dims_gives_the_same(q, past, window):
    formula = attention_pairs(symbol("q"), symbol("q") + symbol("past"), True, window)

    assert evaluate(formula, {"q": q, "past": past}) == attention_pairs(q, q + past, True, window)


def test_grouped_query_attention_reads_fewer_keys_and_computes_as_much():
    full = work(layers.attention(1, 32, 1, 1000, 64))
    grouped = work(layers.attention(1, 32, 1, 1000, 64, kv_heads=8))

    assert grouped.macs == full.macs == 32 * 1000 * (64 + 64)
    assert full.state_bytes == 2 * 32 * 1000 * 64 * 2  # keys and values, bf16
    assert grouped.state_bytes * 4 == full.state_bytes


def test_attention_of_one_contraction_is_told_apart_by_its_queries():
    many_heads, many_sequences = (work(layers.attention(b, h, 3, 1000, 64)) for b, h in ((1, 32), (8, 4)))

    for name in ("m", "n", "k", "groups", "macs", "state_bytes"):
        assert getattr(many_heads, name) == getattr(many_sequences, name)
    assert (many_heads.tokens, many_sequences.tokens) == (1 * 3, 8 * 3)  # sequences times queries of each


def test_lstm_counts_steps_gates_and_both_directions():
    found = work(layers.recurrent("lstm", 10, 2, 3, 4, directions=2))

    assert found.macs == 2 * 10 * 2 * 4 * 4 * (3 + 4)  # directions steps batch gates hidden (input + hidden)
    assert found.weight_bytes == 2 * 4 * 4 * (3 + 4) * 4


@pytest.mark.parametrize(
    ("function", "steps", "filled", "launches"),
    [
        ("gated_delta", 1, 1, 1),  # a kernel of its own
        ("gated_delta", 2, 33, 5),  # half of the time is of a whole chunk of 64
        ("gated_delta", 64, 64, 5),
        ("gated_delta", 100, 114, 5),  # (100 + 128) / 2
        ("gated_delta", 640, 640, 8),  # ten chunks wait for each other, three a launch
        ("ssd", 640, 640, 5),  # their states are summed without products
    ],
)
def test_a_recurrence_in_chunks(function, steps, filled, launches):
    found = work(layers.scan(function, 2, steps, 4, 16, 8, 8, chunk=64))
    state = 2 * 4 * 16 * 8
    assert found.ops == filled * state * 8 // 4  # the rest are products on tensor units
    assert found.launches == launches
    assert found.state_bytes == 4 * state * (2 if steps == 1 else 1)  # read, if there is one, and written
    assert found.in_bytes == 2 * 2 * steps * (2 * 4 * 16 + 4 * 8)
    free = work(layers.scan(function, 2, symbol("s"), 4, 16, 8, 8, chunk=64, cached=steps == 1))
    assert [evaluate(cell, {"s": steps}) for cell in cells_of(free)] == list(cells_of(found))


def test_a_recurrence_step_by_step():
    found = work(layers.scan("selective", 2, 100, 4, 16, 8, 6))
    assert found.ops == 100 * (2 * 4 * 16 * 8) * 6
    assert found.launches == 1


def test_embedding_reads_only_the_rows_asked_for():
    found = work(layers.gather(50_000, 768, 10))

    assert found.weight_bytes == 10 * 768 * 2
    assert found.in_bytes == 10 * 8  # the indices, int64


def test_pointwise_moves_its_operands_and_its_result():
    found = work(layers.pointwise(1000, operands=2))

    assert found.in_bytes + found.out_bytes == 3 * 1000 * 2  # 2 reads + 1 write, bf16
    assert found.macs == 0


def test_a_tensor_read_twice_by_one_op_is_read_once():
    builder = GraphBuilder("square")
    builder.tensor("x", (8,), "fp32", "input")
    builder.tensor("y", (8,), "fp32")
    builder.op("pointwise", ("x", "x"), ("y",), name="square", source="Mul", function="mul", ops=1)

    assert work(builder.finish(("x",), ("y",))).in_bytes == 32


def test_an_unknown_op_costs_its_bytes_and_says_so():
    builder = GraphBuilder("odd")
    builder.tensor("x", (8,), "fp32", "input")
    builder.tensor("y", (4,), "fp32")
    builder.op("unknown", ("x",), ("y",), name="odd", source="my.Op")
    found = work(builder.finish(("x",), ("y",)))

    assert not found.known
    assert found.bytes == 32 + 16


@pytest.mark.parametrize("device, coverage", [("h100_sxm", 0.0), ("xeon_gold_5120", 1.0)])
def test_a_collective_is_unknown_where_a_machine_has_no_link(device, coverage):
    builder = GraphBuilder("sum")
    builder.tensor("x", (8,), "fp32", "input")
    builder.tensor("y", (8,), "fp32")
    builder.op("collective", ("x",), ("y",), name="sum", source="psum", function="all_reduce", ranks=4)
    graph = builder.finish(("x",), ("y",))

    assert work(graph).link_bytes == 2 * 3 * 32 // 4  # twice (r - 1) / r of 32 bytes
    assert wattir.estimate(graph, device=device).coverage["unknown"] == coverage


def test_four_bit_weights_round_up_to_whole_bytes():
    assert work(layers.matmul(1, 3, 1, "int4")).weight_bytes == 2  # 3 halves of a byte


@pytest.mark.parametrize("dtype, width", [("fp32", 4), ("bf16", 2), ("fp8", 1)])
def test_bytes_follow_the_dtype(dtype, width):
    assert work(layers.matmul(2, 3, 5, dtype)).bytes == (2 * 5 + 5 * 3 + 2 * 3) * width


def test_a_window_is_all_that_is_read_of_a_cache():
    (plain,), (windowed,) = (
        tabulate(layers.attention(2, 8, 1, 1000, 64, kv_heads=4, causal=True, window=w)) for w in (0, 100)
    )
    assert plain.state_bytes == 2 * 4 * 1000 * (64 + 64) * 2  # batch, kv heads, positions, d + dv, bytes of bf16
    assert windowed.state_bytes == 2 * 4 * 100 * (64 + 64) * 2
