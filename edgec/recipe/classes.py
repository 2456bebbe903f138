"""Problems of a list of classes."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.core.errors import Problem


def check_unique_classes(classes: Sequence[str], place: str) -> list[Problem]:
    """Problems of a class list: empty or repeated names."""
    seen: set[str] = set()
    problems: list[Problem] = []
    for index, name in enumerate(classes):
        if not name.strip() or name in seen:
            problems.append(
                Problem(f"{place}[{index}]", f"class {name!r} is empty or repeated", "name each class once")
            )
        seen.add(name)
    return problems
