"""Who may import whom, and how large and how named files are. Each rule has a sample that breaks it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("wattir", "frontends", "backends")
FILES = [path for folder in (*PACKAGES, "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
PRODUCT = [path for path in FILES if path.relative_to(ROOT).parts[0] in PACKAGES]
MOST_LINES = 400
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}

FRONTEND_MAY = {
    "wattir.ir", "wattir.dims", "wattir.dim_text", "wattir.einsum", "wattir.errors", "wattir.kinds",
    "wattir.graph_check", "wattir.reading", "wattir.frontends.rules", "wattir.rough_cost",
}  # fmt: skip
FRAMEWORKS = {
    "onnx": {"onnx", "numpy", "google"},
    "torch": {"torch", "transformers", "huggingface_hub"},
    "jax": {"jax", "jaxlib", "flax", "keras", "numpy"},
}
"""What the frontend of this name may import; google is protobuf, in which ONNX files are written."""
BACKEND_MAY = FRONTEND_MAY | {
    "wattir.costs", "wattir.work", "wattir.layers", "wattir.roofline", "wattir.tape", "wattir.totals",
    "wattir.device", "wattir.device_schema", "wattir.device_text", "wattir.lending", "wattir.machine",
    "wattir.interval",
    "wattir.__version__", "wattir.api", "wattir.costmodel", "wattir.models", "wattir.wattir_file", "wattir.writing",
    "wattir.passes", "wattir.passes.precision",  # networks of rows
    "wattir.trees", "wattir.trees_file", "wattir.clock",
    "wattir.serving", "wattir.serving_engine", "wattir.serving_model",
    "wattir.generation", "wattir.generation_engine", "wattir.generation_model",
    "wattir.serving_steps", "wattir.chain", "wattir.runtime",  # nodes around machines, engines on them
}  # fmt: skip
BACKEND_LIBRARIES = {"lightgbm", "llvmlite", "numpy", "numba", "scipy", "pyarrow", "pandas"}
METERED = {"torch", "onnxruntime", "pynvml", "zeus"}
"""What the measuring backend runs and meters besides."""
CORE_LIBRARIES = {"numpy"}
CLI_LIBRARIES = {"rich"}


def imports(tree: ast.AST, everywhere: bool = False) -> Iterator[str]:
    """The dotted names that a module imports when it is imported; or anywhere, inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from _from(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(node, everywhere)


def _from(node: ast.ImportFrom) -> Iterator[str]:
    module = node.module or ""
    if module in ("wattir", "wattir.frontends", "wattir.backends"):
        yield from (f"{module}.{alias.name}" for alias in node.names)
    else:
        yield module


def forbidden(where: tuple[str, ...], tree: ast.AST) -> list[str]:
    """The imports that the module at `where` (its path, below the root) must not have."""
    if where[0] == "frontends":
        own = where[1].removesuffix(".py") if len(where) > 1 else ""
        return [name for name in imports(tree, everywhere=True) if not _frontend_may(name, own)]
    if where[0] == "backends":
        return [name for name in imports(tree, everywhere=True) if not _backend_may(name, where[1])]
    libraries = CORE_LIBRARIES | (CLI_LIBRARIES if where[1] == "cli" else set())
    return [name for name in imports(tree) if not _core_may(name, libraries)]


def _frontend_may(name: str, own: str) -> bool:
    top = name.partition(".")[0]
    if top == "wattir":
        return name in FRONTEND_MAY or name.startswith(f"wattir.frontends.{own}" if own != "__init__" else "wattir.fr")
    return top in sys.stdlib_module_names or top in FRAMEWORKS.get(own, set())


def _backend_may(name: str, own: str) -> bool:
    top = name.partition(".")[0]
    if top == "wattir":
        return name in BACKEND_MAY or name.startswith("wattir.backends")
    return top in sys.stdlib_module_names or top in BACKEND_LIBRARIES | (METERED if own == "measure" else set())


def _core_may(name: str, libraries: set[str]) -> bool:
    top = name.partition(".")[0]
    if top == "wattir":
        return not name.startswith(("wattir.frontends", "wattir.backends"))
    return top in sys.stdlib_module_names or top in libraries


def parent_imports(tree: ast.AST) -> list[str]:
    return [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 1]


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_what_its_place_allows(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert forbidden(path.relative_to(ROOT).parts, tree) == []
    assert parent_imports(tree) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_small_and_well_named(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= MOST_LINES, f"{lines} lines: a file that passes {MOST_LINES} lines is two files"
    assert not BANNED_NAMES & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}


@pytest.mark.parametrize(
    ("where", "text", "found"),
    [
        (("wattir", "x.py"), "import onnx", ["onnx"]),
        (("wattir", "x.py"), "from wattir.frontends import lower_any", ["wattir.frontends.lower_any"]),
        (("wattir", "x.py"), "from wattir import backends", ["wattir.backends"]),
        (("wattir", "x.py"), "try:\n    import torch\nexcept ImportError:\n    pass", ["torch"]),
        (("wattir", "x.py"), "import rich.table", ["rich.table"]),
        (("wattir", "x.py"), "def f():\n    import onnx", []),
        (("wattir", "x.py"), "if TYPE_CHECKING:\n    import onnx", []),
        (("wattir", "cli", "x.py"), "import rich.table", []),
        (("frontends", "onnx", "x.py"), "def f():\n    import torch", ["torch"]),
        (("frontends", "onnx", "x.py"), "from wattir.costs import tabulate", ["wattir.costs"]),
        (("frontends", "onnx", "x.py"), "from wattir.frontends.jax import lower", ["wattir.frontends.jax"]),
        (("frontends", "onnx", "x.py"), "from wattir.ir import Graph", []),
        (("backends", "x.py"), "from wattir.report import Report", ["wattir.report"]),
        (("backends", "x.py"), "from wattir.frontends.onnx import lower", ["wattir.frontends.onnx"]),
        (("backends", "x.py"), "import scipy.optimize", []),
    ],
)
def test_rule_tells_good_from_bad(where: tuple[str, ...], text: str, found: list[str]) -> None:
    assert forbidden(where, ast.parse(text)) == found


def test_relative_import_of_a_parent_is_found() -> None:
    assert parent_imports(ast.parse("from ..ir import Graph")) == ["from ..ir import Graph"]
    assert parent_imports(ast.parse("from .ir import Graph")) == []
