"""Names that a reader knows, from what exporters write beside the nodes.

torch's exporters name nodes ``/layer1/layer1.0/conv1/Conv``, or leave the module's path in the node's metadata.
"""

from __future__ import annotations

import re

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"
KIND = "pkg.torch.export.graph_signature.InputSpec.kind"  # PARAMETER, BUFFER, CONSTANT_TENSOR


def label_of(proto: onnx.NodeProto) -> str:
    """A readable path for a node: its module and its op, else its own name, else its op and first output."""
    path = module_path(proto)
    if path:
        return f"{path}/{proto.op_type}"
    first = next((name for name in proto.output if name), "")
    return readable(proto.name) or f"{proto.op_type}:{first}"


def module_path(proto: onnx.NodeProto) -> str:
    """The module that a node is of, as its metadata has it: ``layer1.0.conv1``; "" where there is none."""
    written = next((entry.value for entry in proto.metadata_props if entry.key == SCOPES), "")
    scopes: list[str] = re.findall(r"'([^']*)'", written)[:-1]  # the last is the node itself
    return next((scope for scope in reversed(scopes) if scope and not scope.startswith("_")), "")


def readable(name: str) -> str:
    """`/layer1/layer1.0/conv1/Conv` -> `layer1.0/conv1/Conv`: a part that the next one repeats is left out."""
    parts = [part for part in name.strip().split("/") if part]
    kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=False) if not after.startswith(part + ".")]
    return "/".join(kept)


def exported_roles(graph: onnx.GraphProto) -> dict[str, str]:
    """Initializer -> role, where torch's exporter says whether it is a parameter (a scalar too) or a buffer."""
    kinds = (
        (info.name, entry.value) for info in graph.value_info for entry in info.metadata_props if entry.key == KIND
    )
    return {name: "weight" if kind == "PARAMETER" else "constant" for name, kind in kinds}
