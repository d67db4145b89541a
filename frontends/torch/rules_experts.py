"""Mixtures of experts and state-space models: grouped products, selective scans."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size, exact_div
from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.program import TensorRef


@rule("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2")
def grouped_mm(node: Node) -> None:
    a, b = node.tensor(0), node.tensor(1)
    emit_grouped(node, a, b)


@rule("grouped_mm_fallback", space="transformers")
def grouped_mm_fallback(node: Node) -> None:
    emit_grouped(node, node.tensor(0), node.tensor(1))


def emit_grouped(node: Node, a: Value, b: Value) -> None:
    """Rows [t, k] each by the matrix of its expert [e, k, n]: t k n products, whichever experts they go to.

    Fewer rows than experts read at most as many matrices as there are rows.
    """
    math: dict[str, Any] = {"math": "fp8"} if a.dtype == "fp8" else {}
    if a.rank == 3 and b.rank == 3:
        node.emit("matmul", groups=a.shape[0], m=a.shape[1], n=b.shape[-1], k=a.shape[2], **math)
        return
    if a.rank == 2 and b.rank == 2:
        node.emit("matmul", groups=1, m=a.shape[0], n=b.shape[-1], k=a.shape[-1], **math)
        return
    rows, experts, n, k = (a.shape[0], b.shape[0], b.shape[-1], a.shape[-1]) if a.rank == 2 else (
        a.shape[1], a.shape[0], b.shape[-1], a.shape[-1])  # fmt: skip
    groups, m = _spread(rows, experts)
    operands = [a, _active(node, b, groups)] if groups != experts and b.rank == 3 else [a, b]
    node.emit("matmul", ins=[*operands, *node.inputs()[2:]], groups=groups, m=m, n=n, k=k, **math)


def _spread(rows: Size, experts: Size) -> tuple[Size, Size]:
    """How many experts run, and rows for each: as even as the numbers allow, their product is exact."""
    each = exact_div(rows, experts)
    if each is not None and each != 0:
        return experts, each
    if isinstance(rows, int) and isinstance(experts, int) and rows < experts:
        return max(rows, 1), min(rows, 1)
    return 1, rows


def _active(node: Node, weights: Value, count: Size) -> Value:
    """The matrices of the experts that run, where these are fewer than all."""
    if count == 1 and not isinstance(weights.shape[0], int):
        return weights
    if count == 1 and node.tensor(0).shape[0] != 1:
        return weights
    made = node.inner("active", (count, *weights.shape[1:]), weights.dtype)
    node.emit("view", ins=(weights,), outs=(made,), function="active_experts")
    return made


# ---- state-space models ---------------------------------------------------------------------------------------------


def emit_scan(node: Node, steps: Size, elements: Size, ops: Size, out: TensorRef | Value | None = None) -> None:
    """A recurrence of `steps` steps over `elements` numbers of state."""
    outs = None if out is None else (out,)
    node.emit("scan", outs=outs, function="selective", steps=steps, elements=elements, ops=ops)


@rule("selective_scan_fwd", "selective_scan_fn", space="mamba_ssm")
def selective_scan(node: Node) -> None:
    """u [b, d, l], A [d, n]: for each step and number of state a decay, an input and a sum, then the read-out."""
    u, a = node.tensor(0), node.tensor(2)
    emit_scan(node, u.shape[2], u.shape[0] * u.shape[1] * a.shape[-1], 6)


@rule("_causal_conv1d_fwd_cpp", space="DaoAILab")
@rule("causal_conv1d_fwd", "causal_conv1d_fn", "causal_conv1d_cpp", space="causal_conv1d")
def causal_conv(node: Node) -> None:
    """Depthwise over x [b, d, l] by weight [d, width]."""
    x, weight = node.tensor(0), node.tensor(1)
    channels, width = weight.shape
    node.emit("conv", ins=(x, weight, node.value(2)), batch=x.shape[0], c_in=channels, c_out=channels, groups=channels,
              kernel=(width,), in_spatial=(x.shape[2],), out_spatial=(x.shape[2],))  # fmt: skip
