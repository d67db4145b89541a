"""Elements move: joins, pads, rolls, reading and writing by index."""

from __future__ import annotations

from functools import partial

from wattir.dims import Size, product
from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.program import TensorRef

COPIES = {
    "cat": "concat", "concat": "concat", "concatenate": "concat", "stack": "stack", "hstack": "concat",
    "vstack": "concat",
    "dstack": "concat", "column_stack": "concat", "row_stack": "concat", "_stack": "stack", "pad": "pad",
    "constant_pad_nd": "pad", "reflection_pad1d": "pad", "reflection_pad2d": "pad", "reflection_pad3d": "pad",
    "replication_pad1d": "pad", "replication_pad2d": "pad", "replication_pad3d": "pad", "_pad_circular": "pad",
    "_pad_enum": "pad", "roll": "roll", "flip": "flip", "fliplr": "flip", "flipud": "flip", "rot90": "flip",
    "repeat": "tile", "tile": "tile", "repeat_interleave": "repeat", "pixel_shuffle": "depth_to_space",
    "pixel_unshuffle": "space_to_depth", "channel_shuffle": "shuffle", "native_channel_shuffle": "shuffle",
    "im2col": "im2col", "diag": "diagonal", "diag_embed": "diagonal", "diagflat": "diagonal", "block_diag": "diagonal",
    "pad_sequence": "pad", "_pack_padded_sequence": "pack", "_pad_packed_sequence": "pack",
    "fft_fftshift": "roll", "fft_ifftshift": "roll", "max_unpool2d": "max_unpool", "max_unpool3d": "max_unpool",
    "_chunk_cat": "concat", "_nested_tensor_from_mask": "pack", "_nested_from_padded": "pack",
    "nested_to_padded_tensor": "pack", "_jagged_to_padded_dense_forward": "pack",
    "_padded_dense_to_jagged_forward": "pack", "to_padded_tensor": "pack", "flatten_dense_tensors": "concat",
    "_convert_weight_to_int4pack": "pack", "slice_inverse": "pad",
}  # fmt: skip


@rule(*COPIES)
def copy(node: Node) -> None:
    node.emit("copy", function=COPIES[node.op])


@rule("copy")
def copy_(node: Node) -> None:
    """`a.copy_(b)`: a's old content is not read; where a is a part of a memory, that part is written."""
    target, source = node.tensor(0), node.tensor(1, "src")
    whole = target.storage.whole
    if node.in_place and whole is not None and whole.elements != target.elements:
        node.emit("scatter", ins=(target, source), function="copy", updates=target.elements)
    else:
        node.emit("copy", ins=(source,), function="copy")


# ---- reading by index -----------------------------------------------------------------------------------------------


@rule("embedding", "embedding_renorm")
def embedding(node: Node) -> None:
    node.emit("gather", function="embedding")


@rule("index_select", "gather", "take", "take_along_dim", "_index_select")
def gather(node: Node) -> None:
    table = node.tensor(0)
    node.emit("gather", function="embedding" if table.rank == 2 and _is_weight(node, table) else "gather")


def _is_weight(node: Node, value: Value) -> bool:
    return node.builder.tensors[value.name].role == "weight"


@rule("index", "_unsafe_index", "_unsafe_masked_index", "masked_select")
def index(node: Node) -> None:
    node.emit("gather", function="index")


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(node: Node) -> None:
    """Rows [indices, d] are read, then summed into bags."""
    weight, indices = node.tensor(0), node.tensor(1)
    rows = node.inner("rows", (indices.elements, weight.shape[1]), weight.dtype)
    node.emit("gather", ins=(weight, indices), outs=(rows,), function="embedding")
    bags: Size = node.out.shape[0]
    length = indices.elements // bags if bags != 0 else 1
    node.emit("reduction", ins=[rows, *node.inputs()[2:]], outs=(node.out,), function="sum", length=length)
    if node.outs[1:]:
        node.emit("view", ins=(), outs=node.outs[1:], function="empty")


# ---- writing by index -----------------------------------------------------------------------------------------------

SCATTERS = {
    "scatter": (2, 3), "scatter_add": (2, 3), "scatter_reduce": (2, 3), "index_add": (3, 2), "index_copy": (3, 2),
    "index_fill": (2, None), "index_put": (2, 2), "_unsafe_index_put": (2, 2), "_index_put_impl": (2, 2),
    "index_reduce": (3, 2), "masked_scatter": (2, 2), "put": (1, 2), "slice_scatter": (1, 1),
    "select_scatter": (1, 1), "diagonal_scatter": (1, 1), "as_strided_scatter": (1, 1),
    "_unsafe_masked_index_put_accumulate": (3, 3),
}  # fmt: skip
"""Operator -> where its arguments hold what is written, else the index whose elements count."""


def _scatter(node: Node, place: int, other: int | None) -> None:
    """In place, or first a copy of the whole where the result is another tensor than a kept one."""
    x = node.tensor(0)
    source = next((v for p in (place, other) if p is not None and (v := node.value(p)) is not None), None)
    updates = source.elements if source is not None else _indexed(node, x)
    out: TensorRef | Value = node.out
    in_place = node.in_place or node.out.name in node.lowering.kept
    if not in_place:
        whole = node.inner("copy", x.shape, x.dtype)
        node.emit("copy", ins=(x,), outs=(whole,), function="clone")
        x = whole
    others = [value for value in node.inputs() if value.name != node.tensor(0).name]
    node.emit("scatter", ins=[x, *others], outs=(out,), function=node.op, updates=updates)


def _indexed(node: Node, x: Value) -> Size:
    rows = product(value.elements for value in node.inputs()[1:2])
    return rows if x.rank < 2 else rows * product(x.shape[1:])


for _op, (_place, _other) in SCATTERS.items():
    rule(_op)(partial(_scatter, place=_place, other=_other))
