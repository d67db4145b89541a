"""A graph as text and back: the form of golden files and of ``.wattir`` files.

    graph resnet50
    params 25557032
    size batch = 1
    batch batch
    warning ...
    input %data : fp32[batch, 3, 224, 224]
    weight %conv1.w : fp32[64, 3, 7, 7]
    %conv1 : fp32[batch, 64, 112, 112] = conv(%data, %conv1.w) batch=batch kernel=[7, 7] ... | conv1 | Conv
    output %fc

An op's line ends with its name and its source; a trip count stands before the kind as ``24 x``. Names hold no blanks
or special characters: anything outside ``[A-Za-z0-9_.~:/+-]`` is written as ``%XX``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from wattir.dim_text import parse
from wattir.dims import Size
from wattir.errors import ModelFileError, WattirError
from wattir.ir import Graph, Op, Tensor
from wattir.kinds import DTYPE_BYTES, KINDS, ROLES

_SAFE = "~:/-+"
_ROLE_LINES = {"input": "input", "weight": "weight", "constant": "constant", "state": "state"}
_TENSOR = re.compile(r"%(\S+) : (\w+)\[(.*?)\]")
_ATTR = re.compile(r"(\w+)=([^=|]*?)(?= \w+=|$)")


def graph_text(graph: Graph) -> str:
    """The text of a graph, one line an op, ending in a newline."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"graph {_quoted(graph.name)}"
    yield f"params {graph.params}"
    yield from (f"size {name} = {'?' if value is None else value}" for name, value in graph.sizes.items())
    if graph.batch is not None:
        yield f"batch {graph.batch}"
    yield from (f"warning {' '.join(line.split())}" for line in graph.warnings)
    made = {name for op in graph.ops for name in op.outs}
    for name, tensor in graph.tensors.items():
        if name not in made:
            yield f"{_ROLE_LINES.get(tensor.role, 'value')} {_tensor(name, tensor)}"
    yield from (_op_line(op, graph) for op in graph.ops)
    yield from (f"output %{_quoted(name)}" for name in graph.outputs)


def _op_line(op: Op, graph: Graph) -> str:
    outs = ", ".join(_out(name, graph.tensors[name]) for name in op.outs)
    ins = ", ".join("%" + _quoted(name) for name in op.ins)
    times = "" if op.times == 1 else f"{op.times} x "
    attrs = "".join(f" {name}={_attr(value)}" for name, value in op.attrs.items())
    return f"{outs} = {times}{op.kind}({ins}){attrs} | {_quoted(op.name)} | {_quoted(op.source)}"


def _tensor(name: str, tensor: Tensor) -> str:
    return f"%{_quoted(name)} : {tensor.dtype}[{', '.join(str(size) for size in tensor.shape)}]"


def _out(name: str, tensor: Tensor) -> str:
    role = "" if tensor.role == "value" else tensor.role + " "
    return role + _tensor(name, tensor)


def _attr(value: Any) -> str:
    if isinstance(value, str):
        return f'"{_quoted(value)}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(str(size) for size in value) + "]"
    return str(value)


def _quoted(text: str) -> str:
    return quote(text, safe=_SAFE)


def parse_graph(text: str, where: str) -> Graph:
    """The graph of a text; ModelFileError names file and line of what is wrong."""
    reader = _Reader(where)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            reader.read(number, line)
    return reader.graph()


class _Reader:
    """Reads line by line; each kind of line has a method of its own name."""

    def __init__(self, where: str) -> None:
        self.where, self.number = where, 0
        self.name = ""
        self.params: Size = 0
        self.batch: str | None = None
        self.sizes: dict[str, int | None] = {}
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.warnings: list[str] = []

    def read(self, number: int, line: str) -> None:
        self.number = number
        word, _, rest = line.partition(" ")
        made = word.startswith("%") or (word in ROLES and " = " in rest)  # an op may write state
        method = _Reader.op if made else _LINES.get(word)
        try:
            if method is None:
                raise self.wrong(line, "a line of a graph")
            method(self, line if made else rest)
        except ModelFileError:
            raise
        except (WattirError, ValueError, RecursionError) as error:
            raise self.wrong(line, f"a line of a graph ({error})") from None

    def wrong(self, found: str, expected: str) -> ModelFileError:
        return ModelFileError(f"{self.where}: line {self.number}: found {found[:80]!r}; expected {expected}")

    def graph_line(self, rest: str) -> None:
        self.name = unquote(rest)

    def params_line(self, rest: str) -> None:
        self.params = _size(rest)

    def size_line(self, rest: str) -> None:
        name, _, value = rest.partition(" = ")
        self.sizes[name] = None if value == "?" else int(value)

    def batch_line(self, rest: str) -> None:
        self.batch = rest

    def warning_line(self, rest: str) -> None:
        self.warnings.append(rest)

    def output_line(self, rest: str) -> None:
        self.outputs.append(self.known(unquote(rest.removeprefix("%"))))

    def given(self, role: str, rest: str) -> None:
        name = self.declare(rest, role)
        if role in ("input", "state"):
            self.inputs.append(name)

    def declare(self, text: str, role: str) -> str:
        found = _TENSOR.fullmatch(text.strip())
        if found is None:
            raise self.wrong(text, "%name : dtype[size, ...]")
        name, dtype, shape = unquote(found[1]), found[2], found[3]
        if dtype not in DTYPE_BYTES:
            raise self.wrong(dtype, "a dtype such as fp32")
        if name in self.tensors:
            raise self.wrong(name, "every tensor made once")
        self.tensors[name] = Tensor(_sizes(shape), dtype, role)
        return name

    def known(self, name: str) -> str:
        if name not in self.tensors:
            raise self.wrong(name, "a tensor that an earlier line makes")
        return name

    def op(self, line: str) -> None:
        left, _, right = line.partition(" = ")
        parts = right.rsplit(" | ", 2)
        head = re.match(r"(?:(.+) x )?(\w+)\(([^()]*)\)(.*)$", parts[0])
        if len(parts) != 3 or head is None or head[2] not in KINDS:
            raise self.wrong(right, "kind(%in, ...) attributes | name | source")
        ins = tuple(self.known(unquote(i.strip()[1:])) for i in head[3].split(",") if i.strip())
        attrs = {found[1]: _value(found[2]) for found in _ATTR.finditer(head[4].strip())}
        outs = tuple(self.out(text) for text in re.split(r", (?=(?:\w+ )?%)", left))
        times = _size(head[1]) if head[1] else 1
        self.ops.append(Op(head[2], ins, outs, unquote(parts[1]), unquote(parts[2]), attrs, times))

    def out(self, text: str) -> str:
        role, _, rest = text.partition(" ")
        return self.declare(rest, role) if role in ROLES else self.declare(text, "value")

    def graph(self) -> Graph:
        if not self.ops:
            raise ModelFileError(f"{self.where}: no op in it; expected a graph")
        return Graph(
            self.name, self.tensors, tuple(self.ops), tuple(self.inputs), tuple(self.outputs), self.sizes, self.batch,
            self.params, tuple(self.warnings),
        )  # fmt: skip


_LINES: dict[str, Any] = {
    "graph": _Reader.graph_line,
    "params": _Reader.params_line,
    "size": _Reader.size_line,
    "batch": _Reader.batch_line,
    "warning": _Reader.warning_line,
    "output": _Reader.output_line,
    **{word: (lambda self, rest, role=role: self.given(role, rest)) for role, word in _ROLE_LINES.items()},
    "value": lambda self, rest: self.given("value", rest),
}


@lru_cache(maxsize=4096)
def _size(text: str) -> Size:
    return int(text) if text.isdigit() else parse(text)


@lru_cache(maxsize=4096)
def _sizes(text: str) -> tuple[Size, ...]:
    return tuple(_size(part.strip()) for part in re.split(r",(?![^()]*\))", text) if part.strip())


@lru_cache(maxsize=4096)
def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    if text.startswith('"'):
        return unquote(text[1:-1])
    if text.startswith("["):
        return _sizes(text[1:-1])
    return _size(text)
