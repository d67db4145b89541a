"""Reads an exported program with the MLIR bindings of jaxlib, in a process of its own, and prints it as JSON.

    python mlir_process.py PATH

MLIR may abort on damaged bytecode, which then ends this process alone. Only what a lowering needs is printed: of
constants the number they are full of, or up to `FEW` whole numbers, never their content.

    {"functions": {name: {"args": [[name, type, {attr}]], "body": [op...]}}, "main": name,
     "avals": [[size...]...], "platforms": [name...]}
    op: [name, [operand...], [result...], [type...], {attr}, [region...], label]
    region: {"args": [id...], "types": [type...], "body": [op...]}
    type: [[size or null, ...], element]
"""

from __future__ import annotations

import json
import mmap
import re
import sys
from typing import Any

FEW = 64
LONG = 4096  # characters
BYTECODE = b"ML\xefR"
MARK = b"\xa5"
"""All bytes of a constant whose content `wattir.frontends.jax.light_bytecode` left out."""


def main(path: str) -> None:
    """Prints the program, or one line `error: ...` and exit code 3."""
    try:
        print(json.dumps(Reader(path).program(), separators=(",", ":")))
    except Exception as error:  # MLIR's own errors, and whatever a damaged file does to the reader
        lines = str(error).splitlines() or [type(error).__name__]
        print(f"error: {next((line for line in lines if 'error' in line), lines[0])[:300]}")
        sys.exit(3)


class Reader:
    """One file: which form it has, its module, its functions."""

    def __init__(self, path: str) -> None:
        from jaxlib.mlir import ir
        from jaxlib.mlir._mlir_libs import _jax_mlir_ext
        from jaxlib.mlir.dialects import chlo, mhlo, sdy, stablehlo

        self.ir, self.stablehlo = ir, stablehlo
        self.context = ir.Context()
        registry = ir.DialectRegistry()
        _jax_mlir_ext.register_dialects(registry)
        self.context.append_dialect_registry(registry)
        self.context.load_all_available_dialects()
        for dialect in (sdy, chlo, stablehlo):
            dialect.register_dialect(self.context)
        mhlo.register_mhlo_dialect(self.context)
        self.context.allow_unregistered_dialects = True
        self.avals: list[list[str]] | None = None
        self.platforms: list[str] = []
        self.types: dict[Any, Any] = {}
        with self.context, ir.Location.unknown():
            self.module = self._parse(path)

    def _parse(self, path: str) -> Any:
        with open(path, "rb") as file:
            data = file.read(64)
            if path.lower().endswith(".jaxexport") or (b"\x00" in data and data[:4] != BYTECODE):
                return self._exported(path)
            data += file.read()
        return self._bytecode(data) if data[:4] == BYTECODE else self.ir.Module.parse(data.decode("utf-8"))

    def _bytecode(self, data: bytes) -> Any:
        found: Any
        try:
            found = self.stablehlo.deserialize_portable_artifact(self.context, data)
        except Exception:  # plain bytecode, not a portable artifact
            found = data
        return found if isinstance(found, self.ir.Module) else self.ir.Module.parse(found)

    def _exported(self, path: str) -> Any:
        from jax import export

        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            exported = export.deserialize(view)  # type: ignore[arg-type]  # any buffer will do
        self.avals = [[str(size) for size in aval.shape] for aval in exported.in_avals]
        self.platforms = list(exported.platforms)
        return self._bytecode(exported.mlir_module_serialized)

    # ---- the program as plain data ---------------------------------------------------------------------------------

    def program(self) -> dict[str, Any]:
        functions: dict[str, Any] = {}
        for op in self.module.body.operations:
            if op.operation.name == "func.func":
                functions[op.attributes["sym_name"].value] = self._function(op)
        main = "main" if "main" in functions else next(iter(functions), "")
        return {"functions": functions, "main": main, "avals": self.avals, "platforms": self.platforms}

    def _function(self, op: Any) -> dict[str, Any]:
        if not op.regions[0].blocks:
            return {"args": [], "body": []}
        block = op.regions[0].blocks[0]
        ids: dict[Any, int] = {}
        attrs = _attribute(op, "arg_attrs")
        args = []
        for place, argument in enumerate(block.arguments):
            ids[argument] = len(ids)
            extra = self._attributes(attrs[place]) if attrs is not None else {}
            args.append([_label(argument.location), self._type(argument.type), extra])
        return {"args": args, "body": self._body(block, ids)}

    def _body(self, block: Any, ids: dict[Any, int]) -> list[Any]:
        return [self._op(op.operation, ids) for op in block.operations]

    def _op(self, op: Any, ids: dict[Any, int]) -> list[Any]:
        operands = [ids[value] for value in op.operands]
        regions = [self._region(region, ids) for region in op.regions]
        results = []
        for result in op.results:
            ids[result] = len(ids)
            results.append(ids[result])
        types = [self._type(result.type) for result in op.results]
        attrs = self._constant(op) if op.name.endswith(".constant") else self._attributes(op.attributes)
        return [op.name, operands, results, types, attrs, regions, _label(op.location)]

    def _region(self, region: Any, ids: dict[Any, int]) -> dict[str, Any]:
        if not region.blocks:
            return {"args": [], "types": [], "body": []}
        block = region.blocks[0]
        args = []
        for argument in block.arguments:
            ids[argument] = len(ids)
            args.append(ids[argument])
        return {"args": args, "types": [self._type(a.type) for a in block.arguments], "body": self._body(block, ids)}

    def _type(self, kind: Any) -> Any:
        found = self.types.get(kind)
        if found is None:
            found = self.types[kind] = self._new_type(kind)
        return found

    def _new_type(self, kind: Any) -> Any:
        if not isinstance(kind, self.ir.RankedTensorType):
            return [[], str(kind)[:80]]
        shape = [None if kind.is_dynamic_dim(i) else kind.get_dim_size(i) for i in range(kind.rank)]
        return [shape, str(kind.element_type)[:80]]

    # ---- attributes ------------------------------------------------------------------------------------------------

    def _constant(self, op: Any) -> dict[str, Any]:
        try:
            return {"value": self._content(_attribute(op, "value"))}
        except Exception:  # a type that the bindings do not read: bf16, float8, complex, a resource
            return {"value": None}

    def _content(self, value: Any) -> Any:
        if not isinstance(value, (self.ir.DenseIntElementsAttr, self.ir.DenseFPElementsAttr)):
            return None
        if value.is_splat:
            return None if value == self._cut(value.type) else _plain(value.get_splat_value())
        if len(value) <= FEW and isinstance(value, self.ir.DenseIntElementsAttr):
            return [int(value[place]) for place in range(len(value))]
        return None

    def _cut(self, kind: Any) -> Any:
        """The constant of a type whose content was left out; `ir.Attribute` values that are equal are the same."""
        bits = int((re.search(r"\d+", str(kind.element_type)) or ["64"])[0])
        width = max(bits // 8, 1) * (2 if "complex" in str(kind.element_type) else 1)
        return self.ir.Attribute.parse(f'dense<"0x{(MARK * width).hex()}"> : {kind}', self.context)

    def _attributes(self, attributes: Any) -> dict[str, Any]:
        named = ((attributes[i].name, attributes[i].attr) for i in range(len(attributes)))
        return {
            name: self._attribute(value) for name, value in named if name != "backend_config" or self._is_short(value)
        }

    def _is_short(self, value: Any) -> bool:
        """What a library's kernel is told, not the kernel itself, which some calls carry."""
        return isinstance(value, self.ir.StringAttr) and len(value.value) <= LONG

    def _attribute(self, value: Any) -> Any:
        ir = self.ir
        if isinstance(value, (ir.IntegerAttr, ir.BoolAttr, ir.FloatAttr, ir.StringAttr, ir.FlatSymbolRefAttr)):
            return _plain(value)
        if isinstance(value, (ir.DenseI64ArrayAttr, ir.DenseBoolArrayAttr, ir.DenseI32ArrayAttr)):
            return list(value)
        if isinstance(value, ir.DenseIntElementsAttr):
            return {"shape": list(ir.ShapedType(value.type).shape), "items": self._items(value)}
        if isinstance(value, ir.DictAttr):
            return self._attributes(value)
        if isinstance(value, ir.ArrayAttr):
            return [self._attribute(item) for item in value]
        if isinstance(value, ir.DenseElementsAttr):
            return None
        return str(value)[:2000]

    def _items(self, value: Any) -> Any:
        if not len(value):
            return []
        is_few = value.is_splat and len(value) <= FEW
        return [int(value.get_splat_value().value)] * len(value) if is_few else self._content(value)


def _attribute(op: Any, name: str) -> Any:
    """An attribute or None; the mapping of the bindings has no `get` before jaxlib 0.10."""
    return op.attributes[name] if name in op.attributes else None  # noqa: SIM401


def _plain(value: Any) -> Any:
    plain = getattr(value, "value", value)
    return plain if isinstance(plain, (int, float, bool, str)) else str(plain)


def _label(location: Any) -> str:
    """The name in a location: ``loc("jit(f)/block/add"(...))``."""
    found = re.match(r'loc\("((?:[^"\\]|\\.)*)"(?!:\d)', str(location)[:1000])
    return found.group(1) if found else ""


if __name__ == "__main__":
    main(sys.argv[1])
