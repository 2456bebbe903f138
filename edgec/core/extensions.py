"""What other installed packages bring, by entry points: tasks, stages, runtimes, distillers and data formats.

A package declares a row of one of edgec's tables (see `edgec.core.table`) under the name that recipes use:

    [project.entry-points."edgec.stages"]
    blur = "my_package.rows:BLUR"

Names are read from the packages' metadata, which imports nothing; a package is imported when a recipe asks for a name
of it, and never twice. A package that fails at import fails alone: what asks for its names gets the reason, all else works.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from edgec.core.errors import ExtensionError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = ("edgec.tasks", "edgec.stages", "edgec.runtimes", "edgec.distillers", "edgec.data")


@dataclass(frozen=True)
class Extension:
    """One declared row: which package brings it, and where."""

    group: str
    name: str
    package: str  # distribution and version, for messages
    value: str  # module:attribute


_added: dict[tuple[str, str], object] = {}  # rows of this process alone, see `added`


def extensions(group: str) -> list[Extension]:
    """Every row that installed packages declare in a group, by name. Imports none of them."""
    return [_described(point) for point in sorted(_points(group), key=lambda point: point.name)]


def extension_names(group: str) -> list[str]:
    """The names that packages, or `added`, bring to a group."""
    added_names = [name for of, name in _added if of == group]
    return sorted({*(point.name for point in _points(group)), *added_names})


def extension(group: str, name: str) -> object | None:
    """The row of a name; None where nobody declares it.

    Raises ExtensionError when its package fails at import, or when two packages declare the name.
    """
    if (group, name) in _added:
        return _added[group, name]
    points = [point for point in _points(group) if point.name == name]
    if not points:
        return None
    if len(points) > 1:
        packages = " and ".join(_described(point).package for point in points)
        raise ExtensionError(f"{name!r} of {group} is declared by {packages}; uninstall one of them")
    row, reason = _loaded(points[0])
    if row is None:
        described = _described(points[0])
        raise ExtensionError(
            f"{name!r} comes from the package {described.package}, whose {described.value} cannot be imported "
            f"({reason}); fix or uninstall that package"
        )
    return row


@contextmanager
def added(group: str, name: str, row: object) -> Generator[None]:
    """A row in this process alone, inside the block, as if a package had declared it: for tests and notebooks."""
    before = _added.get((group, name))
    _added[group, name] = row
    try:
        yield
    finally:
        del _added[group, name]
        if before is not None:
            _added[group, name] = before


def forget() -> None:
    """Read the packages' metadata anew at the next question."""
    _points.cache_clear()
    _loaded.cache_clear()


@cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # slow, and `--help` needs no packages

    return tuple(entry_points(group=group))


@cache
def _loaded(point: EntryPoint) -> tuple[object | None, str]:
    """(row, "") or (None, reason). Anything may happen in other people's modules, so any exception is a reason."""
    try:
        return point.load(), ""
    except (Exception, SystemExit) as error:
        return None, f"{type(error).__name__}: {error}"


def _described(point: EntryPoint) -> Extension:
    package = "of this process" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return Extension(point.group, point.name, package, point.value)
