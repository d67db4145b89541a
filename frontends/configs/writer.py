"""Writes the parts that layers share into a graph: products, norms, pointwise work, collectives.

A `Writer` has a place (`scope`, the path a user knows) and a trip count; the ops of a layer that occurs `times` times
are written once. `params` and `weight_bytes` count every occurrence; `token_bytes` are those of one token in the cache,
`windows` the same by the length of a window that forgets older ones, `sequence_bytes` those of states of fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wattir.dims import Size, ceildiv, product
from wattir.errors import InputError, suggestion
from wattir.ir import GraphBuilder
from wattir.kinds import DTYPE_BYTES, FUNCTIONS

WEIGHTS: dict[str, tuple[str, str, int, str]] = {
    "bf16": ("bf16", "", 0, ""),
    "fp16": ("fp16", "", 0, ""),
    "fp32": ("fp32", "", 0, ""),
    "fp8": ("fp8", "fp8", 128 * 128, "fp32"),
    "fp8_channel": ("fp8", "fp8", 0, ""),
    "int8": ("int8", "int8", 0, ""),
    "int8_only": ("int8", "", 128, "fp16"),
    "int4": ("int4", "", 128, "fp16"),
    "mxfp4": ("fp4", "", 32, "uint8"),
    "nvfp4": ("fp4", "fp4", 16, "fp8"),
}
"""How a product's weights are held: dtype, the dtype that its products run in ("": as the activations), weights to a
scale (0: too few scales to count), dtype of a scale.

fp8: blocks of 128 by 128 (DeepSeek-V3). fp8_channel: a scale a row (FBGEMM, compressed-tensors). int8_only, int4:
groups of 128 (GPTQ, AWQ), widened before they are multiplied. mxfp4: groups of 32 (OCP MX 1.0). nvfp4: groups of 16,
activations too (NVIDIA)."""

CACHES = ("bf16", "fp16", "fp32", "fp8")


@dataclass(frozen=True, slots=True)
class Held:
    """How numbers are held: activations, weights of products and of experts, cached keys and values."""

    dtype: str
    weights: str
    expert_weights: str
    cache: str

    def __post_init__(self) -> None:
        one_of("weights", self.weights, WEIGHTS)
        one_of("weights", self.expert_weights, WEIGHTS)
        one_of("kv_cache", self.cache, CACHES)


def one_of(key: str, value: str, known: Any) -> None:
    """InputError unless `value` is known."""
    if value not in known:
        raise InputError(f"{key} = {value!r}; expected one of {', '.join(known)}{suggestion(value, known)}")


class Writer:
    """A graph in the making. `tp` devices share every product; the graph is what one of them does."""

    def __init__(self, name: str, held: Held, tp: int = 1) -> None:
        self.builder, self.held, self.tp = GraphBuilder(name), held, tp
        self.scope = ""
        self.times = 1
        self.params = 0
        self.weight_bytes = 0
        self.token_bytes = 0
        self.windows: dict[int, int] = {}
        self.sequence_bytes = 0

    @contextmanager
    def at(self, part: str, times: int = 1) -> Iterator[None]:
        """Inside it, names begin with `part` and ops run `times` times as often."""
        before = self.scope, self.times
        self.scope, self.times = self.path(part), self.times * times
        yield
        self.scope, self.times = before

    def path(self, part: str) -> str:
        """The name of a part of the current place."""
        return ".".join(filter(None, (self.scope, part)))

    def shape(self, name: str) -> tuple[Size, ...]:
        """The shape of a tensor."""
        return self.builder.tensors[name].shape

    def weight(self, name: str, shape: tuple[Size, ...], dtype: str = "", params: int | None = None) -> str:
        """A parameter; `params` where a run reads fewer elements than there are."""
        count = product(shape) if params is None else params
        assert isinstance(count, int)
        self.params += count * self.times
        self.weight_bytes += int(count * DTYPE_BYTES[dtype or self.held.dtype]) * self.times
        return self.builder.tensor(self.path(name), shape, dtype or self.held.dtype, "weight")

    def state(self, name: str, shape: tuple[Size, ...], dtype: str = "") -> str:
        """What is kept between calls."""
        return self.builder.tensor(self.path(name), shape, dtype or self.held.cache, "state")

    def value(self, name: str, shape: tuple[Size, ...], dtype: str = "") -> str:
        """What an op makes."""
        return self.builder.tensor(self.path(name) + ":out", shape, dtype or self.held.dtype)

    def op(
        self, kind: str, name: str, ins: tuple[str, ...], shape: tuple[Size, ...], source: str = "", dtype: str = "",
        **attrs: Any,
    ) -> str:  # fmt: skip
        """An op with one result, and the result's name."""
        out = self.value(name, shape, dtype)
        self.builder.op(kind, ins, (out,), name=self.path(name), source=source or kind, times=self.times, **attrs)
        return out

    def linear(self, name: str, x: str, n: int, bias: bool = False, weights: str = "", out: Size | None = None) -> str:
        """x [..., k] by a weight [n, k]; the result is [..., n]. `out` rows only where fewer are asked for."""
        *lead, k = self.shape(x)
        rows = product(lead)
        w = self.weights(f"{name}.weight", (n, k), weights or self.held.weights)
        ins = (self.narrowed(x, weights or self.held.weights), *w, *self._bias(name, n, bias))
        return self.op("matmul", name, ins, (*lead, n), "linear", groups=1, m=rows, n=n, k=k,
                       **self.math(weights or self.held.weights))  # fmt: skip

    def _bias(self, name: str, n: int, bias: bool) -> tuple[str, ...]:
        return (self.weight(f"{name}.bias", (n,)),) if bias else ()

    def weights(self, name: str, shape: tuple[Size, ...], held: str, params: int | None = None) -> tuple[str, ...]:
        """A product's weights and, where they are narrow, their scales."""
        dtype, _, group, scale = WEIGHTS[held]
        made = (self.weight(name, shape, dtype, params),)
        if not group:
            return made
        stored = int(str(product(shape))) if params is None else params
        self.weight_bytes += int(stored // group * DTYPE_BYTES[scale]) * self.times
        count = ceildiv(product(shape), group)
        return (*made, self.builder.tensor(f"{self.path(name)}_scale", (count,), scale, "constant"))

    def math(self, held: str) -> dict[str, str]:
        """The attribute that says what a product by such weights computes in."""
        math = WEIGHTS[held][1]
        return {"math": math or self.held.dtype} if WEIGHTS[held][0] != self.held.dtype else {}

    def narrowed(self, x: str, held: str) -> str:
        """`x` in the type that products by such weights read; quantized once for all that read it."""
        math = WEIGHTS[held][1]
        if not math or self.builder.tensors[x].dtype == math:
            return x
        narrow = f"{x}:{math}"
        if narrow not in self.builder.tensors:
            self.builder.tensor(narrow, self.shape(x), math)
            self.builder.op("quantize", (x,), (narrow,), name=f"{x.removesuffix(':out')}.quantize", source="quantize",
                            times=self.times, function="quantize")  # fmt: skip
        return narrow

    def norm(self, name: str, x: str, function: str, weight: bool = True, bias: bool = False, length: int = 0) -> str:
        """Over the last axis, or over its parts of `length`."""
        length = length or int(str(self.shape(x)[-1]))
        ins = [x, *([self.weight(f"{name}.weight", (length,))] if weight else [])]
        ins += [self.weight(f"{name}.bias", (length,))] if bias else []
        return self.op("norm", name, tuple(ins), self.shape(x), function, function=function, length=length)

    def pointwise(self, name: str, function: str, *ins: str, ops: int = 1, special: int = 0, last: int = 0) -> str:
        """Elementwise over the shape of the first input; `last`: another last axis (of a gate's halves)."""
        shape = (*self.shape(ins[0])[:-1], last) if last else self.shape(ins[0])
        return self.op("pointwise", name, ins, shape, function, function=function, ops=ops, special=special)

    def act(self, name: str, function: str, *ins: str, last: int = 0) -> str:
        """An activation function of the first input, times the others."""
        if function not in ACTIVATIONS:
            self.builder.warn(f"{self.builder.name}: activation {function!r} is not known; it is counted as a GELU")
        ops, special = ACTIVATIONS.get(function, FUNCTIONS["gelu"])
        return self.pointwise(name, function, *ins, ops=ops + len(ins) - 1, special=special, last=last)

    def all_reduce(self, name: str, x: str, ranks: int = 0) -> str:
        """The sum over the devices that share a product; nothing where there is one."""
        ranks = ranks or self.tp
        if ranks == 1:
            return x
        return self.op("collective", name, (x,), self.shape(x), "all_reduce", function="all_reduce", ranks=ranks)

    def share(self, key: str, count: int) -> int:
        """`count` parts divided among the devices; InputError where they do not divide."""
        if count % self.tp:
            has = f"{self.builder.name} has {key} = {count}"
            raise InputError(f"tp = {self.tp}: {has}, which {self.tp} does not divide; expected a divisor of {count}")
        return count // self.tp


ACTIVATIONS = FUNCTIONS | {
    "swish": FUNCTIONS["silu"], "gelu_pytorch_tanh": FUNCTIONS["gelu_tanh"], "gelu_python": FUNCTIONS["gelu"],
    "gelu_new": (8, 1), "gelu_fast": (8, 1), "gelu_accurate": (8, 1), "gelu_python_tanh": (8, 1), "gelu_10": (6, 1),
    "relu2": (2, 0), "relu6": (2, 0), "leaky_relu": (2, 0), "prelu": (2, 0), "mish": (2, 3), "laplace": (4, 1),
    "sqrtsoftplus": (1, 3), "linear": (0, 0), "clamped": (7, 1), "xielu": (6, 1), "silu_mul": (4, 1),
}  # fmt: skip
"""Of one element, as in `wattir.kinds`, by their names in transformers: ``gelu_new`` and the like write the powers of x
out; ``clamped``: the gate of GPT-OSS with both its clamps; ``silu_mul``: of two halves that lie in one tensor."""
