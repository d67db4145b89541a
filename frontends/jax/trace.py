"""From a model object to a jaxpr and the role of each of its arguments; no weights are made, nothing is compiled.

**Which leaf is a weight.** Flax NNX: every `Param` (and LoRA parameters); Linen: the collection ``params``; Keras:
every variable but running statistics and seeds; a pytree that can be called (Equinox): its arrays. For a plain function
the arguments named ``params``, ``weights``, ``variables`` or ``model`` (also ``*_params``, ``*_weights``), with any
collection ``batch_stats`` in them as constants. Leaves under a name with ``cache`` or ``past`` are state; all others
are inputs. Where no argument is named so, the first one is taken for the parameters if it is a container of floats and
others follow it. Of the arrays that a function closes over, a module's or a container's have the roles they would have
as arguments; of single arrays, floats of two axes and more are weights.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax

from wattir.errors import InputError, UnsupportedError, WattirError
from wattir.frontends.jax.held import Identity, held_arrays, path_text
from wattir.frontends.jax.roles import CACHE, WEIGHTS, input_role, parameter_role, parameters_among
from wattir.frontends.jax.sizes import dtype_of


@dataclass(frozen=True, slots=True)
class Leaf:
    """One array that goes in: its name, its role, and what JAX knows of it."""

    name: str
    role: str
    aval: Any


@dataclass(frozen=True, slots=True)
class Traced:
    """The program, its arguments in order, the name of the whole, and names of the arrays that it holds."""

    jaxpr: Any
    leaves: tuple[Leaf, ...]
    name: str
    held: Mapping[Identity, str] = field(default_factory=dict)


def trace(model: Any, inputs: Any) -> Traced:
    """The jaxpr of a model called with `inputs`: a tuple of arguments, a dict of named ones, or the only one."""
    args, kwargs = _arguments(inputs)
    function, leaves, name = _opened(model, args, kwargs)
    try:
        with _as_with_cudnn():
            jaxpr = jax.make_jaxpr(function)(*(leaf.aval for leaf in leaves))
    except WattirError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0][:300]
        found = f"cannot be traced ({type(error).__name__}: {line})"
        raise UnsupportedError(
            f"{name}: {found}; expected a function that jax.make_jaxpr takes, and its inputs"
        ) from error
    return Traced(jaxpr, tuple(leaves), name, held_arrays(model))


@contextmanager
def _as_with_cudnn() -> Iterator[None]:
    """JAX asks this machine for cuDNN before it traces a call of cuDNN's attention; nothing will run here."""
    module = sys.modules.get("jax._src.cudnn.fused_attention_stablehlo")
    answers = {"check_cudnn_version": lambda: 99999, "check_compute_capability": lambda *_: True}
    asked = {name: getattr(module, name) for name in answers if hasattr(module, name)}
    for name in asked:
        setattr(module, name, answers[name])
    try:
        yield
    finally:
        for name, function in asked.items():
            setattr(module, name, function)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inputs is None:
        return (), {}
    if isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[0], tuple) and isinstance(inputs[1], dict):
        return inputs[0], dict(inputs[1])
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    if isinstance(inputs, Mapping) and all(isinstance(key, str) for key in inputs):
        return (), dict(inputs)
    return (inputs,), {}


Opened = tuple[Callable[..., Any], list[Leaf], str]


def _opened(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
    """A function of flat arrays, and those arrays."""
    modules = {cls.__module__ for cls in type(model).__mro__ if cls.__name__ in ("Module", "KerasLayer", "Layer")}
    if any(module.startswith("flax.nnx") for module in modules):
        return _nnx(model, args, kwargs)
    if any(module.startswith("flax.linen") for module in modules):
        return _linen(model, args, kwargs)
    if any(module.startswith("keras.") for module in modules):
        return _keras(model, args, kwargs)
    if not callable(model):
        raise InputError(f"{type(model).__name__}: not callable; expected a JAX function or a module")
    if _is_pytree(model):
        return _callable_pytree(model, args, kwargs)
    return _function(model, args, kwargs)


def _is_pytree(model: Any) -> bool:
    leaves = jax.tree_util.tree_leaves(model)
    return not (len(leaves) == 1 and leaves[0] is model)


# ---- leaves --------------------------------------------------------------------------------------------------------


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _struct(shape: Any, dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def abstract(leaf: Any) -> Any:
    """What stands for an array in tracing: its shape and type, no content."""
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else _struct(leaf.shape, leaf.dtype)


class _Flat:
    """Pytrees as a list of their arrays, and back; leaves that are no arrays stay as they are."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []

    def add(self, tree: Any, role: Callable[[str], str], prefix: str = "") -> Callable[[list[Any]], Any]:
        """Adds a tree's arrays; gives the function that puts arrays in their places again."""
        found, structure = jax.tree_util.tree_flatten_with_path(tree)
        places: list[int | None] = []
        for path, leaf in found:
            places.append(len(self.leaves) if _is_array(leaf) else None)
            if _is_array(leaf):
                name = path_text(path, prefix) or "x"
                self.leaves.append(Leaf(name, role(name), abstract(leaf)))
        static = [leaf for _, leaf in found]

        def rebuild(arrays: list[Any]) -> Any:
            values = [s if place is None else arrays[place] for s, place in zip(static, places, strict=True)]
            return jax.tree_util.tree_unflatten(structure, values)

        return rebuild


def _add_inputs(flat: _Flat, args: Any, kwargs: Any, names: list[str]) -> Callable[[list[Any]], tuple[Any, Any]]:
    labelled = [names[i] if i < len(names) else f"x{i}" for i in range(len(args))]
    positional = [flat.add(arg, input_role, label) for arg, label in zip(args, labelled, strict=True)]
    named = {key: flat.add(value, input_role, key) for key, value in kwargs.items()}

    def rebuild(arrays: list[Any]) -> tuple[Any, Any]:
        return tuple(make(arrays) for make in positional), {key: make(arrays) for key, make in named.items()}

    return rebuild


def _parameter_names(function: Any) -> list[str]:
    try:
        return [name for name in inspect.signature(function).parameters if name != "self"]
    except (TypeError, ValueError):
        return []


# ---- kinds of models -----------------------------------------------------------------------------------------------


def _function(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
    flat, names = _Flat(), _parameter_names(model)
    given = {**{names[i] if i < len(names) else f"x{i}": arg for i, arg in enumerate(args)}, **kwargs}
    parameters = parameters_among({name: _is_container(value) for name, value in given.items()})
    added = {
        name: flat.add(value, parameter_role if name in parameters else input_role, name)
        for name, value in given.items()
    }
    positional, named = list(added.values())[: len(args)], {key: added[key] for key in kwargs}

    def run(*arrays: Any) -> Any:
        given = list(arrays)
        return model(*(make(given) for make in positional), **{key: make(given) for key, make in named.items()})

    return run, flat.leaves, str(getattr(model, "__name__", type(model).__name__)).strip("<>")


def _is_container(value: Any) -> bool:
    """Whether a value holds arrays of what weights are of, and is none itself."""
    leaves = jax.tree_util.tree_leaves(value)
    held = any(_is_array(leaf) and dtype_of(leaf.dtype) in WEIGHTS for leaf in leaves)
    return held and value is not leaves[0]


def _callable_pytree(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
    flat = _Flat()
    rebuild = flat.add(model, parameter_role)
    inputs = _add_inputs(flat, args, kwargs, _parameter_names(model))

    def run(*arrays: Any) -> Any:
        given = list(arrays)
        positional, named = inputs(given)
        return rebuild(given)(*positional, **named)

    return run, flat.leaves, type(model).__name__


def _nnx(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
    from flax import nnx

    definition, state = nnx.split(model)
    roles = {".".join(map(str, path)): _nnx_role(variable, nnx) for path, variable in nnx.to_flat_state(state)}
    flat = _Flat()
    rebuild = flat.add(state, lambda name: roles.get(name, "constant"))
    inputs = _add_inputs(flat, args, kwargs, _parameter_names(type(model).__call__))

    def run(*arrays: Any) -> Any:
        given = list(arrays)
        positional, named = inputs(given)
        return nnx.merge(definition, rebuild(given))(*positional, **named)

    return run, flat.leaves, type(model).__name__


def _nnx_role(variable: Any, nnx: Any) -> str:
    kind = variable if isinstance(variable, type) else getattr(variable, "type", type(variable))
    if issubclass(kind, (nnx.Param, nnx.LoRAParam)):
        return "weight"
    return "state" if issubclass(kind, nnx.Cache) else "constant"


def _linen(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
    key = jax.eval_shape(lambda: jax.random.key(0))
    outer, rngs = _Flat(), ("params", "dropout", "default")
    inputs = _add_inputs(outer, args, kwargs, _parameter_names(type(model).__call__))

    def start(seed: Any, *arrays: Any) -> Any:
        positional, named = inputs(list(arrays))
        return model.init(dict.fromkeys(rngs, seed), *positional, **named)

    variables = jax.eval_shape(start, key, *(leaf.aval for leaf in outer.leaves))
    flat = _Flat()
    rebuild = flat.add(variables, _collection_role)
    again = _add_inputs(flat, args, kwargs, _parameter_names(type(model).__call__))
    mutable = [name for name in variables if name not in ("params", "intermediates")] or False

    def run(*arrays: Any) -> Any:
        given = list(arrays)
        positional, named = again(given)
        seeds = dict.fromkeys(rngs[1:], jax.random.key(0))
        return model.apply(rebuild(given), *positional, rngs=seeds, mutable=mutable, **named)

    return run, flat.leaves, type(model).__name__


def _collection_role(name: str) -> str:
    collection = name.partition(".")[0]
    if collection == "params":
        return "weight"
    return "state" if CACHE.search(collection) else "constant"


def _keras(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
    import keras  # type: ignore[import-untyped,unused-ignore]  # it ships no types

    if keras.backend.backend() != "jax":
        found = f"Keras on the {keras.backend.backend()} backend"
        raise UnsupportedError(f"{model.name}: {found}; expected jax; set KERAS_BACKEND=jax before importing keras")
    flat = _Flat()
    trained = [_keras_leaf(flat, v) for v in model.trainable_variables]
    others = [_keras_leaf(flat, v) for v in model.non_trainable_variables]
    inputs = _add_inputs(flat, args or ((_keras_inputs(model),) if not kwargs else ()), kwargs, [])

    def run(*arrays: Any) -> Any:
        given = list(arrays)
        positional, named = inputs(given)
        first, second = [given[i] for i in trained], [given[i] for i in others]
        return model.stateless_call(first, second, *positional, training=False, **named)[0]

    return run, flat.leaves, str(model.name)


def _keras_leaf(flat: _Flat, variable: Any) -> int:
    name = str(getattr(variable, "path", variable.name)).replace("/", ".")
    aval = _struct(tuple(variable.shape), jax.numpy.dtype(str(variable.dtype)))
    flat.leaves.append(Leaf(name, parameter_role(name), aval))
    return len(flat.leaves) - 1


def _keras_inputs(model: Any) -> Any:
    """The model's own inputs; an open first axis is the batch, others must be given."""
    (batch,) = jax.export.symbolic_shape("batch")

    def one(tensor: Any) -> Any:
        shape = (tensor.shape[0] or batch, *tensor.shape[1:])
        if None in shape:
            found = f"input {tensor.name} of shape {tensor.shape}"
            raise InputError(f"{model.name}: {found}; expected sizes but for the batch; give inputs=")
        return _struct(shape, jax.numpy.dtype(str(tensor.dtype)))

    given = getattr(model, "inputs", None)  # a model that is not built has no such attribute
    if not given:
        raise InputError(f"{model.name}: not built, so that its inputs are not known; give inputs=")
    return jax.tree_util.tree_map(one, getattr(model, "_inputs_struct", given[0] if len(given) == 1 else given))
