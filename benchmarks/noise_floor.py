"""How far measurements of the same work lie apart: ``python -m benchmarks.noise_floor --data DIR [--json]``.

No estimate can be closer to measured kernels than they are to each other. Rows of the kernel sets that ran the same
work under different names are set against each other: layers of one architecture measured for several models, attention
whose window is wider than all it sees beside attention without one, and experts measured twice. Of each pair the
logarithm of the ratio: its median is the offset between the names, the median distance from that is how far rows lie
apart, and over the root of 2, one row from a perfect estimate (were both alike and normal). Watts are those of kernels
of 0.1 ms and more that took the same time (`SAME_TIME`); where the time of a window without effect lies far apart, the
library runs another kernel for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import parsed, parser_of, printed, say
from wattir.backends.fit.library import SHORT_S
from wattir.backends.fit.rows import Array
from wattir.backends.fit.tables import read_table
from wattir.cli.console import Sheet, clean, make_console

Table = Any
Found = dict[str, Any]
LEAST_PAIRS = 30
FOLDERS = ("kernels_power", "kernels_latency")
SAME_TIME = 0.02


@dataclass(frozen=True)
class Alike:
    """Rows of one table that agree in the columns `same` and differ in `name`; reported for every value of `by`."""

    table: str
    what: str
    name: str
    same: tuple[str, ...]
    by: str
    only: Callable[[Table], Table]


def every(table: Table) -> Table:
    """All rows."""
    return table


def without_effect(table: Table) -> Table:
    """Attention without a window, or with one as wide as all it sees."""
    seen = table.isl if table.op_name.eq("context_attention").all() else table.isl + table.step
    window = table.window_size.fillna(0.0)
    return table[window.eq(0.0) | window.ge(seen)]


def numbered(table: Table) -> Table:
    """With ``again``: how many rows of the same columns came before."""
    return table.assign(again=table.groupby(list(EXPERTS), observed=True, dropna=False).cumcount())


HEADS = ("batch_size", "num_heads", "isl", "step", "kv_cache_dtype")
LATENT = (*HEADS, "framework", "kernel_source", "mla_dtype", "gemm_type")
ATTENTION = (*HEADS, "num_key_value_heads", "head_dim", "framework", "kernel_source", "attn_dtype")
EXPERTS = ("kernel_source", "framework", "moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
           "moe_tp_size", "moe_ep_size", "distribution")  # fmt: skip
ALIKE = (
    Alike("mla_context_module", "one architecture, several models", "model", LATENT, "gemm_type", every),
    Alike("mla_generation_module", "one architecture, several models", "model", LATENT, "gemm_type", every),
    Alike("context_attention", "a window without effect", "window_size", ATTENTION, "kernel_source", without_effect),
    Alike("generation_attention", "a window without effect", "window_size", ATTENTION, "kernel_source", without_effect),
    Alike("moe", "measured again", "again", EXPERTS, "moe_dtype", numbered),
)


def floors(data: str) -> Iterator[Found]:
    """Of every table, machine and value of `Alike.by` with enough pairs: what `apart` says of its time and watts."""
    for folder in FOLDERS:
        path = os.path.join(data, folder)
        names = {name.partition(".")[0] for name in os.listdir(path)} if os.path.isdir(path) else set()
        for alike in ALIKE:
            if alike.table in names:
                yield from of_table(alike, folder, read_table(path, alike.table))


def of_table(alike: Alike, folder: str, table: Table) -> Iterator[Found]:
    """As `floors`, of one table."""
    for (system, value), part in alike.only(table).groupby(["system", alike.by], observed=True):
        time, watts = ratios(alike, part)
        if len(time) >= LEAST_PAIRS:
            yield {
                "set": f"{folder}: {alike.table}", "device": str(system), "of": str(value), "alike": alike.what,
                "time": apart(time), "power": apart(watts),
            }  # fmt: skip


def ratios(alike: Alike, table: Table) -> tuple[Array, Array]:
    """Logarithms of the ratios of seconds, and of watts where these are known, of rows of the same work next to each
    other in the order of their names."""
    ordered = table.sort_values(alike.name, kind="stable")
    columns = ["latency_ms", "power_w"]
    before = ordered.groupby(list(alike.same), observed=True, dropna=False)[columns].shift(1).to_numpy(float)
    now = ordered[columns].to_numpy(float)
    pair = np.isfinite(before[:, 0])
    now, before = now[pair], before[pair]
    time = np.log(now[:, 0] / before[:, 0])
    long = np.minimum(now, before)[:, 0] >= 1e3 * SHORT_S
    known = long & (np.abs(time) <= SAME_TIME) & (np.minimum(now, before)[:, 1] > 0.0)
    return time, np.log(now[known, 1] / before[known, 1])


def apart(ratio: Array) -> Found:
    """How many pairs, their offset, how far apart they are about it, and one row from the best estimate."""
    if len(ratio) < LEAST_PAIRS:
        return {"pairs": len(ratio)}
    offset = np.median(ratio)
    distance = np.median(np.abs(ratio - offset))
    found = {"offset": offset, "apart": distance, "one_row": distance / 2.0**0.5}
    return {"pairs": len(ratio)} | {name: round(float(number), 4) for name, number in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Works out and prints; 2 where the folder is not there."""
    options = parsed(parser_of("noise_floor", __doc__), arguments)
    if options is None:
        return 2
    found = list(floors(options.data))
    if not found:
        say(f"--data {options.data}: no rows of the same work; expected {' or '.join(FOLDERS)} in it")
        return 2
    return printed({"floors": found}, options.json, lambda: show(found))


def show(found: Sequence[Found]) -> None:
    """One table."""
    texts = ("set", "device", "of")
    columns = [(what, name) for what in ("time", "power") for name in ("pairs", "offset", "apart", "one_row")]
    heads = ("pairs", "offset %", "time %", "one row", "pairs", "offset %", "watts %", "one row")
    sheet = Sheet(make_console(150), "The same work measured again", *texts, *(f">{head}" for head in heads))
    for each in found:
        sheet.row(*(clean(each[name]) for name in texts), *(cell(each[what], name) for what, name in columns))
    sheet.show()


def cell(numbers: Found, name: str) -> str:
    """A count, or a share in percent."""
    if name not in numbers:
        return "-"
    return str(numbers[name]) if name == "pairs" else f"{100.0 * numbers[name]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
