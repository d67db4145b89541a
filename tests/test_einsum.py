"""Einsum plans against numpy: the same shapes, and every multiply-add counted."""

import math
import re
from string import ascii_letters

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattir.dims import symbol
from wattir.einsum import plan
from wattir.errors import SizeError

SIZES = dict(zip("abcdef", (2, 3, 4, 5, 6, 7), strict=True))
EQUATIONS = (
    "ab,bc->ac", "abc,acd->abd", "ab,ab->", "ab->ba", "ab->a", "ab->ab", "a,b->ab", "abc,bcd,de->ae", "aab,b->a",
    "ab,ab->ab", "abc,cd,ae->bde", "...a,ab->...b", "ab,bc", "abc,dc->adb", "abc->",
)  # fmt: skip


def shapes_of(equation, lead=(2, 3)):
    words = equation.partition("->")[0].split(",")
    return [
        tuple(n for letter in re.findall(r"\.\.\.|.", word) for n in (lead if letter == "..." else (SIZES[letter],)))
        for word in words
    ]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_shapes_are_numpys(equation):
    shapes = shapes_of(equation)

    assert plan(equation, shapes)[-1].shape == np.einsum(equation, *(np.ones(shape) for shape in shapes)).shape


@pytest.mark.parametrize("equation", EQUATIONS)
def test_running_the_steps_gives_numpys_result(equation):
    shapes = shapes_of(equation)
    rng = np.random.default_rng(3)
    arrays = [rng.integers(0, 5, shape) for shape in shapes]
    values = [(array, word) for array, word in zip(arrays, plan_words(equation, shapes), strict=True)]
    for step in plan(equation, shapes):
        terms = [values[place] for place in step.operands]
        text = ",".join(letters for _, letters in terms) + "->" + step.letters
        values.append((np.einsum(text, *(array for array, _ in terms)), step.letters))

    assert np.array_equal(values[-1][0], np.einsum(equation, *arrays))


def plan_words(equation, shapes):
    """The letters of the operands; what an ellipsis stands for is written out as the plan does."""
    words = equation.partition("->")[0].split(",")
    dots = "".join(letter for letter in ascii_letters if letter not in equation)
    return [word.replace("...", dots[: len(shape) - len(word) + 3]) for word, shape in zip(words, shapes, strict=True)]


@given(st.permutations("abcd"), st.permutations("abcd"), st.integers(1, 4), st.integers(1, 4), st.integers(0, 4))
def test_a_product_costs_the_product_of_its_letters(left, right, i, j, kept):
    a, b = "".join(left[:i]), "".join(right[:j])
    out = "".join(sorted(set(a + b)))[:kept]
    steps = plan(f"{a},{b}->{out}", [tuple(SIZES[x] for x in a), tuple(SIZES[x] for x in b)])

    for step in steps:
        if step.kind == "matmul":
            summed_first = {x for x in set(a) ^ set(b) if x not in out}
            letters = set(a + b) - summed_first
            assert math.prod(step.attrs.values()) == math.prod(SIZES[x] for x in letters)


def test_sizes_may_be_formulas():
    b, s = symbol("batch"), symbol("seq")
    (step,) = plan("bhqd,bhkd->bhqk", [(b, 8, s, 64), (b, 8, s + 1, 64)])

    assert step.attrs == {"groups": 8 * b, "m": s, "n": s + 1, "k": 64}
    assert step.shape == (b, 8, s, s + 1)


@pytest.mark.parametrize(
    "equation, shapes, message",
    [
        ("ab,bc->ac", [(2, 3)], "with 1 operands"),
        ("ab,bc->ac", [(2, 3), (3,)], "on ranks"),
        ("ab,bc->ac", [(2, 3), (4, 5)], "index 'b' is 3 and 4"),
        ("ab->az", [(2, 3)], "output letter"),
    ],
)
def test_what_does_not_fit_is_said(equation, shapes, message):
    with pytest.raises(SizeError, match=message):
        plan(equation, shapes)
