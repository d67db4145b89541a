"""The ONNX reader: what it keeps of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402  (after importorskip)
from onnx_models import DATA, FLOAT, LIGHT_FILES, graph, load, messages, model, node, tensor, value  # noqa: E402

from wattir.frontends.onnx import wire  # noqa: E402
from wattir.frontends.onnx.reader import has_data, read  # noqa: E402
from wattir.frontends.onnx.tensors import LAYOUT  # noqa: E402

SINGLE = sorted(path for path in DATA.rglob("*.onnx") if path.parent.name != "light")


def names(nodes) -> list[str]:
    return [n.output[0] for n in nodes]


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


@pytest.mark.parametrize("path", LIGHT_FILES, ids=lambda path: path.stem)
def test_light_models_equal_the_official_parse(path: Path) -> None:
    assert read(path).model == without_constant_inputs(onnx.load(path))  # no weight in them passes 4096 bytes


def test_every_model_in_onnx_equals_the_official_parse_but_for_payload() -> None:
    assert len(LIGHT_FILES) == 9 and len(SINGLE) > 100
    for path in LIGHT_FILES + SINGLE:
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
