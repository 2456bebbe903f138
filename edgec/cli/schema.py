"""`edgec schema`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.console import say, show_json


def schema(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write it here, such as edgec.schema.json; default: print it."),
    ] = None,
) -> None:
    """The JSON schema of recipes, with which editors complete and check them."""
    from edgec.recipe.json_schema import recipe_schema, write_schema

    if output is None:
        show_json(recipe_schema())
        return
    write_schema(output)
    say(f"wrote {output}")
