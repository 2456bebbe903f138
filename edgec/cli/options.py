"""Arguments and options that several commands have, and the lists that they are given as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from edgec.core.errors import Problem, RecipeError

RecipeArg = Annotated[str, typer.Argument(metavar="RECIPE", help="A path, or the name of a shipped recipe.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Run the Python code that the recipe or the network names.")
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of the runtime.")]
ThreadCountsOption = Annotated[
    str, typer.Option("--threads", help="Thread counts, such as 1,2. Default: 1 and all cores.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parts(text: str) -> list[str]:
    """What stands between commas, without what is empty."""
    return [part.strip() for part in text.split(",") if part.strip()]


def counts(text: str, option: str, most: int = 1024) -> tuple[int, ...]:
    """Numbers from 1 to `most` between commas. Raises RecipeError, which names the option."""
    try:
        numbers = tuple(int(part) for part in parts(text))
    except ValueError:
        numbers = (0,)
    if any(not 1 <= number <= most for number in numbers):
        raise RecipeError([Problem(option, f"{text!r} is not a list of counts", "write 1,2")])
    return numbers


def shapes(texts: Sequence[str], option: str = "--shape") -> dict[str, tuple[int, ...]]:
    """Sizes by input, of texts such as `images=1,3,320,320`. Raises RecipeError, which names the option."""
    sizes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        if not equals or not name or not parts(listed):
            raise RecipeError([Problem(option, repr(text), "write images=1,3,320,320")])
        sizes[name] = counts(listed, option, 2**20)
    return sizes
