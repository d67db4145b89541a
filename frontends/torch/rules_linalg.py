"""Factorizations and solvers over [.., n, n]: operations per element of the first result."""

from __future__ import annotations

from functools import partial

from wattir.frontends.torch.node import Node, rule

PER_N: dict[str, float] = {
    "linalg_cholesky": 1 / 3, "linalg_cholesky_ex": 1 / 3, "cholesky": 1 / 3, "cholesky_inverse": 2,
    "cholesky_solve": 2,
    "linalg_inv": 2, "linalg_inv_ex": 2, "inverse": 2, "linalg_lu": 2 / 3, "linalg_lu_factor": 2 / 3,
    "linalg_lu_factor_ex": 2 / 3, "_lu_with_info": 2 / 3, "lu_solve": 2, "linalg_lu_solve": 2, "linalg_solve": 3,
    "linalg_solve_ex": 3, "_linalg_solve_ex": 3, "linalg_solve_triangular": 1, "triangular_solve": 1,
    "linalg_qr": 4 / 3,
    "qr": 4 / 3, "geqrf": 4 / 3, "linalg_householder_product": 4 / 3, "orgqr": 4 / 3, "ormqr": 4, "linalg_svd": 10,
    "_linalg_svd": 10, "svd": 10, "linalg_svdvals": 10, "linalg_eigh": 9, "_linalg_eigh": 9, "linalg_eigvalsh": 9,
    "linalg_eig": 25, "linalg_eigvals": 25, "linalg_pinv": 12, "pinverse": 12, "linalg_lstsq": 12,
    "linalg_matrix_exp": 14, "matrix_exp": 14, "linalg_matrix_rank": 10, "linalg_cond": 10, "linalg_ldl_factor": 2 / 3,
    "linalg_ldl_factor_ex": 2 / 3, "linalg_tensorinv": 2, "linalg_tensorsolve": 3,
}  # fmt: skip
"""Operator -> c where c n^3 operations factor one [n, n] matrix (Golub and Van Loan, Matrix Computations)."""

DETERMINANTS = ("det", "linalg_det", "_linalg_det", "logdet", "slogdet", "linalg_slogdet", "_linalg_slogdet")


def _per_element(node: Node, per_n: float) -> None:
    n = node.tensor(0).shape[-1]
    whole = round(per_n * 3)
    node.pointwise(node.op.removeprefix("_").removeprefix("linalg_"), n * whole // 3 + 1)


for _op, _per_n in PER_N.items():
    rule(_op)(partial(_per_element, per_n=_per_n))


@rule(*DETERMINANTS)
def det(node: Node) -> None:
    """Elimination of [.., n, n]: 2 n^3 / 3 operations for each determinant."""
    n = node.tensor(0).shape[-1]
    node.pointwise("det", 2 * n * n * n // 3 + 1)
