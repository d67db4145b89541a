"""Reductions and softmax."""

from __future__ import annotations

from wattir.dims import product
from wattir.frontends.torch.node import Node, rule

REDUCTIONS = {
    "sum": "sum", "mean": "mean", "prod": "prod", "amax": "max", "amin": "min", "max": "max", "min": "min",
    "all": "all",
    "any": "any", "argmax": "argmax", "argmin": "argmin", "logsumexp": "log_sum_exp",
    "special_logsumexp": "log_sum_exp",
    "var": "var", "std": "std", "var_mean": "var", "std_mean": "std", "norm": "norm", "linalg_vector_norm": "norm",
    "linalg_norm": "norm", "linalg_matrix_norm": "norm", "frobenius_norm": "norm", "nansum": "sum", "nanmean": "mean",
    "count_nonzero": "count", "aminmax": "max", "_aminmax": "max", "dist": "norm", "trace": "sum", "equal": "all",
    "nuclear_norm": "norm", "norm_except_dim": "norm", "linalg__powsum": "sum", "sum_to_size": "sum",
    "segment_reduce": "sum", "allclose": "all", "is_nonzero": "all", "_is_all_true": "all", "_is_any_true": "any",
    "nll_loss": "nll", "nll_loss_nd": "nll", "nll_loss_forward": "nll", "cosine_embedding_loss": "sum",
    "ctc_loss": "sum", "_ctc_loss": "sum", "linalg_vecdot": "sum", "cov": "sum", "corrcoef": "sum",
}  # fmt: skip


@rule(*REDUCTIONS)
def reduce(node: Node) -> None:
    """Each result takes in as many elements as there are for it; `max` of two tensors is pointwise."""
    if not node.outs:
        return
    ins = node.inputs()
    if node.op in ("max", "min") and len(ins) == 2:
        node.pointwise(node.op, 1)
        return
    out = product(node.out.shape)
    if out == 0:
        node.emit("copy", function="empty")
        return
    node.emit("reduction", function=REDUCTIONS[node.op], length=ins[0].elements // out)


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "special_softmax", "special_log_softmax_",
      "softmin", "_masked_softmax", "gumbel_softmax")  # fmt: skip
def softmax(node: Node) -> None:
    x = node.tensor(0)
    length = x.shape[node.axis(1, "dim")] if x.rank else 1
    node.emit("softmax", function="log_softmax" if "log" in node.op else "softmax", length=length)


@rule("cross_entropy_loss")
def cross_entropy(node: Node) -> None:
    """A softmax over the classes, then what is picked."""
    x = node.tensor(0)
    classes = 1 if x.rank > 1 else 0
    scores = node.inner("log_prob", x.shape, x.dtype)
    node.emit("softmax", ins=(x,), outs=(scores,), function="log_softmax", length=x.shape[classes])
    length = x.elements // x.shape[classes] // product(node.out.shape)
    node.emit("reduction", ins=[scores, *node.inputs()[1:]], function="nll", length=length)
