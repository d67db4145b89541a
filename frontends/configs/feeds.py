"""Feed-forward parts: dense, and mixtures of experts."""

from __future__ import annotations

from dataclasses import dataclass

from wattir.dims import CHANCE, Size, ceildiv, maximum, missed, product
from wattir.errors import InputError
from wattir.frontends.configs.architecture import Experts, Feed, Mlp
from wattir.frontends.configs.writer import Writer


@dataclass(frozen=True)
class Spread:
    """How experts lie on devices: whole ones on each of `ep`; `copies` devices or groups of them bring tokens."""

    ep: int
    copies: int


def feed_forward(w: Writer, x: str, feed: Feed, spread: Spread) -> str:
    """x [..., hidden] -> [..., hidden], before the sum over devices."""
    return mlp(w, x, feed) if isinstance(feed, Mlp) else _experts(w, x, feed, spread)


def mlp(w: Writer, x: str, m: Mlp, weights: str = "") -> str:
    """down(act(gate(x)) * up(x)), or down(act(up(x)))."""
    hidden, width = int(str(w.shape(x)[-1])), w.share("intermediate_size", m.width)
    if m.gated:
        gate = w.act("act", m.act, w.linear("gate_proj", x, width, m.bias, weights))
        up = w.pointwise("mul", "mul", w.linear("up_proj", x, width, m.bias, weights), gate)
    else:
        up = w.act("act", m.act, w.linear("up_proj", x, width, m.bias, weights))
    up = w.norm("norm", up, "rms_norm") if m.norm else up
    return w.linear("down_proj", up, hidden, m.bias, weights)


def _experts(w: Writer, x: str, e: Experts, spread: Spread) -> str:
    """Each token goes to `chosen` experts; of the others no weight is read."""
    *lead, hidden = w.shape(x)
    if e.count % spread.ep:
        raise InputError(f"ep = {spread.ep}: {w.builder.name} has num_experts = {e.count}, which {spread.ep} does not "
                         f"divide; expected a divisor of {e.count}")  # fmt: skip
    choice = _route(w, x, e)
    seen, whole = x, int(str(hidden))
    if e.latent:
        x, hidden = w.linear("latent_in", x, e.latent), e.latent
    width = e.width if spread.ep > 1 else w.share("moe_intermediate_size", e.width)
    tokens = product(lead) * spread.copies
    rows = ceildiv(tokens * e.chosen, spread.ep)
    touched = Touched(e.count // spread.ep, e.chosen, e.count, tokens, rows)
    if spread.copies > 1:
        x = w.op(
            "collective", "dispatch", (x, choice), (rows, hidden), "all_to_all", function="all_to_all", ranks=spread.ep
        )
    up = _product(w, "experts.up", x, e, touched, (2 if e.gated else 1) * width, choice)
    up = w.act("experts.act", e.act, up, last=width)
    out = _product(w, "experts.down", up, e, touched, int(str(hidden)))
    if spread.copies > 1:
        shape = (product(lead) * e.chosen, hidden)
        out = w.op("collective", "combine", (out,), shape, "all_to_all", function="all_to_all", ranks=spread.ep)
    out = w.op("reduction", "experts.sum", (out, choice), (*lead, hidden), "sum", function="sum", length=e.chosen)
    out = w.linear("latent_out", out, whole) if e.latent else out
    return _with_shared(w, seen, out, e) if e.shared_width else out


def _route(w: Writer, x: str, e: Experts) -> str:
    """Which experts, and how much of each."""
    *lead, _ = w.shape(x)
    scores = w.linear("router", x, e.count, e.router_bias == "weight", weights=w.held.dtype)
    others = (w.weight("router.correction", (e.count,), "fp32"),) if e.router_bias == "correction" else ()
    scores = w.op("softmax", "router.softmax", (scores, *others), (*lead, e.count), function="softmax", length=e.count)
    return w.op("sort", "router.topk", (scores,), (*lead, e.chosen), "topk", function="topk", length=e.count)


@dataclass(frozen=True)
class Touched:
    """The experts of one device that `tokens` tokens reach: of E experts, k for a token, E (1 - (1 - k/E)^tokens)."""

    local: int
    chosen: int
    count: int
    tokens: Size
    rows: Size

    def of(self, total: int) -> Size:
        """The part of `total` that belongs to experts reached; at least one expert's."""
        untouched = total * missed(self.chosen * CHANCE // self.count, self.tokens) // CHANCE
        return maximum(total - untouched, total // self.local)


def _product(w: Writer, name: str, x: str, e: Experts, touched: Touched, n: int, *choice: str) -> str:
    """Each row by the matrix of its expert: rows n k multiply-adds, in as many groups as experts are reached."""
    k, held = int(str(w.shape(x)[-1])), w.held.expert_weights
    total = touched.local * n * k
    weights = w.weights(f"{name}.weight", (touched.of(total),), held, total)
    bias = (w.weight(f"{name}.bias", (touched.of(touched.local * n),), params=touched.local * n),) if e.bias else ()
    groups = touched.of(touched.local)
    return w.op(
        "matmul", name, (w.narrowed(x, held), *weights, *bias, *choice), (touched.rows, n), "grouped_mm", groups=groups,
        m=ceildiv(touched.rows, groups), n=n, k=k, rows=touched.rows,
        tokens=touched.tokens, experts=touched.count, **w.math(held),
    )  # fmt: skip


def _with_shared(w: Writer, x: str, routed: str, e: Experts) -> str:
    with w.at("shared_expert"):
        out = mlp(w, x, Mlp(e.shared_width, e.gated, act=e.act), w.held.weights)
    if e.shared_gate:
        gate = w.act("shared_expert_act", "sigmoid", w.linear("shared_expert_gate", x, 1))
        out = w.pointwise("shared_gate", "mul", out, gate)
    return w.pointwise("shared_add", "add", routed, out)
