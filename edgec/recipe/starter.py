"""A recipe to begin with: what `edgec init` writes for data that it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

# The keys of `data` for what lies in a folder; None where it holds no data of the format.
Finder = Callable[[Path], dict[str, JsonValue] | None]


@dataclass(frozen=True)
class Starter:
    """A recipe as it is written, and what it is for, for a person to read."""

    recipe: dict[str, JsonValue]
    summary: str


# The recipe for these keys of `data`.
StarterOf = Callable[[dict[str, JsonValue]], Starter]
