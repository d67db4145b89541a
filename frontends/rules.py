"""A frontend's rules: what its modules named `rules_*` register when they are imported."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules


@cache
def load_rules(package: str) -> None:
    """Imports every `rules_*` module of a frontend's package."""
    for module in iter_modules(import_module(package).__path__):
        if module.name.startswith("rules_"):
            import_module(f"{package}.{module.name}")
