"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wattir

ROOT = Path(__file__).parents[1]
HEAVY = ("numpy", "numba", "onnx", "torch", "jax", "rich", "scipy", "wattir.frontends", "wattir.backends")
IMPORT_CPU_S = 0.1

MEASURE = """
import sys, time
before, start = set(sys.modules), time.process_time()
{code}
print(time.process_time() - start)
print(*sorted(set(sys.modules) - before))
"""


def cost_of(code: str) -> tuple[float, set[str]]:
    """CPU seconds of a piece of code in a fresh interpreter, and the modules it brings in."""
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + MEASURE.format(code=code),
    ]
    seconds, modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-2:]
    return float(seconds), set(modules.split())


def test_names_are_sorted_few_and_there() -> None:
    """If this fails: add the name to `__all__` and `_HOME` in wattir/__init__.py, and the README."""
    assert wattir.__all__ == sorted(wattir.__all__)
    assert len(wattir.__all__) <= 20
    assert all(getattr(wattir, name) is not None for name in wattir.__all__)
    assert set(dir(wattir)) == {*wattir.__all__, "__version__"}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'estimat'"):
        wattir.estimat  # noqa: B018  # the access is what is tested


def test_import_is_light() -> None:
    seconds, modules = cost_of("import wattir")

    assert not modules & set(HEAVY)
    assert seconds < IMPORT_CPU_S


@pytest.mark.parametrize("heavy", ["numpy", "rich", "onnx"])
def test_that_test_can_fail(heavy: str) -> None:
    """A heavy module brought in beside wattir is seen, and so is time spent."""
    seconds, modules = cost_of(f"import wattir, {heavy}")

    assert heavy in modules & set(HEAVY)
    assert seconds > 0.005
    assert cost_of("sum(range(20_000_000))")[0] > IMPORT_CPU_S


def test_built_in_model_needs_no_onnx_and_no_numpy() -> None:
    device = Path(__file__).parent / "made_up_device.toml"
    _, modules = cost_of(f"import wattir; wattir.estimate('resnet50', device={str(device)!r}).to_json()")

    assert not modules & {"numpy", "numba", "onnx", "rich"}
