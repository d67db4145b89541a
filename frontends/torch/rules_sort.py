"""Order, selection, counting, bounded searches."""

from __future__ import annotations

from wattir.frontends.torch.node import Node, rule

ORDERED = {
    "topk": "topk", "sort": "sort", "argsort": "sort", "msort": "sort", "kthvalue": "sort", "median": "sort",
    "nanmedian": "sort", "mode": "sort", "quantile": "sort", "nanquantile": "sort",
}  # fmt: skip
WHOLE = ("unique_consecutive", "unique_dim", "_unique", "_unique2", "unique_dim_consecutive")


@rule(*ORDERED)
def ordered(node: Node) -> None:
    """Along one axis; over all elements where none is given."""
    x = node.tensor(0)
    place = {"topk": 2, "kthvalue": 2, "quantile": 2, "nanquantile": 2}.get(node.op, 1)
    axis = node.arg(place, "dim", -1)
    everything = x.rank == 0 or (axis is None or (node.op.endswith("quantile") and node.arg(place, "dim") is None))
    length = x.elements if everything or isinstance(axis, bool) else x.shape[int(axis) % x.rank]
    node.emit("sort", ins=(x,), function=ORDERED[node.op], length=length)


@rule(*WHOLE)
def unique(node: Node) -> None:
    node.emit("sort", function="unique", length=node.tensor(0).elements)


@rule("histc", "histogram", "bincount", "_histogramdd_from_bin_cts")
def histogram(node: Node) -> None:
    node.emit("scatter", function=node.op, updates=node.tensor(0).elements)


@rule("nms", space="torchvision")
def nms(node: Node) -> None:
    """Bounded by its maximum: every box stays."""
    node.emit("sort", function="non_max_suppression", length=node.tensor(0).shape[0])
