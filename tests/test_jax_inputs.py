"""What goes into the JAX frontend: symbolic sizes, roles and names of leaves, kinds of models, bad input."""

# ruff: noqa: E402  # what is imported late needs jax

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
from jax import export
from jax_functions import array, bert, decode, mlp
from jax_linen import resnet
from jax_nnx import vit_nnx
from test_jax import X, bytes_of, flop

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


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_function_that_cannot_be_traced() -> None:
    with pytest.raises(UnsupportedError, match=r"<?lambda>?: cannot be traced \(TypeError: .*expected a function"):
        lower_any(lambda x: x @ array(3, 4), (X,))


def test_object_that_is_no_model() -> None:
    with pytest.raises(InputError, match="expected a JAX function or a module"):
        lower(object(), (X,))
