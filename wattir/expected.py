"""`Expected`: joules or seconds where the sizes are not settled, as a smooth function of how likely each value is.

A candidate's total is a sum over tables, each over the few sizes that some kernels depend on (`wattir.tables`). With
the values of every size drawn independently, the expectation of a table is the table contracted with the
probabilities, so the expectation of the total is exact and multilinear in them, and so is its gradient:

    E[total] = sum over tables t of   sum over i, j, ... of  t[i, j, ...] p[i] q[j] ...
    dE / dp[i] = sum over tables t of p of   sum over j, ... of  t[i, j, ...] q[j] ...

A size may also be a number between two of its values: that is the expectation of the two with the weights of linear
interpolation. This is what differentiable architecture search asks for (DARTS, Liu et al. 2019; ProxylessNAS, Cai et
al. 2019, whose expected latency is the case of tables over one choice each). A space of choices has an expectation too:
`wattir.spaces.Space.compile(...).expected()`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from wattir.costmodel import CostModel
from wattir.errors import InputError, SizeError
from wattir.program import Program
from wattir.tables import Array, Table, row_count, table_of
from wattir.totals import SUMS, relief_of

METRICS = ("energy_j", "time_s")
MOST_ROWS = 2**22
"""A table has no more rows: 4 million settings of the sizes that one kernel depends on."""


@dataclass(frozen=True, eq=False)
class Expected:
    """Expected joules (or seconds) of one pass; call it with what is known of each size.

    `values`: the values that each size may take; `tables`: the sums of kernels over them; `metric`: what is asked for;
    `static_w`: what the device draws while it waits for its host; `limit_w`: at most. Made by `expected`.
    """

    values: Mapping[str, Array]
    tables: tuple[Table, ...]
    metric: str
    static_w: float
    limit_w: float

    def __call__(self, **choices: Any) -> Any:
        """The expectation, of the kind of the arrays given: a float, or a scalar of PyTorch or JAX with its gradient.

        For each size either the probabilities of its values, [values], or a number between the least and the most of
        them (beyond, that of the end). Probabilities need not add up to 1: the formula is multilinear in them.
        InputError names a size that is missing, unknown, or of another shape.
        """
        given = self._checked(choices)
        framework = next((name for name in ("torch", "jax") if any(_is_of(name, each) for each in given)), "numpy")
        return _CALLS[framework](self, given)

    def gradient(self, **choices: Any) -> dict[str, Array]:
        """The derivatives by each of the numbers given, of their shapes."""
        given = self._numbers(self._checked(choices))
        return dict(zip(self.values, self.with_gradient(given)[1], strict=True))

    def _numbers(self, choices: Sequence[Any]) -> list[Array]:
        """The choices as doubles; InputError where one is none."""
        found = []
        for name, choice in zip(self.values, choices, strict=True):
            try:
                found.append(np.asarray(choice, np.float64))
            except (TypeError, ValueError, RuntimeError):
                raise InputError(f"expected: {name} = {choice!r}; expected probabilities or a number") from None
        return found

    def with_gradient(self, choices: Sequence[Array]) -> tuple[float, list[Array]]:
        """The expectation and its derivatives, for choices in the order of `values`."""
        wrong = [name for name, each in zip(self.values, choices, strict=True) if not np.isfinite(each).all()]
        if wrong:
            raise InputError(f"expected: {wrong[0]} is not finite; expected probabilities or a number")
        weighted = [_weights(values, choice) for values, choice in zip(self.values.values(), choices, strict=True)]
        sums, slopes = self._contracted([weights for weights, _ in weighted])
        mix = self._mix(sums)
        return float(sums @ mix), [slope @ mix @ back for slope, (_, back) in zip(slopes, weighted, strict=True)]

    def _contracted(self, weights: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The expectations of `SUMS`, and their derivatives by the weights of each size [values, SUMS]."""
        total, slopes = np.zeros(len(SUMS)), [np.zeros((len(each), len(SUMS))) for each in weights]
        for table in self.tables:
            sums = table.sums.reshape(*(len(weights[column]) for column in table.columns), len(SUMS))
            for axis, column in enumerate(table.columns):
                others = [weights[c] for c in table.columns if c != column]
                slopes[column] += _without(np.moveaxis(sums, axis, -2), others)
            total += _without(sums, [weights[column] for column in table.columns])
        return total, slopes

    def _mix(self, sums: Array) -> Array:
        """The derivatives of the metric by `SUMS`, of which it is their sum: twice the sums give twice the metric.

        It is that of the expected sums (`wattir.totals`). A device waits where the host's expected seconds are more
        than its own; this is the expectation of waiting where all candidates wait, or none, and so with the power limit
        where all are held by it on average, or none."""
        energy, time, _, _, host, held, excess, room = np.eye(len(SUMS))
        relief, nothing = relief_of(sums @ excess, sums @ room), np.zeros(len(SUMS))
        more = (room - relief * excess) / (sums @ excess) if sums @ (excess - room) > 0.0 else nothing  # of relief
        free = excess - self.limit_w * held
        energy, time = energy + relief * free + more * (sums @ free), time - relief * held - more * (sums @ held)
        waiting = host - time if sums @ (host - time) > 0.0 else nothing
        return np.asarray(energy + self.static_w * waiting if self.metric == "energy_j" else time + waiting)

    def _checked(self, choices: Mapping[str, Any]) -> list[Any]:
        """The choices in the order of `values`, of a right shape."""
        unlike = sorted(choices.keys() ^ self.values.keys())
        if unlike:
            what = "no choice of" if unlike[0] in self.values else "no size"
            raise InputError(f"expected: {what} {unlike[0]!r}; expected one for each of {', '.join(self.values)}")
        for name, values in self.values.items():
            shape = _shape(choices[name])
            if shape not in ((), (len(values),)):
                found = "no shape" if shape is None else f"shape {shape}"
                raise InputError(
                    f"expected: {name} has {found}; expected ({len(values)},), a probability for each of its "
                    f"values, or a number from {values.min()} to {values.max()}"
                )
        return [choices[name] for name in self.values]

    @cached_property
    def _in_jax(self) -> Any:
        """The expectation as a JAX function of a tuple of choices, with its own rule for the gradient."""
        import jax

        def both(choices: Any) -> Any:
            value, slopes = self.with_gradient([np.asarray(each, np.float64) for each in choices])
            return tuple(np.asarray(each, choices[0].dtype) for each in (value, *slopes))

        def asked(choices: Any) -> Any:
            shapes = ((), *(each.shape for each in choices))
            like = tuple(jax.ShapeDtypeStruct(shape, choices[0].dtype) for shape in shapes)  # type: ignore[no-untyped-call]
            value, *slopes = jax.pure_callback(both, like, choices, vmap_method="sequential")
            return value, slopes

        function = jax.custom_vjp(lambda choices: asked(choices)[0])
        function.defvjp(asked, lambda slopes, by: (tuple(by * slope for slope in slopes),))
        return function


def expected(model: CostModel, sizes: Mapping[str, Any], metric: str = "energy_j") -> Expected:
    """The expectation of a cost model over sizes that may take several values.

    `sizes` gives a list of values for each size that is open, and an int for one that is not. InputError or SizeError
    names a size that is missing or unknown, or values at which the model refuses.
    """
    if metric not in METRICS:
        raise InputError(f"expected: metric {metric!r}; expected one of {', '.join(METRICS)}")
    listed = {name: np.asarray(value) for name, value in sizes.items() if np.ndim(value)}
    for name, values in listed.items():
        if values.ndim != 1 or not values.size or len(np.unique(values)) < values.size:
            raise SizeError(f"size {name} may be {values.tolist()}; expected a list of different whole numbers")
    first = model.bind({name: np.ravel(value)[0].item() for name, value in sizes.items()})
    for name, values in listed.items():
        for value in values:
            model.bind({**first, name: value.item()})
    every = {name: listed.get(name, np.array([value])) for name, value in first.items()}
    tables = tuple(_table(model, program, every, list(listed)) for program in model.programs)
    return Expected(listed, tables, metric, model.device.coefficients.static_w, model.device.power_w)


def _table(model: CostModel, program: Program, values: Mapping[str, Array], order: Sequence[str]) -> Table:
    names = program.tape.names
    if row_count(program, values) > MOST_ROWS:
        raise SizeError(
            f"{model.graph.name}: over {MOST_ROWS} settings of {', '.join(names)}; give fewer values of them"
        )
    table = table_of(program, values, order, model.trees, model.host_op_s)
    wrong = np.flatnonzero(np.isnan(table.sums[:, 0]))
    if len(wrong):
        at = np.unravel_index(int(wrong[0]), [len(values[name]) for name in names])
        setting = {name: int(values[name][i]) for name, i in zip(names, at, strict=True)}
        model(**{**{name: int(each[0]) for name, each in values.items()}, **setting})  # says why
        raise SizeError(f"{model.graph.name}: a formula passes 2^53 at {setting}; give smaller sizes")
    return table


def _without(sums: Array, weights: Sequence[Array]) -> Array:
    """A table whose leading axes are contracted with these weights, one after the other."""
    for each in weights:
        sums = np.tensordot(each, sums, axes=1)
    return sums


def _weights(values: Array, choice: Array) -> tuple[Array, Array]:
    """The weights of the values, and their derivatives by the choice: [values, values], or [values] by a number."""
    if choice.ndim:
        return choice, np.eye(len(values))
    order = np.argsort(values)
    grid, unit = values[order].astype(np.float64), np.eye(len(values))[order]
    right = int(np.clip(np.searchsorted(grid, choice), 1, max(len(grid) - 1, 1)))
    if not grid[0] <= choice <= grid[-1] or len(grid) == 1:
        return unit[0 if not choice > grid[-1] else -1], np.zeros(len(values))
    slope = (unit[right] - unit[right - 1]) / (grid[right] - grid[right - 1])
    return unit[right - 1] + (choice - grid[right - 1]) * slope, slope


def _shape(choice: Any) -> tuple[int, ...] | None:
    try:
        return tuple(np.shape(choice))
    except (TypeError, ValueError):  # lists of unequal lengths
        return None


def _is_of(framework: str, value: Any) -> bool:
    """Whether a value is an array of a framework, which is not imported to find out."""
    return framework in sys.modules and any(kind.__module__.startswith(framework) for kind in type(value).__mro__)


def _by_numpy(self: Expected, choices: Sequence[Any]) -> float:
    return self.with_gradient(self._numbers(choices))[0]


def _by_torch(self: Expected, choices: Sequence[Any]) -> Any:
    import torch

    like = next(each for each in choices if _is_of("torch", each))
    tensors = [torch.as_tensor(each, dtype=like.dtype, device=like.device) for each in choices]
    return _torch_function().apply(self, *tensors)


def _by_jax(self: Expected, choices: Sequence[Any]) -> Any:
    import jax.numpy as jnp

    kind = jnp.result_type(*choices, jnp.float32)
    return self._in_jax(tuple(jnp.asarray(each, kind) for each in choices))


@cache
def _torch_function() -> Any:
    """The expectation as a function of PyTorch, with its own rule for the gradient."""
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, self: Expected, *choices: Any) -> Any:
            value, slopes = self.with_gradient([each.detach().double().cpu().numpy() for each in choices])
            ctx.save_for_backward(*(choice.new_tensor(slope) for choice, slope in zip(choices, slopes, strict=True)))
            return choices[0].new_tensor(value)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, by: Any) -> Any:
            return (None, *(by * slope for slope in ctx.saved_tensors))

    return Function


_CALLS = {"numpy": _by_numpy, "torch": _by_torch, "jax": _by_jax}
