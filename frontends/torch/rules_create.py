"""Tensors from nothing: filled, counted up, random."""

from __future__ import annotations

from wattir.frontends.torch.node import Node, rule

EMPTY = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", "resize",
         "_efficientzerotensor", "empty_quantized")  # fmt: skip
FILLED = ("zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "new_zeros", "new_ones", "new_full",
          "fill", "zero", "scalar_tensor", "eye", "fill_diagonal", "tensor", "one_hot",
          "_new_zeros_with_same_feature_meta")  # fmt: skip
COUNTED = ("arange", "range", "linspace", "logspace", "tril_indices", "triu_indices", "fft_fftfreq", "fft_rfftfreq",
           "cartesian_prod", "combinations", "_dim_arange")  # fmt: skip
WINDOWS = ("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window")
RANDOM = {
    "rand": "uniform", "rand_like": "uniform", "randn": "normal", "randn_like": "normal", "randint": "uniform",
    "randint_like": "uniform", "randperm": "permutation", "normal": "normal", "normal_functional": "normal",
    "uniform": "uniform", "bernoulli": "bernoulli", "multinomial": "multinomial", "poisson": "poisson",
    "exponential": "exponential", "random": "uniform", "geometric": "geometric", "cauchy": "cauchy",
    "log_normal": "normal", "_standard_gamma": "gamma", "_sample_dirichlet": "dirichlet", "binomial": "binomial",
}  # fmt: skip


@rule(*EMPTY)
def empty(node: Node) -> None:
    """Memory without content: nothing runs."""
    node.emit("view", ins=(), function="empty")


@rule(*FILLED)
def filled(node: Node) -> None:
    ins = node.inputs() if node.op == "one_hot" else []
    node.emit("copy", ins=ins, function="fill")


@rule(*COUNTED)
def counted(node: Node) -> None:
    node.pointwise("arange" if node.op in ("arange", "range") else node.op, 2, ins=())


@rule(*WINDOWS)
def window(node: Node) -> None:
    node.pointwise(node.op.removesuffix("_window"), 3, 1, ins=())


@rule(*RANDOM)
def random(node: Node) -> None:
    ins = node.inputs() if node.op in ("multinomial", "bernoulli", "poisson") else []
    node.emit("random", ins=ins, function=RANDOM[node.op])
