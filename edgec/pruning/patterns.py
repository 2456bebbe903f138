"""Patterns that name layers: those that name none are mistakes, and told."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatch

from torch import nn

from edgec.errors import StageError


def check_patterns(place: str, patterns: Sequence[str], net: nn.Module) -> None:
    """Raises StageError that tells every pattern which names no module, with the nearest names. `place`: its key."""
    names = [name for name, _ in net.named_modules() if name]
    idle = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)]
    if not idle:
        return
    near = [name for pattern in idle for name in get_close_matches(pattern, names, 3)]
    raise StageError(
        f"{place}: {', '.join(map(repr, idle))} names no layer; there are {', '.join(dict.fromkeys(near or names[:8]))}, ..."
    )
