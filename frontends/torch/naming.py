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


_WORDS = {("input_ids", 1): "seq", ("decoder_input_ids", 1): "decoder_seq"}


def dim_names(inputs: Iterable[tuple[str, Sequence[str | None]]]) -> dict[str, str]:
    """Symbol -> name, for the symbols that are sizes of inputs: ``batch`` for axis 0 of the first input that has one
    there, ``seq`` for a text's tokens, else the input and the axis (``x_1``)."""
    found: dict[str, str] = {}
    for name, axes in inputs:
        for axis, symbol in enumerate(axes):
            if symbol is None or symbol in found:
                continue
            word = "batch" if axis == 0 else _WORDS.get((name, axis), f"{name}_{axis}")
            found[symbol] = f"{name}_{axis}" if word in found.values() else word
    return found
