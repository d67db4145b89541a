"""Factorizations and solvers over [.., m, n]: c m n min(m, n) operations for each matrix."""

from __future__ import annotations

from functools import partial

from wattir.dims import maximum, minimum, product
from wattir.frontends.jax.node import Node, rule

THIRDS = {
    "cholesky": 1, "lu": 2, "ldl": 2, "geqrf": 4, "geqp3": 4, "qr": 8, "householder_product": 4, "svd": 30, "eigh": 27,
    "eig": 75, "schur": 75, "hessenberg": 10, "tridiagonal": 4,
}  # fmt: skip
"""Primitive -> 3 c (Golub and Van Loan, Matrix Computations); `qr` makes Q as well."""


def _factorization(node: Node, thirds: int) -> None:
    *batch, m, n = node.ins[0].shape
    total = product(batch) * m * n * minimum(m, n) * thirds // 3
    node.emit("pointwise", function=node.op, ops=maximum(total // product(node.outs[0][0]), 1))


for _primitive, _thirds in THIRDS.items():
    rule(_primitive)(partial(_factorization, thirds=_thirds))


@rule("triangular_solve")
def triangular_solve(node: Node) -> None:
    """[.., n, n] against [.., n, k]: n operations for each of n k results."""
    node.emit("pointwise", function="triangular_solve", ops=node.ins[0].shape[-1])


@rule("tridiagonal_solve", "lu_pivots_to_permutation")
def linear(node: Node) -> None:
    """A sweep forth and one back."""
    node.emit("pointwise", function=node.op, ops=8)
