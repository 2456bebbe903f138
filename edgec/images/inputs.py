"""The files that a command is given, and names for what it makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from edgec.core.errors import DataError, Problem


def files_of(inputs: Sequence[str | Path], images: Sequence[str], others: Sequence[str] = ()) -> list[Path]:
    """The files that inputs mean: themselves, and what lies in folders and ends in `images` or `others`.

    Raises DataError that lists every input that is missing or empty.
    """
    paths: list[Path] = []
    problems: list[Problem] = []
    for item in map(Path, inputs):
        if item.is_dir():
            inside = sorted(p for p in item.iterdir() if p.suffix.lower() in (*images, *others))
            if not inside:
                problems.append(Problem(str(item), "holds no image", f"images end in {', '.join(images)}"))
            paths += inside
        elif item.is_file():
            paths.append(item)
        else:
            problems.append(Problem(str(item), "does not exist", "check the path"))
    if problems:
        raise DataError(problems)
    return paths


def result_names(paths: Sequence[Path], suffix_of: Callable[[Path], str]) -> list[str]:
    """A file name for each result, told apart by number where two would share one."""
    taken: set[str] = set()
    names: list[str] = []
    for path in paths:
        suffix = suffix_of(path)
        tries = (path.stem + (f"-{number}" if number > 1 else "") + suffix for number in itertools.count(1))
        name = next(name for name in tries if name.lower() not in taken)  # some disks ignore case
        taken.add(name.lower())
        names.append(name)
    return names
