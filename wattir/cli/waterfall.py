"""A comparison as an object: two sides, and the steps from one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wattir.compare import FACTORS, Terms, difference, joules_of, per_one
from wattir.errors import InputError

PER = {"pass": ("sample", "pass"), "request": ("token", "request"), "call": ("output", "call")}
"""What a question is answered for (a forward pass, a served request, a call for images or video) to what its joules may
be given per."""


@dataclass(frozen=True, slots=True)
class Side:
    """One question, what it is answered for, who runs what, what the answer says, and the terms of its joules.

    `facts`: of `to_dict`.
    """

    question: str
    whole: str
    label: str
    said: str
    facts: Mapping[str, Any]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Step:
    """Joules that a factor adds, between the levels before and after it."""

    factor: str
    energy_j: float
    before_j: float
    after_j: float


def meaning(factor: str) -> str:
    """What a step or a side of a waterfall stands for."""
    return f"each under {LEAST_SHARE:.2%}".replace("%", " %") if factor == OTHERS else FACTORS.get(factor, factor)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`a_j` and `b_j`: joules of the sides, `per` one of `PER`; `steps` lead from one to the other."""

    a: Side
    b: Side
    per: str
    a_j: float
    b_j: float
    steps: tuple[Step, ...]

    @property
    def top_j(self) -> float:
        """The highest level."""
        return max(self.a_j, self.b_j, *(step.after_j for step in self.steps)) or 1.0

    @property
    def shown(self) -> tuple[Step, ...]:
        """The steps to draw: those that are too small for it are one, which is left out where it is but rounding."""
        large = [step for step in self.steps if abs(step.energy_j) >= LEAST_SHARE * self.top_j]
        small = sum(step.energy_j for step in self.steps if step not in large)
        others = [Step(OTHERS, small, self.b_j - small, self.b_j)] if abs(small) > ROUNDING * self.top_j else []
        return (*large, *others)

    def to_dict(self) -> dict[str, Any]:
        """What ``wattir compare --json`` prints; `factors` add up to `b.energy_j - a.energy_j`."""
        return {
            "per": self.per,
            "a": _side(self.a, self.a_j),
            "b": _side(self.b, self.b_j),
            "ratio": self.b_j / self.a_j if self.a_j else None,
            "factors": [
                {"factor": step.factor, "energy_j": step.energy_j, "meaning": FACTORS[step.factor]}
                for step in self.steps
            ],
        }


LEAST_SHARE = 5e-4
"""Steps under this share of the highest level are shown as one."""
ROUNDING = 1e-9
OTHERS = "others"


def compared(a: Side, b: Side, per: str | None = None) -> Comparison:
    """B against A, per one of `PER` (default: the smaller one); InputError where that is not of both."""
    if a.whole != b.whole:
        raise InputError(f"A is a {a.whole}, B a {b.whole}; expected two passes, two requests (with --isl and --osl), "
                         "or two calls of generators")  # fmt: skip
    per = per or PER[a.whole][0]
    if per not in PER[a.whole]:
        raise InputError(f"--per {per}: says nothing of a {a.whole}; expected {' or '.join(PER[a.whole])}")
    terms = [side.terms if per == a.whole else per_one(side.terms) for side in (a, b)]
    first, last = map(joules_of, terms)
    return Comparison(a, b, per, first, last, tuple(_steps(first, difference(*terms))))


def _steps(level: float, changes: dict[str, float]) -> Iterator[Step]:
    for factor, joules in changes.items():
        yield Step(factor, joules, level, level + joules)
        level += joules


def _side(side: Side, energy_j: float) -> dict[str, Any]:
    terms = {name: dict(factors) for name, factors in side.terms.items()}
    return {"question": side.question, **side.facts, "energy_j": energy_j, "terms": terms}
