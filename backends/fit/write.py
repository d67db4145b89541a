"""Device files as text: the fitted tables replaced, everything else kept as it was."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wattir.device import Device
from wattir.device_schema import ENSEMBLES
from wattir.device_text import Tables, correction_texts, fitted_tables, table_text, value_text
from wattir.generation_engine import Stack, stack_tables
from wattir.serving_engine import Engine, engine_tables
from wattir.trees_file import trees_path, write_trees
from wattir.writing import replacing, uninterrupted, write_whole

FITTED = re.compile(r"^\[(coefficients|interval|\[fit\]|\[correction\])", re.MULTILINE)


def without_fit(text: str) -> str:
    """The head of a device file: all before its first fitted table."""
    found = FITTED.search(text)
    return (text[: found.start()] if found else text).rstrip() + "\n"


def with_fit(text: str, device: Device, interval: Mapping[str, Any], fits: Sequence[Mapping[str, Any]]) -> str:
    """The file with these fitted tables; numbers are rounded to four digits. Corrections come last: they are long."""
    tables = _texts(fitted_tables(device.coefficients, interval, fits))
    return "\n".join((without_fit(text), "\n\n".join((*tables, *correction_texts(device))), ""))


def write_device(text: str, path: str, before: str) -> None:
    """Writes a device file, and beside it the ensembles of libraries that its text holds; where it holds none, those
    beside the file that it was `before` go along."""
    texts = {
        (one["family"], kind): one[kind]
        for one in tomllib.loads(text).get("correction", ())
        for kind in ENSEMBLES
        if "@" in one["family"] and kind in one
    }
    with uninterrupted():
        _write_both(text, path, before, texts)


def _write_both(text: str, path: str, before: str, texts: Mapping[tuple[str, str], str]) -> None:
    if texts:
        stored = write_trees(trees_path(path), {f"{family}.{kind}": found for (family, kind), found in texts.items()})
        for (family, kind), found in texts.items():
            text = text.replace(f"{kind} = '{found}'", f"{kind}_crc32 = {stored[f'{family}.{kind}']:#010x}")
    elif path != before and os.path.exists(trees_path(before)):
        with replacing(trees_path(path)) as partial:
            shutil.copyfile(trees_path(before), partial)
    write_whole(path, text)


def with_engine(text: str, engine: Engine) -> str:
    """The file with this serving engine's tables in place of those of the same name."""
    return _with_tables(text, f"serving.{engine.name}", engine_tables(engine))


def with_stack(text: str, stack: Stack) -> str:
    """The file with the tables of this stack for images and video in place of those of the same name."""
    return _with_tables(text, f"generation.{stack.name}", stack_tables(stack))


def _with_tables(text: str, heading: str, tables: Tables) -> str:
    """These tables in place of those under the same heading, before the first fitted table of kernels."""
    own = (f"[{heading}]", f"[{heading}.", f"[[{heading}.")
    blocks = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    kept = [block for block in blocks if not block.startswith(own)]
    at = next((i for i, block in enumerate(kept) if FITTED.match(block)), len(kept))
    made = [table + "\n\n" for table in _texts(tables)]
    before = "".join(kept[:at]).rstrip() + "\n\n"
    return (before + "".join(made) + "".join(kept[at:])).rstrip() + "\n"


def _texts(tables: Tables) -> Iterator[str]:
    return (table_text(heading, values, _value) for heading, values in tables)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return repr(rounded(value))
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return value_text(value)


def rounded(value: float) -> float:
    """To four significant digits: far finer than the fit is sure of."""
    return float(f"{value:.4g}")
