"""Names that users know: module paths for calls, words for free dims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

FREE = frozenset({
    "_assert_tensor_metadata", "_unsafe_view", "alias", "chunk", "contiguous", "detach", "dropout", "expand",
    "expand_as", "feature_dropout", "flatten", "getitem", "lift_fresh_copy", "movedim", "narrow", "permute", "reshape",
    "select", "slice", "split", "split_with_sizes", "squeeze", "sym_size", "t", "to", "transpose", "unbind",
    "unflatten", "unsqueeze", "view", "view_as",
})  # fmt: skip
"""Operators that leave a module with one other call its plain name."""


def call_names(calls: Sequence[tuple[str, str]]) -> list[str]:
    """A name for each (module path, operator): the path where the module makes no other call of weight, else
    ``path/operator``; numbered where it would come twice."""
    weighty = Counter(path for path, op in calls if op.rstrip("_") not in FREE)
    seen: Counter[str] = Counter()
    names = []
    for path, op in calls:
        alone = path != "" and weighty[path] == 1 and op.rstrip("_") not in FREE
        name = path if alone else f"{path}/{op}" if path else op
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def dim_names(inputs: Iterable[tuple[str, Sequence[str | None]]]) -> dict[str, str]:
    """Symbol -> name, for the symbols that are sizes of inputs: ``batch`` for axis 0 of the first input that has one
    there, else the input and the axis (``input_ids_1``)."""
    found: dict[str, str] = {}
    for name, axes in inputs:
        for axis, symbol in enumerate(axes):
            if symbol is None or symbol in found:
                continue
            first = axis == 0 and "batch" not in found.values()
            found[symbol] = "batch" if first else f"{name}_{axis}"
    return found
