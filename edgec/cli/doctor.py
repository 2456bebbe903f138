"""`edgec doctor`"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgec.cli.console import out, say
from edgec.core.errors import Problem, RecipeError

CONVERTER = "litert-converter"


def doctor(
    install: Annotated[
        str, typer.Option(help="litert-converter: make the environment that converts for LiteRT.")
    ] = "",
) -> None:
    """What is installed, what this machine can do, and what is missing."""
    if install:
        from edgec.runtimes.converters.litert_environment import install_converter

        if install != CONVERTER:
            raise RecipeError([Problem("--install", repr(install), f"give {CONVERTER}")])
        say(f"installed in {install_converter()}")
        return
    from edgec.run.doctor import report

    table = Table()
    for column in ("what", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for row in report():
        table.add_row(*map(escape, row))
    out.print(table)
