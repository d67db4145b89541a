"""Sequences and optionals. A sequence is a list of values; nothing moves until it is joined.

The length of a sequence is its shape, `(length,)`. Where `items` are fewer, the last of them stands for the rest.
"""

from __future__ import annotations

from wattir.dims import Size, ceildiv
from wattir.frontends.onnx.broadcast import axis_of
from wattir.frontends.onnx.dtypes import dtype_of
from wattir.frontends.onnx.loops import MAX_ITEMS, Body, body_of, emit, run_body
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.rules_move import joined
from wattir.frontends.onnx.values import type_of


def sequence(node: Node, items: list[Value], length: Size | None = None, dtype: str = "", index: int = 0) -> None:
    """Output `index` is a sequence of `items`, or of `length` elements of which the last item stands for the rest."""
    dtype = dtype or (items[0].dtype if items else "fp32")
    count = len(items) if length is None else length
    node.same(index, Value(node.out_names[index], (count,), dtype, items=items))


def _items(node: Node, index: int) -> list[Value]:
    found = node.value(index).items
    if found is None:
        node.fail(f"input {index} is a tensor", "a sequence")
    return found


def _is_listed(value: Value) -> bool:
    """Whether all elements are told apart."""
    return value.items is not None and value.shape == (len(value.items),)


def _position(node: Node, index: int, length: int) -> int | None:
    """A position in a sequence; None where it is not known."""
    found = node.known(index)
    if found is None or not isinstance(found[0], int) or not -length <= found[0] < max(length, 1):
        return None
    return found[0] % length if length else 0


@rule("SequenceEmpty")
def sequence_empty(node: Node) -> None:
    sequence(node, [], dtype=dtype_of(node.attr("dtype"), "fp32"))


@rule("SequenceConstruct")
def sequence_construct(node: Node) -> None:
    sequence(node, [v for v in node.ins if v is not None])


@rule("SequenceInsert")
def sequence_insert(node: Node) -> None:
    into, items, new = node.value(0), list(_items(node, 0)), node.value(1)
    if not _is_listed(into):
        sequence(node, items or [new], into.shape[0] + 1)
        return
    at = _position(node, 2, len(items)) if node.given(2) else len(items)
    items.insert(len(items) if at is None else at, new)
    sequence(node, items)


@rule("SequenceErase")
def sequence_erase(node: Node) -> None:
    source, items = node.value(0), list(_items(node, 0))
    if not _is_listed(source):
        sequence(node, items, source.shape[0] - 1)
        return
    if not items:
        node.fail("an empty sequence", "one with an element to erase")
    at = _position(node, 1, len(items)) if node.given(1) else len(items) - 1
    del items[-1 if at is None else at]
    sequence(node, items, dtype=source.dtype)


@rule("SequenceLength")
def sequence_length(node: Node) -> None:
    node.result((), "int64", (node.value(0).shape[0],))


@rule("SequenceAt")
def sequence_at(node: Node) -> None:
    source, items = node.value(0), _items(node, 0)
    at = _position(node, 1, len(items)) if _is_listed(source) else len(items) - 1
    if items:
        if at is None and len({item.shape for item in items}) > 1:
            node.warn("which element it takes depends on data; the first one's shape is taken")
        node.same(0, items[at or 0])
        return
    hint = node.context.hint(node.out_names[0])
    if hint is None:
        node.fail("an element of an empty sequence", "a sequence with elements")
    node.same(0, node.context.value(node.out_names[0], hint[0], hint[1]))
    emit(node, "host", [], [node.results[0]], "sequence_at")  # type: ignore[list-item]


# ---- tensors to sequences and back --------------------------------------------------------------------------------


@rule("SplitToSequence")
def split_to_sequence(node: Node) -> None:
    x = node.value(0)
    axis = axis_of(node, node.attr("axis", 0), x.rank)
    sizes, length = _parts(node, x.shape[axis])
    keep = node.given(1) or node.attr("keepdims", 1)
    shapes = [(*x.shape[:axis], *([size] if keep else []), *x.shape[axis + 1 :]) for size in sizes]
    items: list[Value] = [node.context.value(f"{node.out_names[0]}.{i}", s, x.dtype) for i, s in enumerate(shapes)]
    emit(node, "copy" if len(items) == length else "view", [x], items, "split")
    sequence(node, items, length, x.dtype)


def _parts(node: Node, size: Size) -> tuple[list[Size], Size]:
    """Sizes of the parts and their number; one size where the number is a formula."""
    given = node.known(1)
    if node.given(1) and given is None:
        node.warn("the sizes depend on data; taken as 1")
    if given is not None and node.value(1).rank == 1:
        return list(given), len(given)
    part: Size = 1 if given is None else given[0]
    count = ceildiv(size, part)
    if not isinstance(count, int) or not isinstance(size, int) or not isinstance(part, int) or count > MAX_ITEMS:
        return [part], count
    return [min(part, size - i * part) for i in range(count)], count


@rule("ConcatFromSequence")
def concat_from_sequence(node: Node) -> None:
    source, items = node.value(0), _items(node, 0)
    if not items:
        node.fail("an empty sequence", "one with elements")
    new_axis = bool(node.attr("new_axis", 0))
    rank = items[0].rank + new_axis
    axis = axis_of(node, node.attr("axis", 0), rank)
    shapes = [(*v.shape[:axis], 1, *v.shape[axis:]) if new_axis else v.shape for v in items]
    shape = joined(node, shapes, axis)
    more = source.shape[0] - len(items)  # elements like the last
    shape = (*shape[:axis], shape[axis] + more * shapes[-1][axis], *shape[axis + 1 :])
    node.same(0, node.context.value(node.out_names[0], shape, items[0].dtype))
    emit(node, "copy", items, [node.results[0]], "concat")  # type: ignore[list-item]


@rule("SequenceMap")
def sequence_map(node: Node) -> None:
    """The body runs for each element of the first sequence; other tensors are handed to every run."""
    sources = [v for v in node.ins if v is not None]
    length = sources[0].shape[0]
    ins = []
    for value in sources:
        if value.items == []:
            node.fail("an empty sequence", "one with elements")
        ins.append(value.items[0] if value.items else value)
    if any(_is_listed(v) and len({item.shape for item in v.items or []}) > 1 for v in sources):
        node.warn("its elements have several shapes; the first one's is taken for all")
    _, outputs = run_body(node, Body(body_of(node, "body"), length, tail=ins))
    for index, value in enumerate(outputs):
        many = isinstance(length, int) and length <= MAX_ITEMS
        sequence(node, [value] * length if many else [value], length, value.dtype, index)  # type: ignore[operator]


# ---- optionals ----------------------------------------------------------------------------------------------------


@rule("Optional")
def optional(node: Node) -> None:
    """Its element, or an empty sequence where it has none."""
    if node.given(0):
        node.same(0, node.value(0))
        return
    declared = node.attr("type")
    tensor = type_of(declared)[1] if declared is not None else None
    sequence(node, [], dtype=dtype_of(getattr(tensor, "elem_type", 0), "fp32"))


@rule("OptionalHasElement")
def optional_has_element(node: Node) -> None:
    has = node.given(0) and node.value(0).items != []
    node.result((), "bool", (has,))


@rule("OptionalGetElement")
def optional_get_element(node: Node) -> None:
    node.same(0, node.value(0))
