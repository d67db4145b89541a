"""Free dims of a module's inputs: which axes of which examples, with which names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from wattir.errors import InputError, suggestion
from wattir.frontends.torch.inputs import Inputs


class FreeDims:
    """The arguments to export with, and what is known of their free dims.

    Examples whose free axis has one element get a longer one there, because torch takes 0 and 1 as fixed; the default
    stays that of the example.
    """

    def __init__(self, module: torch.nn.Module, inputs: Inputs) -> None:
        self.args, self.kwargs = inputs.args, dict(inputs.kwargs)
        self.defaults: dict[str, int | None] = {}
        self.warnings: list[str] = []
        self.axes: dict[str, dict[int, str]] = {}
        self.order = argument_names(module, inputs)
        for key, names in inputs.dims.items():
            self._free(self._name(key, module), names)

    def _name(self, key: str | int, module: torch.nn.Module) -> str:
        if isinstance(key, int) and 0 <= key < len(self.order):
            return self.order[key]
        if key not in self.order:
            known = ", ".join(self.order)
            near = suggestion(str(key), self.order)
            raise InputError(f"{type(module).__name__}: free dims of input {key!r}; expected one of {known}{near}")
        return str(key)

    def _free(self, name: str, names: Any) -> None:
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        axes = {int(axis): str(dim) for axis, dim in pairs if isinstance(dim, str)}
        example = self._example(name)
        if not isinstance(example, torch.Tensor):
            raise InputError(f"free dims of input {name!r}, which is a {type(example).__name__}; expected a tensor")
        shape = list(example.shape)
        for axis, dim in axes.items():
            if not 0 <= axis < len(shape):
                raise InputError(f"input {name!r}: free axis {axis} of shape {shape}; expected 0 to {len(shape) - 1}")
            self.defaults.setdefault(dim, int(shape[axis]))
            shape[axis] = max(int(shape[axis]), 2)
        self.axes[name] = axes
        if shape != list(example.shape):
            self._replace(name, torch.empty(shape, dtype=example.dtype, device=example.device))

    def _example(self, name: str) -> Any:
        place = self.order.index(name)
        return self.args[place] if place < len(self.args) else self.kwargs[name]

    def _replace(self, name: str, value: Any) -> None:
        place = self.order.index(name)
        if place < len(self.args):
            self.args = (*self.args[:place], value, *self.args[place + 1 :])
        else:
            self.kwargs[name] = value

    def dynamic_shapes(self) -> Any:
        """What `torch.export.export` takes; None where nothing is free."""
        if not self.axes:
            return None
        auto = torch.export.Dim.AUTO
        every: dict[str, Any] = {}
        for name in self.order:
            example = self._example(name)
            every[name] = {axis: auto for axis in self.axes[name]} if name in self.axes else _static(example)
        return every

    def symbols(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Symbol -> name, from the exported inputs; a dim that export fixed is told in `warnings`."""
        found: dict[str, str] = {}
        for name, axes in self.axes.items():
            value = values.get(name)
            for axis, dim in axes.items():
                size = value.shape[axis] if isinstance(value, torch.Tensor) else 0
                if isinstance(size, int):
                    self.warnings.append(f"dim {dim!r} of input {name!r} is fixed at {size} by the model's own code")
                    self.defaults.pop(dim, None)
                elif size.node.expr.is_Symbol:
                    found[str(size.node.expr)] = dim
        return found


def _static(example: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda leaf: None, example)


def argument_names(module: torch.nn.Module, inputs: Inputs) -> list[str]:
    """Names of the arguments in order: those of `forward` for positional ones."""
    names = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    places = [names[i] if i < len(names) else f"args_{i - len(names)}" for i in range(len(inputs.args))]
    return [*places, *inputs.kwargs]
