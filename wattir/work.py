"""Work: what one kernel asks of any machine, as formulas in the free dims."""

from __future__ import annotations

from dataclasses import dataclass

from wattir.dims import Size

CELLS = ("macs_causal", "m", "n", "k", "groups", "ops", "special", "weight_bytes", "activation_bytes", "state_bytes",
         "launches", "link_bytes", "window", "in_points", "tokens", "experts")  # fmt: skip
"""What `wattir.roofline.kernel_cost` takes of a row's Work, in its order."""


@dataclass(frozen=True, slots=True)
class Work:
    """One kernel's demand, per run; everything but the texts may be a formula.

    `family` selects a machine's efficiencies, `math` is the dtype its multiply-adds run in. `macs`: multiply-adds of
    contractions, two FLOP each; `macs_causal`: without the half that a causal mask throws away. `m, n, k, groups`: the
    contraction as `groups` products of [m, k] by [k, n], or zeros; without n and k, `groups` blocks of threads.
    `window`: points of an image that each output of a convolution or a pooling is made of, so that k of a convolution
    is channels times `window`; `in_points`: points of all images that a convolution reads, m being those that it
    writes; both 0 for all else. `tokens`, `experts`: how many of the former chose among how many of the latter, on all
    devices, where the kernel is of what one device holds of them; libraries lay out rows, sort and pick tiles by these.
    Of attention `tokens` are its queries of all sequences: one long sequence of many heads and many short ones of few
    have the same contraction, not the same layout and split. 0 for all else. `ops`: additions and the like; `special`:
    exponentials and the like. Bytes by stream: parameters, activations read, activations written, state (KV cache) read
    and written, bytes sent to other devices. `times`: how often the kernel runs. `known` is False where no cost rule
    applies and only the bytes are counted.
    """

    name: str
    kind: str
    source: str
    family: str
    math: str
    times: Size
    macs: Size = 0
    macs_causal: Size = 0
    m: Size = 0
    n: Size = 0
    k: Size = 0
    groups: Size = 0
    window: Size = 0
    in_points: Size = 0
    tokens: Size = 0
    experts: Size = 0
    ops: Size = 0
    special: Size = 0
    weight_bytes: Size = 0
    in_bytes: Size = 0
    out_bytes: Size = 0
    state_bytes: Size = 0
    link_bytes: Size = 0
    launches: Size = 1
    known: bool = True

    @property
    def bytes(self) -> Size:
        """All bytes that cross the device's memory in one run."""
        return self.weight_bytes + self.in_bytes + self.out_bytes + self.state_bytes


def cells_of(work: Work) -> tuple[Size, ...]:
    """The cells of a Work in the order of `CELLS`."""
    return (
        work.macs_causal, work.m, work.n, work.k, work.groups, work.ops, work.special,
        work.weight_bytes, work.in_bytes + work.out_bytes, work.state_bytes, work.launches,
        work.link_bytes, work.window, work.in_points, work.tokens, work.experts,
    )  # fmt: skip
