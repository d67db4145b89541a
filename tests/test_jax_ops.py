"""What becomes of JAX's primitives: kinds of ops, attention in its forms, narrow weights, calls of others."""

# ruff: noqa: E402  # what is imported late needs jax

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax_functions import array
from test_jax import ONE, X, bytes_of, flop, kinds, square

import wattir
from wattir.costs import tabulate
from wattir.frontends.jax import lower
from wattir.passes import lower_to_kernels

# ---- what becomes of ops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (lambda x: jnp.argmax(x, -1), "reduction"),
        (lambda x: jnp.cumsum(x, 0), "pointwise"),
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: lax.top_k(x, 3), "sort"),
        (lambda x: jnp.stack([x, 2 * x]), "copy"),
        (lambda x: x[jnp.argmax(x, -1)], "gather"),
        (lambda x: x.at[jnp.argmax(x, -1)].set(0), "scatter"),
        (lambda x: jnp.fft.rfft(x), "fft"),
        (lambda x: x + jax.random.normal(jax.random.key(0), x.shape), "random"),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 2), (2, 2), "VALID"), "pooling"),
        (lambda x: jax.pure_callback(lambda y: y, x, x), "unknown"),
        (lambda x: jnp.pad(x, 3), "copy"),
        (lambda x: jax.nn.softmax(x), "softmax"),
        (lambda x: jax.nn.log_softmax(x), "softmax"),
        (lambda x: jax.nn.softmax(x, axis=0), "softmax"),
        (lambda x: jax.nn.softmax(x, where=x > 0), "softmax"),
        (lambda x: jax.nn.standardize(x), "norm"),
        (lambda x: x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6), "norm"),
        (lambda x: x / jnp.sqrt((x * x).sum(-1, keepdims=True)), "norm"),
    ],
)
def test_kind_of_op(run: Callable[[Any], Any], kind: str) -> None:
    assert kind in kinds(lower(run, (X,)))


def test_eager_keeps_ops_as_written() -> None:
    graph = lower(jax.nn.softmax, (X,))

    assert "softmax" not in kinds(graph, "eager")
    assert kinds(graph, "compiled") == ["softmax"]


def test_unknown_op_is_listed() -> None:
    report = wattir.estimate(lambda x: jax.pure_callback(lambda y: y, x, x), (X,), device="h100_sxm")

    assert report.coverage["unknown_op_counts"] == {"pure_callback": 1}
    assert any("pure_callback has no mapping (1 times)" in line for line in report.warnings)


@pytest.mark.parametrize(
    ("run", "thirds"),
    [
        (lambda x: lax.linalg.cholesky(x, symmetrize_input=False), 1),  # n^3 / 3
        (lambda x: lax.linalg.lu(x)[0], 2),  # 2 n^3 / 3
        (lambda x: lax.linalg.triangular_solve(x, x, left_side=True), 3),  # n^2 for each of n columns
    ],
)
def test_factorizations_cost_their_textbook_count(run: Callable[[Any], Any], thirds: int) -> None:
    n = 96
    works = tabulate(lower(run, (array(n, n),)))

    assert max(work.ops for work in works) == thirds * n**3 // 3  # beside it only the mask of the other triangle


def test_scaled_products_are_products() -> None:
    narrow, scale = jnp.float8_e4m3fn, array(2, 128, 8, dtype=jnp.float8_e8m0fnu)
    a, b = array(2, 128, 256, dtype=narrow), array(2, 64, 256, dtype=narrow)
    graph = lower(lambda *args: jax.nn.scaled_matmul(*args), (a, b, scale, array(2, 64, 8, dtype=scale.dtype)))

    assert flop(graph) == 2 * 2 * 128 * 64 * 256
    assert "unknown" not in kinds(graph)


def test_branch_of_another_platform_is_not_costed() -> None:
    graph = lower(lambda x: lax.platform_dependent(x, tpu=lambda y: square(square(y)), default=square), (X,))

    assert (flop(graph), graph.warnings) == (ONE, ())


def test_a_function_is_not_taken_for_one_of_jax_by_its_name() -> None:
    @jax.jit
    def remainder(x: Any, y: Any) -> Any:
        return x @ y

    def run(x: Any) -> Any:
        return remainder(x, x)

    for graph in (lower(run, (X,)), lower(export.export(jax.jit(run))(X))):
        assert flop(graph) == ONE


@pytest.mark.parametrize(("dtype", "params"), [(jnp.int8, 64 * 32), (jnp.int4, 64 * 32), (jnp.uint8, 0)])
@pytest.mark.parametrize("exported", [False, True])
def test_a_container_of_quantized_weights_holds_parameters(dtype: Any, params: int, exported: bool) -> None:
    """Bytes without a sign are images, whatever holds them."""

    def run(layer: Any, x: Any) -> Any:
        return x @ layer["kernel0"].astype(jnp.bfloat16)

    args = {"kernel0": array(64, 32, dtype=dtype)}, array(8, 64, dtype=jnp.bfloat16)
    assert lower(export.export(jax.jit(run))(*args) if exported else run, None if exported else args).params == params


NARROW, WIDE = array(4096, 4096, dtype=jnp.int8), jnp.bfloat16
SCALE = array(4096, dtype=WIDE)


@pytest.mark.parametrize(
    ("product", "scales"),
    [
        (lambda x, w, s: x @ (w.astype(WIDE) * s), 1),
        (lambda x, w, s: (x @ w.astype(WIDE)) * s, 1),
        (lambda x, w, s: x @ ((w.astype(WIDE) - s) * s), 1),
        (lambda x, w, s: x @ (w.reshape(64, 64, 4096).astype(WIDE) * s).reshape(4096, 4096), 1),
        (lambda x, w, s: lax.dot(x, w, preferred_element_type=WIDE), 0),
    ],
)
@pytest.mark.parametrize("exported", [False, True])
def test_weights_are_read_as_narrow_as_they_are(product: Callable[..., Any], scales: int, exported: bool) -> None:
    def run(params: Any, x: Any) -> Any:
        return product(x, params["w"], params["s"])

    args = {"w": NARROW, "s": SCALE}, array(8, 4096, dtype=WIDE)
    graph = lower(export.export(jax.jit(run))(*args) if exported else run, None if exported else args)
    (kernel,) = lower_to_kernels(graph, "compiled").ops

    assert bytes_of(graph) == 4096 * 4096 + 2 * 2 * 8 * 4096 + scales * 2 * 4096  # weight, x and result, scale
    assert flop(graph) == 2 * 8 * 4096 * 4096
    assert kernel.attrs.get("math", "bf16") == "bf16"


def test_a_narrow_cache_is_read_as_it_is() -> None:
    def run(q: Any, keys: Any, values: Any, scale: Any) -> Any:
        scores = jnp.einsum("btnh,bsnh->bnts", q, keys.astype(WIDE) * scale)
        return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores), values.astype(WIDE) * scale)

    q, cache, scale = (
        array(2, 1, 4, 32, dtype=WIDE),
        array(2, 512, 4, 32, dtype=jnp.int8),
        array(2, 512, 4, 1, dtype=WIDE),
    )
    graph = lower(run, (q, cache, cache, scale))

    assert "attention" in kinds(graph)
    assert bytes_of(graph) < 1.1 * (2 * 2 * 512 * 4 * 32 + 2 * 2 * 512 * 4)


def test_weights_that_are_widened_for_others_too_are_widened_once() -> None:
    def run(params: Any, x: Any) -> Any:
        wide = params["w"].astype(WIDE)
        return x @ wide, wide.sum()

    kernels = lower_to_kernels(lower(run, ({"w": NARROW}, array(8, 4096, dtype=WIDE))), "compiled").ops

    assert [op.kind for op in kernels] == ["copy", "matmul", "reduction"]


def test_sparse_products_count_what_is_stored() -> None:
    from jax.experimental import sparse

    graph = lower(
        lambda data, places, x: sparse.BCOO((data, places), shape=(64, 64)) @ x,
        (array(50), array(50, 2, dtype=jnp.int32), array(64, 8)),
    )

    assert flop(graph) == 2 * 50 * 8
    assert "unknown" not in kinds(graph)


def test_exported_program_that_is_called_is_looked_into() -> None:
    inner = export.export(jax.jit(square), platforms=["cpu", "cuda"])(X)

    assert flop(lower(lambda x: inner.call(x) + 1, (X,))) == ONE


@pytest.mark.parametrize(
    ("run", "moved"),
    [
        (lambda x: (x * 2)[:8], 2 * 16 * 16 + 2 * 8 * 16),  # the sum, then the part out of it
        (lambda x: jnp.broadcast_to(x, (3, 16, 16)), 16 * 16 + 3 * 16 * 16),
        (lambda x: x.reshape(4, 64), 0),
    ],
)
def test_outputs_are_written(run: Callable[[Any], Any], moved: int) -> None:
    assert bytes_of(lower(run, (X,))) == 4 * moved


def test_implicit_solvers_are_looked_into() -> None:
    graph = lower(lambda a, b: jax.scipy.sparse.linalg.cg(a, b, maxiter=10)[0], (X, array(16)))

    assert "unknown" not in kinds(graph)
    assert flop(graph) >= 10 * 2 * 16 * 16  # one product with the matrix each time


@pytest.mark.parametrize("kv_heads", [8, 2, 1])
def test_attention_in_its_forms(kv_heads: int) -> None:
    q, kv = array(2, 16, 8, 32), array(2, 16, kv_heads, 32)

    def by_einsum(q: Any, k: Any, v: Any) -> Any:
        k, v = (jnp.repeat(y, 8 // kv_heads, axis=2) for y in (k, v))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 5.6)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v)

    for run in (by_einsum, jax.nn.dot_product_attention):
        graph = lower_to_kernels(lower(run, (q, kv, kv)), "compiled")
        (op,) = (op for op in graph.ops if op.kind == "attention")
        a = op.attrs
        assert (a["batch"] * a["heads"], a["q"], a["kv"], a["d"], a["causal"]) == (16, 16, 16, 32, False)
        assert a["heads"] // a["kv_heads"] == 8 // kv_heads
        assert flop(graph) == 2 * 16 * 16 * 16 * 64


def test_limit_that_the_loop_moves_is_no_count() -> None:
    graph = lower(
        lambda x: lax.while_loop(lambda c: c[0] < c[1], lambda c: (c[0] + 2, c[1] + 1, square(c[2])), (0, 4, x)), (X,)
    )

    assert set(graph.sizes) == {"trip_count.while"}


@pytest.mark.parametrize("bias", [False, True])
def test_attention_of_one_tensor_with_itself(bias: bool) -> None:
    inputs = (array(2, 16, 4, 32), *((array(2, 4, 16, 16),) if bias else ()))
    graph = lower(lambda x, *more: jax.nn.dot_product_attention(x, x, x, *more), inputs)

    assert kinds(graph).count("attention") == 1
    assert flop(graph) == 2 * 2 * 4 * 16 * 16 * 64


def test_cudnn_attention_is_traced_where_there_is_none() -> None:
    q, kv = array(2, 64, 8, 64, dtype=jnp.bfloat16), array(2, 64, 2, 64, dtype=jnp.bfloat16)

    def run(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=(16, 0), implementation="cudnn")

    (op,) = (op for op in lower(run, (q, kv, kv)).ops if op.kind == "attention")

    a = op.attrs
    assert (a["heads"], a["kv_heads"], a["q"], a["causal"], a["window"]) == (8, 2, 64, True, 17)  # 16 before, itself


@pytest.mark.parametrize(
    "mask",
    [
        lambda s: jnp.tril(jnp.ones((s, s), bool)),
        lambda s: jnp.arange(s)[:, None] >= jnp.arange(s)[None, :],
        lambda s: jnp.where(jnp.arange(s)[:, None] < jnp.arange(s), -1e9, 0.0),
    ],
)
def test_causal_masks_are_seen(mask: Callable[[int], Any]) -> None:
    def run(q: Any, k: Any, v: Any) -> Any:
        scores, m = jnp.einsum("bhqd,bhkd->bhqk", q, k), mask(16)
        scores = jnp.where(m, scores, -1e9) if m.dtype == bool else scores + m
        return jax.nn.softmax(scores) @ v

    graph = lower_to_kernels(lower(run, (array(2, 4, 16, 8),) * 3), "compiled")

    assert [op.attrs["causal"] for op in graph.ops if op.kind == "attention"] == [True]


def test_a_causal_mask_may_be_a_constant() -> None:
    mask = np.tril(np.ones((16, 16), bool))
    added = np.triu(np.full((16, 16), -np.inf, np.float32), 1)
    q = array(2, 16, 8, 32)

    def attend(q: Any, change: Callable[[Any], Any]) -> Any:
        scores = change(jnp.einsum("btnh,bsnh->bnts", q, q))
        return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores), q)

    for change in (lambda s: jnp.where(mask, s, -1e9), lambda s: s + added):
        (op,) = (
            o for o in lower_to_kernels(lower(lambda q, c=change: attend(q, c), (q,)), "compiled").ops
            if o.kind == "attention"
        )  # fmt: skip
        assert op.attrs["causal"]


def test_a_mask_that_is_computed_is_not_taken_for_the_scores() -> None:
    q, mask = array(2, 16, 8, 32), array(2, 1, 16, 16, dtype=jnp.bool_)
    graph = lower(lambda q, mask: jax.nn.dot_product_attention(q, q, q, mask=mask), (q, mask))

    assert "attention" in kinds(graph)


def test_pallas_kernel_counts_what_its_author_says() -> None:
    pallas = pytest.importorskip("jax.experimental.pallas")

    def run(x: Any, estimate: Any) -> Any:
        def kernel(source: Any, target: Any) -> None:
            target[...] = source[...] * 2

        return pallas.pallas_call(kernel, out_shape=x, cost_estimate=estimate)(x)

    estimate = pallas.CostEstimate(flops=2 * 128**3, transcendentals=7, bytes_accessed=0)
    told, untold = lower(lambda x: run(x, estimate), (X,)), lower(lambda x: run(x, None), (X,))

    assert flop(told) == 2 * 128**3
    assert [op.kind for op in untold.ops] == ["unknown"]
    assert any("cost_estimate" in line for line in untold.warnings)
