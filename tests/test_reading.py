"""Descriptions of others: plain files of a bounded size alone are read, and what is wrong is one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wattir.backends.measure.layer_list import read_list
from wattir.device import load_device
from wattir.errors import InputError
from wattir.fleet import load_fleet
from wattir.frontends.configs.keys import read_json
from wattir.reading import MOST_BYTES, read_text, toml_of
from wattir.space_file import load_space
from wattir.wattir_file import read

READERS: dict[str, Callable[[str], object]] = {
    "device.toml": load_device, "fleet.toml": load_fleet, "space.toml": load_space, "layers.toml": read_list,
    "config.json": read_json, "model.wattir": read,
}  # fmt: skip
WRONG: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a sparse file of 5 GB": lambda path: (path.touch(), os.truncate(path, 5 << 30)),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "a number of thousands of digits": lambda path: path.write_text(f'{{"a": {"9" * 5000}}}\na = {"9" * 5000}'),
    "nested without end": lambda path: path.write_text(f"a = {'[' * 20_000}"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_description_is_refused_in_one_line_before_it_is_read(name: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRONG[wrong](path)

    with pytest.raises(InputError) as refusal:
        READERS[name](str(path))
    said = str(refusal.value)
    assert said.startswith(str(path)) and "expected" in said and "\n" not in said


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_bytes(b"#" * MOST_BYTES)
    assert toml_of(read_text(str(path), "a text", InputError), "long", "a text", InputError) == {}

    with path.open("ab") as file:
        file.write(b"#")
    with pytest.raises(InputError, match=rf"{MOST_BYTES + 1} bytes; expected a text, of at most {MOST_BYTES} bytes"):
        read_text(str(path), "a text", InputError)
