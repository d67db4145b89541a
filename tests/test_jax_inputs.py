"""What goes into the JAX frontend: symbolic sizes, roles and names of leaves, kinds of models, bad input."""

# ruff: noqa: E402  # what is imported late needs jax

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax import export
from jax_functions import array, bert, decode, mlp
from jax_linen import resnet
from jax_nnx import vit_nnx
from test_jax import X, bytes_of, flop, kinds

from wattir.dims import evaluate
from wattir.errors import InputError, SizeError, UnsupportedError
from wattir.frontends import lower_any
from wattir.frontends.jax import lower
from wattir.frontends.jax.sizes import dim_from_text


@pytest.mark.parametrize(
    "make", [mlp, lambda batch: bert(batch=batch, layers=2), lambda batch: vit_nnx(batch, layers=1)]
)
def test_symbolic_batch_equals_bound(make: Callable[..., Any]) -> None:
    (batch,) = export.symbolic_shape("batch")
    free, bound = lower_any(*make(batch=batch)), lower_any(*make(batch=4))

    assert free.batch == "batch"
    assert flop(free, batch=4) == flop(bound)
    assert bytes_of(free, batch=4) == bytes_of(bound)


def test_symbolic_formulas_become_dims() -> None:
    a, b = export.symbolic_shape("a, b")
    graph = lower(lambda x: jnp.concatenate([x, x], 0).reshape(-1) * 2.0, (array(a, b),))

    assert str(graph.tensors[graph.outputs[0]].shape[0]) == "2*a*b"
    assert evaluate(dim_from_text("floordiv(2*a + 1, b) + mod(a, 3) + max(a^2, b)"), {"a": 5, "b": 3}) == 3 + 2 + 25
    with pytest.raises(SizeError, match="symbolic size 'a ! b': not understood"):
        dim_from_text("a ! b")


def test_roles_of_leaves() -> None:
    graph = lower_any(*decode(layers=2))
    roles = {name: graph.tensors[name].role for name in graph.tensors if "[]" not in name}

    assert roles["params.q"] == "weight"
    assert roles["x"] == "input"
    assert roles["cache.k"] == "state"
    statistics = lower_any(*resnet(stages=(1,)))
    assert {t.role for n, t in statistics.tensors.items() if n.endswith((".mean", ".var"))} == {"constant"}


def test_shared_parameter_counts_once() -> None:
    graph = lower(lambda params, x: (x @ params["w"]) @ params["w"], ({"w": array(16, 16)}, X))

    assert graph.params == 256


def test_names_are_the_paths_a_user_knows() -> None:
    names = {op.name for op in lower_any(*bert(layers=2)).ops}
    assert {"attention.q", "mlp.up", "pool"} <= names

    names = {op.name for op in lower_any(*resnet(stages=(1,))).ops}
    assert {"ResNet.stem", "ResNet.Bottleneck_0.Conv_1", "ResNet.head"} <= names

    names = {op.name for op in lower_any(*vit_nnx(layers=1)).ops}
    assert {"patches", "blocks.0.attention.query", "blocks.0.up"} <= names


def test_callable_pytree_keeps_its_parameters() -> None:
    @jax.tree_util.register_pytree_node_class
    class Affine:
        def __init__(self, weight: Any, bias: Any) -> None:
            self.weight, self.bias = weight, bias

        def __call__(self, x: Any) -> Any:
            return x @ self.weight + self.bias

        def tree_flatten(self) -> Any:
            return (self.weight, self.bias), None

        @classmethod
        def tree_unflatten(cls, _: Any, leaves: Any) -> Affine:
            return cls(*leaves)

    graph = lower_any(Affine(array(16, 8), array(8)), (X,))

    assert graph.params == 136
    assert flop(graph) == 2 * 16 * 16 * 8


HELD = {"dense": {"kernel": np.ones((16, 8), np.float32), "bias": np.ones(8, np.float32)}}


def test_arrays_that_a_function_holds_are_parameters() -> None:
    inside = jax.tree_util.tree_map(jnp.asarray, HELD)

    def dense(params: Any, x: Any) -> Any:
        return x @ params["dense"]["kernel"] + params["dense"]["bias"]

    for model in (
        lambda x: dense(inside, x),
        lambda x: dense(HELD, x),  # a global
        jax.jit(lambda x: dense(inside, x)),
        jax.vmap(functools.partial(dense, inside)),
        lambda x: dense(inside, x) + jax.jit(dense)(inside, x),  # twice, and still the same
    ):
        assert lower_any(model, (X,)).params == 16 * 8 + 8

    names = {op.name for op in lower_any(lambda x: dense(inside, x), (X,)).ops}
    assert "inside.dense" in names


def test_first_container_of_several_arguments_holds_the_parameters() -> None:
    p = {"w": array(16, 8), "b": array(8)}

    assert lower_any(lambda p, x: x @ p["w"] + p["b"], (p, X)).params == 136
    assert lower_any(lambda x, params: x["a"] @ params["w"] + params["b"], ({"a": X}, p)).params == 136
    assert lower_any(lambda batch: batch["x"] @ batch["y"], ({"x": X, "y": X},)).params == 0


def test_wrapped_and_training_modules() -> None:
    linear = nnx.Linear(16, 8, rngs=nnx.Rngs(0))

    class Normed(linen.Module):
        @linen.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            return linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))

    assert flop(lower_any(nnx.jit(linear), (X,))) == 2 * 16 * 16 * 8
    assert lower_any(lambda x: linear(x), (X,)).params == 136
    assert lower_any(Normed(), ((X,), {"train": True})).params == 136 + 16


def test_equinox_modules() -> None:
    eqx = pytest.importorskip("equinox")
    net = eqx.filter_eval_shape(lambda key: eqx.nn.MLP(16, 8, 32, 1, key=key), jax.random.key(0))
    attention = eqx.nn.MultiheadAttention(4, 64, key=jax.random.key(0))
    made = eqx.nn.MLP(16, 8, 32, 1, key=jax.random.key(0))
    params = 16 * 32 + 32 + 32 * 8 + 8

    assert lower_any(net, (array(16),)).params == params
    assert lower_any(jax.vmap(made), (X,)).params == params
    assert lower_any(eqx.filter_jit(eqx.filter_vmap(made)), (X,)).params == params
    assert flop(lower_any(lambda model, x: jax.vmap(model)(x), (net, X))) == 2 * 16 * (16 * 32 + 32 * 8)
    assert kinds(lower_any(jax.vmap(attention), (array(2, 32, 64),) * 3)).count("attention") == 1


def test_haiku_resnet_has_the_published_totals() -> None:
    hk = pytest.importorskip("haiku")
    net = hk.transform_with_state(lambda x, train: hk.nets.ResNet50(1000)(x, is_training=train))
    x = array(1, 224, 224, 3)
    params, state = jax.eval_shape(lambda key, x: net.init(key, x, True), jax.random.key(0), x)

    graph = lower_any(lambda params, state, x: net.apply(params, state, None, x, False)[0], (params, state, x))

    assert (flop(graph), graph.params) == (8_178_368_512, 25_557_032)
    assert "res_net50.initial_conv" in {op.name for op in graph.ops}


@pytest.fixture
def keras_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras on another backend")
    yield keras.Sequential([keras.Input((16,)), keras.layers.Dense(8), keras.layers.BatchNormalization()])


def test_keras_model_has_a_free_batch(keras_model: Any) -> None:
    graph = lower_any(keras_model)

    assert flop(graph, batch=3) == 2 * 3 * 16 * 8
    assert graph.params == 16 * 8 + 8 + 2 * 8  # without the moving statistics


def test_keras_model_that_is_not_built_asks_for_inputs(keras_model: Any) -> None:
    with pytest.raises(InputError, match=r"not built, so that its inputs are not known; give inputs="):
        lower_any(type(keras_model)())


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_function_that_cannot_be_traced() -> None:
    with pytest.raises(UnsupportedError, match=r"<?lambda>?: cannot be traced \(TypeError: .*expected a function"):
        lower_any(lambda x: x @ array(3, 4), (X,))


def test_object_that_is_no_model() -> None:
    with pytest.raises(InputError, match="expected a JAX function or a module"):
        lower(object(), (X,))
