"""The ONNX driver: branches, loops and scans, sequences and optionals."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import helper
from onnx_models import kinds, model_of, shapes_of
from ort_shapes import true_shapes

import wattir
from wattir.dims import symbol
from wattir.errors import SizeError
from wattir.frontends.onnx import lower

# ---- If -----------------------------------------------------------------------------------------------------------

BRANCHES = """
    f (float[N, 8] x, bool c) => (float[a, b] y)
    <float[8, 8] w = {1}, float[8, 80] wide = {1}, float[80, 8] back = {1}>
    {
        y = If (c) <
            then_branch = g () => (float[a, b] t) { t = MatMul (x, w) },
            else_branch = g () => (float[a, b] e) { h = MatMul (x, wide)  e = MatMul (h, back) }
        >
    }"""


def branches(condition: str = "c") -> onnx.ModelProto:
    """One branch is a product with [8, 8], the other two with [8, 80] and [80, 8]."""
    text = BRANCHES if condition == "c" else BRANCHES.replace(", bool c)", ")").replace("If (c)", f"If ({condition})")
    for name, dims in (("w", (8, 8)), ("wide", (8, 80)), ("back", (80, 8))):
        numbers = ", ".join("1" for _ in range(dims[0] * dims[1]))
        text = text.replace(f"{name} = {{1}}", f"{name} = {{{numbers}}}")
    return model_of(text.replace("<float[8, 8]", "<bool yes = {1}, bool no = {0}, float[8, 8]"))


def test_the_dearest_branch_is_kept_with_a_warning() -> None:
    graph = lower(branches())
    assert [op.name for op in graph.ops] == ["MatMul:h", "MatMul:e"]
    assert graph.params == 1280  # [8, 80] and [80, 8]; the branch not taken reads nothing
    assert any("If:y (If): which branch runs depends on data; the else branch is costed" in w for w in graph.warnings)


@pytest.mark.parametrize(("condition", "ops"), [("yes", ["MatMul:t"]), ("no", ["MatMul:h", "MatMul:e"])])
def test_a_known_condition_picks_its_branch(condition: str, ops: list[str]) -> None:
    graph = lower(branches(condition))
    assert ([op.name for op in graph.ops], graph.warnings) == (ops, ())


def test_of_equal_branches_the_one_with_more_axes_is_kept() -> None:
    """What torch writes for a squeeze of an axis that may be 1."""
    model = model_of("""
        f (float[N, s, 4] x) => (float[a, b, c] y) <int64[1] at = {1}, int64 zero = {0}, int64 one = {1}>
        {
            shape = Shape (x)
            n = Gather <axis = 0> (shape, one)
            c = Equal (n, one)
            y = If (c) <
                then_branch = g () => (float[a, b] t) { t = Squeeze (x, at) },
                else_branch = g () => (float[a, b, c] e) { e = Identity (x) }
            >
        }""")
    assert shapes_of(model)["y"] == "N, s, 4"
    assert shapes_of(model, {"x": ("N", 1, 4)})["y"] == "N, 4"
    assert shapes_of(model, {"x": ("N", 7, 4)})["y"] == "N, 7, 4"


def test_of_equal_branches_the_one_that_the_rest_fits_is_kept() -> None:
    """Silero's voice detection squeezes its frames, of which 512 samples give one, and takes up the axis again."""
    model = model_of("""
        f (float[N, 4, s] x, float[8, 4, 1] w) => (float[N, 8, 1] y) <int64[1] at = {2}, int64 one = {1}>
        {
            shape = Shape (x)
            n = Gather <axis = 0> (shape, at)
            c = Equal (n, one)
            flat = If (c) <
                then_branch = g () => (float[a, b] t) { t = Squeeze (x, at) },
                else_branch = g () => (float[a, b, c] e) { e = Identity (x) }
            >
            again = Unsqueeze (flat, at)
            y = Conv (again, w)
        }""")
    graph = lower(model)
    assert graph.warnings[0].endswith("the then branch is costed, of two that cost the same, as the rest fits")
    assert shapes_of(model)["y"] == "N, 8, 1"  # a rank of 4 would not fit the weight's 3


def test_a_branch_that_does_not_fit_the_sizes_is_left_out() -> None:
    model = model_of("""
        f (float[1, 6] x, bool c) => (float[a, b] y) <int64[2] good = {2, 3}, int64[2] bad = {4, 4}>
        {
            y = If (c) <
                then_branch = g () => (float[a, b] t) { t = Reshape (x, good) },
                else_branch = g () => (float[a, b] e) { e = Reshape (x, bad) }
            >
        }""")
    assert shapes_of(model)["y"] == "2, 3"
    assert "the other cannot be lowered" in lower(model).warnings[0]


def test_nested_branches_do_not_explode() -> None:
    """Both branches of both branches of ... are each lowered once: 2^10 leaves."""

    def branch(depth: int, path: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"o{path}", 1, None)
        if not depth:
            node = helper.make_node("Relu" if path.endswith("0") else "Exp", ["x"], [f"o{path}"])
        else:
            inner = {"then_branch": branch(depth - 1, path + "0"), "else_branch": branch(depth - 1, path + "1")}
            node = helper.make_node("If", ["c"], [f"o{path}"], **inner)
        return helper.make_graph([node], f"g{path}", [], [out])

    root = branch(10, "_")
    root.input.extend([helper.make_tensor_value_info("x", 1, ["n"]), helper.make_tensor_value_info("c", 9, [])])
    model = helper.make_model(root, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert len(lower(model).ops) == 1


# ---- Loop ---------------------------------------------------------------------------------------------------------

LOOP = """
    f (float[N, 8] x, int64 m, bool c) => (float[a, b] y, float[s, a, b] ys) 
    <float[8] w = {1, 1, 1, 1, 1, 1, 1, 1}, int64 six = {6}>
    {
        y, ys = Loop (COUNT, c, x) <
            body = g (int64 i, bool ci, float[N, 8] state) => (bool co, float[N, 8] next, float[N, 8] out)
            { co = Identity (ci)  next = Mul (state, w)  out = Relu (next) }
        >
    }"""


def test_a_loop_multiplies_its_body() -> None:
    model = model_of(LOOP.replace("COUNT", "six"))
    assert shapes_of(model) | {"y": "N, 8", "ys": "6, N, 8"} == shapes_of(model)
    assert kinds(model) == [
        ("Loop", "Loop:y", "1"),  # the state that enters
        ("Mul", "Loop:y/Mul:next", "6"),
        ("Relu", "Loop:y/Relu:out", "6"),
        ("Loop", "Loop:y", "1"),  # what leaves, and the stack of what is collected
    ]


def test_a_loop_without_a_trip_count_says_how_to_give_it() -> None:
    model = model_of(LOOP.replace("COUNT", "m"))
    free = lower(model)
    assert str(free.tensors["ys"].shape[0]) == "trip_count.Loop_y"
    assert "trip count depends on data" in free.warnings[-1]
    with pytest.raises(
        SizeError, match=r"no value for size trip_count\.Loop_y; give it with --set trip_count\.Loop_y="
    ):
        wattir.estimate(free, device="h200_sxm", sizes={"N": 1})
    for key in ("Loop:y", "y"):
        assert lower(model, trip_counts={key: 5}).tensors["ys"].shape == (5, symbol("N"), 8)
    assert str(lower(model, trip_counts={"y": "steps"}).tensors["ys"].shape[0]) == "steps"


def test_a_trip_count_for_no_loop_is_an_error() -> None:
    with pytest.raises(SizeError, match=r"trip count for 'Loop:z'; expected one of its loops: Loop:y; did you mean"):
        lower(model_of(LOOP.replace("COUNT", "six")), trip_counts={"Loop:z": 2})


def test_a_trip_count_may_be_a_formula() -> None:
    model = model_of("""
        f (float[N, s] x, bool c) => (float[a, b] y) <int64 one = {1}>
        {
            shape = Shape (x)
            n = Gather <axis = 0> (shape, one)
            y = Loop (n, c, x) <
                body = g (int64 i, bool ci, float[N, s] state) => (bool co, float[N, s] next)
                { co = Identity (ci)  next = Relu (state) }
            >
        }""")
    assert ("Relu", "Loop:y/Relu:next", "s") in kinds(model)


@pytest.mark.parametrize(("stop", "warned"), [("co = Identity (ci)", False), ("co = Not (ci)", True)])
def test_a_condition_that_depends_on_data_takes_the_maximum(stop: str, warned: bool) -> None:
    graph = lower(model_of(LOOP.replace("COUNT", "six").replace("co = Identity (ci)", stop)))
    assert any("when it stops depends on data; the maximum of 6 trips" in line for line in graph.warnings) == warned


def test_what_grows_is_costed_at_its_mean_and_leaves_at_its_end() -> None:
    model = model_of("""
        f (float[1, 4] x, bool c) => (float[a, b] y) <int64 seven = {7}>
        {
            y = Loop (seven, c, x) <
                body = g (int64 i, bool ci, float[k, 4] state) => (bool co, float[l, 4] next)
                { co = Identity (ci)  more = Relu (x)  kept = Exp (state)  next = Concat <axis = 0> (kept, more) }
            >
        }""")
    graph = lower(model)
    assert graph.tensors["y"].shape == (8, 4)  # 1 + 7
    assert graph.tensors["kept"].shape == (4, 4)  # 1, 2, .. 7: 4 in the mean
    assert true_shapes(model, {"x": (1, 4), "c": ()})["y"] in ((8, 4), (1, 4))  # c is random


def test_a_window_that_slides_over_trips() -> None:
    model = model_of("""
        f (float[12, 4] x, bool c) => (float[s, a, b] ys) <int64 four = {4}, int64 three = {3}, int64[1] zero = {0}>
        {
            ys = Loop (four, c) <
                body = g (int64 i, bool ci) => (bool co, float[a, b] part)
                {
                    co = Identity (ci)
                    from = Unsqueeze (i, zero)
                    end = Add (i, three)
                    to = Unsqueeze (end, zero)
                    part = Slice (x, from, to, zero)
                }
            >
        }""")
    assert shapes_of(model)["ys"] == "4, 3, 4"


def test_loops_within_loops_multiply() -> None:
    model = model_of("""
        f (float[4] x, bool c) => (float[a] y) <int64 three = {3}, int64 five = {5}>
        {
            y = Loop (three, c, x) <body = g (int64 i, bool ci, float[4] s) => (bool co, float[4] next) {
                co = Identity (ci)
                next = Loop (five, ci, s) <body = h (int64 j, bool cj, float[4] t) => (bool ck, float[4] u)
                    { ck = Identity (cj)  u = Exp (t) }>
            }>
        }""")
    assert [times for source, _, times in kinds(model) if source == "Exp"] == ["15"]


@pytest.mark.parametrize("count", ["{0}", "{5}"])
def test_a_loop_that_never_runs(count: str) -> None:
    model = model_of("""
        f (float[4] x) => (float[a] y, float[s, a] ys) <int64 n = COUNT, bool no = {0}, bool yes = {1}>
        {
            y, ys = Loop (n, COND, x) <body = g (int64 i, bool ci, float[4] s) => (bool co, float[4] next, float[4] out)
                { co = Identity (ci)  next = Exp (s)  out = Exp (s) }>
        }""".replace("COUNT", count).replace("COND", "yes" if count == "{0}" else "no"))  # fmt: skip
    found = shapes_of(model)
    assert (found["y"], found["ys"]) == ("4", "0, 4")
    assert not [op for op in lower(model).ops if op.source == "Exp"]


# ---- Scan ---------------------------------------------------------------------------------------------------------


def test_scan() -> None:
    model = model_of("""
        f (float[N, 4] h, float[s, N, 4] x) => (float[a, b] y, float[a, b, c] ys)
        {
            y, ys = Scan <num_scan_inputs = 1, scan_output_axes = [1], body = g (float[N, 4] state, float[N, 4] part)
                => (float[N, 4] next, float[N, 4] out) { next = Add (state, part)  out = Exp (next) }> (h, x)
        }""")
    found = shapes_of(model)
    assert (found["y"], found["ys"]) == ("N, 4", "N, s, 4")
    assert ("Add", "Scan:y/Add:next", "s") in kinds(model)
    truth = true_shapes(model, {"h": (3, 4), "x": (5, 3, 4)})
    assert truth == {"y": (3, 4), "ys": (3, 5, 4)}


def test_scan_of_opset_8_has_a_batch() -> None:
    model = model_of("""
        f (float[B, 4] h, float[B, s, 4] x) => (float[a, b] y, float[a, b, c] ys)
        {
            y, ys = Scan <num_scan_inputs = 1, body = g (float[4] state, float[4] part) => (float[4] next, float[4] out)
                { next = Add (state, part)  out = Exp (next) }> ( , h, x)
        }""", opset=8)  # fmt: skip
    found = shapes_of(model)
    assert (found["y"], found["ys"]) == ("B, 4", "B, s, 4")
    assert ("Add", "Scan:y/Add:next", "B*s") in kinds(model)


# ---- sequences ----------------------------------------------------------------------------------------------------


def test_sequences() -> None:
    model = model_of("""
        f (float[N, 6] x) => (float[a, b] y, float[c, d, e] z, int64 n, float[f, g] first)
        <int64 one = {1}, int64[3] parts = {1, 2, 3}>
        {
            s = SequenceConstruct (x, x)
            longer = SequenceInsert (s, x)
            n = SequenceLength (longer)
            z = ConcatFromSequence <axis = 0, new_axis = 1> (longer)
            split = SplitToSequence <axis = 1> (x, parts)
            fewer = SequenceErase (split, one)
            y = ConcatFromSequence <axis = 1> (fewer)
            first = SequenceAt (split, one)
        }""")
    found = shapes_of(model)
    assert (found["y"], found["z"], found["first"], found["longer"]) == ("N, 4", "3, N, 6", "N, 2", "3")
    truth = true_shapes(model, {"x": (2, 6)})
    assert (truth["y"], truth["z"], truth["first"]) == ((2, 4), (3, 2, 6), (2, 2))


@pytest.mark.parametrize(("steps", "expected"), [(4, "4, N, 3"), ("s", "s, N, 3")])
def test_a_sequence_collected_by_a_loop(steps: Any, expected: str) -> None:
    """What torch writes for a list that a for loop appends to, then a stack."""
    model = model_of("""
        f (float[N, 3] x, int64 m, bool c) => (float[a, b, d] y)
        {
            empty = SequenceEmpty ()
            all = Loop (m, c, empty) <body = g (int64 i, bool ci, seq(float[N, 3]) s) => (bool co, seq(float[N, 3]) t)
                { co = Identity (ci)  r = Relu (x)  t = SequenceInsert (s, r) }>
            y = ConcatFromSequence <axis = 0, new_axis = 1> (all)
        }""")
    assert shapes_of(model, trip_counts={"all": steps})["y"] == expected


def test_sequence_map_runs_its_body_for_each() -> None:
    model = model_of("""
        f (float[N, 6] x) => (float[a, b] y) <int64 two = {2}>
        {
            parts = SplitToSequence <axis = 1> (x, two)
            done = SequenceMap <body = g (float[N, 2] p) => (float[N, 2] q) { q = Exp (p) }> (parts)
            y = ConcatFromSequence <axis = 1> (done)
        }""")
    assert shapes_of(model)["y"] == "N, 6"
    assert ("Exp", "SequenceMap:done/Exp:q", "3") in kinds(model)


def test_optionals() -> None:
    model = model_of("""
        f (float[N, 6] x) => (float[a, b] y)
        {
            maybe = Optional (x)
            there = OptionalHasElement (maybe)
            y = If (there) <
                then_branch = g () => (float[a, b] t) { t = OptionalGetElement (maybe) },
                else_branch = g () => (float[a, b] e) { e = Exp (x) }
            >
        }""", opset=18)  # fmt: skip
    graph = lower(model)
    assert (shapes_of(model)["y"], graph.ops, graph.warnings) == ("N, 6", (), ())


def test_a_sequence_of_which_the_last_element_stands_for_the_rest() -> None:
    model = model_of("""
        f (float[N, s] x) => (float[a, b] y) <int64 three = {3}>
        {
            parts = SplitToSequence <axis = 1> (x, three)
            more = SequenceInsert (parts, x)
            y = ConcatFromSequence <axis = 1> (parts)
        }""")
    found = shapes_of(model)
    assert (found["parts"], found["y"]) == ("-((-s)//(3))", "N, -3*((-s)//(3))")  # ceil(s / 3) parts of 3
