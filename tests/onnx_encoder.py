"""A transformer encoder as an ONNX file of gigabytes, whose weights are holes of the file or lie in a missing one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_models import model, node, tensor

from wattir.frontends.onnx import wire

HEAD = 64  # width of a head


@dataclass(frozen=True)
class Encoder:
    """Layers of attention and a feed-forward of four times the width, over tokens [batch, seq]."""

    layers: int
    width: int
    vocabulary: int

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name -> dims; all fp32."""
        w = self.width
        layer = {"q": (w, w), "k": (w, w), "v": (w, w), "o": (w, w), "up": (w, 4 * w), "down": (4 * w, w)}
        biases = {f"{name}_bias": dims[-1:] for name, dims in layer.items()}
        norms = {f"{norm}_{part}": (w,) for norm in ("norm1", "norm2") for part in ("scale", "bias")}
        each = layer | biases | norms
        return {"tokens": (self.vocabulary, w)} | {f"{i}.{n}": d for i in range(self.layers) for n, d in each.items()}

    def params(self) -> int:
        return sum(map(prod, self.weights().values()))

    def graph(self) -> GraphProto:
        """All but the weights."""
        nodes = [node("Gather", "tokens ids", "x0")]
        nodes += [made for i in range(self.layers) for made in layer_nodes(i)]
        small = {"heads": np.array([0, 0, -1, HEAD]), "joined": np.array([0, 0, -1]), "root": np.float32(HEAD**0.5)}
        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "seq"])
        out = helper.make_tensor_value_info(f"x{self.layers}", TensorProto.FLOAT, ["batch", "seq", self.width])
        held = [numpy_helper.from_array(np.asarray(value), name) for name, value in small.items()]
        return helper.make_graph(nodes, "encoder", [ids], [out], held)


def layer_nodes(i: int) -> list[NodeProto]:
    """x{i} -> x{i+1}; attention is written out, as exporters do."""
    rows = [*dense(i, "q", f"x{i}"), *dense(i, "k", f"x{i}"), *dense(i, "v", f"x{i}")]
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        rows += [
            ("Reshape", f"{name}.y heads", f"{name}.h", {}),
            ("Transpose", f"{name}.h", f"{name}.t", {"perm": perm}),
        ]
    rows += [
        ("MatMul", "q.t k.t", "raw", {}),
        ("Div", "raw root", "scores", {}),
        ("Softmax", "scores", "shares", {"axis": -1}),
        ("MatMul", "shares v.t", "mixed", {}),
        ("Transpose", "mixed", "turned", {"perm": [0, 2, 1, 3]}),
        ("Reshape", "turned joined", "flat", {}),
        *dense(i, "o", "flat"),
        ("Add", f"o.y x{i}", "sum1", {}),
        ("LayerNormalization", f"sum1 {i}.norm1_scale {i}.norm1_bias", "n1", {"axis": -1}),
        *dense(i, "up", "n1"),
        ("Relu", "up.y", "act", {}),
        *dense(i, "down", "act"),
        ("Add", "down.y n1", "sum2", {}),
        ("LayerNormalization", f"sum2 {i}.norm2_scale {i}.norm2_bias", f"x{i + 1}", {"axis": -1}),
    ]
    made = {row[2] for row in rows} - {f"x{i + 1}"}
    return [node(op, scoped(i, ins, made), scoped(i, out, made), **attributes) for op, ins, out, attributes in rows]


def dense(i: int, name: str, x: str) -> list[tuple[str, str, str, dict[str, object]]]:
    return [
        ("MatMul", f"{x} {i}.{name}", f"{name}.m", {}),
        ("Add", f"{name}.m {i}.{name}_bias", f"{name}.y", {}),
    ]


def scoped(i: int, names: str, made: set[str]) -> str:
    """What the layer makes is called so in this layer."""
    return " ".join(f"{i}.{name}" if name in made else name for name in names.split())


# ---- files


def write_with_holes(path: Path, weights: dict[str, Sequence[int]], graph: GraphProto) -> None:
    """A model with these fp32 weights embedded, all zeros in holes of the file, before the rest of its graph."""
    heads = [(head(name, dims), 4 * prod(dims)) for name, dims in weights.items()]
    rest = graph.SerializeToString()
    before = model()
    before.ClearField("graph")
    size = sum(len(start) + payload for start, payload in heads) + len(rest)
    with path.open("wb") as file:
        file.write(before.SerializeToString() + wire._varint(7 << 3 | wire.LENGTH) + wire._varint(size))
        for start, payload in heads:
            file.write(start)
            file.seek(payload, os.SEEK_CUR)
        file.write(rest)


def head(name: str, dims: Sequence[int]) -> bytes:
    """What stands before the payload of an initializer of a graph."""
    raw = wire._varint(9 << 3 | wire.LENGTH) + wire._varint(4 * prod(dims))
    inside = tensor(name, dims).SerializeToString() + raw
    return wire._varint(5 << 3 | wire.LENGTH) + wire._varint(len(inside) + 4 * prod(dims)) + inside


def write_external(path: Path, weights: dict[str, Sequence[int]], graph: GraphProto, place: str) -> None:
    """A model whose fp32 weights lie one after the other in the file `place`, which is not written."""
    offset = 0
    for name, dims in weights.items():
        outside = tensor(name, dims, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", place), ("offset", offset), ("length", 4 * prod(dims))):
            outside.external_data.add(key=key, value=str(value))
        graph.initializer.append(outside)
        offset += 4 * prod(dims)
    whole = model()
    whole.graph.CopyFrom(graph)
    path.write_bytes(whole.SerializeToString())
