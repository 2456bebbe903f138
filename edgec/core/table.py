"""One table for each set of things that a recipe names: edgec's own rows, and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from edgec.core.errors import ExtensionError, RecipeError
from edgec.core.extensions import Extension, extension, extension_names, extensions


class Row(Protocol):
    """What all rows have: the word of the recipe."""

    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Table(Generic[R]):
    """The rows of a set: `own` are edgec's, the others come from packages that declare the entry point `group`."""

    what: str  # one row in words, for messages: "stage"
    group: str
    kind: type[R]
    own: tuple[R, ...]

    def names(self) -> list[str]:
        """All names: edgec's in the order of the table, then those of packages, which are not imported for it."""
        mine = [row.name for row in self.own]
        return [*mine, *(name for name in extension_names(self.group) if name not in mine)]

    def find(self, name: str) -> R | None:
        """The row of a name, or None for an unknown one.

        Raises ExtensionError where a package declares the name and cannot be used: it fails at import, what it gives is
        no row, its row has another name, or two packages declare the same one.
        """
        for row in self.own:
            if row.name == name:
                return row
        row = extension(self.group, name)
        if row is None:
            return None
        if not isinstance(row, self.kind):
            raise ExtensionError(
                f"{self.what} {name!r} of an installed package is a {type(row).__name__}, not a {self.kind.__name__}"
            )
        if row.name != name:
            raise ExtensionError(
                f"{self.what} {name!r} of an installed package calls itself {row.name!r}; give it one name"
            )
        return row

    def row(self, name: str) -> R:
        """The row of a name. Raises ExtensionError as `find`, RecipeError for an unknown name."""
        row = self.find(name)
        if row is None:
            raise RecipeError(f"{self.what} {name!r} is unknown; choose from {', '.join(self.names())}")
        return row

    def rows(self) -> list[R]:
        """All rows that can be used: edgec's, then those of packages, which are imported for it."""
        mine = [row.name for row in self.own]
        rows = list(self.own)
        for name in self.names()[len(mine) :]:
            with suppress(ExtensionError):  # reported where the name is asked for, and by `edgec doctor`
                rows.append(self.row(name))
        return rows

    def of_packages(self) -> list[tuple[Extension, str]]:
        """Every row that packages declare, with what is wrong with it ("" for nothing). Imports them."""
        mine = {row.name for row in self.own}
        rows: list[tuple[Extension, str]] = []
        for declared in extensions(self.group):
            reason = f"edgec has a {self.what} of that name, which is taken" if declared.name in mine else ""
            if not reason:
                try:
                    self.find(declared.name)
                except ExtensionError as error:
                    reason = str(error)
            rows.append((declared, reason))
        return rows


def dotted(name: str) -> Callable[..., Any]:
    """The function or class `package.module:name` of a row, imported now. Rows name them so that tables import nothing."""
    module, _, attribute = name.partition(":")
    target: Callable[..., Any] = getattr(import_module(module), attribute)
    return target


def choices(names: Sequence[str]) -> str:
    """Names as pydantic spells the choices of a Literal: 'a', 'b' or 'c'."""
    quoted = [f"'{name}'" for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)
