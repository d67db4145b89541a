"""Damaged ONNX files: each is answered or refused in one line, quickly, and nothing else happens."""

import random
import time
from pathlib import Path

import onnx
import pytest

import wattir
from wattir.cli import main
from wattir.device import load_device
from wattir.errors import WattirError
from wattir.frontends.onnx import lower

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = ("light_squeezenet", "light_zfnet512", "light_bvlc_alexnet", "light_shufflenet")
DEVICE = load_device(str(Path(__file__).parent / "made_up_device.toml"))
EACH_S, ALL_S, COUNT = 2.0, 25.0, 2000
ODD_INTS = (0, 1, -1, 2, 7, 255, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**62), 2**63 - 1)


def answer(data):
    """Lowers and estimates; the text of a refusal, or None."""
    try:
        graph = lower(data)
        missing = {name: 2 for name, value in graph.sizes.items() if value is None}
        wattir.compile(graph, device=DEVICE).report(**missing)
    except WattirError as error:
        return str(error)
    return None


def flip(rng, data):
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def cut(rng, data):
    return data[: rng.randrange(len(data))]


def insert(rng, data):
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:]


def repeat(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + data[start : start + rng.randrange(1, 400)] * 2 + data[start:]


def change_dim(rng, model):
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    dims = [dim for value in values for dim in value.type.tensor_type.shape.dim]
    rng.choice(dims).dim_value = rng.choice(ODD_INTS)


def change_initializer(rng, model):
    tensor = rng.choice(model.graph.initializer)
    if tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(ODD_INTS)
    tensor.data_type = rng.choice((tensor.data_type, rng.randrange(-1, 40)))


def change_attribute(rng, model):
    attribute = rng.choice([a for node in model.graph.node for a in node.attribute])
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(ODD_INTS)
    attribute.i = rng.choice(ODD_INTS)
    attribute.type = rng.choice((attribute.type, rng.randrange(0, 15)))


def change_op(rng, model):
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice(
        ("", "Nothing", "Conv", "MatMul", "Reshape", "Loop", "If", "LSTM", "Concat", "Einsum", "\x00")
    )


def change_inputs(rng, model):
    node = rng.choice(model.graph.node)
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "nothing", rng.choice(model.graph.node).output[0]))


def drop_node(rng, model):
    del model.graph.node[rng.randrange(len(model.graph.node))]


def swap_nodes(rng, model):
    a, b = (rng.randrange(len(model.graph.node)) for _ in range(2))
    first = onnx.NodeProto.FromString(model.graph.node[a].SerializeToString())
    model.graph.node[a].CopyFrom(model.graph.node[b])
    model.graph.node[b].CopyFrom(first)


def change_opset(rng, model):
    model.opset_import[0].version = rng.choice((*ODD_INTS, 7, 13, 18, 99))
    model.opset_import[0].domain = rng.choice(("", "", "ai.onnx", "nowhere"))


def change_type(rng, model):
    rng.choice(model.graph.input).type.tensor_type.elem_type = rng.randrange(-1, 40)


BYTES = (flip, cut, insert, repeat)
FIELDS = (
    change_dim, change_initializer, change_attribute, change_op, change_inputs, drop_node, swap_nodes, change_opset,
    change_type,
)  # fmt: skip


def mutants(rng, data, count):
    """`count` damaged copies: bytes and protobuf fields in turn, one to three changes each."""
    for number in range(count):
        if number % 2:
            damaged = data
            for _ in range(rng.randrange(1, 4)):
                damaged = rng.choice(BYTES)(rng, damaged) or b"\x00"
            yield damaged
        else:
            model = onnx.ModelProto.FromString(data)
            for _ in range(rng.randrange(1, 4)):
                rng.choice(FIELDS)(rng, model)
            yield model.SerializeToString()


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_answered_or_refused_in_one_line(name):
    rng = random.Random(name)
    data = (LIGHT / f"{name}.onnx").read_bytes()
    started, refused, tried = time.monotonic(), 0, 0
    for damaged in mutants(rng, data, COUNT):
        before = time.monotonic()
        message = answer(damaged)
        assert time.monotonic() - before < EACH_S * 5, "a damaged file takes long"  # five times: a busy machine
        assert message is None or "\n" not in message.strip()
        refused, tried = refused + (message is not None), tried + 1
        if time.monotonic() - started > ALL_S / len(NAMES):
            break

    assert tried >= 100
    assert 0 < refused < tried  # the damage is neither all fatal nor all harmless


BAD_FILES = {
    "empty.onnx": b"",
    "text.onnx": b"<!doctype html><html></html>",
    "zip.onnx": b"PK\x03\x04" + bytes(100),
    "noise.onnx": random.Random(1).randbytes(5000),
    "truncated.onnx": (LIGHT / "light_squeezenet.onnx").read_bytes()[:3000],
    "model.bin": b"abc",
    "bad.wattir": b"wattir 2\n",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_the_command_refuses_bad_files_with_one_line_and_writes_nothing(name, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    table = tmp_path / "layers.csv"

    code = main(["estimate", str(path), "--hw", "h200_sxm", "--csv", str(table)])

    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert str(path) in printed.err and "expected" in printed.err
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]
