"""A comparison as one page: the waterfall as a drawing, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from wattir.cli.units import prefixed
from wattir.cli.waterfall import Comparison, meaning

LABELS, CHART, ROW = 190, 520, 34
"""Pixels: column of names, width of the chart, height of a row."""
SIDE, MORE, LESS = "#4b5563", "#c2410c", "#15803d"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px system-ui, sans-serif; margin: 2em; color: #111 }} svg text {{ font-size: 14px }}
p {{ margin: .3em 0 }}</style>
<h1 style="font-size: 1.2em">{title}</h1>
<p><b>A</b> {a}</p>
<p><b>B</b> {b}</p>
<svg width="{width}" height="{height}" role="img" aria-label="{title}">
{rows}
</svg>
</html>
"""


def page(found: Comparison) -> str:
    """The whole page."""
    ratio = found.b_j / found.a_j if found.a_j else float("inf")
    bars = list(_bars(found))
    top = max(max(low, high) for _, low, high, _, _ in bars) or 1.0
    rows = "\n".join(_row(place, bar, top) for place, bar in enumerate(bars))
    return PAGE.format(
        title=f"B takes {ratio:.3g} times the joules of A per {found.per}", a=escape(found.a.label),
        b=escape(found.b.label), width=LABELS + CHART + 140, height=ROW * len(bars), rows=rows,
    )  # fmt: skip


Bar = tuple[str, float, float, str, str]
"""Name, ends in joules, colour, text beside it."""


def _bars(found: Comparison) -> Iterator[Bar]:
    yield "A", 0.0, found.a_j, SIDE, prefixed(found.a_j, "J")
    for step in found.shown:
        sign, colour = ("+", MORE) if step.energy_j > 0.0 else ("-", LESS)
        yield step.factor, step.before_j, step.after_j, colour, sign + prefixed(abs(step.energy_j), "J")
    yield "B", 0.0, found.b_j, SIDE, prefixed(found.b_j, "J")


def _row(place: int, bar: Bar, top: float) -> str:
    name, before, after, colour, text = bar
    low, high = (LABELS + CHART * max(value, 0.0) / top for value in sorted((before, after)))
    y = ROW * place
    hint = escape(meaning(name))
    return (
        f'<g><title>{hint}</title><text x="0" y="{y + 21}">{escape(name)}</text>'
        f'<rect x="{low:.1f}" y="{y + 6}" width="{max(high - low, 1.5):.1f}" height="{ROW - 12}" fill="{colour}"/>'
        f'<text x="{high + 8:.1f}" y="{y + 21}">{escape(text)}</text></g>'
    )
