"""Which free size counts samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from wattir.dims import Dim, names
from wattir.frontends.jax.node import Shape


def batch_of(shapes: Iterable[Shape]) -> str | None:
    """The free size that leads most inputs; one that is named so goes first."""
    leading = [str(s[0]) for s in shapes if s and isinstance(s[0], Dim) and names(s[0]) == {str(s[0])}]
    if not leading:
        return None
    named = [name for name in leading if "batch" in name.lower()]
    return Counter(named or leading).most_common(1)[0][0]
