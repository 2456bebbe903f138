"""`edgec init`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.console import say


def init(
    data: Annotated[Path, typer.Option(help="The folder of the data set: VOC, COCO, YOLO, or images alone.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the recipe.")] = Path(
        "detector.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Write a recipe for your data."""
    from edgec.run.new_recipe import write_recipe

    for line in write_recipe(data, output, force):
        say(line)
