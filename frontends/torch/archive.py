"""``.pt2`` archives of torch.export.save -> a `Program`, without torch: the graph is JSON, the weights are not read.

The JSON follows torch's serialization schema (schema.py). Names of tensors: parameters and buffers have the names that
the module gives them, everything else those of the graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from wattir.dims import Dim, Size, symbol
from wattir.errors import ModelFileError
from wattir.frontends.torch.archive_file import ArchiveFile, read_file
from wattir.frontends.torch.archive_graph import Scope, read_calls
from wattir.frontends.torch.naming import dim_names
from wattir.frontends.torch.program import Program, TensorRef
from wattir.frontends.torch.schema import Json, Malformed, Symbols, checked, item, optional, union

VERSIONS = range(5, 9)
"""Major versions of torch's serialization schema that are read: torch 2.3 to 2.13."""

_CONSTANTS: dict[str, Any] = {"as_int": int, "as_float": (int, float), "as_bool": bool}
_ROLES = {"parameter": "weight", "buffer": "constant", "tensor_constant": "constant"}


def read_archive(path: str | os.PathLike[str]) -> Program:
    """The Program of a ``.pt2`` file. Raises ModelFileError: where, what was found, what was expected."""
    place = os.fspath(path)
    found = read_file(place)
    try:
        return _Archive(found, PurePath(place).stem).program()
    except Malformed as error:
        raise ModelFileError(f"{place}: {error}; expected the JSON of torch.export.save") from error
    except RecursionError as error:
        raise ModelFileError(f"{place}: graphs nested too deep; expected the JSON of torch.export.save") from error


class _Archive:
    """One program: its signature and sizes first, then its graph."""

    def __init__(self, file: ArchiveFile, name: str) -> None:
        self.name = name
        _check_version(item(file.program, "schema_version", dict))
        module = item(file.program, "graph_module", dict)
        self.graph = item(module, "graph", dict)
        self.specs = [union(spec, "an input") for spec in item(item(module, "signature", dict), "input_specs", list)]
        self.metas = item(self.graph, "tensor_values", dict)
        self.shared = dict(_shared(file.weights))
        self.symbols = Symbols()
        if any(_on_meta(meta) for meta in self.metas.values() if isinstance(meta, dict)):
            self.symbols.warnings.append(
                "saved from meta tensors: which weights are tied is not known, none is taken so"
            )
        self.sizes = self._name_dims()

    def program(self) -> Program:
        scope = Scope(self.graph, self.symbols)
        inputs: list[TensorRef] = []
        held: dict[str, TensorRef] = {}
        roles: dict[str, str] = {}
        for kind, spec in self.specs:
            ref = self._input(scope, kind, spec)
            if ref is not None and kind in _ROLES:
                held.setdefault(ref.name, ref)
                roles[ref.name] = _ROLES[kind]
            elif ref is not None:
                inputs.append(ref)
        calls, outputs = read_calls(self.graph, scope)
        names = tuple(dict.fromkeys(ref.name for ref in outputs))
        batch = "batch" if "batch" in self.sizes else None
        warnings = tuple(dict.fromkeys(self.symbols.warnings))
        return Program(self.name, tuple(inputs), roles, calls, names, tuple(held.values()), self.sizes, batch, warnings)

    def _input(self, scope: Scope, kind: str, spec: Any) -> TensorRef | None:
        """Binds the placeholder of one input; None where it is no tensor."""
        if kind == "constant_input":
            scope.plain[item(spec, "name", str)] = _constant(item(spec, "value", dict))
            return None
        if kind not in _ROLES:
            return _user_input(scope, item(spec, "arg", dict)) if kind == "user_input" else None
        placeholder = item(item(spec, "arg", dict), "name", str)
        title = item(spec, f"{kind}_name", str)
        return scope.bind(placeholder, self.shared.get(title, title))

    def _name_dims(self) -> dict[str, int | None]:
        """Gives the symbols that are sizes of inputs readable names; name -> default, the size of the example."""
        shapes = [(name, [_symbol(size) for size in sizes]) for name, sizes in self._input_sizes()]
        names = dim_names(shapes)
        self.symbols.rename({raw: symbol(name) for raw, name in names.items()})
        found: dict[str, int | None] = {}
        for _, sizes in self._input_sizes():
            for size in sizes:
                raw = _symbol(size)
                if raw is not None:
                    found[str(symbol(names[raw]))] = _hint(size)
        return found

    def _input_sizes(self) -> Iterator[tuple[str, list[Any]]]:
        for kind, spec in self.specs:
            member, arg = union(item(spec, "arg", dict), "an input") if kind == "user_input" else ("", None)
            if member == "as_tensor":
                name = item(arg, "name", str)
                yield name, item(item(self.metas, name, dict), "sizes", list)


def _check_version(version: Json) -> None:
    major = item(version, "major", int)
    if major not in VERSIONS:
        raise Malformed(f"schema version {major}, where {VERSIONS.start} to {VERSIONS.stop - 1} are known")


def _user_input(scope: Scope, arg: Json) -> TensorRef | None:
    member, content = union(arg, "an input")
    return scope.bind(item(content, "name", str)) if member == "as_tensor" else None


def _constant(value: Json) -> Any:
    member, content = union(value, "a constant")
    return None if member == "as_none" else checked(content, _CONSTANTS.get(member, str), "a constant")


def _shared(config: Json) -> Iterator[tuple[str, str]]:
    """Parameter -> the first that lies in the same place with the same shape (tied weights)."""
    first: dict[str, str] = {}
    for name, entry in optional(config, "config", dict, {}).items():
        meta = entry.get("tensor_meta") if isinstance(entry, dict) else None
        if isinstance(meta, dict) and not _on_meta(meta):
            place = repr((entry.get("path_name"), *(meta.get(k) for k in ("sizes", "strides", "storage_offset"))))
            yield name, first.setdefault(place, name)


def _on_meta(meta: Json) -> bool:
    """Whether a tensor was saved from the meta device: all of them then lie in the same place."""
    device = meta.get("device")
    return isinstance(device, dict) and device.get("type") == "meta"


def _symbol(size: Any) -> str | None:
    """The name of a size that is one symbol."""
    if not isinstance(size, dict) or not isinstance(size.get("as_expr"), dict):
        return None
    found: Size = Symbols().size(size)
    return str(found) if isinstance(found, Dim) and str(found).isidentifier() else None


def _hint(size: Json) -> int | None:
    hint = size["as_expr"].get("hint")
    value = hint.get("as_int") if isinstance(hint, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
