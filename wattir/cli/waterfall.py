"""A comparison as an object: two sides, and the steps from one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wattir.compare import FACTORS, Terms, difference, joules_of, per_sample
from wattir.report import Report


@dataclass(frozen=True, slots=True)
class Side:
    """One question, its report, and the terms of its joules."""

    question: str
    report: Report
    terms: Terms

    @property
    def label(self) -> str:
        """``resnet50 on h100_sxm, batch=8``."""
        r = self.report
        parts = (r.runtime, r.dtype, *(f"{name}={value}" for name, value in r.sizes.items()))
        return f"{r.model} on {r.device}, {', '.join(part for part in parts if part)}"


@dataclass(frozen=True, slots=True)
class Step:
    """Joules that a factor adds, between the levels before and after it."""

    factor: str
    energy_j: float
    before_j: float
    after_j: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`a_j` and `b_j`: joules of the sides per sample or per pass; `steps` lead from one to the other."""

    a: Side
    b: Side
    per: str
    a_j: float
    b_j: float
    steps: tuple[Step, ...]

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


def compared(a: Side, b: Side, per: str) -> Comparison:
    """B against A, per `sample` or per `pass`."""
    terms = [per_sample(side.terms) if per == "sample" else side.terms for side in (a, b)]
    first, last = map(joules_of, terms)
    return Comparison(a, b, per, first, last, tuple(_steps(first, difference(*terms))))


def _steps(level: float, changes: dict[str, float]) -> Iterator[Step]:
    for factor, joules in changes.items():
        yield Step(factor, joules, level, level + joules)
        level += joules


def _side(side: Side, energy_j: float) -> dict[str, Any]:
    report = side.report
    return {
        "question": side.question, "model": report.model, "device": report.device, "runtime": report.runtime,
        "dtype": report.dtype, "sizes": dict(report.sizes), "energy_j": energy_j, "totals": dict(report.totals),
        "terms": {name: dict(factors) for name, factors in side.terms.items()},
    }  # fmt: skip
