"""A fleet's simulation as text for people: Wh per query, what the levers give, GWh a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from wattir.cli.console import Sheet, clean, make_console
from wattir.cli.units import digits, percent, prefixed
from wattir.fleet import J_PER_WH, Fleet
from wattir.fleet_predict import Beside

DAYS = {
    "traditional_j": "all traditional", "long_j": "all long", "mixed_j": "{share} long",
    "improved_j": "{share} long, those improved {gain:g}x",
}  # fmt: skip


def show_fleet(fleet: Fleet, found: Mapping[str, Any]) -> None:
    """Prints everything."""
    console = make_console()
    console.print(f"Top-down, from throughput and node power; source: {clean(fleet.source).plain}")
    console.print()
    _show_queries(console, fleet, found["workloads"])
    _show_levers(console, fleet, found["workloads"])
    _show_day(console, fleet, found["day"])
    console.print(f"{found['draws']:,} draws, seed {found['seed']}; no prefill, nameplate power, no error of the law")


def _show_queries(console: Console, fleet: Fleet, workloads: Mapping[str, Any]) -> None:
    heads = [f">{name}, {fleet.workloads[name].output_tokens:g} tokens" for name in workloads]
    sheet = Sheet(console, "Wh per query: median (quartiles)", "model", "?>node", "?>tokens/s", *heads)
    for model in fleet.models:
        found = [_quartiles(work["models"][model.id]) for work in workloads.values()]
        sheet.row(clean(model.name), prefixed(model.node_w, "W"), f"up to {model.most_tokens_per_s:,.0f}", *found)
    count = f"blend of {prefixed(fleet.blend_parameters, '').strip()} parameters and more"
    sheet.row(count, "", "", *(_quartiles(work["blend"]) for work in workloads.values()))
    sheet.show()


def _quartiles(values: Mapping[str, float]) -> str:
    median, q1, q3 = (digits(values[key] / J_PER_WH) for key in ("median_j", "q1_j", "q3_j"))
    return f"{median} ({q1} to {q3})"


def _show_levers(console: Console, fleet: Fleet, workloads: Mapping[str, Any]) -> None:
    heads = [f">{name}" for name in workloads]
    sheet = Sheet(console, "Levers: Wh per query of the blend", "lever", ">divides by", *heads)
    for name, gain in fleet.levers.items():
        cells = []
        for work in workloads.values():
            median = work["levers"][name]["median_j"]
            saved = 1.0 - median / work["blend"]["median_j"]
            cells.append(f"{digits(median / J_PER_WH)} (-{percent(saved)})")
        sheet.row(clean(name), f"{gain.p5:g} to {gain.p95:g}", *cells)
    sheet.show()


def _show_day(console: Console, fleet: Fleet, day: Mapping[str, float]) -> None:
    overheads = " x ".join(f"{factor:g}" for factor in fleet.overheads)
    console.print(
        f"A day of {fleet.queries / 1e9:g} billion queries at the mean of the blend, x {overheads} of overheads",
        style="bold",
    )
    sheet = Sheet(console, "", "queries", ">energy")
    for key, joules in day.items():
        label = DAYS[key].format(share=percent(fleet.long_share), gain=fleet.long_gain)
        sheet.row(label, prefixed(joules / J_PER_WH, "Wh"))
    sheet.show()


def show_beside(fleet: Fleet, both: Sequence[Beside], concurrency: float) -> None:
    """Both ways of a query at the medians, and the factors that lead from one to the other."""
    names, console = {model.id: model.name for model in fleet.models}, make_console()
    for workload in dict.fromkeys(one.workload for one in both):
        tokens = fleet.workloads[workload].output_tokens
        title = f"Bottom-up beside it, at the medians: {workload}, {tokens:g} tokens, {concurrency:g} at a time"
        console.print()
        sheet = Sheet(
            console, title, "model", "on", ">top-down", ">bottom-up", ">power", ">decode", ">prefill",
            ">node", ">tokens/s",
        )  # fmt: skip
        for one in both:
            if one.workload == workload:
                top, bottom = one.top_down, one.bottom_up
                sheet.row(
                    clean(names[one.model]), one.where, prefixed(top.query_j / J_PER_WH, "Wh"),
                    prefixed(bottom.query_j / J_PER_WH, "Wh"), *(f"x {value:.2f}" for value in one.factors.values()),
                    f"{prefixed(top.node_w, 'W')} -> {prefixed(bottom.node_w, 'W')}",
                    f"{top.tokens_per_s:,.0f} -> {bottom.tokens_per_s:,.0f}",
                )  # fmt: skip
        sheet.show()
