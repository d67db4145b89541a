"""From a path to an `onnx.ModelProto` without weights, checked so that what follows need not doubt it.

`read` steps over the weights (wire.py), then checks and normalises in place:

- names are UTF-8, defined once and before their use; nodes that are out of order are sorted, with a warning;
- dims are plausible, payloads fit dims and data type, external data stays in the folder of the model;
- functions do not recurse; there is a graph with nodes, and an opset for the default domain;
- an initializer that is also a graph input (all are, before IR 4) is no input; training info is gone.

A tensor whose data is not in the model (stripped, external or absent) is what `has_data` is false for.
Nothing is executed or unpickled; of other files only small tensors in the model's external data are read.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no stubs

from .order import nodes_in, settle_model
from .tensors import AGAIN, Source, check_sparse, check_tensor, check_type, has_data, short, text
from .wire import KEEP_BYTES, Buffer, light_copy, refused

__all__ = ["Loaded", "has_data", "load_bytes", "read"]

OLDEST_OPSET = 7
DEFAULT_DOMAINS = ("", "ai.onnx")
HEAD_BYTES = 512
TEXT = frozenset(b"\t\n\r") | frozenset(range(32, 127))
AN_ONNX_FILE = "a binary ONNX model"

# Offset, bytes, what such a file is, what to do with it.
MAGIC = (
    (0, b"version https://git-lfs", "a git-lfs pointer, not the model", "run `git lfs pull`"),
    (0, b"PK\x03\x04", "a zip archive (PyTorch .pt, .pth and .pt2 are)", "export to ONNX, or unpack the model"),
    (0, b"\x80\x02", "a Python pickle (a PyTorch checkpoint is)", "export to ONNX"),
    (0, b"\x80\x03", "a Python pickle", "export to ONNX"),
    (0, b"\x80\x04", "a Python pickle", "export to ONNX"),
    (0, b"\x80\x05", "a Python pickle", "export to ONNX"),
    (0, b"\x89HDF", "an HDF5 file (Keras .h5 is)", "export to ONNX"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"GGUF", "a GGUF file", "export the original model to ONNX"),
    (0, b"\x93NUMPY", "a NumPy array", "give the model"),
    (0, b"%PDF", "a PDF document", "give the model"),
    (2, b"\0\0TFL3", "a TensorFlow Lite model", "convert it to ONNX"),
    (2, b"\0\0ORTM", "a model in onnxruntime's own format", "give the ONNX file it was made from"),
    (6, b'\0\0{"', "a safetensors file, weights only", "export the model to ONNX"),
    (0, b"ir_version", "an ONNX model as text", "save it in binary form"),
    (0, b"<?xml", "an XML file (OpenVINO models are)", "export to ONNX"),
    (0, b"<", "an HTML or XML page, perhaps of a failed download", "download the file again"),
    (0, b"{", "a JSON file", "give the binary model"),
)


@dataclass(frozen=True)
class Loaded:
    """A model without weights: `path` as given, `warnings` one line each."""

    model: onnx.ModelProto
    path: str
    warnings: tuple[str, ...]


def read(path: str | os.PathLike[str], keep_bytes: int = KEEP_BYTES) -> Loaded:
    """The model in the file `path`; tensors of more than `keep_bytes` lose their payload (see wire.py).

    Raises ModelFileError, one line naming the path, for all that is wrong with the file. The file is mapped: it must
    not be cut short meanwhile.
    """
    label = os.fsdecode(path)
    with _mapped(label) as buffer:
        return _load(buffer, _source(label), keep_bytes)


def load_bytes(data: bytes, label: str = "model", keep_bytes: int = KEEP_BYTES) -> Loaded:
    """As `read`, for a serialized model; links of external data are not looked at."""
    return _load(data, Source(label), keep_bytes)


def _source(path: str) -> Source:
    """A model that is itself a link, as in the cache of a hub, has its data beside where it really is, too."""
    folder = os.path.dirname(os.path.abspath(path))
    return Source(path, folder, (os.path.realpath(folder), os.path.dirname(os.path.realpath(path))))


def _mapped(path: str) -> mmap.mmap:
    """A read-only memory map of a plain file that is not empty."""
    try:
        _check_plain(path)  # before it is opened: opening a named pipe would wait for ever
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refused(path, f"cannot be read ({reason})", AN_ONNX_FILE, "check the path") from error


def _check_plain(path: str) -> None:
    """Raises where `path` is missing, empty or no plain file."""
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise refused(path, "no such file", AN_ONNX_FILE, "check the path") from error
    if stat.S_ISDIR(found.st_mode):
        raise refused(path, "a folder", AN_ONNX_FILE, "give the file in it")
    if not stat.S_ISREG(found.st_mode):
        raise refused(path, "not a plain file", AN_ONNX_FILE, "check the path")
    _check_size(found.st_size, path)


def _check_size(size: int, label: str) -> None:
    if not size:
        raise refused(label, "empty", AN_ONNX_FILE, "download or export the file again")


def _load(buffer: Buffer, source: Source, keep_bytes: int) -> Loaded:
    """Copies, parses and checks."""
    _check_size(len(buffer), source.label)
    _check_head(buffer[:HEAD_BYTES], source.label)
    model = _parsed(light_copy(buffer, source.label, keep_bytes), source.label)
    _check_model(model, source)
    _check_opsets(model, source)
    settle_model(model, source)
    _check_types(model, source)
    _check_tensors(source)
    _drop_constant_inputs(model.graph)
    return Loaded(model, source.label, tuple(source.notes))


def _check_head(head: bytes, label: str) -> None:
    """Names the common other formats by their first bytes."""
    for offset, magic, found, advice in MAGIC:
        if head.startswith(magic, offset):
            raise refused(label, found, AN_ONNX_FILE, advice)
    if TEXT.issuperset(head):
        raise refused(label, "a text file", AN_ONNX_FILE, "give the model")


def _parsed(data: bytes, label: str) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        reason = short(str(error).splitlines()[0] if str(error) else "")
        raise refused(label, f"protobuf cannot parse it: {reason}", AN_ONNX_FILE, AGAIN) from error
    return model


def _check_model(model: onnx.ModelProto, source: Source) -> None:
    """There is a version and a graph that does something."""
    if not model.HasField("ir_version") or not model.HasField("graph"):
        lacks = "ir_version" if model.HasField("graph") else "graph"
        raise refused(source.label, f"protobuf without an ONNX {lacks}", AN_ONNX_FILE, "check which file this is")
    if not model.graph.node:
        raise refused(source.label, "a graph without nodes", "a network", AGAIN)
    if model.ir_version < 1:
        raise refused(source.label, f"IR version {model.ir_version}", f"1 to {onnx.IR_VERSION}", AGAIN)
    if model.ir_version > onnx.IR_VERSION:
        newest = f"the newest that onnx {onnx.__version__} knows is {onnx.IR_VERSION}"
        source.notes.append(f"{source.label}: IR version {model.ir_version}; {newest}")


def _check_opsets(model: onnx.ModelProto, source: Source) -> None:
    """One version per domain, for the default domain where it is used, and a warning where it is an unusual one."""
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = text(opset.domain, "an opset domain", source.label)
        domain = "" if domain in DEFAULT_DOMAINS else domain
        if versions.setdefault(domain, opset.version) != opset.version or opset.version < 1:
            found = f"opset {opset.version} for domain {short(domain)}"
            raise refused(source.label, found, "one version of at least 1 for each domain", AGAIN)
    uses_default = any(node.domain in DEFAULT_DOMAINS for node in nodes_in(model.graph.node))
    if not versions or (uses_default and "" not in versions):
        raise refused(source.label, "no opset for the default domain", "an opset_import", AGAIN)
    _note_opset(versions.get("", OLDEST_OPSET), source)


def _note_opset(version: int, source: Source) -> None:
    """Warns outside 7..newest."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        why = f"older than {OLDEST_OPSET}" if version < OLDEST_OPSET else f"newer than onnx {onnx.__version__} knows"
        source.notes.append(f"{source.label}: opset {version}, {why}; expected {OLDEST_OPSET} to {newest}")


def _check_types(model: onnx.ModelProto, source: Source) -> None:
    """Declared shapes, everywhere; negative dims become unknown."""
    negative = 0
    for value in _declared(model, source):
        what = f"value {short(text(value.name, 'a value name', source.label))}"
        negative += check_type(value.type, what, source)
    if negative:
        source.notes.append(f"{source.label}: {negative} negative dimensions declared; taken as unknown")


def _declared(model: onnx.ModelProto, source: Source) -> Iterator[onnx.ValueInfoProto]:
    for graph in source.graphs:
        yield from graph.input
        yield from graph.output
        yield from graph.value_info
    for function in model.functions:
        yield from function.value_info


def _check_tensors(source: Source) -> None:
    """Every initializer and every tensor in an attribute."""
    for graph in source.graphs:
        for tensor in graph.initializer:
            check_tensor(tensor, source)
        for sparse in graph.sparse_initializer:
            check_sparse(sparse, source)
    for owner, attribute in source.holders:
        _check_attribute(attribute, owner, source)
    if source.bare:
        what = f"{len(source.bare)} tensors without data, the first {source.bare[0]}"
        source.notes.append(f"{source.label}: {what}; only their shapes and types are used")


def _check_attribute(attribute: onnx.AttributeProto, owner: str, source: Source) -> None:
    """The tensors in one attribute."""
    for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
        check_tensor(tensor, source, owner)
    single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for sparse in (*single, *attribute.sparse_tensors):
        check_sparse(sparse, source, owner)


def _drop_constant_inputs(graph: onnx.GraphProto) -> None:
    """Takes initializers out of the inputs: at inference they are constants."""
    constants = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    kept = [value for value in graph.input if value.name not in constants]
    if len(kept) == len(graph.input):
        return
    del graph.input[:]
    graph.input.extend(kept)
