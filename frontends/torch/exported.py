"""`torch.export`: a module with example inputs becomes an ExportedProgram, and this a `Program`.

The graph is read as exported, before decomposition: it keeps linear, layer norms and attention whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch.export import ExportedProgram

from wattir.dims import Size
from wattir.frontends.torch.formulas import Unreadable
from wattir.frontends.torch.inputs import Inputs
from wattir.frontends.torch.naming import call_names, dim_names
from wattir.frontends.torch.program import DTYPES, Argument, Call, Program, TensorRef
from wattir.frontends.torch.shapes import FreeDims
from wattir.frontends.torch.symbols import size_of
from wattir.frontends.torch.unbacked import bound_warning, equal_parts, most_of, parts_warning

_ROLES = {"PARAMETER": "weight", "BUFFER": "constant", "CONSTANT_TENSOR": "constant"}


@contextmanager
def in_inference(module: torch.nn.Module) -> Iterator[None]:
    """The module as it runs in inference: no gradients, dropout off; its training flags are put back."""
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child in training:
            child.training = True


def export(module: torch.nn.Module, inputs: Inputs) -> Program:
    """The Program of a module through `torch.export.export`; raises what that raises."""
    dims = FreeDims(module, inputs)
    with in_inference(module):
        exported = torch.export.export(
            module,
            dims.args,
            dims.kwargs,
            dynamic_shapes=dims.dynamic_shapes(),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    return read_exported(exported, type(module).__name__, dims)


def read_exported(exported: ExportedProgram, name: str | None = None, dims: FreeDims | None = None) -> Program:
    """The Program of an ExportedProgram."""
    return _Reader(exported, name or "exported program", dims).program()


class _Reader:
    """Reads one ExportedProgram: its signature, then its graph and nested graphs."""

    def __init__(self, exported: ExportedProgram, name: str, dims: FreeDims | None) -> None:
        self.exported, self.name, self.dims = exported, name, dims
        self.placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
        self.roles = {
            spec.arg.name: _ROLES.get(spec.kind.name, "input") for spec in exported.graph_signature.input_specs
        }
        self.targets = {spec.arg.name: spec.target for spec in exported.graph_signature.input_specs}
        self.names, self.sizes = self._free_dims()
        self.extra: dict[str, TensorRef] = {}
        self.warnings: list[str] = []

    def _free_dims(self) -> tuple[dict[str, str | Size], dict[str, int | None]]:
        """Symbol -> name of the dim, and name -> default."""
        shapes = [
            (name, [_symbol(size) for size in node.meta["val"].shape])
            for name, node in self.placeholders.items()
            if self.roles[name] == "input" and isinstance(node.meta.get("val"), torch.Tensor)
        ]
        names = dim_names(shapes)
        if self.dims is not None:
            names |= self.dims.symbols({name: node.meta.get("val") for name, node in self.placeholders.items()})
        hints = {
            names[symbol]: size.node.hint
            for node in self.placeholders.values()
            for size in getattr(node.meta.get("val"), "shape", ())
            if (symbol := _symbol(size)) is not None
        }
        sizes = {key: None if hint is None else int(hint) for key, hint in hints.items()}
        return {**names}, {**sizes, **(self.dims.defaults if self.dims is not None else {})}

    def program(self) -> Program:
        """The whole program."""
        shared = self._shared()
        values: dict[str, Any] = {}
        inputs: list[TensorRef] = []
        held: dict[str, TensorRef] = {}
        roles: dict[str, str] = {}
        for name, node in self.placeholders.items():
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                values[name] = self._plain(value)
                continue
            role = self.roles[name]
            title = shared.get(name, self.targets.get(name) or name) if role != "input" else name
            ref = self._ref(title, value)
            values[name] = ref
            if role == "input":
                inputs.append(ref)
            else:
                held.setdefault(title, ref)
                roles[title] = role
        calls, outputs = self._calls(self.exported.graph, values)
        held |= {name: ref for name, ref in self.extra.items() if name not in held}
        warnings = [*(self.dims.warnings if self.dims is not None else ()), *self.warnings]
        names = tuple(dict.fromkeys(ref.name for ref in outputs))
        batch = "batch" if "batch" in self.sizes else None
        kept = tuple(held.values())
        told = tuple(dict.fromkeys(warnings))
        return Program(self.name, tuple(inputs), roles, calls, names, kept, self.sizes, batch, told)

    def _shared(self) -> dict[str, str]:
        """Placeholder -> the name of the first that is the same tensor (tied weights)."""
        first: dict[int, str] = {}
        found = {}
        state = {**self.exported.state_dict, **self.exported.constants}
        for name, target in self.targets.items():
            if target is not None and target in state and self.roles[name] != "input":
                found[name] = first.setdefault(id(state[target]), target)
        return found

    # ---- graphs -----------------------------------------------------------------------------------------------------

    def _calls(self, graph: Any, values: dict[str, Any]) -> tuple[tuple[Call, ...], list[TensorRef]]:
        """The calls of a graph whose placeholders have values, and its outputs."""
        found: list[tuple[str, str, tuple[Argument, ...], dict[str, Argument], tuple[TensorRef | None, ...]]] = []
        outputs: list[TensorRef] = []
        for node in graph.nodes:
            if node.op == "get_attr":
                values[node.name] = self._attribute(graph, node)
            elif node.op == "output":
                outputs = [ref for ref in _flat(self._argument(node.args, values)) if isinstance(ref, TensorRef)]
            elif node.op == "call_function":
                self._call(node, values, found)
        names = call_names([(path, target.split(".")[1]) for path, target, *_ in found])
        return tuple(Call(t, a, k, o, n) for (_, t, a, k, o), n in zip(found, names, strict=True)), outputs

    def _call(self, node: Any, values: dict[str, Any], found: list[Any]) -> None:
        value = node.meta.get("val")
        target = target_name(node.target)
        if target == "python.getitem":
            source = values[node.args[0].name]
            index = node.args[1]
            values[node.name] = source[index] if isinstance(source, tuple) else source
            return
        if isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)):
            values[node.name] = self._plain(value)
            if not target.startswith("higher_order"):
                return
        args = tuple(self._argument(arg, values) for arg in node.args)
        kwargs = {name: self._argument(arg, values) for name, arg in node.kwargs.items()}
        self._bound(node, target, args)
        if shares := equal_parts(target, args):
            self.warnings.append(parts_warning(target))
            self.names |= shares
            args = tuple(self._argument(arg, values) for arg in node.args)
        outs = self._outs(node.name, value) if value is not None else self._rewritten(node, values)
        values[node.name] = outs
        refs = tuple(out if isinstance(out, TensorRef) else None for out in _flat((outs,)))
        found.append((module_path(node), target, args, kwargs, refs))

    def _bound(self, node: Any, target: str, args: tuple[Argument, ...]) -> None:
        """A size that depends on data is bounded by its maximum, where the operator tells."""
        fresh = node.meta.get("unbacked_bindings")
        most = most_of(target, args[0].shape) if fresh and args and isinstance(args[0], TensorRef) else None
        if most is None:
            return
        self.warnings.append(bound_warning(target))
        self.names |= dict.fromkeys(map(str, fresh), most)

    def _rewritten(self, node: Any, values: dict[str, Any]) -> Any:
        """Where a call gives nothing: new names for the tensors that it writes into."""
        made: dict[str, TensorRef] = {}
        for arg in written(node.target, node.args, node.kwargs):
            if isinstance(arg, torch.fx.Node) and isinstance(before := values.get(arg.name), TensorRef):
                made[arg.name] = replace(before, name=f"{node.name}.{len(made)}")
        values |= made
        return tuple(made.values()) or None

    def _outs(self, name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._ref(name, value)
        if isinstance(value, (tuple, list)):
            return tuple(self._outs(f"{name}.{index}", item) for index, item in enumerate(value))
        return self._plain(value)

    def _attribute(self, graph: Any, node: Any) -> Any:
        """A nested graph, or a constant that was not lifted."""
        owner = graph.owning_module
        for part in node.target.split("."):
            owner = getattr(owner, part)
        if isinstance(owner, torch.fx.GraphModule):
            return self._body(node.target, owner)
        if isinstance(owner, torch.Tensor):
            ref = self._ref(node.target, owner)
            self.extra[ref.name] = ref
            return ref
        return None

    def _body(self, name: str, module: torch.fx.GraphModule) -> Program:
        values: dict[str, Any] = {}
        inputs = []
        for node in module.graph.nodes:
            if node.op == "placeholder":
                values[node.name] = self._outs(f"{name}.{node.name}", node.meta.get("val"))
                inputs.append(values[node.name])
        calls, outputs = self._calls(module.graph, values)
        refs = tuple(ref if isinstance(ref, TensorRef) else TensorRef("", (), "fp32") for ref in inputs)
        return Program(name, refs, {}, calls, tuple(ref.name for ref in outputs))

    # ---- values -----------------------------------------------------------------------------------------------------

    def _argument(self, arg: Any, values: Mapping[str, Any]) -> Argument:
        if isinstance(arg, torch.fx.Node):
            return values.get(arg.name)
        if isinstance(arg, (tuple, list)):
            return tuple(self._argument(item, values) for item in arg)
        if isinstance(arg, dict):
            return {key: self._argument(item, values) for key, item in arg.items()}
        if isinstance(arg, slice):
            return None
        return self._plain(arg)

    def _ref(self, name: str, value: torch.Tensor) -> TensorRef:
        shape = tuple(size_of(size, self.names) for size in value.shape)
        return TensorRef(name, shape, dtype_name(value.dtype))

    def _plain(self, value: Any) -> Argument:
        return plain(value, self.names)


def plain(value: Any, names: Mapping[str, str | Size]) -> Argument:
    """An argument that is no tensor: numbers stay, dtypes and devices become texts."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.SymInt):
        with suppress(Unreadable):
            return size_of(value, names)
        return None  # a number that depends on data, not a size: sizes are read where tensors are
    if isinstance(value, (torch.SymFloat, torch.SymBool)):
        hint: Argument = value.node.hint
        return hint
    if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format)):
        return str(value)
    if isinstance(value, torch._ops.OpOverload):
        return str(value)
    return None


def dtype_name(dtype: torch.dtype) -> str:
    """wattir's name of a torch dtype."""
    return DTYPES.get(str(dtype).removeprefix("torch."), "fp32")


def target_name(target: Any) -> str:
    """``aten.add.Tensor``, ``higher_order.cond``, ``python.getitem``."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.__name__}"
    return f"python.{getattr(target, '__name__', str(target))}"


def written(target: Any, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that a custom operator writes into; torch's own say so by what they give."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace in ("aten", "prim", "prims"):
        return []
    given = {spec.name: arg for spec, arg in zip(target._schema.arguments, args, strict=False)} | dict(kwargs)
    return [given[spec.name] for spec in target._schema.arguments if spec.is_write and given.get(spec.name) is not None]


def module_path(node: Any) -> str:
    """The path of the innermost module that made a call; ``@1`` marks of repeated calls are taken off."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return ".".join(part.partition("@")[0] for part in path.removeprefix("L['self'].").split("."))


def _symbol(size: Any) -> str | None:
    if isinstance(size, int) or not size.node.expr.is_Symbol:
        return None
    return str(size.node.expr)


def _flat(items: Any) -> Iterator[Any]:
    for item in items:
        if isinstance(item, (tuple, list)):
            yield from _flat(item)
        elif isinstance(item, dict):
            yield from _flat(item.values())
        else:
            yield item
