"""Einsum as a list of layers: operands are contracted two at a time from the left, as frameworks do without a path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Any

from wattir.dims import Size, product
from wattir.errors import SizeError

Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One layer: its kind and attributes, the places of its operands, and the shape it makes.

    Operands are numbered with the given ones first, then the results of the steps before; the last step makes the
    output. `letters` names the axes of the result.
    """

    kind: str
    operands: tuple[int, ...]
    shape: Shape
    letters: str
    attrs: dict[str, Any]


def plan(equation: str, shapes: Sequence[Shape]) -> tuple[Step, ...]:
    """The steps of an equation such as ``bhqd,bhkd->bhqk`` on operands of these shapes.

    A repeated letter in one operand is its diagonal; a letter that only one side has left is summed first. SizeError
    says what does not fit.
    """
    inputs, out = _letters(equation.replace(" ", ""), shapes)
    planner = _Planner(_sizes(inputs, shapes), len(shapes))
    terms = [planner.diagonal(place, word) for place, word in enumerate(inputs)]
    left = terms[0]
    for index, right in enumerate(terms[1:], 1):
        later = set(out).union(*(letters for _, letters in terms[index + 1 :]))
        left = planner.contracted(left, right, later, out if index == len(terms) - 1 else None)
    if len(terms) == 1:
        planner.rearranged(left, out)
    return tuple(planner.steps)


_Term = tuple[int, str]  # the place of an operand, and a letter for each of its axes


class _Planner:
    def __init__(self, sizes: dict[str, Size], given: int) -> None:
        self.sizes, self.given, self.steps = sizes, given, list[Step]()

    def step(self, kind: str, operands: tuple[int, ...], letters: str, **attrs: Any) -> _Term:
        self.steps.append(Step(kind, operands, self.shape(letters), letters, attrs))
        return self.given + len(self.steps) - 1, letters

    def shape(self, letters: Iterable[str]) -> Shape:
        return tuple(self.sizes[letter] for letter in letters)

    def diagonal(self, place: int, word: str) -> _Term:
        unique = "".join(dict.fromkeys(word))
        return (place, word) if unique == word else self.step("copy", (place,), unique, function="diagonal")

    def summed(self, term: _Term, kept: set[str]) -> _Term:
        """`term` without the letters that are not `kept`."""
        dropped = [letter for letter in term[1] if letter not in kept]
        if not dropped:
            return term
        letters = "".join(letter for letter in term[1] if letter in kept)
        return self.step("reduction", term[:1], letters, function="sum", length=product(self.shape(dropped)))

    def contracted(self, left: _Term, right: _Term, later: set[str], out: str | None) -> _Term:
        """One product: groups are the letters both have and keep, k the ones both have and lose."""
        left, right = self.summed(left, later | set(right[1])), self.summed(right, later | set(left[1]))
        a, b = set(left[1]), set(right[1])
        letters = out
        if letters is None:
            letters = "".join(letter for letter in dict.fromkeys(left[1] + right[1]) if letter in later)
        pair = (left[0], right[0])
        if not a & b - later:
            return self.step("pointwise", pair, letters, function="mul", ops=1)
        parts = {"groups": a & b & later, "m": a - b, "n": b - a, "k": a & b - later}
        return self.step("matmul", pair, letters, **{name: product(self.shape(part)) for name, part in parts.items()})

    def rearranged(self, term: _Term, out: str) -> None:
        """One operand: a sum, a transpose, or a view."""
        dropped = [letter for letter in term[1] if letter not in out]
        if dropped:
            self.step("reduction", term[:1], out, function="sum", length=product(self.shape(dropped)))
        elif term[1] == out:
            self.step("view", term[:1], out, function="einsum")
        else:
            self.step("copy", term[:1], out, function="transpose")


def _letters(equation: str, shapes: Sequence[Shape]) -> tuple[list[str], str]:
    """The letters of every operand and of the output; an ellipsis becomes letters that are not in use."""
    left, arrow, right = equation.partition("->")
    words = left.split(",")
    ranks = [len(shape) for shape in shapes]
    if len(words) != len(shapes):
        raise SizeError(f"equation {equation!r} with {len(shapes)} operands; expected {len(words)}")
    widths = [rank - len(word.replace("...", "")) for word, rank in zip(words, ranks, strict=True)]
    if any(width < 0 or (width and "..." not in word) for word, width in zip(words, widths, strict=True)):
        raise SizeError(f"equation {equation!r} on ranks {ranks}; expected one letter for each axis")
    widest = max(widths, default=0)
    dots = "".join(letter for letter in ascii_letters if letter not in equation)[:widest]
    inputs = [word.replace("...", dots[widest - width :]) for word, width in zip(words, widths, strict=True)]
    if not arrow:
        counted = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(letter for letter in set(counted) if counted.count(letter) == 1))
    out = right.replace("...", dots)
    if set(out) - set("".join(inputs)):
        raise SizeError(
            f"equation {equation!r}: an output letter that no operand has; expected letters of the operands"
        )
    return inputs, out


def _sizes(inputs: list[str], shapes: Sequence[Shape]) -> dict[str, Size]:
    """The size of every letter; 1 gives way to the other, and of two formulas the first is taken."""
    found: dict[str, Size] = {}
    for word, shape in zip(inputs, shapes, strict=True):
        for letter, size in zip(word, shape, strict=True):
            known = found.get(letter, 1)
            if isinstance(known, int) and isinstance(size, int) and 1 not in (known, size) and known != size:
                raise SizeError(f"index {letter!r} is {known} and {size}; expected one size for one index")
            if known == 1 or (size != 1 and isinstance(size, int)):
                found[letter] = size
    return found
