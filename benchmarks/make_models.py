"""Writes the built-in models: builds each network of `model_zoo`, exports it to ONNX, lowers it, saves the text.

    python benchmarks/make_models.py [NAME ...] [--out FOLDER] [--keep-onnx FOLDER]

Nothing is downloaded and no weight exists: networks are built on torch's `meta` device, and the ONNX file refers to
external data that is never written. Needs torch, torchvision, transformers, diffusers and onnxscript; takes minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from typing import Any

import torch

OPSET = 23  # the first with an Attention op: what torch calls scaled_dot_product_attention stays one op
_TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")


def declare_missing_ops() -> None:
    """Declares the two custom ops without which torchvision does not import beside a CPU build of torch."""
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            _TORCHVISION.define(schema)


def register_attentions() -> None:
    """Two attentions for transformers that need no mask tensor: ``unmasked`` and ``causal``."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    for name, causal in (("unmasked", False), ("causal", True)):
        AttentionInterface.register(name, _attention(causal))
        AttentionMaskInterface.register(name, lambda *args, **kwargs: None)


def _attention(causal: bool) -> Any:
    def attend(
        module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **more: Any
    ) -> Any:
        bias = more.get("position_bias")
        result = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, mask if bias is None else bias, is_causal=causal, scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        return result.transpose(1, 2).contiguous(), None

    return attend


def export(recipe: Any, opset: int = OPSET) -> Any:
    """The `onnx.ModelProto` of a recipe; weights are external stubs."""
    import onnx_ir

    with torch.device("meta"):
        model = recipe.build().eval().to(recipe.dtype)
        tensors = {name: _example(shape, dtype) for name, (shape, dtype) in recipe.inputs.items()}
    dims: dict[str, Any] = {}
    shapes = tuple(_dynamic(shape, dims) for shape, _ in recipe.inputs.values())
    with_cache = any(name.startswith("past_") for name in tensors)
    call: dict[str, Any]
    if with_cache or len(tensors) == 1:
        call = {"args": tuple(tensors.values()), "dynamic_shapes": (*shapes[:2], shapes[2:]) if with_cache else shapes}
    else:
        call = {"args": (), "kwargs": tensors, "dynamic_shapes": dict(zip(tensors, shapes, strict=True))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, **call, input_names=list(tensors), dynamo=True, optimize=False, opset_version=opset, verbose=False
        )
    assert program is not None
    for value in program.model.graph.initializers.values():
        _strip(value, onnx_ir)
    return onnx_ir.serde.serialize_model(program.model)


def _example(shape: tuple[int | str, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor with odd sizes for free dims: sizes that occur nowhere else cannot be mistaken for constants."""
    return torch.empty([size if isinstance(size, int) else 7 for size in shape], dtype=dtype)


def _dynamic(shape: tuple[int | str, ...], dims: dict[str, Any]) -> dict[int, Any]:
    named = {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
    return {axis: dims.setdefault(name, torch.export.Dim(name, min=2, max=4096)) for axis, name in named.items()}


def _strip(value: Any, onnx_ir: Any) -> None:
    """Puts a reference to external data in place of a tensor without data."""
    tensor = value.const_value
    raw = getattr(tensor, "raw", None)
    if (isinstance(raw, torch.Tensor) and raw.device.type == "meta") or tensor.nbytes > 4096:
        value.const_value = onnx_ir.ExternalTensor(
            "weights.data", 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name, base_dir=""
        )


def lower_model(proto: Any, name: str, recipe: Any) -> Any:
    """The canonical Graph: what every runtime would make of it first."""
    from wattir.frontends.onnx import lower
    from wattir.graph_check import check_graph
    from wattir.passes.cache import mark_caches
    from wattir.passes.layout import drop_dead, drop_views

    graph = mark_caches(drop_views(drop_dead(check_graph(lower(proto, name=name)))))
    sizes = {free: recipe.sizes.get(free) for free in graph.sizes}
    return check_graph(_with_sizes(graph, sizes))


def _with_sizes(graph: Any, sizes: dict[str, int | None]) -> Any:
    from wattir.ir import replace_graph

    return replace_graph(graph, sizes=sizes, batch="batch" if "batch" in sizes else None)


def main() -> int:
    """Makes the named models, or all; prints a line for each."""
    declare_missing_ops()
    register_attentions()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from model_zoo import RECIPES

    from wattir.models import FOLDER

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="built-in names; all of them if none is given")
    parser.add_argument("--out", default=FOLDER, help="folder for the .wattir files")
    parser.add_argument("--keep-onnx", help="folder to keep the ONNX files in")
    given = parser.parse_args()
    for name in given.names or RECIPES:
        make(name, RECIPES[name], given.out, given.keep_onnx)
    return 0


def make(name: str, recipe: Any, folder: str, kept: str | None) -> None:
    """Exports, lowers and writes one model."""
    from wattir.wattir_file import write_graph

    start = time.perf_counter()
    proto = export(recipe)
    if kept:
        with open(os.path.join(kept, f"{name}.onnx"), "wb") as file:
            file.write(proto.SerializeToString())
    graph = lower_model(proto, name, recipe)
    path = os.path.join(folder, f"{name}.wattir")
    write_graph(graph, path)
    unknown = sum(op.kind == "unknown" for op in graph.ops)
    taken = time.perf_counter() - start
    print(
        f"{name:24} {len(graph.ops):5} ops {unknown} unknown {graph.params:>14,} parameters "
        f"{os.path.getsize(path) / 1e3:7.0f} kB {taken:5.1f} s {'; '.join(graph.warnings)}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
