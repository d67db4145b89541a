"""Many formulas in the same free dims as one straight line of steps, each common part once.

A `Tape` is what a compiled model evaluates: `steps` of (op, a, b) over numbered registers. The first registers hold
the free dims, then the numbers, then one register a step. In Python it runs as generated code; the numba engine runs
the same steps over blocks of candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from wattir.dims import Dim, Size, missed_parts
from wattir.polynomial import Atom

ADD, MULTIPLY, FLOOR_DIVIDE, MODULO, MINIMUM, MAXIMUM, MISSED, EQUAL = range(8)
OPS = {"+": ADD, "*": MULTIPLY, "//": FLOOR_DIVIDE, "%": MODULO, "min": MINIMUM, "max": MAXIMUM,
       "missed": MISSED, "equal": EQUAL}  # fmt: skip
_CODE = ("{a} + {b}", "{a} * {b}", "{a} // {b}", "{a} % {b}", "min({a}, {b})", "max({a}, {b})", "missed({a}, {b})",
         "int({a} == {b})")  # fmt: skip


@dataclass(frozen=True)
class Tape:
    """`names`: free dims in register order; `numbers`: the constants after them; `steps`: (op, register, register)."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    steps: tuple[tuple[int, int, int], ...]

    def python(self, registers: Sequence[int]) -> Callable[..., tuple[int, ...]]:
        """A function of the free dims (in order) that gives the values of these registers."""
        first = len(self.names) + len(self.numbers)
        lines = [f"def run({', '.join(f'r{i}' for i in range(len(self.names)))}):"]
        lines += [f"    r{first + i} = {self._code(step)}" for i, step in enumerate(self.steps)]
        lines.append(f"    return ({''.join(self._operand(r) + ', ' for r in registers)})")
        scope: dict[str, Any] = {"missed": missed_parts}
        exec("\n".join(lines), scope)  # the text holds nothing but r<number>, integers and the eight operators
        return scope["run"]  # type: ignore[no-any-return]

    def _code(self, step: tuple[int, int, int]) -> str:
        return _CODE[step[0]].format(a=self._operand(step[1]), b=self._operand(step[2]))

    def _operand(self, register: int) -> str:
        place = register - len(self.names)
        return f"({self.numbers[place]})" if 0 <= place < len(self.numbers) else f"r{register}"


class TapeBuilder:
    """Collects formulas; `register` of each is known once `finish` has fixed the numbering."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._numbers: dict[int, int] = {}
        self._steps: dict[tuple[int, Any, Any], int] = {}
        self._memo: dict[Any, tuple[str, int]] = {}

    def add(self, size: Size) -> tuple[str, int]:
        """A handle to the value of this formula; `Tape` registers of handles come from `finish`."""
        if not isinstance(size, Dim):
            return "number", self._numbers.setdefault(int(size), len(self._numbers))
        found = self._memo.get(size)
        if found is None:
            found = self._memo[size] = self._sum(size)
        return found

    def finish(self) -> tuple[Tape, Callable[[tuple[str, int]], int]]:
        """The tape, and the function from a handle to its register."""
        offsets = {"name": 0, "number": len(self._names), "step": len(self._names) + len(self._numbers)}

        def register(handle: tuple[str, int]) -> int:
            return offsets[handle[0]] + handle[1]

        steps = tuple((op, register(a), register(b)) for op, a, b in self._steps)
        return Tape(self._names, tuple(self._numbers), steps), register

    def _sum(self, size: Dim) -> tuple[str, int]:
        terms = [self._term(monomial, coefficient) for monomial, coefficient in size.terms]
        total = terms[0]
        for term in terms[1:]:
            total = self._step(ADD, total, term)
        return total

    def _term(self, monomial: tuple[tuple[Atom, int], ...], coefficient: int) -> tuple[str, int]:
        factors = [self._atom(atom) for atom, power in monomial for _ in range(power)]
        if coefficient != 1 or not factors:
            factors.append(self.add(coefficient))
        value = factors[0]
        for factor in factors[1:]:
            value = self._step(MULTIPLY, value, factor)
        return value

    def _atom(self, atom: Atom) -> tuple[str, int]:
        if atom.op == "":
            return "name", self._names.index(atom.args[0])
        return self._step(OPS[atom.op], self.add(atom.args[0]), self.add(atom.args[1]))

    def _step(self, op: int, a: tuple[str, int], b: tuple[str, int]) -> tuple[str, int]:
        return "step", self._steps.setdefault((op, a, b), len(self._steps))
