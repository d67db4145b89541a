"""The ONNX reader: what it keeps of a model, how little memory it takes, and every file it refuses."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402  (after importorskip)

from wattir.errors import ModelFileError  # noqa: E402
from wattir.frontends.onnx import wire  # noqa: E402
from wattir.frontends.onnx.reader import Loaded, has_data, load_bytes, read  # noqa: E402
from wattir.frontends.onnx.tensors import LAYOUT  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted((DATA / "light").glob("*.onnx"))
SINGLE = sorted(path for path in DATA.rglob("*.onnx") if path.parent.name != "light")
FLOAT = TensorProto.FLOAT


# ---- models by hand


def tensor(name: str, dims: list[int], **fields: object):
    """A TensorProto with the given fields and no others; FLOAT unless said."""
    return TensorProto(name=name, dims=dims, **({"data_type": FLOAT} | fields))


def node(op: str, inputs: str, outputs: str, **attributes: object):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def value(name: str, dims: list[object] | None = None):
    return helper.make_tensor_value_info(name, FLOAT, dims)


def graph(nodes, initializers=(), inputs=("x",), outputs=("y",), **rest):
    ins, outs = [[value(n) if isinstance(n, str) else n for n in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "g", ins, outs, list(initializers), **rest)


def model(nodes=None, initializers=(), opset=17, ir=8, functions=(), **rest):
    body = graph([node("Relu", "x", "y")] if nodes is None else nodes, initializers, **rest)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=ir, functions=list(functions))


def load(proto, **options) -> Loaded:
    return load_bytes(proto.SerializeToString(), "m.onnx", **options)


def names(nodes) -> list[str]:
    return [n.output[0] for n in nodes]


# ---- what is kept


def messages(message) -> Iterator[object]:
    """`message` and all messages in it."""
    yield message
    for field, content in message.ListFields():
        if field.message_type:
            for inner in [content] if hasattr(content, "ListFields") else content:
                yield from messages(inner)


def without_payload(proto):
    """The model as the reader gives it with keep_bytes=0, made from the official parse."""
    for message in messages(proto):
        if isinstance(message, TensorProto):
            for name in wire.PAYLOAD.values():
                message.ClearField(name)
            kept = [entry for entry in message.external_data if entry.key != wire.MARK]
            del message.external_data[:]
            message.external_data.extend(kept)
    return without_constant_inputs(proto)


def without_constant_inputs(proto):
    constants = {t.name for t in proto.graph.initializer}
    for name in [v.name for v in proto.graph.input if v.name in constants]:
        proto.graph.input.remove(next(v for v in proto.graph.input if v.name == name))
    proto.ClearField("training_info")
    return proto


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_models_equal_the_official_parse(path: Path) -> None:
    assert read(path).model == without_constant_inputs(onnx.load(path))  # no weight in them passes 4096 bytes


def test_every_model_in_onnx_equals_the_official_parse_but_for_payload() -> None:
    assert len(LIGHT) == 9 and len(SINGLE) > 100
    for path in LIGHT + SINGLE:
        assert without_payload(read(path, keep_bytes=0).model) == without_payload(onnx.load(path)), path


def test_table_of_the_walker_agrees_with_onnx() -> None:
    numbers = {f.name: f.number for f in TensorProto.DESCRIPTOR.fields}
    assert {numbers[name]: name for name in wire.PAYLOAD.values()} == wire.PAYLOAD
    assert numbers["external_data"] == wire.EXTERNAL_DATA
    for kind, inside in wire.INSIDE.items():
        fields = {f.number: f.message_type for f in getattr(onnx, kind).DESCRIPTOR.fields}
        expected = {n: m.name for n, m in fields.items() if m and m.name in wire.INSIDE}
        if kind != "TensorProto":  # its entries are payload, and training info is left out, both None
            assert {n: k for n, k in inside.items() if k} == expected


def test_layout_knows_every_data_type() -> None:
    assert set(LAYOUT) == set(TensorProto.DataType.keys()) - {"UNDEFINED"}


@pytest.mark.parametrize(("elements", "kept"), [(1024, True), (1025, False)])  # 4096 bytes, 4100 bytes
def test_payload_up_to_the_limit_is_kept(elements: int, kept: bool) -> None:
    weight = tensor("w", [elements], raw_data=bytes(4 * elements))
    loaded = load(model([node("Add", "x w", "y")], [weight])).model.graph.initializer[0]
    assert (loaded.name, list(loaded.dims), loaded.data_type) == ("w", [elements], FLOAT)
    assert has_data(loaded) == kept and len(loaded.raw_data) == (4 * elements if kept else 0)
    marks = [(e.key, e.value) for e in loaded.external_data]
    assert marks == ([] if kept else [("wattir.stripped", "raw_data 4100 1")])


def test_stripped_is_told_from_empty_and_external() -> None:
    empty = tensor("w", [0, 3])
    bare = tensor("v", [3])
    outside = tensor("u", [3], data_location=1)
    outside.external_data.add(key="location", value="sub/../data.bin")
    loaded = load(model([node("Foo", "x w v u", "y")], [empty, bare, outside]))
    assert [has_data(t) for t in loaded.model.graph.initializer] == [True, False, False]
    assert [e.key for e in loaded.model.graph.initializer[2].external_data] == ["location"]
    assert loaded.warnings == (
        "m.onnx: 1 tensors without data, the first tensor 'v'; only their shapes and types are used",
    )


FIELDS = {
    "float_data": (FLOAT, [1.0]),
    "int32_data": (TensorProto.FLOAT16, [-1]),
    "int64_data": (TensorProto.INT64, [1 << 62]),
    "double_data": (TensorProto.COMPLEX128, [1.0, 2.0]),
    "uint64_data": (TensorProto.UINT32, [300]),
    "string_data": (TensorProto.STRING, [b"word"]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_payload_field_is_stripped_and_counted(name: str) -> None:
    kind, one = FIELDS[name]
    weight = tensor("w", [5000], data_type=kind, **{name: one * 5000})
    loaded = load(model([node("Foo", "x w", "y")], [weight])).model.graph.initializer[0]
    assert not has_data(loaded) and len(getattr(loaded, name)) == 0
    assert loaded.external_data[0].value.startswith(f"{name} ")


def heavy(name: str = "w"):
    return tensor(name, [5000], raw_data=bytes(20_000))


def sparse(name: str = "s"):
    indices = tensor("", [5000], data_type=TensorProto.INT64, int64_data=range(5000))
    return onnx.SparseTensorProto(values=heavy(name), indices=indices, dims=[9000])


def test_payload_goes_wherever_it_is() -> None:
    inner = graph([node("Add", "x w", "z"), node("Constant", "", "c", value=heavy(""))], [heavy()], [], ["z"])
    inner.sparse_initializer.append(sparse())
    nodes = [
        node("If", "x", "a", then_branch=inner, else_branch=inner),
        node("Foo", "a", "b", many=[heavy(""), heavy("")], bodies=[inner], sparse_value=sparse()),
        node("Fn", "b", "y", domain="f"),
    ]
    body = [node("Constant", "", "k", value=heavy("")), node("Add", "p k", "q")]
    function = helper.make_function("f", "Fn", ["p"], ["q"], body, [helper.make_opsetid("", 17)])
    whole = model(nodes, functions=[function])
    whole.training_info.add().initialization.CopyFrom(inner)
    loaded = load(whole).model
    assert len(loaded.SerializeToString()) < 4096 and not loaded.training_info
    tensors = [m for m in messages(loaded) if isinstance(m, TensorProto)]
    # 3 bodies of 2 tensors and a sparse one of 2 parts, 2 in `many`, 2 of sparse_value, 1 in the function
    assert len(tensors) == 17 and not any(has_data(t) for t in tensors)


def test_old_initializers_are_no_inputs() -> None:
    old = model([node("Add", "x w", "y")], [tensor("w", [1], float_data=[1.0])], ir=3, inputs=["w", "x"])
    assert [v.name for v in load(old).model.graph.input] == ["x"]


def test_nodes_out_of_order_are_sorted_stably() -> None:
    body = graph([node("Neg", "late", "i")], inputs=[], outputs=["i"])  # takes `late` from outside
    nodes = [node("If", "x", "y", then_branch=body), node("Relu", "x", "a"), node("Abs", "a", "late")]
    loaded = load(model(nodes))
    assert names(loaded.model.graph.node) == ["a", "late", "y"]
    assert loaded.warnings == ("m.onnx: the nodes of the graph were not in order; sorted",)
    assert load(loaded.model).warnings == ()


def test_branches_may_reuse_names_and_read_outer_ones() -> None:
    body = graph([node("Neg", "x", "t")], inputs=[], outputs=["t"])
    load(model([node("If", "x", "y", then_branch=body, else_branch=body)]))


def test_negative_declared_dims_become_unknown() -> None:
    loaded = load(model(inputs=[value("x", [-1, 3])]))
    dims = loaded.model.graph.input[0].type.tensor_type.shape.dim
    assert not dims[0].HasField("dim_value") and dims[1].dim_value == 3
    assert loaded.warnings == ("m.onnx: 1 negative dimensions declared; taken as unknown",)


NEWEST = onnx.defs.onnx_opset_version()
WARNINGS = {
    "opset 6, older than 7": model(opset=6),
    f"opset {NEWEST + 1}, newer than onnx {onnx.__version__} knows": model(opset=NEWEST + 1),
    f"IR version {onnx.IR_VERSION + 1}; the newest that onnx": model(ir=onnx.IR_VERSION + 1),
}


@pytest.mark.parametrize("start", WARNINGS)
def test_unusual_versions_warn(start: str) -> None:
    (warning,) = load(WARNINGS[start]).warnings
    assert warning.startswith(f"m.onnx: {start}")


# ---- memory


def write_big(path: Path, count: int, payload: int) -> None:
    """A model of `count` initializers with `payload` bytes each, all zeros in holes of the file."""
    head = [tensor(f"w{i}", [payload // 4]).SerializeToString() for i in range(count)]
    raw = wire._varint(9 << 3 | wire.LENGTH) + wire._varint(payload)
    heads = [wire._varint(5 << 3 | wire.LENGTH) + wire._varint(len(h + raw) + payload) + h + raw for h in head]
    rest = graph([node("Add", f"x w{i}", f"y{i}") for i in range(count)], outputs=["y0"]).SerializeToString()
    before = model()
    before.ClearField("graph")
    size = sum(map(len, heads)) + count * payload + len(rest)
    with path.open("wb") as file:
        file.write(before.SerializeToString() + wire._varint(7 << 3 | wire.LENGTH) + wire._varint(size))
        for start in heads:
            file.write(start)
            file.seek(payload, os.SEEK_CUR)
        file.write(rest)


MEASURE = """
import resource, sys
from wattir.frontends.onnx.reader import read
print(len(read(sys.argv[1]).model.graph.initializer), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize(("count", "payload"), [(100, 13_000_000), (3000, 432_000)])  # 1.3 GB each
def test_memory_for_a_file_of_over_a_gigabyte(tmp_path: Path, count: int, payload: int) -> None:
    path = tmp_path / "big.onnx"
    write_big(path, count, payload)
    assert path.stat().st_size > 1_290_000_000
    paths = os.pathsep.join(filter(None, sys.path))
    run = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths})
    path.unlink()
    read_count, peak_kib = map(int, done.stdout.split())
    assert read_count == count
    assert peak_kib * 1024 < 200e6


# ---- files that are no model


def error_of(call: Callable[[], object]) -> str:
    """The message of the ModelFileError that `call` must raise: one line."""
    with pytest.raises(ModelFileError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.count(";") >= 2
    return message


HEADS = {
    b"<!DOCTYPE html><html>": "an HTML or XML page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:": "a git-lfs pointer, not the model",
    pickle.dumps({"w": 1}, protocol=2): "a Python pickle",
    pickle.dumps({"w": 1}, protocol=4): "a Python pickle",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x1f\x8b\x08": "a gzip file",
    b"\x1c\0\0\0TFL3": "a TensorFlow Lite model",
    b'\x40\0\0\0\0\0\0\0{"a"': "a safetensors file",
    b"ir_version: 8": "an ONNX model as text",
    b'{"irVersion": 8}': "a JSON file",
    b"just some words\n": "a text file",
    b"": "empty",
    b"\x08": "truncated: the field at byte 1 needs",
    b"\x0b\x08\x01\x0c": "wire type 3 at byte 0",
    b"\x08" + b"\xff" * 11: "a number of over 10 bytes at byte 1",
    b"\x00\x01": "field number 0 at byte 0",
    b"\x08\x08": "protobuf without an ONNX graph",
    b"\x3a\x00": "protobuf without an ONNX ir_version",
    b"\x08\x08\x3a\x00": "a graph without nodes",
    b"\x08\x08\x3a\x02\x0a\x05": "protobuf cannot parse it",
}


@pytest.mark.parametrize("head", HEADS, ids=lambda head: HEADS[head][:25])
def test_other_files_are_named(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(head)
    assert error_of(lambda: read(path)).startswith(f"{path}: {HEADS[head]}")


def test_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("data.pkl", "")
    found = {"none": "no such file", ".": "a folder", "pipe": "not a plain file", "model.pt": "a zip archive"}
    for name, what in found.items():
        assert f": {what}" in error_of(lambda name=name: read(tmp_path / name))
    assert "cannot be read (" in error_of(lambda: read("a\0b"))


def test_truncated_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(LIGHT[0].read_bytes()[:-100])
    size = path.stat().st_size
    message = error_of(lambda: read(path))
    assert message.startswith(f"{path}: truncated: the field at byte ") and f"this one has {size:,}" in message


# ---- models that are not right


def changed(change: Callable[[object], object], **rest):
    proto = model(**rest)
    change(proto)
    return proto


def bad_text(old: bytes) -> bytes:
    return model([node("Relu", "x", "y", name="title")]).SerializeToString().replace(old, b"\xff" * len(old))


def call_chain(calls: dict[str, str]):
    """Functions by name, each calling the named ones in turn."""
    made = []
    for name, called in calls.items():
        chain = [node(c, "p" if not i else f"v{i - 1}", f"v{i}", domain="f") for i, c in enumerate(called.split())]
        opsets = [helper.make_opsetid("f", 1)]
        made.append(helper.make_function("f", name, ["p"], [f"v{len(chain) - 1}"], chain, opsets))
    return model([node("A", "x", "y", domain="f")], functions=made)


def doubling(levels: int):
    """Functions F0..Fn, each calling the next eight times."""
    return call_chain({"A": "F0"} | {f"F{i}": " ".join([f"F{i + 1}"] * 8) for i in range(levels)})


def nested(levels: int) -> bytes:
    """A graph in a node in a graph ..., each over the size that is copied without a look."""
    body = wire._delimited(10, b"d" * 5000)
    for _ in range(levels):
        body = wire._delimited(1, wire._delimited(5, wire._delimited(6, body)))
    return b"\x08\x08" + wire._delimited(7, body)


ADD = [node("Add", "x w", "y")]
INT64 = TensorProto.INT64
BAD = {
    "no opset for the default domain": changed(lambda m: m.ClearField("opset_import")),
    "opset 3 for domain ''": changed(lambda m: m.opset_import.add(domain="ai.onnx", version=3)),
    "opset 0 for domain ''": model(opset=0),
    "IR version -1": changed(lambda m: setattr(m, "ir_version", -1)),
    "node #0 () in the graph has no op_type": changed(lambda m: m.graph.node[0].ClearField("op_type")),
    "node #0 (Relu) in the graph uses 'no'": model([node("Relu", "no", "y")]),
    "the list of outputs of the graph uses 'no'": model(outputs=["no"]),
    "node #0 (Neg) in a body of node #0 (If) in the graph uses 'no'": model(
        [node("If", "x", "y", then_branch=graph([node("Neg", "no", "i")], inputs=[], outputs=["i"]))]
    ),
    "'w' is defined twice among the initializers in the graph": model(ADD, [tensor("w", [0]), tensor("w", [0])]),
    "'x' is defined twice among the inputs of the graph": model(inputs=["x", "x"]),
    "'y' is defined twice among the values in the graph": model([node("Relu", "x", "y"), node("Abs", "x", "y")]),
    "a cycle in the graph: node 'one' (Abs) -> node 'two' (Neg) -> node 'one' (Abs)": model(
        [node("Neg", "a", "b", name="two"), node("Abs", "b", "a", name="one"), node("Relu", "a", "y")]
    ),
    "a cycle in the graph: node #0 (Relu) -> node #0 (Relu)": model([node("Relu", "y", "y")]),
    "functions call each other: 'A' -> 'B' -> 'A'": call_chain({"A": "B", "B": "A"}),
    "functions call each other: 'B' -> 'B'": call_chain({"A": "B", "B": "B"}),
    "a function defined twice": changed(
        lambda m: m.functions.append(m.functions[0]), functions=call_chain({"A": "C"}).functions
    ),
    "over 16,777,216 nodes once the calls": doubling(40),
    "tensor 'w' has a dimension of -2; expected 0 to 1,099,511,627,776": model(ADD, [tensor("w", [-2])]),
    "tensor 'w' has a dimension of 1,099,511,627,777": model(ADD, [tensor("w", [2**40 + 1])]),
    "tensor 'w' of dims [1099511627776, 1025] is too large": model(ADD, [tensor("w", [2**40, 1025])]),
    "value 'x' has a dimension of 1,099,511,627,777": model(inputs=[value("x", [2**40 + 1])]),
    "tensor 'w' has data type 99": model(ADD, [tensor("w", [1], data_type=99)]),
    "tensor 'w' has data type 0": model(ADD, [tensor("w", [1], data_type=0)]),
    "tensor 'w' has 5 bytes of raw_data; expected 8 for FLOAT of dims [2]": model(
        ADD, [tensor("w", [2], raw_data=b"12345")]
    ),
    "tensor 'w' has 5,000 bytes of raw_data; expected 8 for": model(ADD, [tensor("w", [2], raw_data=bytes(5000))]),
    "tensor 'w' has 3 bytes of raw_data; expected 2 for INT4 of dims [3]": model(
        ADD, [tensor("w", [3], data_type=TensorProto.INT4, raw_data=b"123")]
    ),
    "tensor 'w' has 1 entries of float_data; expected 2": model(ADD, [tensor("w", [2], float_data=[1.0])]),
    "tensor 'w' has 500 to 5,000 entries of int64_data; expected 5,001": model(
        ADD, [tensor("w", [5001], data_type=INT64, int64_data=[1] * 5000)]
    ),
    "tensor 'w' has 1 entries of int64_data; expected -1 for FLOAT": model(ADD, [tensor("w", [1], int64_data=[1])]),
    "tensor 'w' has data in float_data and raw_data": model(
        ADD, [tensor("w", [1], float_data=[1.0], raw_data=b"1234")]
    ),
    "the tensor in attribute 'value' of node #0 (Constant) in the graph has 1 bytes": model(
        [node("Constant", "", "y", value=tensor("", [1], raw_data=b"1"))]
    ),
    "tensor 'w' has a foreign wattir.stripped entry 'raw_data ten 1'": model(
        ADD, [tensor("w", [1], external_data=[onnx.StringStringEntryProto(key=wire.MARK, value="raw_data ten 1")])]
    ),
}


@pytest.mark.parametrize("found", BAD)
def test_bad_models_are_refused(found: str) -> None:
    assert error_of(lambda: load(BAD[found])).startswith(f"m.onnx: {found}")


@pytest.mark.parametrize("old", [b"Relu", b"title"])
def test_names_must_be_text(old: bytes) -> None:
    message = error_of(lambda: load_bytes(bad_text(old), "m.onnx"))
    assert "a name of node" in message and "is not UTF-8; expected text" in message


def test_deep_nesting_is_refused() -> None:
    assert "no opset" in error_of(lambda: load_bytes(nested(30), "m"))  # 92 messages deep, which both walk and parse
    assert "messages nested over 100 deep" in error_of(lambda: load_bytes(nested(40), "m"))
    assert "messages nested over 100 deep" in error_of(lambda: load_bytes(nested(300), "m"))


def test_allowances(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (DATA / "light" / "light_densenet121.onnx").read_bytes()
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)
    assert "over 10 protobuf fields" in error_of(lambda: load_bytes(data))
    monkeypatch.undo()
    monkeypatch.setattr(wire, "MAX_COPY_BYTES", 1000)
    assert "over 1,000 bytes beside tensor data" in error_of(lambda: load_bytes(data))


# ---- external data


def with_data_at(place: str):
    outside = tensor("w", [5], data_location=1)
    outside.external_data.add(key="location", value=place)
    return model(ADD, [outside])


@pytest.mark.parametrize("place", ["", "/etc/passwd", "../w.bin", "a/../../w.bin", "C:\\w.bin", "..\\w.bin", "a\0b"])
def test_external_data_outside_the_folder_is_refused(place: str) -> None:
    message = error_of(lambda: load(with_data_at(place)))
    assert message.startswith("m.onnx: tensor 'w' has external data at '") and "in the folder of the model" in message


def test_external_data_may_be_missing_but_no_link_out(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(with_data_at("w.bin").SerializeToString())
    assert not has_data(read(folder / "m.onnx").model.graph.initializer[0])
    (folder / "w.bin").symlink_to(tmp_path / "here.bin")  # begins like the folder's name, and lies outside
    assert "has external data at 'w.bin'" in error_of(lambda: read(folder / "m.onnx"))


def test_model_and_data_that_are_links_into_one_folder_are_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"  # as the cache of a model hub lies
    blobs.mkdir()
    snapshot.mkdir()
    (blobs / "0a").write_bytes(with_data_at("w.bin").SerializeToString())
    (snapshot / "m.onnx").symlink_to(blobs / "0a")
    (snapshot / "w.bin").symlink_to(blobs / "0b")
    assert read(snapshot / "m.onnx").model.graph.node


# ---- damage


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` cut short, or with 1 to 8 bytes overwritten, or with a piece moved."""
    kind = chance.randrange(4)
    if not kind:
        return data[: chance.randrange(len(data))]
    if kind == 1:
        a, b, c = (chance.randrange(len(data)) for _ in range(3))
        return data[:a] + data[b : b + chance.randrange(100)] + data[c:]
    changed_bytes = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        changed_bytes[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(changed_bytes)


@pytest.mark.parametrize("stem", ["light_bvlc_alexnet", "light_squeezenet"])
@pytest.mark.parametrize("keep_bytes", [0, 4096])
def test_damaged_bytes_are_read_or_refused(stem: str, keep_bytes: int) -> None:
    data = (DATA / "light" / f"{stem}.onnx").read_bytes()
    chance = random.Random(f"{stem} {keep_bytes}")
    refused = 0
    for _ in range(200):
        damaged = mutated(data, chance)
        began_s = time.monotonic()
        try:
            load_bytes(damaged, keep_bytes=keep_bytes)
        except ModelFileError as error:
            refused += 1
            assert "\n" not in str(error)
        assert time.monotonic() - began_s < 5  # a hang, not a slow machine
    assert refused > 50
