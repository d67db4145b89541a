"""Tracing: one forward pass on tensors without content, every operator that it dispatches written down.

Operators that are one call in an exported graph but several when dispatched (linear, attention, recurrent layers) are
caught before they fall apart, so that both ways in give the same totals. Where the model's own code asks for the
content of a tensor it gets a stand-in (data.py), and the reader of the report is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.nn.utils import stateless
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from wattir.frontends.torch.data import STANDINS
from wattir.frontends.torch.exported import dtype_name, in_inference, plain, target_name, written
from wattir.frontends.torch.inputs import Inputs
from wattir.frontends.torch.naming import call_names
from wattir.frontends.torch.program import Argument, Call, Program, TensorRef
from wattir.frontends.torch.shapes import argument_names

WHOLE = (
    torch.ops.aten.linear.default,
    torch.ops.aten.scaled_dot_product_attention.default,
    torch.ops.aten.matmul.default,
    torch.ops.aten.lstm.input,
    torch.ops.aten.lstm.data,
    torch.ops.aten.gru.input,
    torch.ops.aten.gru.data,
    torch.ops.aten.rnn_tanh.input,
    torch.ops.aten.rnn_relu.input,
    torch.ops.aten.dropout.default,
    torch.ops.aten.feature_dropout.default,
    torch.ops.aten.einsum.default,
    torch.ops.aten.instance_norm.default,
    torch.ops.aten.rms_norm.default,
    torch.ops.aten.diff.default,
    torch.ops.aten.cdist.default,
    torch.ops.aten.tensordot.default,
    torch.ops.aten.bilinear.default,
    torch.ops.aten.stft.default,
    torch.ops.aten.stft.center,
    torch.ops.aten.cosine_similarity.default,
    torch.ops.aten.istft.default,
    *(
        getattr(torch.ops.aten, f"fft_{way}{kind}{axes}").default
        for way in ("", "i")
        for kind in ("fft", "rfft", "hfft")
        for axes in ("", "2", "n")
    ),
)
"""Composite operators that are written down whole."""

Found = tuple[str, str, tuple[Argument, ...], dict[str, Argument], tuple[TensorRef | None, ...]]


def trace(module: torch.nn.Module, inputs: Inputs) -> Program:
    """The Program of one forward pass; raises what the model raises."""
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    book = _Book()
    with in_inference(module), fakes:
        held, given = _fake_state(fakes, module), _fake_all(fakes, (inputs.args, dict(inputs.kwargs)))
        for name, tensor in held.items():
            book.hold(name, tensor, "weight" if isinstance(tensor, torch.nn.Parameter) else "constant")
        for name, value in zip(argument_names(module, inputs), (*given[0], *given[1].values()), strict=True):
            book.given(name, value)
        with ExitStack() as stack:
            stack.enter_context(_named_calls(module, book))
            stack.enter_context(stateless._reparametrize_module(module, held, tie_weights=True))
            stack.enter_context(_Dispatched(book))
            stack.enter_context(_whole(book))
            result = module(*given[0], **given[1])
    outputs = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    return book.program(type(module).__name__, outputs)


def _fake_state(fakes: FakeTensorMode, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers without content, under their names; tied ones are one tensor.

    A buffer of one number keeps it: code computes sizes with strides and paddings that it holds so.
    """
    made: dict[int, Any] = {}
    found = {}
    every = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    for name, tensor in every:
        if id(tensor) not in made:
            made[id(tensor)] = _fake(fakes, tensor)
            if isinstance(made[id(tensor)], FakeTensor) and _is_number(tensor):
                made[id(tensor)].constant = tensor
        found[name] = made[id(tensor)]
    return found


def _is_number(tensor: torch.Tensor) -> bool:
    held = isinstance(tensor, (torch.nn.Parameter, FakeTensor)) or tensor.is_meta
    return not held and tensor.numel() == 1


def _fake(fakes: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without content; a plain one is made directly, which takes half the time of `from_tensor`."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter, FakeTensor) or tensor.layout != torch.strided:
        return fakes.from_tensor(tensor, static_shapes=True)
    with in_kernel_invocation_manager(fakes):
        empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    device = torch.device("meta") if isinstance(tensor, FakeTensor) else tensor.device
    made = FakeTensor(fakes, empty, device)
    made._is_param = isinstance(tensor, torch.nn.Parameter)
    return made


def _fake_all(fakes: FakeTensorMode, tree: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda tensor: _fake(fakes, tensor), tree)


class _Book:
    """What has been written down: tensors by identity, calls in order, and the module that is running."""

    def __init__(self) -> None:
        self.refs: dict[int, TensorRef] = {}
        self.alive: list[Any] = []
        self.used: set[str] = set()
        self.inputs: list[TensorRef] = []
        self.held: dict[str, TensorRef] = {}
        self.roles: dict[str, str] = {}
        self.found: list[Found] = []
        self.stack: list[str] = []
        self.warnings: dict[str, None] = {}
        self.paused = False

    def hold(self, name: str, tensor: torch.Tensor, role: str) -> None:
        """A parameter or buffer; a tied one keeps its first name."""
        if id(tensor) not in self.refs:
            self.held[name] = self.made(tensor, name)
            self.roles[name] = role

    def given(self, name: str, value: Any) -> None:
        """An argument, its tensors numbered where it holds several."""
        leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
        for place, leaf in enumerate(leaves):
            self.inputs.append(self.made(leaf, name if leaf is value else f"{name}_{place}"))

    def made(self, tensor: torch.Tensor, name: str) -> TensorRef:
        """A new name for a tensor: made now, or written in place."""
        unique, count = name, 1
        while unique in self.used:
            count += 1
            unique = f"{name}_{count}"
        self.used.add(unique)
        ref = TensorRef(unique, tuple(int(size) for size in tensor.shape), dtype_name(tensor.dtype))
        self.refs[id(tensor)] = ref
        self.alive.append(tensor)
        return ref

    def ref(self, tensor: torch.Tensor) -> TensorRef:
        """The name of a tensor; one that nobody made is a constant of the model's code."""
        if id(tensor) not in self.refs:
            ref = self.made(tensor, "constant")
            self.held[ref.name] = ref
            self.roles[ref.name] = "constant"
        return self.refs[id(tensor)]

    def write(self, target: str, args: Any, kwargs: Any, result: Any) -> None:
        """One call."""
        taken, named = self.argument(args), {key: self.argument(value) for key, value in kwargs.items()}
        op = target.split(".")[1]
        leaves = pytree.tree_leaves(result)
        outs = tuple(self.made(leaf, op) if isinstance(leaf, torch.Tensor) else None for leaf in leaves)
        self.found.append((self.stack[-1] if self.stack else "", target, taken, named, outs))

    def argument(self, value: Any) -> Argument:
        if isinstance(value, torch.Tensor):
            return self.ref(value)
        if isinstance(value, (tuple, list)):
            return tuple(self.argument(item) for item in value)
        return plain(value, {})

    def warn(self, line: str) -> None:
        self.warnings[line] = None

    def program(self, name: str, outputs: list[torch.Tensor]) -> Program:
        names = call_names([(path, target.split(".")[1]) for path, target, *_ in self.found])
        calls = tuple(Call(t, a, k, o, n) for (_, t, a, k, o), n in zip(self.found, names, strict=True))
        given = tuple(dict.fromkeys(self.ref(tensor).name for tensor in outputs))
        held = tuple(self.held.values())
        return Program(name, tuple(self.inputs), self.roles, calls, given, held, warnings=tuple(self.warnings))


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """Writes down what reaches the dispatcher; a tensor's content is answered with a stand-in."""

    def __init__(self, book: _Book) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as torch has it
        self.book = book

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = target_name(func)
        standin = STANDINS.get(target.rpartition(".")[0]) or STANDINS.get(target)
        result = NotImplemented if standin is None else standin(self.book.warn, *args, **kwargs)
        if result is NotImplemented:
            result = func(*args, **kwargs)
        if not self.book.paused and not target.startswith(_UNSEEN):
            self.book.write(target, args, kwargs, written(func, args, kwargs) if result is None else result)
        return result


_UNSEEN = ("prim.device", "aten.sym_", "aten.is_same_size", "aten.size.", "aten.stride.", "prim.layout", "aten.dim.")


@contextmanager
def _whole(book: _Book) -> Iterator[None]:
    """Inside, the operators of `WHOLE` are one call each: they get a kernel that torch's Python dispatcher finds."""
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    before = {op: dict(op.py_kernels) for op in WHOLE}
    for op in WHOLE:
        op.py_kernels.update(dict.fromkeys((composite, *op.py_kernels), partial(_run_whole, book, op)))
        op._dispatch_cache.clear()
    try:
        with enable_python_dispatcher():
            yield
    finally:
        for op, kernels in before.items():
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()


def _run_whole(book: _Book, op: Any, *args: Any, **kwargs: Any) -> Any:
    """Runs what the operator consists of without writing that down, then writes the operator down."""
    paused, book.paused = book.paused, True
    try:
        result = op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args, **kwargs)
    finally:
        book.paused = paused
    if not paused:
        book.write(str(op), args, kwargs, result)
    return result


@contextmanager
def _named_calls(module: torch.nn.Module, book: _Book) -> Iterator[None]:
    """Inside, the book knows the path of the module that is running."""
    paths = {id(child): path for path, child in module.named_modules()}

    def enter(child: torch.nn.Module, _: Any) -> None:
        book.stack.append(paths.get(id(child), book.stack[-1] if book.stack else ""))

    def leave(child: torch.nn.Module, _: Any, __: Any) -> None:
        book.stack.pop()

    handles = [
        torch.nn.modules.module.register_module_forward_pre_hook(enter),
        torch.nn.modules.module.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
