"""What a rule for an operator sees: a `Node` with its arguments as `Value`s, and the verbs to answer with.

Shapes and dtypes of the results are known, so a rule only says what work makes them:

    @rule("softmax", "_softmax")
    def softmax(node):
        x = node.tensor(0)
        node.emit("softmax", ins=(x,), function="softmax", length=x.shape[node.axis(1, "dim")])

A rule is registered under the operator's name without overload and without the underscore of its in-place form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from wattir.dims import Size, product
from wattir.errors import UnsupportedError
from wattir.frontends.torch.program import Call, Program, TensorRef
from wattir.frontends.torch.strides import Strides

if TYPE_CHECKING:
    from wattir.frontends.torch.lowering import Lowering


@dataclass(slots=True)
class Value:
    """A tensor while the graph is lowered: `name` in the GraphBuilder, `strides` at sample sizes.

    `storage` is shared by all views of one memory; `version` is how often that memory had been written in place when
    this value was made.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: str
    strides: Strides
    storage: Storage
    version: int = 0

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Size:
        return product(self.shape)


@dataclass(slots=True, eq=False)
class Storage:
    """A memory: its latest content as a whole tensor, and how often it has been written in place."""

    whole: Value | None = None
    version: int = 0


class Node:
    """One call: its inputs are lowered, its outputs are declared when the rule emits what makes them.

    `op` is the name that rules are registered under, `written` the one in the call; `in_place` where the call writes
    into its first argument.
    """

    def __init__(self, lowering: Lowering, call: Call, times: Size) -> None:
        self.lowering, self.builder, self.call, self.times = lowering, lowering.builder, call, times
        self.namespace, _, rest = call.target.partition(".")
        self.written, _, self.overload = rest.partition(".")
        self.op, self.in_place = _operator(self.namespace, self.written)
        self.label = call.name

    # ---- arguments --------------------------------------------------------------------------------------------------

    def arg(self, index: int, name: str = "", default: Any = None) -> Any:
        """An argument by place or by name, raw; `default` where it is absent or None."""
        found = self.call.args[index] if index < len(self.call.args) else self.call.kwargs.get(name)
        return default if found is None else found

    def value(self, index: int, name: str = "") -> Value | None:
        """A tensor argument, or None where it is absent or no tensor."""
        found = self.arg(index, name)
        return self.lowering.value(found) if isinstance(found, TensorRef) else None

    def tensor(self, index: int, name: str = "") -> Value:
        """A required tensor argument; UnsupportedError names it when it is absent."""
        found = self.value(index, name)
        if found is None:
            self.fail(f"argument {name or index} is no tensor", "a tensor")
        return found

    def tensors(self, index: int, name: str = "") -> list[Value]:
        """The tensors of a list argument; absent ones are left out."""
        return [self.lowering.value(ref) for ref in flat(self.arg(index, name, ()))]

    def inputs(self) -> list[Value]:
        """Every tensor among the arguments, in order, each once; those of nested programs not."""
        refs = dict.fromkeys(ref for arg in (*self.call.args, *self.call.kwargs.values()) for ref in flat(arg))
        return [self.lowering.value(ref) for ref in refs]

    def ints(self, index: int, name: str = "", rank: int | None = None) -> tuple[Size, ...]:
        """Numbers of a list argument; a single one is repeated `rank` times."""
        found = self.arg(index, name, ())
        many = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        return many * rank if rank is not None and len(many) == 1 else many

    def places(self, index: int, name: str, rank: int) -> list[int]:
        """Axes of a list argument, counted from the front of `rank`; none where it is absent."""
        return [int(axis) % rank for axis in self.ints(index, name)]  # type: ignore[arg-type]  # axes are no Dims

    def axis(self, index: int, name: str = "dim", default: int = -1, rank: int | None = None) -> int:
        """An axis argument of the first input, counted from the front."""
        rank = self.tensor(0).rank if rank is None else rank
        axis = int(self.arg(index, name, default))
        return axis % rank if rank else 0

    def axes(self, index: int, name: str = "dim") -> tuple[int, ...]:
        """Axes of the first input; all where none are given."""
        rank = self.tensor(0).rank
        found = self.arg(index, name, ())
        many = found if isinstance(found, (tuple, list)) else (found,)
        return tuple(int(axis) % max(rank, 1) for axis in many) or tuple(range(rank))

    # ---- results ----------------------------------------------------------------------------------------------------

    @property
    def outs(self) -> list[TensorRef]:
        """The tensors that the call gives."""
        return [ref for ref in self.call.outs if ref is not None]

    @property
    def out(self) -> TensorRef:
        """The first tensor that the call gives."""
        if not self.outs:
            self.fail("it gives no tensor", "at least one")
        return self.outs[0]

    def emit(
        self,
        kind: str,
        *,
        ins: Sequence[Value | None] | None = None,
        outs: Sequence[TensorRef | Value] | None = None,
        times: Size | None = None,
        **attrs: Any,
    ) -> None:
        """Adds the op that makes `outs` (default: all results) from `ins` (default: all tensor arguments)."""
        used = [v for v in (self.inputs() if ins is None else ins) if v is not None]
        outs = self._read() if outs is None else outs
        made = [self.lowering.declare(o) if isinstance(o, TensorRef) else o for o in outs]
        if not made:
            return
        every = self.times if times is None else self.times * times
        names = tuple(v.name for v in used)
        outs_names = tuple(v.name for v in made)
        self.builder.op(kind, names, outs_names, name=self.label, source=self.source, times=every, **attrs)

    def _read(self) -> list[TensorRef]:
        """The results that anything reads, at least the first: statistics and indices often stay unread."""
        read = self.lowering.read
        return [ref for ref in self.outs if ref.name in read] or self.outs[:1]

    @property
    def source(self) -> str:
        return f"{self.namespace}.{self.written}"

    def inner(self, tag: str, shape: tuple[Size, ...], dtype: str) -> Value:
        """A tensor between two ops that this one call becomes."""
        return self.lowering.fresh(f"{self.out.name}.{tag}", tuple(shape), dtype)

    def same(self, value: Value, index: int = 0) -> None:
        """Output `index` is a tensor that is there already: nothing is made."""
        self.lowering.bind(self.outs[index], value)

    def view(self, x: Value, ref: TensorRef | None = None, strides: Strides | None = None) -> None:
        """Output `ref` (the first) sees the memory of `x`."""
        self.lowering.view(self, x, ref or self.out, strides)

    def pointwise(self, function: str, ops: Size, special: Size = 0, **more: Any) -> None:
        """Emits a pointwise op; `special` is left out where it is 0."""
        if special != 0:
            more["special"] = special
        self.emit("pointwise", function=function, ops=ops, **more)

    def warn(self, line: str) -> None:
        self.builder.warn(f"{self.label} ({self.source}): {line}")

    def fail(self, found: str, expected: str, todo: str = "") -> NoReturn:
        """Refuses the call: where, what, expected, what to do."""
        where = f"{self.builder.name}: {self.label} ({self.source})"
        raise UnsupportedError(f"{where}: {found}; expected {expected}" + (f"; {todo}" if todo else ""))


def flat(argument: Any) -> Iterator[TensorRef]:
    """The tensors in a nested argument, in order."""
    if isinstance(argument, TensorRef):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from flat(item)
    elif isinstance(argument, dict):
        yield from flat(tuple(argument.values()))


def bodies(argument: Any) -> Iterator[Program]:
    """The programs in a nested argument, in order."""
    if isinstance(argument, Program):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from bodies(item)


Rule = Callable[[Node], None]
RULES: dict[str, Rule] = {}
"""``namespace.operator`` -> rule."""
_INFIX = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
          "rshift": "bitwise_right_shift", "not": "bitwise_not"}  # fmt: skip


def _operator(space: str, op: str) -> tuple[str, bool]:
    """The name that rules are registered under, and whether the call writes into its first argument."""
    if op.startswith("__") and op.endswith("__"):
        core = op[2:-2]
        in_place = core[:1] == "i" and core[1:] in _INFIX
        return _INFIX.get(core[1:] if in_place else core, core), in_place
    if op.endswith("_") and f"{space}.{op}" not in RULES:
        return op[:-1], True
    return op, False


def rule(*ops: str, space: str = "aten") -> Callable[[Rule], Rule]:
    """Registers a rule for operators of a namespace; registering one twice is an error."""

    def register(function: Rule) -> Rule:
        for op in ops:
            add_rule(f"{space}.{op}", function)
        return function

    return register


def add_rule(target: str, function: Rule) -> None:
    """Registers a rule under ``namespace.operator``; ValueError where there is one."""
    if target in RULES:
        raise ValueError(f"two rules for {target}")
    RULES[target] = function
