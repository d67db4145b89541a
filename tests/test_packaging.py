"""The wheel: nothing but `wattir` at its top level, and every module, machine and model inside.

$WATTIR_WHEEL names a wheel that was built elsewhere; without it one is built here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {"wattir": "wattir", "frontends": "wattir/frontends", "backends": "wattir/backends"}
SHIPPED = (".py", ".toml", ".trees", ".wattir", ".typed")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel."""
    with zipfile.ZipFile(os.environ.get("WATTIR_WHEEL") or _build(tmp_path_factory.mktemp("wheel"))) as wheel:
        return set(wheel.namelist())


def _build(folder: Path) -> Path:
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling, of the extra `test`")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def shipped() -> set[str]:
    """What the checkout holds of the three folders, under the names it must have in the wheel."""
    return {
        f"{home}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, home in HOMES.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SHIPPED or path.name == "py.typed"
    }


def test_only_wattir_at_the_top_level(content: set[str]) -> None:
    tops = {name.partition("/")[0] for name in content}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"wattir"}


def test_everything_of_the_checkout_is_inside(content: set[str]) -> None:
    assert shipped() - content == set()
    assert {name for name in content if name.startswith("wattir/")} - shipped() == set()


def test_machines_and_models_are_among_it() -> None:
    """The comparison above would hold for two empty sets."""
    assert {f"wattir/backends/devices/h100_sxm.{kind}" for kind in ("toml", "trees")} < shipped()
    assert "wattir/models/resnet50.wattir" in shipped()
    assert "wattir/py.typed" in shipped()


def test_extras_name_each_other_only_where_they_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    assert {"torch", "jax", "fit", "measure", "zeus", "sweep", "bench", "all", "test"} == set(extras)
    assert "torch==2.13.0" in extras["test"]
    assert extras["all"] == ["wattir[torch,jax]"]


def test_licence_is_in_the_wheel(content: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in content)
