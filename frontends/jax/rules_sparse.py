"""Products of sparse arrays (`jax.experimental.sparse`): each stored number meets one row of the dense operand."""

from __future__ import annotations

from functools import partial

from wattir.dims import product
from wattir.frontends.jax.node import Node, rule
from wattir.frontends.jax.rules_product import emit_product


def _stored_product(node: Node, indices: int) -> None:
    """Inputs: the stored numbers, `indices` arrays that say where they are, the dense operand."""
    stored, dense = node.ins[0], node.ins[1 + indices]
    numbers = node.params.get("dimension_numbers")
    gone = {0} if numbers is None else {int(axis) for axes in (numbers[0][1], numbers[1][1]) for axis in axes}
    n = product(size for axis, size in enumerate(dense.shape) if axis not in gone)
    emit_product(node, stored, dense, node.ins[1 : 1 + indices], groups=1, m=stored.elements, n=n, k=1)


for _primitive, _indices in {
    "bcoo_dot_general": 1, "bcsr_dot_general": 2, "coo_matvec": 2, "coo_matmat": 2, "csr_matvec": 2, "csr_matmat": 2,
}.items():  # fmt: skip
    rule(_primitive)(partial(_stored_product, indices=_indices))


@rule("bcoo_todense", "bcsr_todense", "coo_todense", "csr_todense")
def to_dense(node: Node) -> None:
    node.emit("scatter", function="to_dense", updates=node.ins[0].elements)


@rule("bcoo_fromdense", "bcsr_fromdense", "coo_fromdense", "csr_fromdense", "bcoo_extract", "bcsr_extract")
def from_dense(node: Node) -> None:
    node.emit("gather", function="from_dense")


@rule("bcoo_transpose", "bcoo_reduce_sum", "bcoo_broadcast_in_dim", "bcoo_concatenate")
def moved(node: Node) -> None:
    node.emit("copy", function=node.op)


@rule("bcoo_sort_indices", "bcoo_sum_duplicates")
def sorted_indices(node: Node) -> None:
    node.emit("sort", function="sort", length=node.ins[1].shape[-2])
