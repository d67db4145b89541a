"""Objects among the inputs that hold tensors (KV caches, encodings, dataclasses) as torch's pytrees.

Classes that torch does not know are registered while a module is lowered, and forgotten after: an object is its
attributes that hold tensors, beside those that do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

_PLAIN = (
    torch.Tensor, torch.nn.Module, int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, type,
)  # fmt: skip


@contextmanager
def known_containers(*trees: Any) -> Iterator[None]:
    """Inside, torch's pytrees open every object in `trees` that holds tensors."""
    classes: list[type] = []
    try:
        for tree in trees:
            _register(tree, classes)
        yield
    finally:
        for cls in classes:
            pytree._deregister_pytree_node(cls)


def _register(tree: Any, classes: list[type]) -> None:
    """Registers the classes of the unknown leaves that hold tensors, the inner ones too."""
    for leaf in pytree.tree_leaves(tree):
        cls = type(leaf)
        if isinstance(leaf, _PLAIN) or cls in pytree.SUPPORTED_NODES or not _holds_tensors(leaf):
            continue
        pytree._private_register_pytree_node(  # for torch's own pytrees alone: others do not forget
            cls,
            _flatten,
            partial(_unflatten, cls),
            serialized_type_name=f"wattir.{cls.__module__}.{cls.__qualname__}.{id(cls)}",
            flatten_with_keys_fn=_flatten_with_keys,
        )
        classes.append(cls)
        for value in vars(leaf).values():
            _register(value, classes)


def _holds_tensors(value: Any, depth: int = 6) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if isinstance(value, _PLAIN) or depth == 0:
        return False
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return any(_holds_tensors(item, depth - 1) for item in value.values())
    return any(_holds_tensors(item, depth - 1) for item in getattr(value, "__dict__", {}).values())


class _Rest(dict[str, Any]):
    """The attributes without tensors; two objects of one class count as of one structure."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rest) and self.keys() == other.keys()

    __hash__ = None


def _flatten(value: Any) -> tuple[list[Any], Any]:
    parts = {name: part for name, part in vars(value).items() if _holds_tensors(part)}
    rest = _Rest((name, part) for name, part in vars(value).items() if name not in parts)
    return list(parts.values()), (tuple(parts), rest)


def _flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
    parts, context = _flatten(value)
    return [(pytree.GetAttrKey(name), part) for name, part in zip(context[0], parts, strict=True)], context


def _unflatten(cls: type, parts: Any, context: Any) -> Any:
    value: Any = object.__new__(cls)
    value.__dict__.update(context[1], **dict(zip(context[0], parts, strict=True)))
    return value
