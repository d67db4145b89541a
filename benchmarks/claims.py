"""What was found by measuring served models, found by predicting them: ``python -m benchmarks.claims [--data DIR]``.

The claims of Chung et al., Where Do the Joules Go? (arXiv 2601.22076), each worked out three times from the rows of
`mlenergy_v3_llm`: with the measured joules of a token, with those that the shipped engines predict, and with those that
engines predict which were fitted without any row of the architecture in question (``--left-out``). A row says what was
asked (model, task, machine, parallelism, batch, tokens of an answer); power and throughput are never inputs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a plain script in the checkout

from benchmarks.measured_sets import parsed, parser_of, printed
from wattir.backends.fit.fit_serving import fit, predict
from wattir.backends.fit.plan_serving import V3, conditions_of
from wattir.backends.fit.tables import read_table
from wattir.cli.console import Sheet, make_console
from wattir.device import load_device
from wattir.serving import engine_on

Table = Any
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """`ask`: the numbers of a table whose column ``j`` has joules of a token; `said`: how these are said."""

    name: str
    published: str
    said: str
    ask: Callable[[Table], Numbers]


def tables(data: str, left_out: bool) -> dict[str, Table]:
    """Rows of all machines, by where their joules ``j`` and seconds of a step ``step_s`` come from."""
    parts: dict[str, list[Table]] = {}
    for plan in V3.values():
        for source, table in _sources(plan, os.path.join(data, plan.folder), left_out):
            parts.setdefault(source, []).append(table)
    return {source: pd.concat(some, ignore_index=True) for source, some in parts.items()}


def _sources(plan: Any, folder: str, left_out: bool) -> Iterator[tuple[str, Table]]:
    device = load_device(plan.device)
    rows = plan.load(folder, plan.hardware, device)
    good = ~rows.stalled
    asked = read_table(folder, "data").loc[rows.place[good]].assign(group=rows.group[good])
    engine = engine_on(device, plan.engine)
    found = {
        "measured": (rows.time_s, rows.energy_j),
        "predicted": predict(device, engine, rows, conditions_of(engine)),
    }
    if left_out:
        fitted = fit(device, plan.engine, rows, lambda line: None)
        found["left out"] = (rows.time_s * np.exp(fitted.time), rows.energy_j * np.exp(fitted.energy))
    for source, (time_s, joules) in found.items():
        yield source, asked.assign(step_s=time_s[good], j=joules[good])


# ---- claims ---------------------------------------------------------------------------------------------------------


def at(table: Table, **wanted: Any) -> Table:
    """The rows of these values; a model by the end of its name."""
    for name, value in wanted.items():
        column = table[name]
        table = table[column.str.endswith(value) if name == "model_id" else column.eq(value)]
    return table


def of_tasks(table: Table) -> Numbers:
    """J a response of problems and of chat on B200: each model's least, on average over models; their ratio."""
    least = []
    for task in ("gpqa", "lm-arena-chat"):
        some = at(table, task=task, gpu_model="B200")
        least.append(float((some.j * some.output_tokens_mean).groupby(some.model_id).min().mean()))
    return (*least, least[0] / least[1])


def of_one(**wanted: Any) -> Callable[[Table], float]:
    """J a token of one row."""
    return lambda table: float(at(table, **wanted).j.iloc[0])


def pair(first: Callable[[Table], float], second: Callable[[Table], float]) -> Callable[[Table], Numbers]:
    """Two numbers, and how many times the second is in the first."""
    return lambda table: (a := first(table), b := second(table), a / b)


def least(**wanted: Any) -> Callable[[Table], float]:
    """The least J a token of some rows."""
    return lambda table: float(at(table, **wanted).j.min())


def of_media(table: Table) -> Numbers:
    """J a token of image and of video chat over text chat: same architecture, machine, number of devices, batch."""
    keys = ["group", "gpu_model", "num_gpus", "max_num_seqs"]
    text = at(table, task="lm-arena-chat").groupby(keys).j.min()
    found: list[float] = []
    for task in ("image-chat", "video-chat"):
        ratios = (at(table, task=task).groupby(keys).j.min() / text).dropna()
        found += [float(ratios.min()), float(ratios.max())]
    return tuple(found)


STEPS_S = (0.05, 0.1, 0.25)
"""Seconds between tokens at which machines are compared."""


def of_machines(table: Table) -> Numbers:
    """How often B200 takes less than H100 within the same seconds between tokens, of how often; the median saved."""
    ratios = []
    for _, some in table.groupby(["task", "model_id"]):
        for most in STEPS_S:
            fast = some[some.step_s <= most].groupby("gpu_model").j.min()
            if len(fast) == 2:
                ratios.append(fast["B200"] / fast["H100"])
    return float(np.sum(np.array(ratios) < 1.0)), float(len(ratios)), 100.0 * (1.0 - float(np.median(ratios)))


def of_precision(table: Table) -> Numbers:
    """Percent that FP8 takes more than BF16 at batches of 8 to 16, 17 to 64, 65 to 256 (medians)."""
    keys = ["model", "task", "gpu_model", "num_gpus", "max_num_seqs"]
    named = table.assign(model=table.model_id.str.removesuffix("-FP8"))
    narrow = named.model_id.str.endswith("-FP8")
    both = named[narrow].merge(named[~narrow], on=keys, suffixes=("", "_wide"))
    ranges = ((8, 16), (17, 64), (65, 256))
    some = (both[both.max_num_seqs.between(low, high)] for low, high in ranges)
    return tuple(100.0 * (float((part.j / part.j_wide).median()) - 1.0) for part in some)


def of_devices(machine: str) -> Callable[[Table], Numbers]:
    """How often more devices at the same batch take more joules, of how often."""

    def ask(table: Table) -> Numbers:
        up = []
        for _, some in at(table, gpu_model=machine).groupby(["task", "model_id", "max_num_seqs"]):
            up += (np.diff(some.groupby("num_gpus").j.min()) > 0.0).tolist()
        return float(sum(up)), float(len(up))

    return ask


RATIO = "{0:.3g} and {1:.3g} J: {2:.2f} times"
R1 = {"model_id": "DeepSeek-R1-0528", "gpu_model": "B200"}
CODER = {"model_id": "Qwen3-Coder-30B-A3B-Instruct", "gpu_model": "B200"}
DENSE = {"model_id": "Qwen/Qwen3-32B", "gpu_model": "B200"}
SPARSE = {"model_id": "Qwen3-30B-A3B-Thinking-2507", "gpu_model": "B200", "task": "gpqa"}
OSS = {"model_id": "gpt-oss-120b", "gpu_model": "H100"}

CLAIMS = (
    Claim("problems against chat, a response", "4,625 and 184 J: 25.2 times", "{0:,.0f} and {1:,.0f} J: {2:.1f} times",
          of_tasks),
    Claim("Qwen3-32B on B200: problems against chat", "0.312 and 0.151 J: 2.07 times", RATIO,
          pair(least(**DENSE, task="gpqa"), of_one(**DENSE, task="lm-arena-chat", max_num_seqs=512))),
    Claim("images and video against text", "1.1 to 5.2, 1.3 to 15 times",
          "{0:.1f} to {1:.1f}, {2:.1f} to {3:.1f} times", of_media),
    Claim("DeepSeek-R1, batch 16 against 128", "7.12 and 2.38 J: 2.99 times", RATIO,
          pair(of_one(**R1, max_num_seqs=16), of_one(**R1, max_num_seqs=128))),
    Claim("Qwen3-Coder-30B, batch 16 against 1024", "0.609 and 0.112 J: 5.44 times", RATIO,
          pair(of_one(**CODER, max_num_seqs=16), of_one(**CODER, max_num_seqs=1024))),
    Claim("dense 32B against experts 30B-A3B", "0.312 and 0.0876 J: 3.56 times", RATIO,
          pair(least(**DENSE, task="gpqa"), least(**SPARSE))),
    Claim("B200 against H100 at equal latency", "less in 63 of 72, by 35 %",
          "less in {0:.0f} of {1:.0f}, by {2:.0f} %", of_machines),
    Claim("FP8 against BF16: batch to 16, 64, 256", "+30 %, +1 %, -11 %", "{0:+.0f} %, {1:+.0f} %, {2:+.0f} %",
          of_precision),
    Claim("more B200 at the same batch", "more in 37 of 37", "more in {0:.0f} of {1:.0f}", of_devices("B200")),
    Claim("more H100 at the same batch", "more in 39 of 42", "more in {0:.0f} of {1:.0f}", of_devices("H100")),
    Claim("GPT-OSS: 64 on one H100, 2048 on two", "0.268 and 0.0860 J: 3.12 times", RATIO,
          pair(of_one(**OSS, num_gpus=1, max_num_seqs=64), of_one(**OSS, num_gpus=2, max_num_seqs=2048))),
)  # fmt: skip
"""As published or worked out from the set; the definitions are the ones above, so measured numbers may differ a little
from published ones."""


# ---- the command ----------------------------------------------------------------------------------------------------


def show(found: Mapping[str, Mapping[str, Numbers]]) -> None:
    """A line a claim; joules of a token where nothing else is said."""
    sheet = Sheet(make_console(190), "Claims", "claim", "published", *found)
    for claim in CLAIMS:
        said = (claim.said.format(*numbers[claim.name]) for numbers in found.values())
        sheet.row(claim.name, claim.published, *said)
    sheet.show()


def main(arguments: Sequence[str] | None = None) -> int:
    """Works out and prints; 2 where the set is not there."""
    parser = parser_of("claims", __doc__)
    parser.add_argument("--left-out", action="store_true", help="also with each architecture left out of the fit")
    options = parsed(parser, arguments, "mlenergy_v3_llm")
    if options is None:
        return 2
    every = tables(options.data, options.left_out)
    found = {source: {claim.name: claim.ask(table) for claim in CLAIMS} for source, table in every.items()}
    return printed(found, options.json, lambda: show(found))


if __name__ == "__main__":
    sys.exit(main())
