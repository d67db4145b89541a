"""Canonical form: dead ops, views, and transposes that a contraction reads through."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from itertools import compress

from wattir.dims import bounds
from wattir.ir import Graph, Op, live_ops
from wattir.passes.rewrite import resolve, with_ops


def drop_dead(graph: Graph) -> Graph:
    """Without the ops whose results nobody reads. State and collectives stay: they act on the world."""
    return with_ops(graph, compress(graph.ops, live_ops(graph.ops, graph.outputs, graph.tensors)))


def drop_views(graph: Graph) -> Graph:
    """Without views: whoever reads a view's result reads what it is a view of.

    A tensor that grew in the frontend's eyes (a broadcast view) keeps its small bytes, which is what is read. A view of
    a part (a slice) stays, at no cost: whoever reads it reads that part alone.
    """
    return _without(graph, [op for op in graph.ops if op.kind == "view" and op.ins and not _is_part(graph, op)])


def _is_part(graph: Graph, op: Op) -> bool:
    whole, part = graph.tensors[op.ins[0]], graph.tensors[op.outs[0]]
    return part.dtype == whole.dtype and bounds(part.elements - whole.elements)[1] < 0


def read_through_parts(graph: Graph) -> Graph:
    """Slices, splits and reads of one constant index become views of a part, which whoever reads them reads in place.

    Some frameworks copy the part, in others it is a view: compilers make both alike. What the network gives back is
    still copied out.
    """
    return with_ops(graph, (_as_part(op) if _reads_part(graph, op) else op for op in graph.ops))


def _as_part(op: Op) -> Op:
    return replace(op, kind="view", ins=op.ins[:1], attrs={"function": op.attrs["function"]})


def _reads_part(graph: Graph, op: Op) -> bool:
    if not (op.kind == "copy" and op.attrs["function"] in _PARTS) and not _is_select(graph, op):
        return False
    computed = bool(op.ins) and graph.tensors[op.ins[0]].role in ("input", "value")
    return computed and not any(name in graph.outputs or graph.tensors[name].role == "state" for name in op.outs)


_PARTS = ("slice", "split")


def _is_select(graph: Graph, op: Op) -> bool:
    if op.kind != "gather" or op.attrs["function"] != "gather" or len(op.ins) != 2:
        return False
    index = graph.tensors[op.ins[1]]
    return index.role == "constant" and index.elements == 1


def join_parts(graph: Graph) -> Graph:
    """A tensor's parts, put together to as many elements as it has (a roll, patches merged), are that tensor reordered.

    The copy reads the whole at once, so that it can join the kernel that makes it.
    """
    wholes = {id(op): whole for op in graph.ops if (whole := _joined(graph, op)) is not None}
    ops = (replace(op, ins=(wholes[id(op)],), attrs=_REORDER) if id(op) in wholes else op for op in graph.ops)
    return drop_dead(with_ops(graph, ops)) if wholes else graph


_REORDER = {"function": "reorder"}


def _joined(graph: Graph, op: Op) -> str | None:
    """The tensor whose parts a concatenation puts together, if it is as large."""
    if op.kind != "copy" or op.attrs["function"] not in ("concat", "stack"):
        return None
    makers = [graph.producers.get(name) for name in op.ins]
    wholes = {made.ins[0] if made is not None and made.kind == "view" and made.ins else None for made in makers}
    whole = wholes.pop() if len(wholes) == 1 else None
    if whole is None or graph.tensors[whole].elements != graph.tensors[op.outs[0]].elements:
        return None
    return whole


def fold_transposes(graph: Graph) -> Graph:
    """Without the transposes that only contractions read, in turn or at once: these take operands in any layout."""
    return _folded(graph, ("transpose",), ("matmul", "attention"))


def fold_reordering(graph: Graph) -> Graph:
    """Without the copies that only change the layout of what contractions, or parts that they read, are made of.

    A framework writes them where its strides cannot say how the elements lie: a compiler's kernel computes addresses.
    """
    return _folded(graph, ("transpose", "reshape", "contiguous", "clone"), ("matmul", "attention", "view"))


def _folded(graph: Graph, functions: Container[str], readers: Container[str]) -> Graph:
    free: dict[int, Op] = {}
    for op in reversed(graph.ops):
        if _only_reorders(graph, op, functions) and _only_these_read(graph, op.outs[0], readers, free):
            free[id(op)] = op
    return _without(graph, list(reversed(free.values())))


def _only_reorders(graph: Graph, op: Op, functions: Container[str]) -> bool:
    if op.kind != "copy" or op.attrs["function"] not in functions:
        return False
    return graph.tensors[op.ins[0]].elements == graph.tensors[op.outs[0]].elements


def _only_these_read(graph: Graph, name: str, kinds: Container[str], free: Container[int]) -> bool:
    readers = graph.readers[name]
    read = all(_reads_in_place(graph, op, kinds, free) for op in readers)
    return bool(readers) and name not in graph.outputs and read


def _reads_in_place(graph: Graph, op: Op, kinds: Container[str], free: Container[int]) -> bool:
    if id(op) in free or op.kind not in kinds:
        return id(op) in free
    if op.kind != "view":
        return True
    return all(_only_these_read(graph, part, kinds, free) for part in op.outs if graph.readers[part])


def _without(graph: Graph, ops: list[Op]) -> Graph:
    renamed: dict[str, str] = {}
    gone = {id(op) for op in ops}
    for op in ops:
        renamed.update({out: resolve(op.ins[0], renamed) for out in op.outs})
    return with_ops(graph, (op for op in graph.ops if id(op) not in gone), renamed)
