"""Stand-ins for what depends on the content of tensors: a number asked for, or how many results there are.

Counts are bounded by their maximum; a number asked for is 1, a truth True. Each says so once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

Warn = Callable[[str], None]


def _item(warn: Warn, x: Any) -> Any:
    """The content of a tensor of one element; that of a constant of the code is known."""
    if not isinstance(x, FakeTensor) or x.constant is not None:
        return NotImplemented
    warn("the model's code asks for the content of a tensor: a number is taken as 1, a truth as True")
    if x.dtype == torch.bool:
        return True
    return 1.0 if x.dtype.is_floating_point else 1


def _nonzero(warn: Warn, x: Any) -> Any:
    _bounded(warn, "nonzero")
    return x.new_empty((x.numel(), x.dim()), dtype=torch.int64)


def _where(warn: Warn, x: Any) -> Any:
    """Of a condition alone: what nonzero gives, by axis; torch takes it apart below the trace where x is on meta."""
    _bounded(warn, "nonzero")
    return [x.new_empty((x.numel(),), dtype=torch.int64) for _ in range(x.dim())]


def _masked_select(warn: Warn, x: Any, mask: Any) -> Any:
    _bounded(warn, "masked_select")
    return x.new_empty(((x * mask).numel(),))


def _unique(warn: Warn, x: Any, *args: Any, **kwargs: Any) -> Any:
    _bounded(warn, "unique")
    whole = x.new_empty((x.numel(),))
    return whole, x.new_empty(x.shape, dtype=torch.int64), x.new_empty((x.numel(),), dtype=torch.int64)


def _unique_dim(warn: Warn, x: Any, dim: int = 0, *args: Any, **kwargs: Any) -> Any:
    _bounded(warn, "unique")
    count = x.shape[dim]
    return x.new_empty(x.shape), *(x.new_empty((count,), dtype=torch.int64) for _ in range(2))


def _index(warn: Warn, x: Any, indices: Any) -> Any:
    """A mask among the indices keeps all that it sees."""
    masks = [i for i in indices if i is not None and i.dtype in (torch.bool, torch.uint8)]
    if not masks:
        return NotImplemented
    _bounded(warn, "an index by a mask")
    shape: list[int] = []
    axis = 0
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            shape.append(x.shape[axis])
            axis += 1
            continue
        shape.append(index.numel())
        axis += index.dim()
    return x.new_empty((*shape, *x.shape[axis:]))


def _nms(warn: Warn, boxes: Any, *args: Any, **kwargs: Any) -> Any:
    _bounded(warn, "non-maximum suppression")
    return boxes.new_empty((boxes.shape[0],), dtype=torch.int64)


def _equal(warn: Warn, a: Any, b: Any) -> bool:
    warn("the model's code compares tensors: they are taken as equal")
    return True


def _repeat(warn: Warn, repeats: Any, output_size: int | None = None) -> Any:
    """Each index once where nothing says how often."""
    if output_size is not None:
        return NotImplemented
    _bounded(warn, "repeat_interleave, once for each")
    return repeats.new_empty((repeats.numel(),), dtype=torch.int64)


def _bincount(warn: Warn, x: Any, weights: Any = None, minlength: int = 0) -> Any:
    _bounded(warn, "bincount")
    return x.new_empty((max(minlength, 1),), dtype=torch.int64)


def _batch_norm(warn: Warn, x: Any, *args: Any, **kwargs: Any) -> Any:
    """In inference: what torch says of its results takes it ten times as long."""
    return torch.empty_like(x), x.new_empty((0,)), x.new_empty((0,))


def _bounded(warn: Warn, what: str) -> None:
    warn(f"how much {what} gives depends on data; bounded by its maximum")


STANDINS: dict[str, Callable[..., Any]] = {
    "aten._local_scalar_dense": _item,
    "aten.item": _item,
    "aten.nonzero": _nonzero,
    "aten.where.default": _where,
    "aten.nonzero_numpy": _where,
    "aten.masked_select": _masked_select,
    "aten._unique2": _unique,
    "aten._unique": _unique,
    "aten.unique_dim": _unique_dim,
    "aten.unique_consecutive": _unique,
    "aten.index": _index,
    "aten.equal": _equal,
    "aten.repeat_interleave.Tensor": _repeat,
    "aten.bincount": _bincount,
    "torchvision.nms": _nms,
    "aten._native_batch_norm_legit_no_training": _batch_norm,
}
"""Operator -> stand-in: called with a function that warns, then the operator's arguments; NotImplemented to run it."""
