"""Einsum: operands are contracted two at a time from the left, as torch does without a path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wattir.dims import Size, product
from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.program import TensorRef


@dataclass(slots=True)
class Term:
    """An operand: the value, and one letter for each of its axes."""

    value: Value
    letters: str


@rule("einsum")
def einsum(node: Node) -> None:
    equation = str(node.arg(0, "equation", "")).replace(" ", "")
    values = node.tensors(1, "tensors")
    inputs, out = _letters(node, equation, values)
    sizes: dict[str, Size] = {}
    for word, value in zip(inputs, values, strict=True):
        for letter, size in zip(word, value.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    terms = [Term(value, word) for value, word in zip(values, inputs, strict=True)]
    left = terms[0]
    for index, right in enumerate(terms[1:], 1):
        later = set(out).union(*(term.letters for term in terms[index + 1 :]))
        left = _contracted(node, left, right, later, sizes, out if index == len(terms) - 1 else None)
    if len(terms) == 1:
        _one_operand(node, left, out, sizes)


def _letters(node: Node, equation: str, values: list[Value]) -> tuple[list[str], str]:
    """The letters of every operand and of the output; an ellipsis becomes upper-case Greek letters."""
    left, arrow, right = equation.partition("->")
    words = left.split(",")
    if len(words) != len(values):
        node.fail(f"equation {equation!r} with {len(values)} operands", f"{len(words)} operands")
    widths = [value.rank - len(word.replace("...", "")) for word, value in zip(words, values, strict=True)]
    widest = max(widths, default=0)
    dots = "".join(chr(0x391 + index) for index in range(widest))
    inputs = [word.replace("...", dots[widest - width :]) for word, width in zip(words, widths, strict=True)]
    if not arrow:
        counted = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(letter for letter in set(counted) if counted.count(letter) == 1))
    return inputs, right.replace("...", dots)


def _shape(letters: Iterable[str], sizes: dict[str, Size]) -> tuple[Size, ...]:
    return tuple(sizes[letter] for letter in letters)


def _summed(node: Node, term: Term, kept: set[str], sizes: dict[str, Size]) -> Term:
    """`term` without the letters that are not `kept`."""
    dropped = [letter for letter in dict.fromkeys(term.letters) if letter not in kept]
    if not dropped:
        return term
    letters = "".join(letter for letter in dict.fromkeys(term.letters) if letter in kept)
    made = node.inner(f"sum_{letters}", _shape(letters, sizes), term.value.dtype)
    node.emit("reduction", ins=(term.value,), outs=(made,), function="sum", length=product(_shape(dropped, sizes)))
    return Term(made, letters)


def _contracted(
    node: Node, left: Term, right: Term, later: set[str], sizes: dict[str, Size], out: str | None
) -> Term:  # fmt: skip
    """One product: groups are the letters both have and keep, k the ones both have and lose."""
    left = _summed(node, left, later | set(right.letters), sizes)
    right = _summed(node, right, later | set(left.letters), sizes)
    both = set(left.letters) & set(right.letters)
    every = dict.fromkeys(left.letters + right.letters)
    letters = out if out is not None else "".join(letter for letter in every if letter in later)
    shape = _shape(letters, sizes)
    made: TensorRef | Value = node.out if out is not None else node.inner(f"product_{letters}", shape, left.value.dtype)
    pair = (left.value, right.value)
    if both - later:
        groups, m, n, k = (product(_shape(part, sizes)) for part in (
            both & later, set(left.letters) - both, set(right.letters) - both, both - later))  # fmt: skip
        node.emit("matmul", ins=pair, outs=(made,), groups=groups, m=m, n=n, k=k)
    else:
        node.emit("pointwise", ins=pair, outs=(made,), function="mul", ops=1)
    return Term(made, letters) if isinstance(made, Value) else left


def _one_operand(node: Node, term: Term, out: str, sizes: dict[str, Size]) -> None:
    """A sum, or a view."""
    dropped = [letter for letter in dict.fromkeys(term.letters) if letter not in out]
    if dropped:
        node.emit("reduction", ins=(term.value,), function="sum", length=product(_shape(dropped, sizes)))
    else:
        node.view(term.value)
