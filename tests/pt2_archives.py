"""Small ``.pt2`` archives written by hand: the JSON alone, as torch.export.save lays it out; no torch is needed.

`python tests/pt2_archives.py FOLDER` writes them as files.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

FLOAT, LONG = 7, 5


def size(value: int | str, hint: int = 4) -> dict[str, Any]:
    """A SymInt: a number, a symbol, or sympy text."""
    if isinstance(value, int):
        return {"as_int": value}
    text = value if "(" in value else f"Symbol('{value}', positive=True, integer=True)"
    return {"as_expr": {"expr_str": text, "hint": {"as_int": hint}}}


def meta(*sizes: int | str, dtype: int = FLOAT) -> dict[str, Any]:
    return {
        "dtype": dtype, "sizes": [size(s) for s in sizes], "requires_grad": False, "layout": 7, "strides": [],
        "device": {"type": "cpu", "index": None}, "storage_offset": {"as_int": 0},
    }  # fmt: skip


def tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def node(target: str, args: list[Any], outs: list[str], path: str = "", **kwargs: Any) -> dict[str, Any]:
    """A node; texts among `args` are tensors."""
    inputs = [{"name": "", "arg": tensor(a) if isinstance(a, str) else a, "kind": 1} for a in args]
    inputs += [{"name": name, "arg": arg, "kind": 2} for name, arg in kwargs.items()]
    stack = f"L__self__,,M;L__self__{path},{path},torch.nn.Module" if path else "L__self__,,M"
    outputs = [tensor(name) for name in outs]
    return {"target": target, "inputs": inputs, "outputs": outputs, "metadata": {"nn_module_stack": stack}}


def graph(nodes: list[Any], metas: dict[str, Any], inputs: list[str], outputs: list[str], **more: Any) -> Any:
    return {
        "inputs": [tensor(name) for name in inputs], "outputs": [tensor(name) for name in outputs], "nodes": nodes,
        "tensor_values": metas, "sym_int_values": {}, "sym_bool_values": {}, **more,
    }  # fmt: skip


def _spec(name: str, title: str) -> dict[str, Any]:
    if title:
        return {"parameter": {"arg": {"name": name}, "parameter_name": title}}
    return {"user_input": {"arg": tensor(name)}}


def program(body: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    """A whole program; `inputs`: placeholder -> name of the parameter, or nothing for a user's input."""
    specs = [_spec(name, title) for name, title in inputs.items()]
    return {
        "graph_module": {"graph": body, "signature": {"input_specs": specs, "output_specs": []}},
        "opset_version": {"aten": 10}, "range_constraints": {}, "schema_version": {"major": 8, "minor": 20},
        "torch_version": "2.13.0",
    }  # fmt: skip


def mlp() -> dict[str, Any]:
    """Two linear layers and a relu on [batch, 16]: 2 * (16 * 32 + 32 * 8) FLOP a row; 808 parameters."""
    metas = {
        "w1": meta(32, 16), "b1": meta(32), "w2": meta(8, 32), "b2": meta(8), "x": meta("s77", 16),
        "up": meta("s77", 32), "relu": meta("s77", 32), "down": meta("s77", 8),
    }  # fmt: skip
    nodes = [
        node("torch.ops.aten.linear.default", ["x", "w1", "b1"], ["up"], "mlp.up"),
        node("torch.ops.aten.relu.default", ["up"], ["relu"], "mlp.act"),
        node("torch.ops.aten.linear.default", ["relu", "w2", "b2"], ["down"], "mlp.down"),
    ]
    inputs = {"w1": "mlp.up.weight", "b1": "mlp.up.bias", "w2": "mlp.down.weight", "b2": "mlp.down.bias", "x": ""}
    return program(graph(nodes, metas, list(inputs), ["down"]), inputs)


def branches() -> dict[str, Any]:
    """A cond of two bodies, of which one multiplies matrices: 2 * 8 * 8 * 8 FLOP."""
    metas = {"p": meta(dtype=12), "x": meta(8, 8), "y": meta(8, 8)}
    bodies = []
    for name, target, args in (("yes", "mm", ["a", "a"]), ("no", "sin", ["a"])):
        inner = graph([node(f"torch.ops.aten.{target}.default", args, ["out"])], {"a": meta(8, 8), "out": meta(8, 8)},
                      ["a"], ["out"])  # fmt: skip
        bodies.append({"as_graph": {"name": name, "graph": inner}})
    nodes = [node("torch.ops.higher_order.cond", ["p", *bodies, {"as_tensors": [{"name": "x"}]}], ["y"])]
    return program(graph(nodes, metas, ["p", "x"], ["y"]), {"p": "", "x": ""})


def tokens() -> dict[str, Any]:
    """An embedding and a head that share one table of 10 by 4, over [batch, seq] tokens; the rest cut to seq - 1."""
    cut = "Add(Symbol('s27', positive=True, integer=True), Integer(-1))"
    metas = {
        "e": meta(10, 4), "h": meta(10, 4), "ids": meta("s77", "s27", dtype=LONG), "x": meta("s77", "s27", 4),
        "y": meta("s77", cut, 4), "z": meta("s77", cut, 10),
    }  # fmt: skip
    ends = [{"as_int": 1}, {"as_int": 0}, {"as_sym_int": {"as_name": "cut"}}]
    nodes = [
        node("torch.ops.aten.embedding.default", ["e", "ids"], ["x"], "embed"),
        node("torch.ops.aten.slice.Tensor", ["x", *ends], ["y"]),
        node("torch.ops.aten.linear.default", ["y", "h"], ["z"], "head"),
    ]
    inputs = {"e": "embed.weight", "h": "head.weight", "ids": ""}
    return program(graph(nodes, metas, list(inputs), ["z"], sym_int_values={"cut": size(cut, 3)}), inputs)


_PLACE = {"path_name": "weight_0", "tensor_meta": meta(10, 4)}
TIED = {"config": {"embed.weight": _PLACE, "head.weight": _PLACE}}

PROGRAMS = {"mlp": mlp, "branches": branches, "tokens": tokens}


def packed(members: dict[str, bytes | str], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def archive(content: Any, root: str = "m", **more: bytes | str) -> bytes:
    """A ``.pt2`` with this program."""
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    return packed({f"{root}/archive_format": "pt2", f"{root}/models/model.json": text, **more})


def tied(content: Any) -> bytes:
    """A ``.pt2`` that says where weights lie."""
    return archive(content, **{"m/data/weights/model_weights_config.json": json.dumps(TIED)})


if __name__ == "__main__":
    for title, make in PROGRAMS.items():
        Path(sys.argv[1], f"{title}.pt2").write_bytes(tied(make()) if title == "tokens" else archive(make()))
