"""MatMul, Gemm and Einsum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wattir.dims import Size, product
from wattir.errors import SizeError
from wattir.frontends.onnx.broadcast import broadcast, text
from wattir.frontends.onnx.node import Node, Value, rule
from wattir.frontends.onnx.products import matmul_sizes, swapped


@rule("MatMul")
def matmul(node: Node) -> None:
    a, b = node.value(0), node.value(1)
    shape, sizes = matmul_sizes(node, a.shape, b.shape)
    node.result(shape)
    node.emit("matmul", **sizes)


@rule("Gemm")
def gemm(node: Node) -> None:
    """Old files give `a` more than two axes; the first then counts the rows."""
    a, b = node.value(0), node.value(1)
    rows, depth = swapped((a.shape[0], product(a.shape[1:])), node.attr("transA", 0))
    columns = swapped(b.shape, node.attr("transB", 0))[-1]
    node.result((rows, columns))
    node.emit("matmul", groups=1, m=rows, n=columns, k=depth)


# ---- Einsum ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Term:
    """An operand: the value, and one letter for each of its axes."""

    value: Value
    letters: str


@rule("Einsum")
def einsum(node: Node) -> None:
    """Operands are contracted two at a time from the left; an index that only one side has left is summed first."""
    equation = text(node.attr("equation", "")).replace(" ", "")
    values = [node.value(index) for index in range(len(node.ins))]
    inputs, out = _letters(node, equation, values)
    sizes = _sizes(node, inputs, values)
    result = node.result(tuple(sizes[letter] for letter in out))
    terms = [_diagonal(node, value, word, sizes) for value, word in zip(values, inputs, strict=True)]
    left = terms[0]
    for index, right in enumerate(terms[1:], 1):
        later = set(out).union(*(term.letters for term in terms[index + 1 :]))
        last = index == len(terms) - 1
        left = _contracted(node, left, right, later, sizes, out if last else None, result)
    if len(terms) == 1:
        _one_operand(node, left, out, sizes, result)


def _letters(node: Node, equation: str, values: list[Value]) -> tuple[list[str], str]:
    """The letters of every operand and of the output; an ellipsis becomes upper-case Greek letters."""
    left, arrow, right = equation.partition("->")
    words = left.split(",")
    if len(words) != len(values):
        node.fail(f"equation {equation!r} with {len(values)} operands", f"{len(words)} operands")
    widths = [value.rank - len(word.replace("...", "")) for word, value in zip(words, values, strict=True)]
    if any(width < 0 or (width and "..." not in word) for word, width in zip(words, widths, strict=True)):
        node.fail(f"equation {equation!r} on ranks {[value.rank for value in values]}", "one letter for each axis")
    widest = max(widths, default=0)
    dots = "".join(chr(0x391 + index) for index in range(widest))
    inputs = [word.replace("...", dots[widest - width :]) for word, width in zip(words, widths, strict=True)]
    if not arrow:
        counted = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(letter for letter in set(counted) if counted.count(letter) == 1))
    return inputs, right.replace("...", dots)


def _sizes(node: Node, inputs: list[str], values: list[Value]) -> dict[str, Size]:
    found: dict[str, Size] = {}
    for word, value in zip(inputs, values, strict=True):
        for letter, size in zip(word, value.shape, strict=True):
            try:
                found[letter] = broadcast((found.get(letter, 1),), (size,))[0]
            except SizeError:
                node.fail(f"index {letter!r} is {found[letter]} and {size}", "one size for one index")
    return found


def _shape(letters: Iterable[str], sizes: dict[str, Size]) -> tuple[Size, ...]:
    return tuple(sizes[letter] for letter in letters)


def _diagonal(node: Node, value: Value, word: str, sizes: dict[str, Size]) -> Term:
    """An operand whose repeated letters are read along their diagonal."""
    unique = "".join(dict.fromkeys(word))
    if unique == word:
        return Term(value, word)
    made = node.inner(f"diagonal_{word}", _shape(unique, sizes), value.dtype)
    node.emit("copy", ins=(value,), outs=(made,), function="diagonal")
    return Term(made, unique)


def _summed(node: Node, term: Term, kept: set[str], sizes: dict[str, Size]) -> Term:
    """`term` without the letters that are not `kept`."""
    dropped = [letter for letter in term.letters if letter not in kept]
    if not dropped:
        return term
    letters = "".join(letter for letter in term.letters if letter in kept)
    made = node.inner(f"sum_{term.letters}", _shape(letters, sizes), term.value.dtype)
    length = product(_shape(dropped, sizes))
    node.emit("reduction", ins=(term.value,), outs=(made,), function="sum", length=length)
    return Term(made, letters)


def _contracted(
    node: Node, left: Term, right: Term, later: set[str], sizes: dict[str, Size], out: str | None, result: Value
) -> Term:
    """One product: groups are the letters both have and keep, k the ones both have and lose."""
    left = _summed(node, left, later | set(right.letters), sizes)
    right = _summed(node, right, later | set(left.letters), sizes)
    both = set(left.letters) & set(right.letters)
    letters = out
    if letters is None:
        every = dict.fromkeys(left.letters + right.letters)
        letters = "".join(letter for letter in every if letter in later)
    shape = _shape(letters, sizes)
    made = result if out is not None else node.inner(f"product_{letters}", shape, result.dtype)
    pair = (left.value, right.value)
    if not both - later:
        node.emit("pointwise", ins=pair, outs=(made,), function="mul", ops=1)
        return Term(made, letters)
    node.emit(
        "matmul",
        ins=pair,
        outs=(made,),
        groups=product(_shape(both & later, sizes)),
        m=product(_shape(set(left.letters) - both, sizes)),
        n=product(_shape(set(right.letters) - both, sizes)),
        k=product(_shape(both - later, sizes)),
    )
    return Term(made, letters)


def _one_operand(node: Node, term: Term, out: str, sizes: dict[str, Size], result: Value) -> None:
    """A sum, a transpose, or nothing."""
    dropped = [letter for letter in term.letters if letter not in out]
    if dropped:
        length = product(_shape(dropped, sizes))
        node.emit("reduction", ins=(term.value,), outs=(result,), function="sum", length=length)
    elif term.letters == out:
        node.emit("view", ins=(term.value,), outs=(result,), function="einsum")
    else:
        node.emit("copy", ins=(term.value,), outs=(result,), function="transpose")
