"""The text of a size formula read back: what `str` of a `wattir.dims.Dim` printed, and nothing else."""

from __future__ import annotations

import re

from wattir.dims import Size, equal, maximum, minimum, missed, symbol
from wattir.errors import SizeError

MOST = 2**128
_FUNCTIONS = {"min": minimum, "max": maximum, "missed": missed, "equal": equal}


def parse(text: str) -> Size:
    """The size that `str` printed: integers, names, ``+ - * //``, ``%``, brackets, ``min(a, b)``, ``max(a, b)``,
    ``missed(a, b)``, ``equal(a, b)``."""
    name = text if len(text) <= 100 else f"{text[:100]}..."
    tokens = re.findall(r"\d+|[A-Za-z_][A-Za-z0-9_.]*|//|[-+*%(),]|\S", text)
    tokens.append("")
    position = [0]
    size = _parse_sum(tokens, position, name)
    if tokens[position[0]] != "":
        raise SizeError(f"size formula {name!r}: unexpected {tokens[position[0]]!r}; expected the end")
    return size


def _parse_sum(tokens: list[str], at: list[int], text: str) -> Size:
    size = _parse_product(tokens, at, text)
    while tokens[at[0]] in ("+", "-"):
        sign = 1 if tokens[at[0]] == "+" else -1
        at[0] += 1
        size = size + sign * _parse_product(tokens, at, text)
    return size


def _parse_product(tokens: list[str], at: list[int], text: str) -> Size:
    size = _parse_one(tokens, at, text)
    while tokens[at[0]] in ("*", "//", "%"):
        op = tokens[at[0]]
        at[0] += 1
        right = _parse_one(tokens, at, text)
        size = _combined(op, size, right, text)
    return size


def _combined(op: str, left: Size, right: Size, text: str) -> Size:
    if op == "*":
        return _bounded(left * right, text)
    if right == 0:
        raise SizeError(f"size formula {text!r}: division by zero")
    return left // right if op == "//" else left % right


def _bounded(size: Size, text: str) -> Size:
    """The size, unless it has numbers that no network has: ever longer ones would take ever longer to multiply."""
    numbers = (size,) if isinstance(size, int) else (number for _, number in size.terms)
    if any(abs(number) > MOST for number in numbers):
        raise SizeError(f"size formula {text!r}: a number above 2^128; expected smaller ones")
    return size


def _parse_one(tokens: list[str], at: list[int], text: str) -> Size:
    token = tokens[at[0]]
    at[0] += 1
    if token == "-":
        return -_parse_one(tokens, at, text)
    if token.isdigit() and len(token) < 40:
        return int(token)
    if token == "(":
        size = _parse_sum(tokens, at, text)
        _expect(tokens, at, ")", text)
        return size
    if token in _FUNCTIONS:
        return _parse_call(token, tokens, at, text)
    if re.match(r"[A-Za-z_]", token):
        return symbol(token)
    raise SizeError(
        f"size formula {text!r}: unexpected {token[:40] or 'end'!r}; expected a number, a name or a bracket"
    )


def _parse_call(op: str, tokens: list[str], at: list[int], text: str) -> Size:
    _expect(tokens, at, "(", text)
    a = _parse_sum(tokens, at, text)
    _expect(tokens, at, ",", text)
    b = _parse_sum(tokens, at, text)
    _expect(tokens, at, ")", text)
    return _FUNCTIONS[op](a, b)


def _expect(tokens: list[str], at: list[int], token: str, text: str) -> None:
    if tokens[at[0]] != token:
        raise SizeError(f"size formula {text!r}: expected {token!r}, found {tokens[at[0]] or 'the end'!r}")
    at[0] += 1
