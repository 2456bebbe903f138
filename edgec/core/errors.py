"""Every error that edgec raises on purpose, and the exit code of each.

    EdgecError                 1   (a bug, when raised bare)
    |- RecipeError             2   recipe or usage wrong; holds all problems at once
    |- NetworkError            2   a network cannot be built, loaded or compressed as asked
    |- StageError              2   a stage cannot do what its config asks
    |- GateBroken              3   an artifact broke a promise of the recipe
    |- Missing                 4   a runtime, device or dependency is missing
    |  `- ExtensionError       4   what an installed package brings cannot be used
    |- DataError               5   bad data; holds all problems at once
    |- StorageError            7   disk full or read-only, a stored file damaged
    `- Interrupted           130   stopped by the user; the same command resumes

A message names the place, the value that was found, and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what was found, and what to do about it."""

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


class EdgecError(Exception):
    """Base of all errors that edgec raises on purpose."""

    exit_code = 1


class ProblemsError(EdgecError):
    """An error that lists every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem("edgec", problems)] if isinstance(problems, str) else list(problems)
        if isinstance(problems, str):
            super().__init__(problems)
        else:
            super().__init__("\n".join(str(problem) for problem in self.problems))


class RecipeError(ProblemsError):
    """The recipe or the command line is wrong."""

    exit_code = 2


class NetworkError(EdgecError):
    """A network cannot be built, loaded or compressed as asked."""

    exit_code = 2


class StageError(EdgecError):
    """A stage cannot do what its config asks."""

    exit_code = 2


class GateBroken(EdgecError):
    """An artifact broke a promise of the recipe; it lies under `rejected/`."""

    exit_code = 3


class Missing(EdgecError):
    """A runtime, device or dependency is missing."""

    exit_code = 4


class ExtensionError(Missing):
    """What an installed package declares cannot be used; the message names the package and the reason."""


class DataError(ProblemsError):
    """The data set is not what the recipe says."""

    exit_code = 5


class StorageError(EdgecError):
    """A result cannot be written, or was damaged on disk."""

    exit_code = 7


class Interrupted(EdgecError):
    """Stopped by the user. The same command resumes."""

    exit_code = 130
