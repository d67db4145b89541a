"""Views: only the shape changes. Strides are followed, so that a later reshape knows whether it copies."""

from __future__ import annotations

from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.program import TensorRef
from wattir.frontends.torch.strides import Strides, is_contiguous, is_dense, reshaped, row_major

SAME = (
    "alias", "detach", "lift", "lift_fresh", "resolve_conj", "resolve_neg", "positive", "requires_grad", "pin_memory",
    "_autocast_to_full_precision", "_autocast_to_reduced_precision", "is_pinned", "set_data", "sym_constrain_range",
)  # fmt: skip


@rule(*SAME)
def same(node: Node) -> None:
    """Nothing is made: the result is the argument."""
    x = node.tensor(0)
    if node.out.dtype == x.dtype:
        node.same(x)
    else:
        node.emit("copy", ins=(x,), function="cast")


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
def dropout(node: Node) -> None:
    """Nothing in inference; random numbers and a product in training."""
    x = node.tensor(0)
    if not node.arg(2, "train", False) or node.arg(1, "p", 0.5) == 0:
        node.same(x)
        if len(node.outs) > 1:
            node.emit("copy", ins=(), outs=node.outs[1:], function="fill")
        return
    mask = node.inner("mask", x.shape, "bool")
    node.emit("random", ins=(), outs=(mask,), function="bernoulli")
    node.emit("pointwise", ins=(x, mask), function="dropout", ops=2)


def copied(node: Node, x: Value, function: str, ref: TensorRef | None = None) -> None:
    """`x` is written anew in row-major order."""
    node.emit("copy", ins=(x,), outs=(ref or node.out,), function=function)


def shape_of(node: Node, ref: TensorRef | None = None) -> tuple[int, ...]:
    """The shape of a result at sample sizes."""
    return node.lowering.sample((ref or node.out).shape)


def strides_of(node: Node, x: Value, target: tuple[int, ...]) -> Strides | None:
    return reshaped(node.lowering.sample(x.shape), x.strides, target)


@rule("view", "_unsafe_view", "unflatten", "view_as", "_reshape_alias")
def view(node: Node) -> None:
    """`view.dtype` reads the same bytes as another type."""
    x = node.tensor(0)
    target = shape_of(node)
    strides = row_major(target) if node.out.dtype != x.dtype else strides_of(node, x, target)
    node.view(x, strides=row_major(target) if strides is None else strides)


@rule("reshape", "flatten", "reshape_as", "ravel")
def reshape(node: Node) -> None:
    """A view where the strides allow it, else a copy."""
    x = node.tensor(0)
    strides = strides_of(node, x, shape_of(node))
    if strides is None:
        copied(node, x, "reshape")
    else:
        node.view(x, strides=strides)


@rule("contiguous")
def contiguous(node: Node) -> None:
    x = node.tensor(0)
    wanted = str(node.arg(1, "memory_format", "torch.contiguous_format"))
    dense = is_contiguous(node.lowering.sample(x.shape), x.strides)
    if dense or "channels_last" in wanted:
        node.same(x)
    else:
        copied(node, x, "contiguous")


@rule("clone", "lift_fresh_copy")
def clone(node: Node) -> None:
    """A copy that keeps the order of the axes where it is dense."""
    x = node.tensor(0)
    rows = is_contiguous(node.lowering.sample(x.shape), x.strides)
    if rows and "contiguous_format" in str(node.arg(1, "memory_format")):
        node.same(x)  # what `contiguous` becomes
        return
    keep = "preserve" in str(node.arg(1, "memory_format", "torch.preserve_format"))
    copied(node, x, "clone")
    if keep and is_dense(node.lowering.sample(x.shape), x.strides):
        node.lowering.env[node.out.name].strides = x.strides


# ---- axes change places ---------------------------------------------------------------------------------------------


def permuted(node: Node, x: Value, order: list[int]) -> None:
    node.view(x, strides=tuple(x.strides[axis] for axis in order))


@rule("transpose", "swapaxes", "swapdims")
def transpose(node: Node) -> None:
    x = node.tensor(0)
    order = list(range(x.rank))
    if order:
        first, second = int(node.arg(1, "dim0")) % x.rank, int(node.arg(2, "dim1")) % x.rank
        order[first], order[second] = order[second], order[first]
    permuted(node, x, order)


@rule("t", "numpy_T", "mT", "mH", "adjoint", "matrix_H")
def matrix_transpose(node: Node) -> None:
    x = node.tensor(0)
    order = list(range(x.rank))
    order = order[::-1] if node.op == "numpy_T" else [*order[:-2], *order[-2:][::-1]]
    permuted(node, x, order)


@rule("permute")
def permute(node: Node) -> None:
    x = node.tensor(0)
    permuted(node, x, node.places(1, "dims", x.rank))


@rule("movedim", "moveaxis")
def movedim(node: Node) -> None:
    x = node.tensor(0)
    moved = node.places(1, "source", x.rank), node.places(2, "destination", x.rank)
    order = [axis for axis in range(x.rank) if axis not in moved[0]]
    for target, source in sorted(zip(moved[1], moved[0], strict=True)):
        order.insert(target, source)
    permuted(node, x, order)


# ---- axes come and go -----------------------------------------------------------------------------------------------


@rule("unsqueeze")
def unsqueeze(node: Node) -> None:
    x = node.tensor(0)
    axis = int(node.arg(1, "dim")) % (x.rank + 1)
    node.view(x, strides=(*x.strides[:axis], 1, *x.strides[axis:]))


@rule("squeeze")
def squeeze(node: Node) -> None:
    x = node.tensor(0)
    axes = node.axes(1)
    kept = [axis for axis in range(x.rank) if not (axis in axes and x.shape[axis] == 1)]
    node.view(x, strides=tuple(x.strides[axis] for axis in kept))


@rule("expand", "expand_as", "broadcast_to")
def expand(node: Node) -> None:
    """Repeated axes have stride 0: nothing is written."""
    x = node.tensor(0)
    target = shape_of(node)
    before = (1,) * (len(target) - x.rank) + node.lowering.sample(x.shape)
    strides = (0,) * (len(target) - x.rank) + x.strides
    node.view(x, strides=tuple(0 if a != b else s for a, b, s in zip(before, target, strides, strict=True)))


@rule("broadcast_tensors", "meshgrid")
def broadcast_tensors(node: Node) -> None:
    for x, ref in zip(node.tensors(0, "tensors"), node.outs, strict=True):
        node.view(x, ref, (0,) * len(ref.shape))


# ---- parts ----------------------------------------------------------------------------------------------------------


@rule("slice", "narrow")
def slice_(node: Node) -> None:
    x = node.tensor(0)
    axis = int(node.arg(1, "dim", 0)) % max(x.rank, 1)
    step = int(node.arg(4, "step", 1)) if node.op == "slice" else 1
    node.view(x, strides=tuple(s * step if place == axis else s for place, s in enumerate(x.strides)))


@rule("select")
def select(node: Node) -> None:
    x = node.tensor(0)
    axis = int(node.arg(1, "dim")) % x.rank
    node.view(x, strides=(*x.strides[:axis], *x.strides[axis + 1 :]))


@rule("split", "chunk", "split_with_sizes", "tensor_split", "unsafe_split", "unsafe_chunk", "hsplit", "vsplit",
      "dsplit", "unsafe_split_with_sizes")  # fmt: skip
def split(node: Node) -> None:
    x = node.tensor(0)
    for ref in node.outs:
        node.view(x, ref, x.strides)


@rule("unbind")
def unbind(node: Node) -> None:
    x = node.tensor(0)
    axis = int(node.arg(1, "dim", 0)) % x.rank
    for ref in node.outs:
        node.view(x, ref, (*x.strides[:axis], *x.strides[axis + 1 :]))


@rule("diagonal", "linalg_diagonal", "unfold", "as_strided", "view_as_complex", "view_as_real", "real", "imag", "_conj",
      "conj", "_neg_view", "chalf", "values", "indices")  # fmt: skip
def strided(node: Node) -> None:
    """Other views; `as_strided` and `unfold` overlap, so that a reshape of them copies."""
    x = node.tensor(0)
    target = shape_of(node)
    strides = row_major(target)
    if node.op in ("unfold", "as_strided", "diagonal"):
        strides = tuple(stride * 2 + 1 for stride in strides)
    node.view(x, strides=strides)


@rule("_add_batch_dim", "_remove_batch_dim", space="python")
def vmapped(node: Node) -> None:
    """A body under `vmap` sees one axis less."""
    node.view(node.tensor(0))


@rule("atleast_1d", "atleast_2d", "atleast_3d")
def at_least(node: Node) -> None:
    for x, ref in zip(node.inputs(), node.outs, strict=True):
        node.view(x, ref, row_major(shape_of(node, ref)))


@rule("view_copy", "slice_copy", "select_copy", "expand_copy", "permute_copy", "transpose_copy", "unsqueeze_copy",
      "squeeze_copy", "split_copy", "split_with_sizes_copy", "unbind_copy", "t_copy", "alias_copy", "detach_copy",
      "diagonal_copy", "as_strided_copy", "unfold_copy", "view_as_complex_copy", "view_as_real_copy",
      "_reshape_copy", "_conj_copy")  # fmt: skip
def view_copy(node: Node) -> None:
    for ref in node.outs:
        copied(node, node.tensor(0), node.op.removesuffix("_copy"), ref)
