"""The JAX frontend: published totals, scanned against unrolled, loops, layouts, symbolic sizes, roles, names."""

# ruff: noqa: E402  # what is imported late needs jax

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
from jax import export, lax
from jax_functions import array, bert, llama, moe
from jax_linen import resnet
from jax_networks import NETWORKS
from jax_nnx import vit_nnx

import wattir
from wattir.costs import tabulate
from wattir.dims import evaluate
from wattir.errors import SizeError
from wattir.frontends import lower_any
from wattir.frontends.jax import lower
from wattir.ir import Graph
from wattir.passes import lower_to_kernels

FAST = ("mlp", "mixture of experts", "mamba block", "lstm (scan)", "decode with cache", "fourier operator",
        "graph network", "sampler (fori_loop)", "nnx convnet", "nnx gru", "nnx vae", "linen qk-norm",
        "linen scan+remat", "linen lstm")  # fmt: skip


def flop(graph: Graph, **sizes: int) -> int:
    """Of what is needed for the outputs; free sizes that are not given have their defaults."""
    given = {name: size for name, size in graph.sizes.items() if size is not None} | sizes
    works = tabulate(lower_to_kernels(graph, "eager"))
    return int(2 * sum(evaluate(work.macs * work.times, given) for work in works))


def bytes_of(graph: Graph, **sizes: int) -> int:
    works = tabulate(lower_to_kernels(graph, "compiled"))
    return int(sum(evaluate(work.bytes * work.times, sizes) for work in works))


def kinds(graph: Graph, runtime: str = "compiled") -> list[str]:
    return [op.kind for op in lower_to_kernels(graph, runtime).ops]


# ---- published totals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected", "params"),
    [
        (bert, 22_348_431_360, 109_482_240),
        (llama, 7_822_209_187_840, 8_030_261_248),
        (resnet, 8_178_368_512, 25_557_032),
        (vit_nnx, 35_127_656_448, 86_567_656),
    ],
)
def test_published_totals(make: Callable[[], Any], expected: int, params: int) -> None:
    graph = lower_any(*make())

    assert flop(graph) == expected
    assert graph.params == params


def test_causal_attention_is_seen_in_llama() -> None:
    report = wattir.estimate(*llama(layers=2), device="h100_sxm")

    pairs = 512 * 511 // 2  # those above the diagonal
    assert report.totals["flop"] - report.totals["flop_causal"] == 2 * 2 * 32 * pairs * 2 * 128


@pytest.mark.parametrize("make", [bert, lambda **k: llama(seq=64, **k)])
def test_unrolled_equals_scanned(make: Callable[..., Any]) -> None:
    scanned, unrolled = lower_any(*make(layers=3)), lower_any(*make(layers=3, scanned=False))

    assert flop(scanned) == flop(unrolled)
    assert bytes_of(scanned) == bytes_of(unrolled)
    assert scanned.params == unrolled.params


@pytest.mark.parametrize("name", FAST)
def test_network_is_covered(name: str) -> None:
    report = wattir.estimate(*NETWORKS[name](), device="h100_sxm")

    assert report.coverage["unknown"] <= 0.01
    assert report.totals["flop"] > 0


def test_mixture_of_experts_counts_active_rows() -> None:
    rows, d, hidden = 2 * 64 * 2, 1024, 2048  # two experts for each token

    assert flop(lower_any(*moe())) == 2 * (3 * rows * d * hidden + 128 * d * 8)


# ---- products and convolutions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "a", "b"),
    [
        ("ij,jk->ik", (3, 5), (5, 7)),
        ("bij,bjk->bik", (2, 3, 5), (2, 5, 7)),
        ("bhqd,bkhd->bhqk", (2, 4, 3, 8), (2, 5, 4, 8)),
        ("abcd,dcef->abef", (2, 3, 4, 5), (5, 4, 6, 7)),
        ("i,j->ij", (3,), (4,)),
        ("ij,ij->", (3, 4), (3, 4)),
    ],
)
def test_dot_general_against_einsum(spec: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    graph = lower(lambda x, y: jnp.einsum(spec, x, y), (array(*a), array(*b)))

    letters = spec.partition("->")[0].split(",")
    sizes = dict(zip("".join(letters), (*a, *b), strict=True))
    assert flop(graph) == 2 * math.prod(sizes.values())  # one multiply-add for every tuple of indices


CONVOLUTIONS = [
    # layouts, input, kernel, strides, padding, lhs_dilation, rhs_dilation, groups
    (("NCHW", "OIHW", "NCHW"), (2, 6, 9, 8), (4, 6, 3, 3), (1, 1), "SAME", (1, 1), (1, 1), 1),
    (("NHWC", "HWIO", "NHWC"), (2, 9, 8, 6), (3, 3, 6, 4), (2, 2), "VALID", (1, 1), (1, 1), 1),
    (("NHWC", "OIHW", "NCHW"), (2, 9, 8, 6), (4, 3, 3, 2), (1, 1), "VALID", (1, 1), (2, 2), 2),
    (("CHWN", "IHWO", "NHWC"), (6, 9, 8, 2), (1, 3, 3, 6), (1, 1), "SAME", (1, 1), (1, 1), 6),
    (("NWC", "WIO", "NWC"), (2, 9, 6), (4, 6, 5), (3,), "VALID", (1,), (1,), 1),
    (("NDHWC", "DHWIO", "NDHWC"), (1, 4, 5, 6, 2), (2, 2, 2, 2, 3), (1, 1, 1), "SAME", (1, 1, 1), (1, 1, 1), 1),
    (("NHWC", "HWIO", "NHWC"), (2, 5, 6, 6), (3, 3, 6, 4), (1, 1), ((2, 2), (2, 2)), (2, 2), (1, 1), 1),
]


@pytest.mark.parametrize(("layouts", "x", "w", "strides", "padding", "lhs", "rhs", "groups"), CONVOLUTIONS)
def test_convolution_against_naive(
    layouts: Any, x: Any, w: Any, strides: Any, padding: Any, lhs: Any, rhs: Any, groups: int
) -> None:
    def run(image: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(
            image, kernel, strides, padding, lhs_dilation=lhs, rhs_dilation=rhs, dimension_numbers=layouts,
            feature_group_count=groups,
        )  # fmt: skip

    graph = lower(run, (array(*x), array(*w)))

    size = dict(zip(layouts[1], w, strict=True))
    taps = math.prod(size[axis] for axis in layouts[1] if axis not in "OI")
    out = dict(zip(layouts[2], jax.eval_shape(run, array(*x), array(*w)).shape, strict=True))
    points = math.prod(extent for axis, extent in out.items() if axis not in "NC")
    if any(step > 1 for step in lhs):  # a transposed one: each input point meets each tap once
        points = math.prod(extent for axis, extent in zip(layouts[0], x, strict=True) if axis not in "NC")
    assert flop(graph) == 2 * out["N"] * points * size["O"] * size["I"] * taps


# ---- control flow --------------------------------------------------------------------------------------------------


def square(x: Any) -> Any:
    return x @ x


ONE = 2 * 16**3  # FLOP of one product
X = array(16, 16)


@pytest.mark.parametrize(
    ("run", "times"),
    [
        (lambda x: lax.fori_loop(0, 5, lambda i, y: square(y), x), 5),
        (lambda x: lax.while_loop(lambda c: c[0] < 10, lambda c: (c[0] + 3, square(c[1])), (0, x)), 4),
        (lambda x: lax.while_loop(lambda c: c[0] >= 1, lambda c: (c[0] - 1, square(c[1])), (7, x)), 7),
        (lambda x: lax.scan(lambda c, _: (square(c), None), x, None, length=6), 6),
        (lambda x: lax.map(square, jnp.broadcast_to(x, (4, 16, 16))), 4),
        (lambda x: lax.fori_loop(0, 3, lambda i, y: lax.fori_loop(0, 4, lambda j, z: square(z), y), x), 12),
        (
            lambda x: lax.while_loop(
                lambda c: (c[0] < 5) & (c[1].sum() < 3), lambda c: (c[0] + 1, square(c[1])), (0, x)
            ),
            5,
        ),
        (lambda x: lax.while_loop(lambda c: lax.gt(6, c[0]), lambda c: (1 + c[0], square(c[1])), (0, x)), 6),
        (lambda x: lax.while_loop(lambda c: ~(c[0] >= 3), lambda c: (c[0] + 1, square(c[1])), (0, x)), 3),
        (lambda x: lax.while_loop(lambda c: c[0] < c[1], lambda c: (c[0] + 1, c[1], square(c[2])), (0, 4, x)), 4),
        (jax.checkpoint(square), 1),
        (jax.jit(lambda x: jax.jit(square)(x)), 1),
        (jax.vmap(lambda row: row * row), 0),
    ],
)
def test_trip_counts(run: Callable[[Any], Any], times: int) -> None:
    assert flop(lower(run, (X,))) == times * ONE


def test_loop_that_ends_on_data_has_a_free_count() -> None:
    def run(x: Any) -> Any:
        with jax.named_scope("solver"):
            return lax.while_loop(lambda y: y.sum() < 10, square, x)

    graph = lower(run, (X,))

    assert flop(graph, **{"trip_count.solver.while": 9}) == 9 * ONE
    assert flop(lower(run, (X,), trip_counts={"solver.while": 9})) == 9 * ONE
    with pytest.raises(SizeError, match=r"trip_count\.solver\.while"):
        wattir.estimate(graph, device="h100_sxm")
    with pytest.raises(SizeError, match=r"expected one of its open loops: solver.while; did you mean"):
        lower(run, (X,), trip_counts={"solver.wile": 9})


def test_loop_that_data_may_end_is_taken_at_its_limit() -> None:
    def run(x: Any) -> Any:
        return lax.while_loop(lambda c: (c[0] < 20) & (c[1].sum() < 3), lambda c: (c[0] + 1, square(c[1])), (0, x))[1]

    for graph in (lower(run, (X,)), lower(export.export(jax.jit(run))(X))):
        assert flop(graph) == 20 * ONE
        assert flop(graph, **{"trip_count.while": 7}) == 7 * ONE
        assert graph.warnings == (
            "while: data may end it before its limit of 20; give its runs with --set trip_count.while=N",
        )


def test_limit_of_all_integers_is_none() -> None:
    most = jnp.iinfo(jnp.int32).max
    graph = lower(
        lambda x: lax.while_loop(lambda c: (c[0] < most) & (c[1].sum() < 3), lambda c: (c[0] + 1, c[1] * 2), (0, x)),
        (X,),
    )

    assert graph.sizes == {"trip_count.while": None}


@pytest.mark.parametrize(
    ("run", "times"),
    [
        (lambda x: lax.scan(lambda c, _: (square(c), c.sum()), x, None, length=6)[1], 6),
        (lambda x: lax.fori_loop(0, 5, lambda i, c: (square(c[0]), c[1] + c[0]), (x, x))[1], 5),
        (lambda x: lax.fori_loop(0, 3, lambda i, c: (square(c[0]), c[0]), (x, x))[1], 3),
        (jax.grad(lambda x: lax.scan(lambda c, _: (square(c), None), x, None, length=6)[0].sum()), 18),
        (lambda x: (lax.scan(lambda c, _: (square(c), c.sum()), x, None, length=6), x + 1)[1], 0),
    ],
)
def test_what_only_the_next_trip_reads_is_needed(run: Callable[[Any], Any], times: int) -> None:
    graph = lower(run, (X,))

    assert flop(graph) == times * ONE


def test_cond_costs_its_dearest_branch_and_says_so() -> None:
    graph = lower(lambda x: lax.cond(x.sum() > 0, lambda y: square(square(y)), square, x), (X,))

    assert flop(graph) == 2 * ONE
    assert graph.warnings == ("cond: which branch runs depends on data; the dearest, number 1 of 2, is costed",)


def test_loop_that_data_may_end_counts_as_its_limit_beside_another_branch() -> None:
    def ended(x: Any) -> Any:
        return lax.while_loop(lambda c: (c[0] < 20) & (c[1].sum() < 3), lambda c: (c[0] + 1, square(c[1])), (0, x))[1]

    graph = lower(
        lambda x: lax.cond(x.sum() > 0, ended, lambda y: lax.fori_loop(0, 40, lambda _, z: square(z), y), x), (X,)
    )

    assert flop(graph) == 40 * ONE  # not the branch of 20


def test_nothing_is_said_of_branches_that_are_not_costed() -> None:
    def told(x: Any) -> Any:
        return jax.experimental.io_callback(lambda y: y, x, lax.while_loop(lambda y: y.sum() < 10, lambda y: y + 1, x))

    graph = lower(lambda x: lax.cond(x.sum() > 0, lambda y: square(square(y)), told, x), (array(512, 512),))

    assert len(graph.warnings) == 1
    assert "unknown" not in {op.kind for op in graph.ops}


def test_custom_rules_are_looked_through() -> None:
    @jax.custom_vjp
    def f(x: Any) -> Any:
        return square(x)

    f.defvjp(lambda x: (square(x), x), lambda saved, g: (g,))

    assert flop(lower(lambda x: f(x), (X,))) == ONE


def test_shard_map_counts_one_device_and_its_collectives() -> None:
    mesh = jax.sharding.AbstractMesh((4,), ("x",))
    spec = jax.sharding.PartitionSpec

    def run(a: Any, b: Any) -> Any:
        inner = jax.shard_map(
            lambda p, q: lax.psum(p @ q, "x"), mesh=mesh, in_specs=(spec(None, "x"), spec("x")), out_specs=spec()
        )
        return inner(a, b)

    graph = lower(run, (X, X))

    assert flop(graph) == ONE // 4
    assert [(op.kind, op.attrs["ranks"]) for op in graph.ops if op.kind == "collective"] == [("collective", 4)]
