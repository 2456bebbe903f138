"""Patterns that name layers (`head.*`), as recipes write them: those that match no layer are mistakes, and reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatch

from edgec.core.errors import Problem, StageError


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names this layer."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def check_patterns(wanted: Mapping[str, Sequence[str]], names: Iterable[str], what: str = "layer") -> None:
    """Raises StageError that lists every pattern which matches none of `names`, with the nearest names.

    `wanted`: patterns by the key of the recipe that holds them.
    """
    known = [name for name in names if name]
    problems: list[Problem] = []
    for place, patterns in wanted.items():
        for pattern in patterns:
            if not any(fnmatch(name, pattern) for name in known):
                near = get_close_matches(pattern, known, 3, cutoff=0.4)
                hint = (
                    f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known[:8])}, ..."
                )
                problems.append(Problem(place, f"{pattern!r} matches no {what}", hint))
    if problems:
        raise StageError("\n".join(map(str, problems)))
