"""The JSON of torch.export's schema, looked at with suspicion: every field is checked before it is used.

Field names are those of torch's serialization schema, major versions 5 to 8. Unions are objects of one member, whose
name says its type (``{"as_int": 3}``). `Malformed` says what was found and expected; archive.py adds where.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from wattir.dims import Size, bounds
from wattir.frontends.torch.formulas import Unreadable, ratio_of, size_of
from wattir.frontends.torch.program import DTYPES

T = TypeVar("T")
Json = dict[str, Any]

MAX_AXIS = 2**40
MAX_ELEMENTS = 2**56
MAX_RANK = 64
"""A longer axis, a larger tensor or one of more axes comes from a damaged file."""


class Malformed(Exception):
    """A field that is missing or wrong: what was found, what was expected."""


SCALAR_TYPES = (
    "unknown", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex32", "complex64",
    "complex128", "bool", "bfloat16",
)  # fmt: skip
LATER_SCALAR_TYPES = {
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
LAYOUTS = ("unknown", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "_mkldnn", "strided")
MEMORY_FORMATS = ("unknown", "contiguous_format", "channels_last", "channels_last_3d", "preserve_format")
"""Number in the archive -> torch's name."""


def item(obj: Any, key: str, kind: type[T]) -> T:
    """The member `key` of an object, of the given type."""
    if not isinstance(obj, dict):
        raise Malformed(f"{shown(obj)} where an object with {key!r} was expected")
    if key not in obj:
        raise Malformed(f"no {key!r} among {', '.join(map(repr, list(obj)[:8])) or 'no members'}")
    return checked(obj[key], kind, key)


def optional(obj: Json, key: str, kind: type[T], default: T) -> T:
    """The member `key` where it is there and not null, else `default`."""
    return default if obj.get(key) is None else checked(obj[key], kind, key)


def checked(value: Any, kind: type[T], what: str) -> T:
    """`value`, which must be of the given JSON type; a bool is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(f"{what} is {shown(value)}; expected {_JSON_NAMES.get(kind, kind.__name__)}")
    return value


_JSON_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


def shown(value: Any) -> str:
    """A short text for a message."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return repr(value)[:60]


def union(obj: Any, what: str) -> tuple[str, Any]:
    """The one member of a union: its name and content. Members that are null beside it are passed over."""
    if not isinstance(obj, dict):
        raise Malformed(f"{what} is {shown(obj)}; expected an object of one member")
    members = [(name, content) for name, content in obj.items() if content is not None]
    if len(members) != 1:
        raise Malformed(f"{what} has {len(members)} members; expected one")
    return members[0]


def integer(value: Any, what: str = "a number") -> int:
    """A whole number of 64 bits."""
    number = checked(value, int, what)
    if not -(2**63) <= number < 2**64:
        raise Malformed(f"{what} is {str(number)[:30]}; expected 64 bits")
    return number


_NOT_FINITE = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


def real(value: Any, what: str = "a number") -> float:
    """A floating-point number; the infinities and NaN may be texts."""
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Malformed(f"{what} is {shown(value)}; expected a number")
    try:
        return float(value)
    except OverflowError as error:
        raise Malformed(f"{what} is beyond all floating-point numbers") from error


def scalar_type(value: Any) -> str:
    """torch's name of a dtype: ``float16``."""
    number = integer(value, "dtype")
    name = SCALAR_TYPES[number] if 0 <= number < len(SCALAR_TYPES) else LATER_SCALAR_TYPES.get(number)
    if name is None or name not in DTYPES:
        raise Malformed(f"dtype number {number}; expected one of torch's")
    return name


def choice(table: tuple[str, ...], value: Any, what: str) -> str:
    """The text ``torch.<name>`` of a number in an enumeration."""
    number = integer(value, what)
    if not 0 <= number < len(table):
        raise Malformed(f"{what} number {number}; expected 0 to {len(table) - 1}")
    return f"torch.{table[number]}"


_DATA = re.compile(r"(?:Symbol\(')?(u\d+)\b")
"""A formula that starts with a symbol for a size that depends on data."""


class Symbols:
    """Formulas of one archive as sizes; `names` renames its symbols. The same text is read once."""

    def __init__(self) -> None:
        self.names: dict[str, Size] = {}
        self.warnings: list[str] = []
        self._sizes: dict[str, Size] = {}

    def rename(self, names: dict[str, Size]) -> None:
        """From now on symbols have these sizes."""
        self.names, self._sizes = names, {}

    def bound(self, sizes: Any, most: Size) -> bool:
        """From now on the symbols among these sizes that depend on data (``u0``) are `most`; whether there were any."""
        exprs = [size.get("as_expr") for size in sizes if isinstance(size, dict)] if isinstance(sizes, list) else []
        texts = [expr.get("expr_str") for expr in exprs if isinstance(expr, dict)]
        fresh = [match[1] for text in texts if isinstance(text, str) and (match := _DATA.match(text))]
        new = {name: most for name in fresh if name not in self.names}
        self.rename({**self.names, **new})
        return bool(new)

    def size(self, obj: Any, what: str = "a size") -> Size:
        """A SymInt: ``{"as_int": 8}`` or ``{"as_expr": {"expr_str": ..., "hint": ...}}``."""
        member, content = union(obj, what)
        if member == "as_int":
            return integer(content, what)
        if member != "as_expr":
            raise Malformed(f"{what} is {member!r}; expected as_int or as_expr")
        text = item(content, "expr_str", str)
        if text not in self._sizes:
            self._sizes[text] = self._read(text, content.get("hint"))
        return self._sizes[text]

    def _read(self, text: str, hint: Any) -> Size:
        try:
            return size_of(text, self.names)
        except Unreadable as error:
            if not isinstance(hint, dict) or not isinstance(hint.get("as_int"), int):
                raise Malformed(f"size formula {error}; expected one of torch.export's") from error
            self.warnings.append(f"size formula {text[:80]!r} is kept at its example value {hint['as_int']}")
            return integer(hint["as_int"], "a hint")

    def number(self, obj: Any, what: str) -> Size | float | None:
        """A SymFloat: its number, a Size where the formula is whole, its example value, or None."""
        member, content = union(obj, what)
        if member == "as_float":
            return real(content, what)
        try:
            ratio = ratio_of(item(content, "expr_str", str), self.names)
        except Unreadable:
            return self._example(content)
        if ratio.under == 1:
            return ratio.over
        return ratio.over / ratio.under if isinstance(ratio.over, int) and isinstance(ratio.under, int) else None

    def _example(self, content: Json) -> float | None:
        hint = content.get("hint")
        return real(hint["as_float"]) if isinstance(hint, dict) and hint.get("as_float") is not None else None

    def shape(self, sizes: list[Any]) -> tuple[Size, ...]:
        """The shape of a tensor."""
        if len(sizes) > MAX_RANK:
            raise Malformed(f"a tensor of {len(sizes)} axes; expected at most {MAX_RANK}")
        shape = tuple(self.size(size) for size in sizes)
        elements = 1
        for size in shape:
            low, high = bounds(size)
            if high < 0 or low > MAX_AXIS:
                raise Malformed(f"an axis of {str(size)[:60]}; expected 0 to 2^40")
            elements *= size if isinstance(size, int) else 1
        if elements > MAX_ELEMENTS:
            raise Malformed(f"a tensor of {elements} elements; expected at most 2^56")
        return shape
