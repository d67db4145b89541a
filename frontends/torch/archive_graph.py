"""Graphs of an archive: nodes and their arguments -> calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from wattir.dims import Size
from wattir.frontends.torch.naming import call_names
from wattir.frontends.torch.program import DTYPES, Argument, Call, Program, TensorRef
from wattir.frontends.torch.schema import (
    LAYOUTS,
    MEMORY_FORMATS,
    Json,
    Malformed,
    Symbols,
    checked,
    choice,
    integer,
    item,
    optional,
    real,
    scalar_type,
    union,
)
from wattir.frontends.torch.unbacked import bound_warning, equal_parts, most_of, parts_warning

MAX_DEPTH = 32
"""Graphs nested deeper come from a damaged file."""

KEYWORD = 2
_KEYWORD_ONLY = frozenset({
    "alpha", "approximate", "device", "dtype", "enable_gqa", "generator", "layout", "memory_format", "out",
    "pin_memory", "rounding_mode",
})  # fmt: skip
_POSITIONAL_DTYPE = ("aten.to.", "aten.softmax.", "aten.log_softmax.")
"""Archives before schema 8.5 do not say which arguments are keywords: these are, but for dtype in some operators."""


class Scope:
    """What the names of one graph stand for."""

    def __init__(self, graph: Json, symbols: Symbols, prefix: str = "", depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise Malformed(f"graphs nested {depth} deep")
        self.symbols, self.prefix, self.depth = symbols, prefix, depth
        self.metas = item(graph, "tensor_values", dict)
        self.sym_ints = optional(graph, "sym_int_values", dict, {})
        self.sym_floats = optional(graph, "sym_float_values", dict, {})
        self.tensors: dict[str, TensorRef] = {}
        self.plain: dict[str, Argument] = {}

    def bind(self, name: str, title: str | None = None) -> TensorRef:
        """The TensorRef of a name that is made here; `title` is what it is called outside."""
        meta = item(self.metas, name, dict)
        shape = self.symbols.shape(item(meta, "sizes", list))
        ref = TensorRef(title or f"{self.prefix}{name}", shape, DTYPES[scalar_type(meta.get("dtype"))])
        self.tensors[name] = ref
        return ref

    def tensor(self, obj: Any) -> TensorRef:
        """The tensor that a TensorArgument names."""
        name = item(obj, "name", str)
        if name not in self.tensors:
            raise Malformed(f"tensor {name[:80]!r} is read before it is made")
        return self.tensors[name]

    def sym_int(self, name: str) -> Size:
        return self.symbols.size(item(self.sym_ints, name, dict), name)

    def sym_float(self, name: str) -> Size | float | None:
        return self.symbols.number(item(self.sym_floats, name, dict), name)


def read_calls(graph: Json, scope: Scope) -> tuple[tuple[Call, ...], list[TensorRef]]:
    """The calls of a graph whose inputs are bound, and its outputs."""
    found: list[tuple[str, Call]] = []
    for index, node in enumerate(item(graph, "nodes", list)):
        target = item(node, "target", str).removeprefix("torch.ops.")
        try:
            args, kwargs = _arguments(node, target, scope)
            if shares := equal_parts(target, args):
                scope.symbols.rename({**scope.symbols.names, **shares})
                scope.symbols.warnings.append(parts_warning(target))
                args, kwargs = _arguments(node, target, scope)
            _bound_sizes(node, target, args, scope)
            outs = tuple(_outs(item(node, "outputs", list), scope))
            if not node["outputs"] and not target.startswith(_SILENT):
                scope.symbols.warnings.append(f"{target} gives nothing; what it writes is not told, nor what it costs")
            if outs or not _is_size_arithmetic(node):
                found.append((_module_path(node), Call(target, args, kwargs, outs, "")))
        except Malformed as error:
            raise Malformed(f"node {index} ({target[:60]}): {error}") from error
    names = call_names([(path, call.target.partition(".")[2].partition(".")[0]) for path, call in found])
    calls = tuple(replace(call, name=name) for (_, call), name in zip(found, names, strict=True))
    return calls, [ref for out in item(graph, "outputs", list) for ref in _refs(argument(out, scope))]


_SILENT = ("aten.", "higher_order.", "prims.", "profiler.", "inductor.")  # what gives nothing there checks or marks


def _is_size_arithmetic(node: Json) -> bool:
    """Whether a node gives numbers only; the sizes already hold them."""
    return bool(node["outputs"]) and not node["target"].startswith("torch.ops.higher_order")


def _bound_sizes(node: Json, target: str, args: tuple[Argument, ...], scope: Scope) -> None:
    """Sizes that a node brings in and that depend on data are bounded by their maximum, where its operator tells."""
    most = most_of(target, args[0].shape) if args and isinstance(args[0], TensorRef) else None
    if most is None:
        return
    for output in item(node, "outputs", list):
        for name in _made_names(output):
            if scope.symbols.bound(optional(scope.metas, name, dict, {}).get("sizes"), most):
                scope.symbols.warnings.append(bound_warning(target))


def _made_names(output: Any) -> Iterator[str]:
    """The names in an output."""
    if isinstance(output, dict) and isinstance(output.get("name"), str):
        yield output["name"]
    elif isinstance(output, (dict, list)):
        for inner in output.values() if isinstance(output, dict) else output:
            yield from _made_names(inner)


def _outs(outputs: list[Any], scope: Scope) -> Iterator[TensorRef | None]:
    """The tensors that a node gives, flat. Numbers are left out."""
    for output in outputs:
        member, content = union(output, "an output")
        if "tensor" in member:
            yield from _made(content, scope)
        elif member == "as_none":
            yield None


def _made(content: Any, scope: Scope) -> Iterator[TensorRef | None]:
    """The tensors in an output: names, lists of them, or unions with None."""
    if isinstance(content, list):
        for inner in content:
            yield from _made(inner, scope)
    elif isinstance(content, dict) and "name" in content:
        yield scope.bind(item(content, "name", str))
    else:
        member, inner = union(content, "an output")
        yield from (None,) if member == "as_none" else _made(inner, scope)


def _module_path(node: Json) -> str:
    """The path of the innermost module that made a call: ``key,path,type`` of the last entry; ``@1`` is taken off."""
    stack = optional(optional(node, "metadata", dict, {}), "nn_module_stack", str, "")
    fields = stack.rpartition(";")[2].split(",")
    path = fields[1] if len(fields) > 2 else ""
    return ".".join(part.partition("@")[0] for part in path.removeprefix("L['self'].").split("."))


def _arguments(node: Json, target: str, scope: Scope) -> tuple[tuple[Argument, ...], dict[str, Argument]]:
    args: list[Argument] = []
    kwargs: dict[str, Argument] = {}
    for given in item(node, "inputs", list):
        value = argument(item(given, "arg", dict), scope)
        name = optional(given, "name", str, "")
        if _is_keyword(given.get("kind"), name, target):
            kwargs[name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def _is_keyword(kind: Any, name: str, target: str) -> bool:
    if kind in (1, KEYWORD):
        return bool(kind == KEYWORD)
    return name in _KEYWORD_ONLY and not (name == "dtype" and target.startswith(_POSITIONAL_DTYPE))


def _refs(value: Argument) -> Iterator[TensorRef]:
    if isinstance(value, TensorRef):
        yield value
    elif isinstance(value, tuple):
        for inner in value:
            yield from _refs(inner)


# ---- arguments ------------------------------------------------------------------------------------------------------


def argument(obj: Any, scope: Scope) -> Argument:
    """The value of one argument."""
    member, content = union(obj, "an argument")
    if member not in _ARGUMENTS:
        raise Malformed(f"an argument of type {member[:40]!r}")
    return _ARGUMENTS[member](content, scope)


def _each(read: Callable[[Any, Scope], Argument]) -> Callable[[Any, Scope], Argument]:
    return lambda content, scope: tuple(read(inner, scope) for inner in checked(content, list, "an argument"))


def _tensor(content: Any, scope: Scope) -> Argument:
    return scope.tensor(content)


def _integer(content: Any, scope: Scope) -> Argument:
    return integer(content)


def _real(content: Any, scope: Scope) -> Argument:
    return real(content)


def _text(content: Any, scope: Scope) -> Argument:
    return checked(content, str, "an argument")


def _flag(content: Any, scope: Scope) -> Argument:
    return checked(content, bool, "an argument")


def _nothing(content: Any, scope: Scope) -> Argument:
    return None


def _sym_int(content: Any, scope: Scope) -> Argument:
    member, value = union(content, "a size")
    return scope.sym_int(checked(value, str, "a name")) if member == "as_name" else integer(value, "a size")


def _sym_float(content: Any, scope: Scope) -> Argument:
    member, value = union(content, "a number")
    return scope.sym_float(checked(value, str, "a name")) if member == "as_name" else real(value)


def _sym_bool(content: Any, scope: Scope) -> Argument:
    member, value = union(content, "a flag")
    return None if member == "as_name" else checked(value, bool, "a flag")


def _optional_tensor(content: Any, scope: Scope) -> Argument:
    member, value = union(content, "a tensor")
    return scope.tensor(value) if member == "as_tensor" else None


def _device(content: Any, scope: Scope) -> Argument:
    kind, index = item(content, "type", str), content.get("index")
    return kind if index is None else f"{kind}:{integer(index, 'a device')}"


def _complex(content: Any, scope: Scope) -> Argument:
    return real(content.get("real") if isinstance(content, dict) else content)


def _by_name(content: Any, scope: Scope) -> Argument:
    return {name: argument(value, scope) for name, value in checked(content, dict, "an argument").items()}


def _graph(content: Any, scope: Scope) -> Program:
    """The body of a higher-order operator; an operand that is no tensor has a nameless place among its inputs."""
    name = item(content, "name", str)
    graph = item(content, "graph", dict)
    inner = Scope(graph, scope.symbols, f"{scope.prefix}{name}.", scope.depth + 1)
    inputs = [_operand(obj, inner) for obj in item(graph, "inputs", list)]
    calls, outputs = read_calls(graph, inner)
    return Program(name, tuple(inputs), {}, calls, tuple(ref.name for ref in outputs))


def _operand(obj: Any, scope: Scope) -> TensorRef:
    member, content = union(obj, "an input")
    return scope.bind(item(content, "name", str)) if member == "as_tensor" else TensorRef("", (), "fp32")


_ARGUMENTS: dict[str, Callable[[Any, Scope], Argument]] = {
    "as_none": _nothing,
    "as_tensor": _tensor,
    "as_tensors": _each(_tensor),
    "as_nested_tensors": _each(_each(_tensor)),
    "as_optional_tensor": _optional_tensor,
    "as_optional_tensors": _each(_optional_tensor),
    "as_int": _integer,
    "as_ints": _each(_integer),
    "as_int_lists": _each(_each(_integer)),
    "as_float": _real,
    "as_floats": _each(_real),
    "as_float_lists": _each(_each(_real)),
    "as_string": _text,
    "as_strings": _each(_text),
    "as_bool": _flag,
    "as_bools": _each(_flag),
    "as_sym_int": _sym_int,
    "as_sym_ints": _each(_sym_int),
    "as_sym_float": _sym_float,
    "as_sym_floats": _each(_sym_float),
    "as_sym_bool": _sym_bool,
    "as_sym_bools": _each(_sym_bool),
    "as_scalar_type": lambda content, scope: f"torch.{scalar_type(content)}",
    "as_memory_format": lambda content, scope: choice(MEMORY_FORMATS, content, "memory format"),
    "as_layout": lambda content, scope: choice(LAYOUTS, content, "layout"),
    "as_device": _device,
    "as_complex": _complex,
    "as_graph": _graph,
    "as_custom_obj": _nothing,
    "as_operator": _text,
    "as_string_to_argument": _by_name,
}
"""Member of the Argument union -> how it is read."""
