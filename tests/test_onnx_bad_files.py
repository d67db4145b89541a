"""Every file that the ONNX reader refuses: with an error of one line that says where, what and what to do."""

from __future__ import annotations

import os
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402  (after importorskip)
from onnx_models import LIGHT, LIGHT_FILES, graph, load, model, node, tensor, value  # noqa: E402

from wattir.errors import ModelFileError  # noqa: E402
from wattir.frontends.onnx import wire  # noqa: E402
from wattir.frontends.onnx.reader import has_data, load_bytes, read  # noqa: E402


def error_of(call: Callable[[], object]) -> str:
    """The message of the ModelFileError that `call` must raise: one line."""
    with pytest.raises(ModelFileError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.count(";") >= 2
    return message


# ---- files that are no model

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
    path.write_bytes(LIGHT_FILES[0].read_bytes()[:-100])
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
    data = (LIGHT / "light_densenet121.onnx").read_bytes()
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


@pytest.mark.parametrize(
    ("place", "known"),
    [
        ({}, True),
        ({"offset": "8", "length": "16"}, True),
        ({"length": "17"}, False),
        ({"offset": "-1"}, False),
        ({"offset": "9" * 5000}, False),
        ({"offset": "99"}, False),
        ({"location": "folder"}, False),
    ],
)
def test_small_tensors_of_external_data_are_read(tmp_path: Path, place: dict[str, str], known: bool) -> None:
    """Exporters that set no least size store axes and shapes there; what cannot be read is not known."""
    axes = tensor("w", [2], data_location=1, data_type=onnx.TensorProto.INT64)
    for key, entry in {"location": "w.bin", **place}.items():
        axes.external_data.add(key=key, value=entry)
    (tmp_path / "m.onnx").write_bytes(model(ADD, [axes]).SerializeToString())
    (tmp_path / "w.bin").write_bytes(struct.pack("<3q", 1, 1, 2))
    (tmp_path / "folder").mkdir()
    found = read(tmp_path / "m.onnx").model.graph.initializer[0]

    assert has_data(found) == known
    if known:
        assert onnx.numpy_helper.to_array(found).tolist() == ([1, 2] if "offset" in place else [1, 1])


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
    data = (LIGHT / f"{stem}.onnx").read_bytes()
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
